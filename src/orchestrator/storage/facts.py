"""What predicates ask about subjects, read in one statement for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from asyncpg import Connection, Record

from orchestrator.domain.derived_event import matches
from orchestrator.domain.gates import Consent
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import bucket_of
from orchestrator.predicates.facts import EventFacts, Facts, Needs
from orchestrator.predicates.tree import Source
from orchestrator.storage.event_names import ANY_EVENT_NO, SOURCE_NUMBERS, where_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One subject: its facts (without `$entry`), and what it refused."""

    subject_id: str
    facts: Facts
    consent: Consent


#: Events of a name that are looked at in one go, while a kind of them is being counted.
RAW_AT_ONCE = 500

# Sources are resolved once: those that have no number never happened, and kinds whose past is still being counted are
# `raw`, answered from the events of their name, of which the newest come with the rest.
_FACTS = f"""
WITH source AS MATERIALIZED (
    SELECT w.place, w.depth,
           CASE WHEN w.name IS NULL THEN {ANY_EVENT_NO}
                WHEN w.where_hash IS NULL THEN n.name_no ELSE d.name_no END AS name_no,
           CASE WHEN w.where_hash IS NOT NULL AND d.ready_at IS NULL THEN n.name_no END AS raw_no
      FROM unnest($4::text[], $5::bytea[], $6::int[]) WITH ORDINALITY AS w (name, where_hash, depth, place)
{SOURCE_NUMBERS.rstrip()}
)
SELECT s.bucket, s.subject_no, s.subject_id, s.attributes, s.created_at, s.time_zone,
       ARRAY(SELECT ARRAY[o.channel, o.category] FROM opt_outs AS o
              WHERE o.project_no = $1 AND o.bucket = s.bucket AND o.subject_no = s.subject_no) AS opt_outs,
       ARRAY(SELECT x.channel FROM suppressions AS x
              WHERE x.project_no = $1 AND x.bucket = s.bucket AND x.subject_no = s.subject_no) AS suppressed,
       ARRAY(SELECT ROW (q.place, t.total, t.first_at, t.last_at)
               FROM source AS q
               JOIN subject_event_state AS t
                 ON t.project_no = $1 AND t.bucket = s.bucket AND t.subject_no = s.subject_no AND t.name_no = q.name_no
              WHERE q.raw_no IS NULL) AS states,
       {{recents}} AS recents,
       {{raw}} AS raw,
       ARRAY(SELECT g.segment_id FROM static_members AS m
               JOIN segments AS g ON g.project_no = m.project_no AND g.segment_no = m.segment_no
              WHERE m.project_no = $1 AND m.bucket = s.bucket AND m.subject_no = s.subject_no
                AND g.segment_id = ANY ($7::text[])) AS cohorts,
       ARRAY(SELECT g.segment_id FROM segments AS g
              WHERE g.project_no = $1 AND g.segment_id = ANY ($7::text[]) AND g.predicate IS NULL) AS known_cohorts
"""

# Each opens every month that there are events of: left out where nothing asks for it.
_RECENTS = """
       ARRAY(SELECT ROW (q.place, r.occurred_at)
               FROM source AS q
              CROSS JOIN LATERAL (
                    SELECT e.occurred_at FROM events AS e
                     WHERE e.project_no = $1 AND e.bucket = s.bucket AND e.subject_no = s.subject_no
                       AND e.name_no = q.name_no
                     ORDER BY e.occurred_at DESC LIMIT q.depth) AS r
              WHERE q.raw_no IS NULL AND q.depth > 0)
""".strip()
_RAW = f"""
       ARRAY(SELECT ROW (q.place, r.occurred_at, r.event_no, r.properties)
               FROM source AS q
              CROSS JOIN LATERAL (
                    SELECT e.occurred_at, e.event_no, e.properties FROM events AS e
                     WHERE e.project_no = $1 AND e.bucket = s.bucket AND e.subject_no = s.subject_no
                       AND e.name_no = q.raw_no
                     ORDER BY e.occurred_at DESC, e.event_no DESC LIMIT {RAW_AT_ONCE}) AS r
              WHERE q.raw_no IS NOT NULL)
""".strip()
_NONE = "'{}'::text[]"

_OF_SUBJECTS = """
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
  JOIN subjects AS s ON s.project_no = $1 AND s.bucket = w.bucket AND s.subject_no = w.subject_no
"""
_OF_SUBJECT = """
  FROM subjects AS s
 WHERE s.project_no = $1 AND (s.bucket, s.subject_no) = (
       SELECT i.bucket, i.subject_no FROM subjects AS i
        WHERE i.project_no = $1 AND i.bucket = $2 AND i.subject_id = $3
        UNION ALL
       SELECT a.bucket, a.subject_no FROM subject_aliases AS a
        WHERE a.project_no = $1 AND a.alias_bucket = $2 AND a.alias_id = $3)
"""


@cache
def _statement(of: str, *, recents: bool, raw: bool) -> str:
    return _FACTS.format(recents=_RECENTS if recents else _NONE, raw=_RAW if raw else _NONE).rstrip() + of


def _asking(needs: Needs, of: str) -> str:
    """One of four statements for each `of`: with or without what only some questions ask for."""
    is_raw = any(source.where is not None for source in needs.events)
    return _statement(of, recents=any(needs.events.values()), raw=is_raw)


async def load(
    conn: Connection[Record], project_no: int, keys: Sequence[SubjectKey], needs: Needs
) -> dict[SubjectKey, Known]:
    """What `needs` asks of these subjects; those that do not exist are missing from the answer.

    A decision takes the subjects' locks first, in a statement of its own.
    """
    buckets, subject_nos = [key.bucket for key in keys], [key.subject_no for key in keys]
    sources = list(needs.events)
    rows = await conn.fetch(_asking(needs, _OF_SUBJECTS), project_no, buckets, subject_nos, *_asked(sources, needs))
    return {
        SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]): await _known(
            conn, project_no, row, sources, needs
        )
        for row in rows
    }


async def find(conn: Connection[Record], project_no: int, subject_id: str, needs: Needs) -> Known | None:
    """`load` for the subject with this id, or the one that it was merged into; None when there is no such subject."""
    sources = list(needs.events)
    row = await conn.fetchrow(
        _asking(needs, _OF_SUBJECT), project_no, bucket_of(subject_id), subject_id, *_asked(sources, needs)
    )
    return await _known(conn, project_no, row, sources, needs) if row else None


def _asked(sources: Sequence[Source], needs: Needs) -> tuple[list[Any], ...]:
    """$4 to $7."""
    return (
        [source.name for source in sources],
        [where_hash(source.where) if source.where is not None else None for source in sources],
        [needs.events[source] for source in sources],
        sorted(needs.cohorts),
    )


async def _known(
    conn: Connection[Record], project_no: int, row: Record, sources: Sequence[Source], needs: Needs
) -> Known:
    return Known(
        subject_id=row["subject_id"],
        facts=Facts(
            attributes=row["attributes"],
            events=_counted(row, sources) | await _recounted(conn, project_no, row, sources, needs),
            cohorts=frozenset(row["cohorts"]),
            known_cohorts=frozenset(row["known_cohorts"]),
            created_at=row["created_at"],
            time_zone=row["time_zone"],
        ),
        consent=Consent(
            opt_outs=frozenset((channel, category) for channel, category in row["opt_outs"]),
            suppressed=frozenset(row["suppressed"]),
        ),
    )


def _counted(row: Record, sources: Sequence[Source]) -> dict[Source, EventFacts]:
    recents: dict[int, list[datetime]] = {}
    for place, occurred_at in row["recents"]:
        recents.setdefault(place, []).append(occurred_at)
    return {
        sources[place - 1]: EventFacts(
            total=total, first_at=first_at, last_at=last_at, recent=tuple(sorted(recents.get(place, ()), reverse=True))
        )
        for place, total, first_at, last_at in row["states"]
    }


# Those behind one of them, newest first.
_MORE_RAW = """
SELECT occurred_at, event_no, properties
  FROM events
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND occurred_at <= $5 AND (occurred_at, event_no) < ($5, $6)
   AND name_no = (SELECT name_no FROM event_names WHERE project_no = $1 AND name = $4)
 ORDER BY occurred_at DESC, event_no DESC
 LIMIT $7
"""


async def _recounted(
    conn: Connection[Record], project_no: int, row: Record, sources: Sequence[Source], needs: Needs
) -> dict[Source, EventFacts]:
    """Of kinds that are not counted in full: what the events of their name say, however many there are."""
    by_place: dict[int, list[_Raw]] = {}
    for place, *event in row["raw"]:
        by_place.setdefault(place, []).append(_Raw(*event))
    counted = {}
    for place, events in by_place.items():
        source = sources[place - 1]
        assert source.where is not None, "events of a name are always counted"
        tally = _Tally(needs.events[source])
        while True:
            for event in events:
                if matches(source.where.predicate, event.properties):
                    tally.add(event.occurred_at)
            if len(events) < RAW_AT_ONCE:
                break
            last = events[-1]
            more = await conn.fetch(
                _MORE_RAW, project_no, row["bucket"], row["subject_no"], source.name, last.occurred_at, last.event_no,
                RAW_AT_ONCE,
            )  # fmt: skip
            events = [_Raw(*one) for one in more]
        if tally.ats:
            counted[source] = tally.facts()
    return counted


class _Raw(NamedTuple):
    occurred_at: datetime
    event_no: int
    properties: Mapping[str, Any]


class _Tally:
    """Adds up events that come newest first, and keeps the instants of as many as are asked about."""

    def __init__(self, depth: int) -> None:
        self._most = max(depth, 1)
        self._depth = depth
        self._total = 0
        self._first: datetime | None = None
        self.ats: list[datetime] = []

    def add(self, occurred_at: datetime) -> None:
        self._total += 1
        self._first = occurred_at
        if len(self.ats) < self._most:
            self.ats.append(occurred_at)

    def facts(self) -> EventFacts:
        """Of one event at least."""
        assert self._first is not None
        return EventFacts(
            total=self._total, first_at=self._first, last_at=self.ats[0], recent=tuple(self.ats[: self._depth])
        )
