"""Who asks about events: who counts two or more of them in a window, and so needs the events themselves, and who asks
about those of a kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from asyncpg import Connection, Record

from orchestrator.predicates.check import windowed_counts
from orchestrator.predicates.facts import needs
from orchestrator.predicates.tree import EventFired, Source
from orchestrator.storage.saved_predicates import saved

_WINDOWED = '$.** ? ((@.kind == "event_fired" || @.kind == "event_not_fired") && @.atLeast > 1)'
_OF_A_KIND = "$.** ? (exists (@.where))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A leaf that counts in a window, and whose it is (saved_predicates.py)."""

    kind: str
    id: str
    leaf: EventFired


async def in_use(conn: Connection[Record], project_no: int) -> list[Asked]:
    """All of them, in whatever is saved and may still be asked. Raises Unreadable."""
    return [
        Asked(kind=one.kind, id=one.id, leaf=leaf)
        for one in await saved(conn, project_no, _WINDOWED)
        for predicate in one.predicates()
        for leaf, _ in windowed_counts(predicate)
    ]


async def kinds(conn: Connection[Record], project_no: int) -> set[Source]:
    """The kinds of events that are asked about by whatever is saved and may still be asked. Raises Unreadable."""
    asked = [predicate for one in await saved(conn, project_no, _OF_A_KIND) for predicate in one.predicates()]
    return {source for source in needs(asked).events if source.where is not None}
