"""What must hold after any fault, told from what callers were answered, what the provider wrote down, the rows as they
stand, Temporal's histories, and logs.

    log = OpLog(path)                          # the client writes down what it asks for, and what it is answered
    …
    await at_rest(stack, within=60)
    evidence = await evidence_of(stack, ops=log.ops(), receipts=provider.receipts)
    examine(evidence).require_sound()

Thirteen invariants (`INVARIANTS`), each a pure function of the evidence.
"""

from tests.faults.checker.examination import INVARIANTS, examine
from tests.faults.checker.gathering import gather
from tests.faults.checker.op_log import Effect, Op, OpLog
from tests.faults.checker.stack_evidence import at_rest, evidence_of
from tests.faults.checker.verdicts import Finding, Report, Verdict

__all__ = [
    "INVARIANTS",
    "Effect",
    "Finding",
    "Op",
    "OpLog",
    "Report",
    "Verdict",
    "at_rest",
    "evidence_of",
    "examine",
    "gather",
]
