"""I12: no project sees, or has to do with, what is another's."""

from __future__ import annotations

from tests.faults.checker.evidence import Evidence
from tests.faults.checker.verdicts import Verdict


def projects_are_apart(evidence: Evidence, verdict: Verdict) -> None:
    """I12: no row names another project's, no answer has a word of another's, and no message."""
    for what, rows in evidence.ledger.strays.items():
        verdict.look()
        if rows:
            verdict.find(what, f"{rows} rows name what is another project's")
    whose = {execution.execution_id: execution.project for execution in evidence.ledger.executions}
    texts = [(f"answer to op {op.number} ({op.kind})", op.project, op.answer) for op in evidence.ops if op.answer]
    texts += [
        (f"message {receipt.key}", whose[receipt.execution_id], receipt.text)
        for receipt in evidence.receipts
        if receipt.text and receipt.execution_id in whose
    ]
    for which, project, text in texts:
        for other, marks in evidence.marks.items():
            if other == project:
                continue
            verdict.look()
            if any(mark in text for mark in marks):
                verdict.find(f"{which} of {project}", f"has what is {other}'s")
