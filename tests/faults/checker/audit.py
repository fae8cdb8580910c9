"""I11: the audit log is a chain, and has one entry for each thing that somebody was acknowledged to have done."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

from tests.faults.checker.evidence import Evidence
from tests.faults.checker.op_log import AUDIT, INFO, OK
from tests.faults.checker.verdicts import Verdict


def audited_once(evidence: Evidence, verdict: Verdict) -> None:
    """I11. The hash is made as docs/operations.md has it: sha256 over the one before, the number and the row's text."""
    before: defaultdict[int, tuple[int, bytes]] = defaultdict(lambda: (0, bytes(32)))
    for seal in evidence.ledger.seals:
        verdict.look()
        seq, previous = before[seal.project_no]
        which = f"seal {seal.seq} of project number {seal.project_no}"
        if seal.seq != seq + 1:
            verdict.find(which, f"comes behind seal {seq}")
        if seal.row is None:
            verdict.find(which, f"entry {seal.audit_no} is gone")
        elif hashlib.sha256(previous + seal.seq.to_bytes(8) + seal.row.encode()).digest() != seal.hash:
            verdict.find(which, f"entry {seal.audit_no} is not what was sealed")
        before[seal.project_no] = seal.seq, seal.hash
    if evidence.ledger.unsealed:
        verdict.find("audit log", f"{evidence.ledger.unsealed} entries have no seal at rest")
    sure: Counter[tuple[str, str]] = Counter()
    perhaps: Counter[tuple[str, str]] = Counter()
    # A request that is repeated under one key is one request.
    requests: dict[tuple[str, str, str], str] = {}
    for op in evidence.ops:
        for effect in op.does(AUDIT):
            key = (effect.project, effect.which, op.request or f"op {op.number}")
            if requests.get(key) != OK:
                requests[key] = op.state
    for (project, which, _), state in requests.items():
        sure[project, which] += state == OK
        perhaps[project, which] += state == INFO
    for entry in sure.keys() | perhaps.keys():
        verdict.look()
        found = evidence.ledger.audited.get(entry, 0)
        if not sure[entry] <= found <= sure[entry] + perhaps[entry]:
            verdict.find(f"{entry[1]} of {entry[0]}", f"{found} entries for {sure[entry]} acknowledged calls")
