"""The words of a running execution: where it stands, what it is told to do, how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


class Outcome(Enum):
    """How an execution ended."""

    COMPLETED = "completed"
    EXITED = "exited"
    GOAL_REACHED = "goal_reached"
    EXPIRED = "expired"
    CANCELED = "canceled"
    FAILED = "failed"
    FORGOTTEN = "forgotten"


class Result(Enum):
    """What came of a step."""

    EXECUTED = "executed"
    SKIPPED = "skipped"
    FAILED = "failed"


class Why(Enum):
    """Why an execution sleeps."""

    WAIT = "wait"
    WAIT_FOR = "wait_for"
    # a send that a gate holds off
    GATE = "gate"
    PARK = "park"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The step an execution stands on, and since when.

    `mark`: of the attribute whose change it waits for, a digest of the value that it had on arrival.
    """

    step_id: str
    since: datetime
    mark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One passing over one step. `reason` says why it was skipped or failed, or which arm was taken.

    `version`: by which the step was left, where that is not the version of the decision.
    """

    step_id: str
    step_kind: str
    result: Result
    reason: str | None
    entered_at: datetime
    left_at: datetime
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of the last `Run`; of the choice of an arm, `reason` is its id."""

    result: Result
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Do something in the world, then report what came of it. One try takes at most `timeout`.

    `activity` is send | update_subject | emit_event | webhook | choose_arm; of a send, `channel` says by what.
    """

    activity: str
    step_id: str
    timeout: timedelta
    channel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """Nothing to do before `until`, unless something changes.

    `parked` names what has to be mended first, or what holds off a send.
    """

    until: datetime
    step_id: str
    why: Why
    parked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    outcome: Outcome
    reason: str


Effect = Run | Sleep | End


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What `advance` decided. Without visits and without an end, nothing has changed but the waiting."""

    position: Position
    effect: Effect
    visits: tuple[Visit, ...]

    @property
    def still_waiting(self) -> bool:
        return not self.visits and not isinstance(self.effect, End)
