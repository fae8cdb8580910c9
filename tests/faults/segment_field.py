"""A hundred thousand subjects whose membership workers keep, and a reference that is fast enough for so many.

The reference reads raw events and attributes alone, in SQL written for these segments, and shares nothing with the
product's statements.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.faults.field import RECOVERY

if TYPE_CHECKING:
    from asyncpg import Connection, Record

PROJECT_NO = 1
SUBJECTS = 100_000


def bought(days: int, at_least: int) -> dict[str, Any]:
    window = {"type": "last_n_days", "days": days}
    return {"kind": "event_fired", "eventName": "purchase", "window": window, "atLeast": at_least}


PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}

#: Rules of the product, and what they mean: a condition on a subject `s` and `n`, its purchases by age in days.
MEANINGS: Mapping[str, tuple[dict[str, Any], str]] = {
    "lately": (bought(7, 1), "recent(7) >= 1"),
    "often": (bought(30, 2), "recent(30) >= 2"),
    "pros": (PRO, "s.attributes ->> 'tier' = 'pro'"),
    "lapsed": (
        {"kind": "and", "clauses": [PRO, {"kind": "not", "clause": bought(7, 1)}]},
        "s.attributes ->> 'tier' = 'pro' AND recent(7) = 0",
    ),
}

_SUBJECTS = """
INSERT INTO subjects (project_no, bucket, subject_no, subject_id, attributes, created_at, updated_at)
SELECT $1, bucket, subject_no, 's' || subject_no,
       jsonb_build_object('tier', CASE WHEN subject_no % 3 = 0 THEN 'pro' ELSE 'free' END), now(), now()
  FROM unnest($2::smallint[], $3::bigint[]) AS made (bucket, subject_no) ORDER BY bucket, subject_no
"""
_NAME = """
INSERT INTO event_names (project_no, name) VALUES ($1, 'purchase')
ON CONFLICT ON CONSTRAINT event_names_name_key DO UPDATE SET name = excluded.name RETURNING name_no
"""
_MONTHS = """
SELECT ensure_events_month(m::date)
  FROM generate_series(date_trunc('month', now() - interval '60 days'), now(), '1 month') AS m
"""

# $3: when the k-th purchase of a subject was, for k = 1 and 2.
_EVENTS = """
INSERT INTO events (occurred_at, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
SELECT at, $1, $2, subject_no, bucket, at, format('%s-%s-%s', $4::text, subject_no, k), '{}'
  FROM subjects, unnest($3::timestamptz[]) WITH ORDINALITY AS bought (at, k) WHERE project_no = $1
"""
_AGGREGATES = """
INSERT INTO subject_event_days (subject_no, first_at, last_at, day, total, project_no, name_no, bucket)
SELECT subject_no, min(occurred_at), max(occurred_at), (occurred_at AT TIME ZONE 'UTC')::date, count(*), $1, $2, bucket
  FROM events WHERE project_no = $1 GROUP BY bucket, subject_no, 4
ON CONFLICT (project_no, bucket, subject_no, name_no, day) DO UPDATE SET
    first_at = excluded.first_at, last_at = excluded.last_at, total = excluded.total
"""
_STATES = """
INSERT INTO subject_event_state (subject_no, total, first_at, last_at, project_no, name_no, bucket)
SELECT subject_no, count(*), min(occurred_at), max(occurred_at), $1, name, bucket
  FROM events, unnest(ARRAY[0, $2::int]) AS name WHERE project_no = $1 GROUP BY bucket, subject_no, name
ON CONFLICT (project_no, bucket, subject_no, name_no) DO UPDATE SET
    first_at = excluded.first_at, last_at = excluded.last_at, total = excluded.total
"""
_INBOX = """
INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at)
SELECT project_no, bucket, subject_no, 'backfill', now() FROM subjects WHERE project_no = $1
"""

# Who should be in a segment at $2, against who is. The newest of a subject's purchases is in each of its windows or in
# none, so `recent` counts raw events.
_MEMBERS = """
WITH counted AS MATERIALIZED (
    SELECT s.bucket, s.subject_no, s.attributes,
           count(*) FILTER (WHERE e.occurred_at > $2::timestamptz - interval '168 hours') AS recent_7,
           count(*) FILTER (WHERE e.occurred_at > $2::timestamptz - interval '720 hours') AS recent_30
      FROM subjects AS s
      LEFT JOIN events AS e ON e.project_no = s.project_no AND e.bucket = s.bucket AND e.subject_no = s.subject_no
     WHERE s.project_no = $1 GROUP BY s.project_no, s.bucket, s.subject_no
), wanted AS (
    SELECT bucket, subject_no FROM counted AS s WHERE {condition}
), found AS (
    SELECT bucket, subject_no FROM subject_segments WHERE project_no = $1 AND segment_nos @> ARRAY[$3::int]
)
SELECT count(*) FILTER (WHERE found.bucket IS NULL) AS missing,
       count(*) FILTER (WHERE wanted.bucket IS NULL) AS too_many,
       count(*) AS either
  FROM wanted FULL JOIN found USING (bucket, subject_no)
"""

# In order, somebody who enters was outside and somebody who leaves was inside; at the end, members are inside.
_FOLD = """
WITH told AS MATERIALIZED (
    SELECT bucket, subject_no, segment_no, entered,
           lag(entered, 1, false) OVER each AS before,
           lead(transition_no) OVER each IS NULL AS is_last
      FROM segment_transitions WHERE project_no = $1
    WINDOW each AS (PARTITION BY segment_no, bucket, subject_no ORDER BY transition_no)
), members AS (
    SELECT bucket, subject_no, unnest(segment_nos) AS segment_no FROM subject_segments WHERE project_no = $1
), folded AS (
    SELECT bucket, subject_no, segment_no FROM told WHERE is_last AND entered
)
SELECT (SELECT count(*) FROM told WHERE entered = before) AS twice,
       (SELECT count(*) FROM folded FULL JOIN members USING (bucket, subject_no, segment_no)
         WHERE folded.bucket IS NULL OR members.bucket IS NULL) AS different
"""
_SIZES = """
WITH members AS (
    SELECT segment_no, count(*) AS members
      FROM (SELECT unnest(segment_nos) AS segment_no FROM subject_segments WHERE project_no = $1) AS m GROUP BY 1
), sizes AS (
    SELECT segment_no, sum(delta) AS size FROM segment_sizes WHERE project_no = $1 GROUP BY 1 HAVING sum(delta) <> 0
)
SELECT count(*) FROM members FULL JOIN sizes USING (segment_no) WHERE members IS DISTINCT FROM size
"""

# What is still to be done; no row when all is at rest.
_UNREST = """
SELECT * FROM (
    SELECT (SELECT count(*) FROM (SELECT FROM inbox LIMIT 1000) AS i) AS entries,
           (SELECT count(*) FROM segment_runs WHERE status <> 'done') AS runs,
           (SELECT count(*) FROM (
               SELECT FROM subject_segments WHERE next_due <= clock_timestamp() LIMIT 1000) AS d) AS due,
           (SELECT count(*) FROM segments
             WHERE predicate IS NOT NULL AND built_revision IS DISTINCT FROM rules_revision) AS unbuilt
) AS u WHERE entries > 0 OR runs > 0 OR due > 0 OR unbuilt > 0
"""
_BUSY = """
SELECT pid, wait_event, now() - xact_start AS for, left(query, 200) AS query FROM pg_stat_activity
 WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
"""


@dataclass
class SegmentField:
    """One database and what was put there by hand."""

    owner: Connection[Record]
    name_no: int = 0

    async def people(self, subjects: int = SUBJECTS) -> None:
        numbers = range(1, subjects + 1)
        buckets = [zlib.crc32(b"s%d" % number) & 255 for number in numbers]
        await self.owner.execute(_SUBJECTS, PROJECT_NO, buckets, list(numbers))
        await self.owner.execute("SELECT setval(pg_get_serial_sequence('subjects', 'subject_no'), $1)", subjects)
        await self.owner.execute(_MONTHS)
        self.name_no = await self.owner.fetchval(_NAME, PROJECT_NO)
        await self.owner.execute("ANALYZE subjects")

    async def imported(self, series: str, *ats: datetime) -> None:
        """Purchases of everybody at these instants, as ingest leaves them: counted, and told to the inbox."""
        async with self.owner.transaction():
            await self.owner.execute(_EVENTS, PROJECT_NO, self.name_no, list(ats), series)
            await self.owner.execute(_AGGREGATES, PROJECT_NO, self.name_no)
            await self.owner.execute(_STATES, PROJECT_NO, self.name_no)
            await self.owner.execute(_INBOX, PROJECT_NO)
        await self.owner.execute("ANALYZE events, subject_event_state, subject_event_days")
        await self.owner.execute("SELECT pg_notify('orchestrator_inbox', '')")

    async def until(self, condition: str, *args: object, within: float = RECOVERY) -> None:
        """Wait until this SQL condition holds."""
        async with asyncio.timeout(within):
            while not await self.owner.fetchval(f"SELECT {condition}", *args):
                await asyncio.sleep(0.02)

    async def at_rest(self, within: float = 2 * RECOVERY) -> None:
        """Wait until nothing waits, nothing is due, and no run is open. Raises AssertionError with what still is."""
        deadline = asyncio.get_running_loop().time() + within
        while left := await self.owner.fetchrow(_UNREST):
            if asyncio.get_running_loop().time() > deadline:
                busy = [dict(row) for row in await self.owner.fetch(_BUSY)]
                raise AssertionError(f"not at rest after {within} s: {dict(left)}; statements: {busy}")
            await asyncio.sleep(0.02)

    async def wrong(self, meanings: Mapping[str, tuple[dict[str, Any], str]] = MEANINGS) -> list[str]:
        """Everything that is not as the reference says: membership, the fold of transitions, sizes."""
        faults = []
        now = await self.owner.fetchval("SELECT clock_timestamp()")
        for name, (_, meaning) in meanings.items():
            condition = meaning.replace("recent(7)", "recent_7").replace("recent(30)", "recent_30")
            row = await self.owner.fetchrow(
                _MEMBERS.format(condition=condition), PROJECT_NO, now, await self.number(name), timeout=60
            )
            assert row is not None
            if row["missing"] or row["too_many"]:
                faults.append(f"{name}: {row['missing']} are missing, {row['too_many']} too many")
        fold = await self.owner.fetchrow(_FOLD, PROJECT_NO, timeout=60)
        assert fold is not None
        if fold["twice"] or fold["different"]:
            faults.append(f"{fold['twice']} transitions are told twice, {fold['different']} fold to something else")
        if sizes := await self.owner.fetchval(_SIZES, PROJECT_NO):
            faults.append(f"{sizes} sizes are not those of membership")
        return faults

    async def number(self, segment_id: str) -> int:
        number: int = await self.owner.fetchval(
            "SELECT segment_no FROM segments WHERE project_no = $1 AND segment_id = $2", PROJECT_NO, segment_id
        )
        return number


def ago(now: datetime, days: float) -> datetime:
    return now - timedelta(days=days)


def body(segment_id: str) -> dict[str, Any]:
    rules: dict[str, Any] = json.loads(json.dumps(MEANINGS[segment_id][0]))
    return {"id": segment_id, "name": segment_id, "rules": rules}
