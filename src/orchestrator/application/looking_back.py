"""What has happened to subjects since they entered, of all that their versions wait for or end by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.versions import Prepared
from orchestrator.domain.conditions import Entry, matches
from orchestrator.domain.journey import Goal, Happened
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import happenings
from orchestrator.storage.happenings import Look, Seen

#: Events that are looked at first, where not all of a name count; nearly always it is one of these, or none.
FEW = 16
#: And then, as often as it takes.
MANY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """Somebody whose version may look back. `goal` is given where the version ends by it."""

    key: SubjectKey
    prepared: Prepared
    entry: Entry
    goal: Goal | None


@dataclass(slots=True)
class Past:
    """What is found: domain/advance.py, Known."""

    happened: dict[str, datetime] = field(default_factory=dict)
    goal_reached: bool = False


async def look_back(conn: Connection[Record], project_no: int, entrants: Sequence[Entrant]) -> list[Past]:
    """For each of these. Costs nothing where versions ask for nothing, and else one statement, nearly always."""
    pasts = [Past() for _ in entrants]
    searches: list[_Search] = []
    for entrant, past in zip(entrants, pasts, strict=True):
        searches += _searches(entrant, past)
    while searches:
        pages = await happenings.newest(conn, project_no, [search.look for search in searches])
        searches = [
            following
            for search, page in zip(searches, pages, strict=True)
            if (following := search.after(page)) is not None
        ]
    return pasts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """For the newest event of a name that counts, for each of these conditions; or for any event of the goal's."""

    look: Look
    past: Past
    entry_key: str
    # None: the goal
    conditions: Mapping[str, Happened] | None

    def after(self, page: Sequence[Seen]) -> _Search | None:
        """Note what was found on this page; what is still to be looked for."""
        if self.conditions is None:
            self.past.goal_reached = bool(page)
            return None
        missing = dict(self.conditions)
        for event in page:
            for name, condition in self.conditions.items():
                if name in missing and matches(condition, self.entry_key, event.properties, event.occurred_at):
                    self.past.happened[name] = event.occurred_at
                    del missing[name]
        if not missing or len(page) < self.look.limit:
            return None
        last = page[-1]
        look = replace(self.look, until=last.occurred_at, before_no=last.event_no, limit=MANY)
        return replace(self, look=look, conditions=missing)


def _searches(entrant: Entrant, past: Past) -> list[_Search]:
    by_name: defaultdict[str, dict[str, Happened]] = defaultdict(dict)
    for name, condition in entrant.prepared.happenings.items():
        by_name[condition.event_name][name] = condition
    found = []
    for event_name, conditions in by_name.items():
        choosy = any(condition.where is not None or condition.entry_key_path for condition in conditions.values())
        look = Look(
            key=entrant.key,
            event_name=event_name,
            since=entrant.entry.at,
            limit=FEW if choosy else 1,
            whole=choosy,
        )
        found.append(_Search(look=look, past=past, entry_key=entrant.entry.key, conditions=conditions))
    goal = entrant.goal
    if goal is not None and goal.event_name is not None:
        look = Look(
            key=entrant.key,
            event_name=goal.event_name,
            since=entrant.entry.at,
            until=entrant.entry.at + goal.window,
        )
        found.append(_Search(look=look, past=past, entry_key=entrant.entry.key, conditions=None))
    return found
