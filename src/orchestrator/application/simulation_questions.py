"""What is to be simulated, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import orjson

from orchestrator.domain.event import name_fault
from orchestrator.domain.ids import MAX_ID_LENGTH
from orchestrator.domain.journey import Definition, Webhook
from orchestrator.domain.simulation import Changes, Happening, Occurs
from orchestrator.domain.subject import is_time_zone
from orchestrator.domain.webhook_answer import MAX_ANSWER_BYTES, TOO_LARGE, read_answer
from orchestrator.predicates.faults import Fault, under

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
    `answers` are what webhooks answer, by step; one without is taken as answered, with nothing that is kept.
    `enters_anyway`: also somebody whom a gate at entry refuses.
    """

    journey_id: str
    subject_id: str = ""
    attributes: Mapping[str, Any] | None = None
    time_zone: str = ""
    overrides: frozenset[Override] = frozenset()
    entry: Mapping[str, Any] | None = None
    supposed: Sequence[Supposed] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)
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


def question_faults(question: Question, definition: Definition, now: datetime) -> list[Fault]:
    """Everything that is wrong with the question about this journey."""
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
    for step_id, answer in sorted(question.answers.items()):
        if (wrong := _answer_fault(definition, step_id, answer)) is not None:
            faults.append(wrong)
    return faults


def _answer_fault(definition: Definition, step_id: str, answer: Any) -> Fault | None:
    """Why a webhook cannot have answered so."""
    path = under("answers", step_id[:MAX_ID_LENGTH])
    step = definition.steps.get(step_id)
    if not isinstance(step, Webhook):
        message = "there is no such step" if step is None else "the step is no webhook: it answers nothing"
        return Fault(path=path, reason="ANSWER_NOT_FOUND", message=message)
    if not isinstance(answer, Mapping):
        return Fault(path=path, reason="INVALID_TYPE", message="must be an object")
    _, why = read_answer(orjson.dumps(answer))
    if why == TOO_LARGE:
        message = f"at most {MAX_ANSWER_BYTES // 1024} KiB of JSON are kept of an answer"
        return Fault(path=path, reason="TOO_LARGE", message=message)
    if why is not None:
        return Fault(path=path, reason="INVALID_VALUE", message=f"would not be kept of an answer: {why}")
    return None


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
