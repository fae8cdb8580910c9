"""What stands in files of an export: answers of Pinpoint's API as its command line prints them, and requests to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.notes import LOST_WHOLE
from orchestrator.pinpoint.reading import place, placed, read_structure

#: Of each kind, as many as a bundle holds.
MAX_RESOURCES = 1000


class Kind(Enum):
    JOURNEY = "journey"
    SEGMENT = "segment"
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """`body` has the types of its shape; `path` leads to it. `name` is what stood beside a request that has none."""

    kind: Kind
    body: Mapping[str, Any]
    path: str
    name: str | None = None


_KINDS: Mapping[str, Kind] = {
    "JourneyResponse": Kind.JOURNEY,
    "WriteJourneyRequest": Kind.JOURNEY,
    "SegmentResponse": Kind.SEGMENT,
    "WriteSegmentRequest": Kind.SEGMENT,
    "EmailTemplateResponse": Kind.EMAIL,
    "EmailTemplateRequest": Kind.EMAIL,
    "SMSTemplateResponse": Kind.SMS,
    "SMSTemplateRequest": Kind.SMS,
    "PushNotificationTemplateResponse": Kind.PUSH,
    "PushNotificationTemplateRequest": Kind.PUSH,
}
#: Answers that list, and of what each element is.
_LISTS: Mapping[str, str] = {"JourneysResponse": "JourneyResponse", "SegmentsResponse": "SegmentResponse"}
_SUMMARIES = "TemplatesResponse"
#: What stands beside the request in a file for the command line's `--cli-input-json`.
_BESIDE = ("ApplicationId", "JourneyId", "SegmentId", "TemplateName", "CreateNewVersion", "Version")

#: Of an object that is nothing of Pinpoint's.
_UNKNOWN_TOLD = 20

_KNOWN = (*_KINDS, *_LISTS, _SUMMARIES, *LOST_WHOLE)


def read_exports(found: Discoveries, exports: Sequence[Any], path: str) -> list[Resource]:
    """Everything in them that can be translated; what is wrong with them, and what else there is, is told."""
    if not exports:
        found.fault(path, "REQUIRED", "nothing is to be translated")
    resources = [resource for at, export in placed(list(exports), path) for resource in _resources(found, export, at)]
    for kind in Kind:
        if sum(resource.kind is kind for resource in resources) > MAX_RESOURCES:
            found.fault(path, "TOO_LARGE", f"more than {MAX_RESOURCES} of the kind {kind.value}")
    return resources


def _resources(found: Discoveries, document: Any, path: str) -> Iterator[Resource]:
    if not isinstance(document, dict):
        found.fault(path, "INVALID_TYPE", f"must be an object with one of {', '.join(_KNOWN)}")
        return
    members = [name for name in document if name in _KNOWN and document[name] is not None]
    if not members:
        for name in list(document)[:_UNKNOWN_TOLD]:
            found.fault(place(path, name), "UNKNOWN_FIELD", f"must be one of {', '.join(_KNOWN)}")
        if not document:
            found.fault(path, "REQUIRED", f"there is none of {', '.join(_KNOWN)}")
        return
    for name in members:
        yield from _members(found, name, document, place(path, name))
    for name, value in document.items():
        if name not in _KNOWN:
            kind = FindingKind.RECORD if name in _BESIDE else FindingKind.UNKNOWN
            message = "stands beside what is translated; nothing here depends on it"
            if name != "TemplateName" or not any(member.endswith("TemplateRequest") for member in members):
                found.find(kind, place(path, name), value, message)


def _members(found: Discoveries, name: str, document: Mapping[str, Any], path: str) -> Iterator[Resource]:
    body = document[name]
    if name in LOST_WHOLE:
        _check_object(found, body, path)
        found.find(FindingKind.NO_COUNTERPART, path, body, LOST_WHOLE[name])
    elif name in _LISTS:
        yield from _listed(found, name, body, path)
    elif name == _SUMMARIES:
        _check_object(found, body, path)
        message = "a list of templates does not say what is in them: export each (`aws pinpoint get-email-template …`)"
        found.find(FindingKind.MISSING, path, body, message)
    else:
        read_structure(found, name, body, path)
        beside = document.get("TemplateName")
        if isinstance(body, dict):
            yield Resource(kind=_KINDS[name], body=body, path=path, name=beside if isinstance(beside, str) else None)


def _check_object(found: Discoveries, body: Any, path: str) -> None:
    if not isinstance(body, dict):
        found.fault(path, "INVALID_TYPE", "must be an object")


def _listed(found: Discoveries, name: str, body: Any, path: str) -> Iterator[Resource]:
    items = body.get("Item") if isinstance(body, dict) else None
    if not isinstance(items, list):
        found.fault(path, "INVALID_TYPE", "must be an object with a list Item")
        return
    structure = _LISTS[name]
    for at, item in placed(items, place(path, "Item")):
        read_structure(found, structure, item, at)
        if isinstance(item, dict):
            yield Resource(kind=_KINDS[structure], body=item, path=at)
    for member, value in body.items():
        if member == "NextToken" and value:
            found.find(FindingKind.MISSING, place(path, member), value, "there is another page, which is not here")
        elif member not in ("Item", "NextToken"):
            message = f"Pinpoint's {name} has no such member: nothing was made of it"
            found.find(FindingKind.UNKNOWN, place(path, member), value, message)
