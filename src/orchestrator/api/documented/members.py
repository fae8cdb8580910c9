"""Members of a body, and parameters, from a document's words into those of `/v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api.documented.row import Document, Given, Meant
from orchestrator.api.json_text import repetition_faults, tell
from orchestrator.predicates.faults import Fault

#: A member that answers have and requests may send back; it says nothing.
IGNORED = ""

#: By name in the document: where it stands in `/v1` (`goal.eventName`), or IGNORED.
Members = Mapping[str, str]

#: Of one object. More would tell nobody anything.
_UNKNOWN_TOLD = 20


def same(*names: str) -> dict[str, str]:
    """Members that are called alike."""
    return {name: name for name in names}


def taken(given: Given, members: Members, parameters: Mapping[str, str] | None = None) -> Meant:
    """The members under the names of `/v1`, with a fault for each that there is not."""
    meant = Meant(document={}, places=_places({**members, **(parameters or {})}))
    meant.faults += repetition_faults(given.document, "")
    meant.faults += _unknown(given.document, members)
    for name, value in given.document.items():
        if place := members.get(name):
            _put(meant.document, place.split("."), value)
    _take_parameters(given.query, parameters or {}, meant)
    return meant


def as_it_is(given: Given) -> Meant:
    """A body that is that of `/v1`, and no parameters."""
    meant = Meant(document=given.document)
    _take_parameters(given.query, {}, meant)
    return meant


def nothing(given: Given) -> Meant:
    """Neither members nor parameters."""
    return taken(given, {})


def with_all(document: Document, values: Document) -> Document:
    """The document with these members, where it lacks them: `/v1` leaves out what has no value."""
    return {**document, **{name: value for name, value in values.items() if name not in document}}


def _take_parameters(query: Sequence[tuple[str, str]], parameters: Mapping[str, str], meant: Meant) -> None:
    for name, text in query:
        if name in parameters:
            meant.query.append((parameters[name], text))
        else:
            meant.faults.append(Fault(path=tell(name), reason="UNKNOWN_FIELD", message="no such parameter"))


def _unknown(document: Mapping[str, Any], members: Members) -> list[Fault]:
    known = ", ".join(name for name, place in members.items() if place)
    text = f"no such field; there are {known}" if known else "no such field; there are none"
    names = [name for name in document if name not in members][:_UNKNOWN_TOLD]
    return [Fault(path=tell(name), reason="UNKNOWN_FIELD", message=text) for name in names]


def _places(members: Members) -> dict[str, str]:
    return {place: name for name, place in members.items() if place not in (IGNORED, name)}


def _put(document: Document, way: Sequence[str], value: Any) -> None:
    *through, last = way
    for name in through:
        document = document.setdefault(name, {})
    document[last] = value
