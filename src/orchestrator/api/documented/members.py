"""Members of a body, and parameters, from a document's words into those of `/v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api.documented.answer import Document
from orchestrator.api.documented.row import IGNORED, Body, Given, Meant, Members, Row
from orchestrator.api.json_text import repetition_faults, tell
from orchestrator.predicates.faults import Fault, under

#: Of one object. More would tell nobody anything.
_UNKNOWN_TOLD = 20


def same(*names: str) -> dict[str, str]:
    """Members that are called alike."""
    return {name: name for name in names}


def meaning_of(row: Row, given: Given) -> Meant:
    """A request in the words of `/v1`, with a fault for each member and parameter that there is not."""
    body = row.body
    meant = Meant(document={}, places=_places({**(body.members or {}), **row.parameters}))
    if body.members is None:
        meant.document = given.document
    else:
        _take_members(given.document, body, body.members, meant)
    for name, text in given.query:
        if name in row.parameters:
            meant.query.append((row.parameters[name], text))
        else:
            meant.faults.append(Fault(path=under("", tell(name)), reason="UNKNOWN_FIELD", message="no such parameter"))
    meant.query += row.fixed
    if body.finish is not None:
        body.finish(given, meant)
    return meant


def _take_members(document: Document, body: Body, members: Members, meant: Meant) -> None:
    meant.faults += repetition_faults(document, "")
    meant.faults += _unknown(document, body, members)
    for name, value in document.items():
        if place := members.get(name):
            _put(meant.document, place.split("."), value)


def with_all(document: Document, values: Document) -> Document:
    """The document with these members, where it lacks them: `/v1` leaves out what has no value."""
    return {**document, **{name: value for name, value in values.items() if name not in document}}


def _unknown(document: Mapping[str, Any], body: Body, members: Members) -> list[Fault]:
    known = ", ".join(name for name, place in members.items() if place or name in body.own)
    text = f"no such field; there are {known}" if known else "no such field; there are none"
    names = [name for name in document if name not in members][:_UNKNOWN_TOLD]
    return [Fault(path=under("", tell(name)), reason="UNKNOWN_FIELD", message=text) for name in names]


def _places(members: Members) -> dict[str, str]:
    return {place: name for name, place in members.items() if place not in (IGNORED, name)}


def _put(document: Document, way: Sequence[str], value: Any) -> None:
    *through, last = way
    for name in through:
        document = document.setdefault(name, {})
    document[last] = value
