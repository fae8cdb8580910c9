"""How much each field of the contract holds. Both transports refuse more, and docs/openapi.json says so.

The unit says how a text is measured. What a field means beyond its size (that a zone exists, that a template reads) is
decided where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from orchestrator.api.descriptors import owner_of

#: Not `.` and `..`: whatever stands between a caller and the server makes another path of those.
ID_PATTERN = r"[A-Za-z0-9_.:-]{1,128}"
_ID = re.compile(r"(?!\.{1,2}$)" + ID_PATTERN)
MAX_ID_LENGTH = 128

#: Any object of free form: attributes, properties, settings. Depth counts objects and lists within each other.
MAX_STRUCT_DEPTH = 24

MAX_REQUEST_BYTES = 1024 * 1024
#: Of requests that carry many events or subjects.
MAX_BATCH_BYTES = 4 * 1024 * 1024
_BATCHES = frozenset({"orchestrator.v1.BatchUpsertSubjectsRequest", "orchestrator.v1.IngestEventsRequest"})


@dataclass(frozen=True, slots=True)
class Characters:
    """A text of at most so many characters."""

    most: int


@dataclass(frozen=True, slots=True)
class Bytes:
    """A text of at most so many bytes of UTF-8."""

    most: int


@dataclass(frozen=True, slots=True)
class Id:
    """An id, or nothing where none is required."""


@dataclass(frozen=True, slots=True)
class Range:
    """A whole number."""

    least: int
    most: int


TextLimit = Characters | Bytes | Id

_ANY_TEXT = Bytes(8 * 1024)
_ANY_INTEGER = Range(0, 2**31 - 1)

#: By field name, or by message and field name, which goes first. Other fields called id or *_id are Id.
TEXTS: Mapping[str, TextLimit] = {
    "name": Characters(255),
    "description": Characters(2000),
    "body": Bytes(32 * 1024),
    "channel": Characters(64),
    "etag": Characters(128),
    "event_id": Characters(128),
    "event_name": Characters(128),
    "Event.name": Characters(128),
    "ExitStep.reason": Characters(200),
    "Suppression.reason": Characters(255),
    "next": Id(),
    "otherwise": Id(),
    "page_token": Characters(2048),
    "provider_id": Characters(1024),
    "request_id": Characters(128),
    "resource_kind": Characters(64),
    "subject_ids": Id(),
    "subject_type": Characters(64),
    "time_zone": Characters(64),
    "workflow_id": Characters(1024),
}

#: Elements of a list, by field name.
LISTS: Mapping[str, int] = {
    "arms": 50,
    "changes": 100,
    "events": 1000,
    "steps": 500,
    "subject_ids": 1000,
    "subjects": 1000,
}
_ANY_LIST = 1000

INTEGERS: Mapping[str, Range] = {
    "GetJourneyVersionRequest.version": Range(1, 2**31 - 1),
    "JourneyDefinition.max_duration_days": Range(1, 365),
    "ProjectSettings.max_journeys": Range(0, 1_000_000),
}


def request_bytes(request: Descriptor) -> int:
    """How large a request may be, in either transport's own form."""
    return MAX_BATCH_BYTES if request.full_name in _BATCHES else MAX_REQUEST_BYTES


def text_limit(field: FieldDescriptor) -> TextLimit:
    """How much a field of texts holds."""
    return _text_limit(owner_of(field).name, field.name)


@cache
def _text_limit(message: str, name: str) -> TextLimit:
    found = TEXTS.get(f"{message}.{name}") or TEXTS.get(name)
    if found is None and (name == "id" or name.endswith("_id")):
        found = Id()
    return found or _ANY_TEXT


def list_limit(field: FieldDescriptor) -> int:
    """How many elements a list holds."""
    return LISTS.get(field.name, _ANY_LIST)


def integer_limit(field: FieldDescriptor) -> Range:
    """Between which bounds a whole number is."""
    return INTEGERS.get(f"{owner_of(field).name}.{field.name}", _ANY_INTEGER)


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None
