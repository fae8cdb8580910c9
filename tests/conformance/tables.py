"""Worlds in the tables that the SQL engine reads, and what that engine says about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count, groupby
from types import MappingProxyType
from typing import Any

import orjson
from asyncpg import Connection, Record

from orchestrator.domain.attributes import times_of
from orchestrator.predicates.facts import needs
from orchestrator.predicates.sql import query as sql
from orchestrator.predicates.sql.inputs import Among
from orchestrator.predicates.tree import ANY_EVENT, Predicate, Source
from tests.conformance.worlds import World, counted

PROJECT_NO = 7
LAST_BUCKET = 255
#: Those that statements read.
TABLES = "subjects, events, subject_event_state, subject_event_days, static_members"

_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    """The questions that hold for one subject, and when time could change that."""

    holds: frozenset[int]
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Tables:
    """The worlds, each a subject whose number is its place, and the numbers of what predicates name."""

    conn: Connection[Record]
    name_nos: Mapping[Source, int | None]
    cohort_nos: Mapping[str, int]

    async def ask(
        self,
        questions: Mapping[int, Predicate],
        as_of: datetime,
        *,
        buckets: tuple[int, int] = (0, LAST_BUCKET),
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[int, Answer]:
        """The answers about the subjects of these buckets. `settings` come on top of those of the query."""
        query = self.compile(questions, as_of)
        return await self.fetch(replace(query, settings={**query.settings, **settings}), *buckets)

    async def ask_about(
        self, subjects: Sequence[int], questions: Mapping[int, Predicate], as_of: datetime
    ) -> dict[int, Answer]:
        """The answers about these subjects."""
        query = self.compile(questions, as_of, Among.SUBJECTS)
        return await self.fetch(query, [bucket_of(subject) for subject in subjects], list(subjects))

    def compile(self, questions: Mapping[int, Predicate], as_of: datetime, among: Among = Among.BUCKETS) -> sql.Query:
        return sql.compile(questions, name_nos=self.name_nos, cohort_nos=self.cohort_nos, as_of=as_of, among=among)

    async def fetch(self, query: sql.Query, *inputs: object) -> dict[int, Answer]:
        async with self.conn.transaction(readonly=True):
            for name, value in query.settings.items():
                await self.conn.execute(f"SET LOCAL {name} = '{value}'")
            rows = await self.conn.fetch(query.text, PROJECT_NO, *inputs, *query.arguments)
        answers = {row["subject_no"]: Answer(frozenset(row["segment_nos"]), row["due"]) for row in rows}
        assert len(answers) == len(rows), "a subject has one row"
        assert all(row["segment_nos"] == sorted(set(row["segment_nos"])) for row in rows)
        assert all(row["bucket"] == bucket_of(row["subject_no"]) for row in rows)
        return answers


async def write_worlds(conn: Connection[Record], worlds: Sequence[World], predicates: Iterable[Predicate]) -> Tables:
    """Puts the worlds in place of whatever is in the tables, with the counters that these predicates read.

    `conn` owns the tables. All worlds know the same cohorts.
    """
    happened = {name for world in worlds for name in world.events}
    sources = {source for source in needs(predicates).events if source != ANY_EVENT}
    name_nos: dict[Source, int | None] = {ANY_EVENT: 0}
    for number, source in enumerate(sorted(sources, key=repr), 1):
        name_nos[source] = number if source.name in happened else None
    cohort_nos = {cohort: number for number, cohort in enumerate(sorted(worlds[0].known_cohorts), 1)}
    await conn.execute(f"TRUNCATE {TABLES}")
    await _copy(conn, "subjects", [_subject(subject, world) for subject, world in enumerate(worlds)])
    await _copy(conn, "static_members", [*_memberships(worlds, cohort_nos)])
    counts = [*_counts(worlds, name_nos)]
    await _copy(conn, "subject_event_state", [key | _totals(instants) for key, instants in counts])
    # Of every event there is a total and nothing else.
    named = [(key, instants) for key, instants in counts if key["name_no"] != name_nos[ANY_EVENT]]
    days = [
        key | _totals([*instants]) | {"day": day}
        for key, of_key in named
        for day, instants in groupby(of_key, key=lambda instant: instant.date())
    ]
    await _copy(conn, "subject_event_days", days)
    numbers = count(1)
    events = [
        key | {"occurred_at": at, "received_at": at, "event_no": next(numbers), "event_id": "", "properties": "{}"}
        for key, instants in named
        for at in instants
    ]
    await _copy(conn, "events", events)
    return Tables(conn, name_nos, cohort_nos)


def bucket_of(subject: int) -> int:
    """Neighbours are apart, and the first and the last bucket are used."""
    return (subject - 1) * 5 % (LAST_BUCKET + 1) if subject else LAST_BUCKET


def _subject(subject: int, world: World) -> dict[str, Any]:
    return _key(subject) | {
        "subject_id": str(subject),
        "attributes": orjson.dumps(world.attributes).decode(),
        "attribute_times": orjson.dumps(times_of(world.attributes)).decode(),
        "time_zone": world.time_zone,
        "created_at": world.created_at or _LONG_AGO,
        "updated_at": _LONG_AGO,
    }


def _memberships(worlds: Sequence[World], cohort_nos: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for subject, world in enumerate(worlds):
        for cohort in world.cohorts & cohort_nos.keys():
            yield _key(subject) | {"segment_no": cohort_nos[cohort], "added_at": _LONG_AGO}


def _counts(
    worlds: Sequence[World], name_nos: Mapping[Source, int | None]
) -> Iterator[tuple[dict[str, Any], list[datetime]]]:
    """When what is counted under a number happened to a subject, in order."""
    for subject, world in enumerate(worlds):
        for source, name_no in name_nos.items():
            instants = sorted(event.at for event in counted(source, world)) if name_no is not None else []
            if instants:
                yield _key(subject) | {"name_no": name_no}, instants


def _totals(instants: list[datetime]) -> dict[str, Any]:
    return {"total": len(instants), "first_at": instants[0], "last_at": instants[-1]}


def _key(subject: int) -> dict[str, Any]:
    return {"project_no": PROJECT_NO, "bucket": bucket_of(subject), "subject_no": subject}


async def _copy(conn: Connection[Record], table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        await conn.copy_records_to_table(table, columns=[*rows[0]], records=[tuple(row.values()) for row in rows])
