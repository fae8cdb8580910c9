"""What happened to a subject, as a caller reports it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from orchestrator.domain.subject import id_fault, is_subject_id
from orchestrator.predicates.faults import Fault, under

MAX_BATCH = 1000
MAX_EVENT_ID_LENGTH = 128
MAX_NAME_LENGTH = 128

# Written down, searched for and compared by people: no control characters, no blanks at either end.
_NAME = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]{0,126}[^\x00-\x20\x7f])?")
_EVENT_ID = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`event_id` is the caller's: a second event with it is the same event again.

    `occurred_at` None means: now. `properties` is the text of a JSON object, no larger than a subject's attributes may
    be (`domain/attributes.py`).
    """

    event_id: str
    name: str
    subject_id: str
    occurred_at: datetime | None
    properties: bytes


class Outcome(Enum):
    """What became of a well-formed event."""

    ACCEPTED = "accepted"
    #: Its id came before, in this batch or in the last 30 days: nothing was done.
    DUPLICATE = "duplicate"
    #: It happened to somebody who was forgotten: nothing of it is kept.
    FORGOTTEN = "forgotten"


def is_named(event_id: str, name: str, subject_id: str) -> bool:
    """Whether nothing is wrong with an event's ids and its name."""
    return bool(_EVENT_ID.fullmatch(event_id) and _NAME.fullmatch(name) and is_subject_id(subject_id))


def naming_faults(event_id: str, name: str, subject_id: str, path: str) -> list[Fault]:
    """What is wrong with an event's ids and its name. `path` leads to the event."""
    faults = (
        _text_fault(event_id, under(path, "eventId"), MAX_EVENT_ID_LENGTH, _EVENT_ID),
        name_fault(name, under(path, "name")),
        id_fault(subject_id, under(path, "subjectId")),
    )
    return [fault for fault in faults if fault is not None]


def name_fault(name: str, path: str) -> Fault | None:
    """What is wrong with the name of an event; None when nothing is."""
    return _text_fault(name, path, MAX_NAME_LENGTH, _NAME)


def _text_fault(text: str, path: str, longest: int, form: re.Pattern[str]) -> Fault | None:
    if form.fullmatch(text):
        return None
    if not text:
        return Fault(path=path, reason="REQUIRED", message="must not be empty")
    if len(text) > longest:
        return Fault(path=path, reason="TOO_LONG", message=f"at most {longest} characters")
    return Fault(
        path=path, reason="INVALID_VALUE", message="must be free of control characters and of blanks at its ends"
    )
