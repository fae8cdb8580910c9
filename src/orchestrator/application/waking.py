"""Whom news wakes: executions that await what has happened to their subjects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from asyncpg import Connection, Record

from orchestrator.application.segment_rules import SegmentRules
from orchestrator.domain.conditions import (
    ANY_EVENT,
    ATTRIBUTES,
    PREFERENCES,
    event_topic,
    is_about_segments,
    segment_topic,
)
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import event_names, memberships, outbox
from orchestrator.storage.awaiting import Awaiting
from orchestrator.storage.catalog import Current
from orchestrator.storage.inbox import Entry
from orchestrator.storage.memberships import Cause, Recorded
from orchestrator.storage.outbox import Notice

#: The past wakes nobody, and whoever has become another is told apart from that.
_SILENT: frozenset[Cause] = frozenset({"backfill", "merge"})


class Waking:
    """Pokes by what the inbox tells of, for one process."""

    def __init__(self) -> None:
        # A number keeps its name for ever.
        self._names: defaultdict[int, dict[int, str]] = defaultdict(dict)

    async def wake(
        self,
        conn: Connection[Record],
        project: Current,
        rules: SegmentRules,
        awaiting: Sequence[Awaiting],
        entries: Iterable[Entry],
        moved: Iterable[Recorded],
    ) -> list[Notice]:
        """Have those of `awaiting` look again whose subjects had something of what they await happen to them.

        All are of one project, whose entries these are, and who has `moved` since. Returns what Temporal is to be told.
        """
        if not awaiting:
            return []
        keys = {one.key for one in awaiting}
        entries = [entry for entry in entries if entry.key in keys]
        news = await self._told(conn, project.project_no, entries)
        if any(is_about_segments(topic) for one in awaiting for topic in one.awaits):
            earlier = [number for entry in entries for number in entry.transition_nos]
            recorded = await memberships.recorded(conn, project.project_no, earlier) if earlier else []
            ids = {**rules.ids, **{number: segment_id for segment_id, number in rules.lists.items()}}
            for one in (*recorded, *moved):
                transition = one.transition
                # One that was deleted meanwhile has been told of.
                if transition.cause not in _SILENT and transition.segment_no in ids:
                    news[transition.key].add(segment_topic(ids[transition.segment_no]))
        woken = [one for one in awaiting if one.awaits & news[one.key]]
        told = [(one.key, one.execution_id, one.workflow_id) for one in woken]
        return await outbox.insert_pokes(conn, told, project.now)

    async def _told(
        self, conn: Connection[Record], project_no: int, entries: Iterable[Entry]
    ) -> defaultdict[SubjectKey, set[str]]:
        """What these entries tell of, but for segments."""
        names = await self._names_of(conn, project_no, {number for entry in entries for number in entry.name_nos})
        news: defaultdict[SubjectKey, set[str]] = defaultdict(set)
        for entry in entries:
            if entry.kind == "attributes":
                news[entry.key].add(ATTRIBUTES)
            elif entry.kind == "preferences":
                news[entry.key].add(PREFERENCES)
            elif entry.name_nos:
                news[entry.key].add(ANY_EVENT)
                news[entry.key].update(event_topic(names[number]) for number in entry.name_nos)
        return news

    async def _names_of(self, conn: Connection[Record], project_no: int, numbers: set[int]) -> Mapping[int, str]:
        known = self._names[project_no]
        if unknown := numbers - known.keys():
            known |= await event_names.names(conn, project_no, unknown)
        return known
