"""Whether an execution runs, in the few words that those who watch it know."""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from orchestrator.domain.execution import Outcome


class Status(Enum):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    ABORTED = "ABORTED"


def status_of(outcome: Outcome | None) -> Status:
    """The status by what the ledger says; None: it has no end yet."""
    match outcome:
        case None:
            return Status.RUNNING
        case Outcome.COMPLETED | Outcome.EXITED | Outcome.GOAL_REACHED:
            return Status.SUCCEEDED
        case Outcome.EXPIRED:
            return Status.TIMED_OUT
        case Outcome.CANCELED | Outcome.FORGOTTEN:
            return Status.ABORTED
        case Outcome.FAILED:
            return Status.FAILED
        case _:
            assert_never(outcome)
