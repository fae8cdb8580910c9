"""The thirteen invariants, and the one way to ask all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.faults.checker.acknowledged import took_effect_once
from tests.faults.checker.audit import audited_once
from tests.faults.checker.counts import counts_add_up
from tests.faults.checker.doctors import diagnosed
from tests.faults.checker.evidence import Evidence
from tests.faults.checker.messages import accepted_once, reserved_and_received, silence_kept
from tests.faults.checker.processes import processes_are_well
from tests.faults.checker.rest import both_have_the_same_under_way, nothing_is_left_to_do
from tests.faults.checker.tenancy import projects_are_apart
from tests.faults.checker.traces import nothing_is_left_of_the_forgotten
from tests.faults.checker.verdicts import Report, Verdict
from tests.faults.checker.waits import waited_as_long_as_it_had_to
from tests.faults.checker.ways import went_the_way

Invariant = Callable[[Evidence, Verdict], None]

INVARIANTS: Mapping[str, Invariant] = {
    "I1": took_effect_once,
    "I2": accepted_once,
    "I3": reserved_and_received,
    "I4": went_the_way,
    "I5": waited_as_long_as_it_had_to,
    "I6": counts_add_up,
    "I7": both_have_the_same_under_way,
    "I8": nothing_is_left_to_do,
    "I9": silence_kept,
    "I10": nothing_is_left_of_the_forgotten,
    "I11": audited_once,
    "I12": projects_are_apart,
    "I13": processes_are_well,
}


def examine(evidence: Evidence) -> Report:
    """Hold the evidence against all of them."""
    verdicts = {}
    for name, holds in INVARIANTS.items():
        verdicts[name] = Verdict(name)
        holds(evidence, verdicts[name])
        diagnosed(evidence, verdicts[name])
    return Report(verdicts)
