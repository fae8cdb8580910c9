"""One documented call: where it stands, which RPC serves it, and how both are translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.predicates.faults import Fault

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A request in the words of its document: the body's object, and the parameters of the query in order."""

    document: Document
    query: Sequence[tuple[str, str]]


@dataclass(slots=True, kw_only=True)
class Meant:
    """The same request in the words of `/v1`.

    `places` has, for paths of `/v1` that the document spells otherwise, its own: `{"subjectIds": "customerIds"}`.
    `faults` are told at the paths of `/v1` where there are such.
    """

    document: Document
    query: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    places: Mapping[str, str] = field(default_factory=dict)


Read = Callable[[Given], Meant]
#: (answer, request) -> what is sent back. Messages of any kind: a row knows its RPC's.
Write = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`path` names its variables as the RPC's request does (`/api/audiences/{audience.id}`); `{project_id}` is the
    project that the key has to be of.

    `status` is that of success; with 204 nothing is sent back. `store_failed` is the document's code for a call that
    the store does not carry out. `whole`: the document knows no pages, so that pages are asked for to the end.
    """

    verb: str
    path: str
    rpc: str
    errors: ErrorForm
    read: Read
    write: Write
    status: int = 200
    store_failed: str = ""
    whole: bool = False


def place_in(places: Mapping[str, str], path: str) -> str:
    """A path of `/v1` as the document spells it."""
    for prefix in sorted(places, key=len, reverse=True):
        if path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")):
            return f"{places[prefix]}{path[len(prefix) :]}"
    return path
