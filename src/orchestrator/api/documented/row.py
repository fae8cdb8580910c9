"""One documented call: where it stands, which RPC serves it, and how both are translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.api.documented.answer import Answer, Document
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.predicates.faults import Fault


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


#: By name in the document: where it stands in `/v1` (`goal.eventName`), or IGNORED.
Members = Mapping[str, str]
#: A member that answers have and requests may send back, saying nothing; or one that only a `Finish` reads.
IGNORED = ""

#: Adds to what is meant what names alone do not say.
Finish = Callable[[Given, Meant], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What the body of a documented call holds.

    `members` None: what `/v1` has there. `own` are JSON schemas of members, and of parameters, that are not what `/v1`
    has at their place; `required` are required besides those that `/v1` requires. `finish` reads what is more than
    another name. `is_choice`: nothing is required by itself, since one member stands for another.
    """

    members: Members | None = None
    own: Mapping[str, Document] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    is_choice: bool = False
    finish: Finish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`path` names its variables as the RPC's request does (`/api/audiences/{audience.id}`); `{project_id}` is the
    project that the key has to be of. `parameters` are those of the query, with their names in `/v1`; `fixed` ones are
    always the same.

    `status` is that of success; with 204 nothing is sent back. `store_failed` is the document's code for a call that
    the store does not carry out. `whole`: the document knows no pages, so that pages are asked for to the end.
    `internal`: only the internal token opens it, whoever else may call the RPC.
    """

    verb: str
    path: str
    rpc: str
    errors: ErrorForm
    answer: Answer
    body: Body = Body(members={})
    parameters: Members = field(default_factory=dict)
    fixed: tuple[tuple[str, str], ...] = ()
    status: int = 200
    store_failed: str = ""
    whole: bool = False
    internal: bool = False

    def __post_init__(self) -> None:
        """Raises TypeError: nothing is served that docs/openapi.json does not describe."""
        if not isinstance(self.answer, Answer):
            raise TypeError(f"{self.verb} {self.path} writes what nothing describes: see documented/answer.py")


def place_in(places: Mapping[str, str], path: str) -> str:
    """A path of `/v1` as the document spells it."""
    for prefix in sorted(places, key=len, reverse=True):
        if path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")):
            return f"{places[prefix]}{path[len(prefix) :]}"
    return path
