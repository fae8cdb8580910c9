"""What is to be simulated, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from orchestrator.domain.event import name_fault
from orchestrator.domain.simulation import Changes, Happening, Occurs
from orchestrator.domain.subject import is_time_zone
from orchestrator.predicates.faults import Fault

#: How far from its start something may be supposed to happen.
FURTHEST = timedelta(days=36_500)


class Override(Enum):
    """What is not asked for once. Owners only: what then would be sent must not be."""

    OPT_OUT = "opt_out"
    SUPPRESSION = "suppression"
    FREQUENCY_CAP = "frequency_cap"
    HOLDOUT = "holdout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposed:
    """Something that is supposed to happen, `at` that instant or so long `after` the start: an event of that `name`, or
    (no name) a merge patch of attributes."""

    name: str | None
    document: Mapping[str, Any]
    at: datetime | None
    after: timedelta | None
    # where the caller wrote it
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be simulated. A subject that is stored, or somebody with these `attributes` and this `time_zone` (""
    for none); neither where only `all_paths` are asked for.

    `entry` has the properties of the event that starts it; None: those that its trigger takes. `starts_at` None: now.
    `enters_anyway`: also somebody whom a gate at entry refuses.
    """

    journey_id: str
    subject_id: str = ""
    attributes: Mapping[str, Any] | None = None
    time_zone: str = ""
    overrides: frozenset[Override] = frozenset()
    entry: Mapping[str, Any] | None = None
    supposed: Sequence[Supposed] = ()
    starts_at: datetime | None = None
    enters_anyway: bool = False
    all_paths: bool = False

    @property
    def names_somebody(self) -> bool:
        return bool(self.subject_id) or self.attributes is not None


def happening(one: Supposed, start: datetime) -> Happening:
    """What it means in a simulation that begins then."""
    at = one.at if one.at is not None else start + (one.after or timedelta(0))
    if one.name is None:
        return Changes(at=at, attributes=one.document)
    return Occurs(at=at, name=one.name, properties=one.document)


def question_faults(question: Question, now: datetime) -> list[Fault]:
    """Everything that is wrong with the question."""
    faults = []

    def fault(path: str, reason: str, message: str) -> None:
        faults.append(Fault(path=path, reason=reason, message=message))

    if question.subject_id and question.attributes is not None:
        fault("subjectAttributes", "INVALID_VALUE", "it is simulated for a subject, or with given attributes, not both")
    elif not question.names_somebody and not question.all_paths:
        fault("subjectId", "REQUIRED", "a subject, or subjectAttributes, or allPaths")
    if question.time_zone and question.attributes is None:
        fault("timeZone", "INVALID_VALUE", "only with subjectAttributes: a subject has its own")
    elif question.time_zone and not is_time_zone(question.time_zone):
        fault("timeZone", "INVALID_VALUE", "a time zone is an IANA name, such as Europe/Berlin")
    start = question.starts_at or now
    if start < now:
        fault("startsAt", "OUT_OF_RANGE", "must not be past: what is known of subjects is what is known now")
    elif start > now + FURTHEST:
        fault("startsAt", "OUT_OF_RANGE", f"at most {FURTHEST.days} days ahead")
    for one in question.supposed:
        faults += _supposed_faults(one, start)
    return faults


def _supposed_faults(one: Supposed, start: datetime) -> list[Fault]:
    faults = []
    if one.name is not None and (wrong := name_fault(one.name, f"{one.path}.name")) is not None:
        faults.append(wrong)
    if (one.at is None) == (one.after is None):
        message = "either the instant at which it happens, or how long after the start"
        faults.append(Fault(path=f"{one.path}.at", reason="REQUIRED", message=message))
    elif one.after is not None and one.after > FURTHEST:
        message = f"at most {FURTHEST.days} days after the start"
        faults.append(Fault(path=f"{one.path}.after", reason="OUT_OF_RANGE", message=message))
    elif one.at is not None and not start - FURTHEST <= one.at <= start + FURTHEST:
        message = f"at most {FURTHEST.days} days before or after the start"
        faults.append(Fault(path=f"{one.path}.at", reason="OUT_OF_RANGE", message=message))
    return faults
