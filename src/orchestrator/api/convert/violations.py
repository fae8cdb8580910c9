"""Faults that are told in an answer, not instead of one."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.predicates.faults import Fault
from orchestrator.v1.violation_pb2 import Violation


def violations(faults: Iterable[Fault]) -> list[Violation]:
    return [Violation(path=fault.path, reason=fault.reason, message=fault.message) for fault in faults]
