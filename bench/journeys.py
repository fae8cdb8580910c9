"""Journeys a second, against the same journey as a plain Temporal workflow with one activity for each step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import TYPE_CHECKING

import asyncpg
import orjson
from temporalio.client import Client

from bench import welcome
from bench.ground import WORKER, CoreTime, furnish, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import Remote, remote
from bench.rows import Row, at_least, at_most, beside, ratio, ratios, spread
from orchestrator.devstack.stack import SERVER
from orchestrator.domain.subject import bucket_of

if TYPE_CHECKING:
    from asyncpg import Connection, Record

TARGET = 1.25
MOST_HISTORY_EVENTS = 24

#: Of each side before anything is measured.
WARM_UP = 60

OURS, BARE = "ours", "bare"

_ADD_SUBJECTS = """
INSERT INTO subjects (project_no, bucket, subject_id, attributes, created_at, updated_at)
SELECT 1, w.bucket, w.subject_id, w.attributes::jsonb, now(), now()
  FROM unnest($1::smallint[], $2::text[], $3::text[]) AS w (bucket, subject_id, attributes)
"""

_OPEN = "SELECT count(*) FROM executions WHERE project_no = 1 AND journey_id = 'welcome' AND outcome IS NULL"

# What both sides leave of the subjects whose ids begin so: one row each, without ids and times.
_LEFT = """
SELECT split_part(s.subject_id, '/', 2) AS subject,
       ARRAY(SELECT ROW (e.journey_id, e.version, e.step_id, e.outcome, e.reason, n.entry_kind)::text
               FROM executions AS e JOIN enrollments AS n
                 ON (n.project_no, n.bucket, n.subject_no, n.enrollment_id)
                  = (e.project_no, e.bucket, e.subject_no, e.execution_id)
              WHERE (e.project_no, e.bucket, e.subject_no) = (s.project_no, s.bucket, s.subject_no)) AS executions,
       ARRAY(SELECT ROW (v.step_id, v.step_kind, v.version, v.result, v.reason)::text FROM visits AS v
              WHERE (v.project_no, v.bucket, v.subject_no) = (s.project_no, s.bucket, s.subject_no)
              ORDER BY v.seq, v.place) AS visits,
       ARRAY(SELECT ROW (d.step_id, d.communication_id, d.content_revision, d.channel, d.category, d.state, d.attempt,
                         d.in_doubt, d.provider_id = l.idempotency_key, l.subject_line, l.body)::text
               FROM sends AS d LEFT JOIN log_messages AS l
                 ON (l.project_no, l.bucket, l.subject_no, l.idempotency_key)
                  = (d.project_no, d.bucket, d.subject_no, d.provider_id)
              WHERE (d.project_no, d.bucket, d.subject_no) = (s.project_no, s.bucket, s.subject_no)
              ORDER BY d.seq) AS sends
  FROM subjects AS s
 WHERE s.project_no = 1 AND s.subject_id LIKE $1 || '/%'
 ORDER BY 1
"""


_WORKFLOWS = """
SELECT e.workflow_id FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE e.project_no = 1 AND s.subject_id LIKE $1 || '/%'
 LIMIT 20
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    async with ground() as stack, AsyncExitStack() as opened:
        await furnish(stack, *welcome.communications(), *welcome.journey(welcome.JOURNEY, welcome.STEPS))
        for part in (SERVER, WORKER):
            await stack.part(part).stop()
        dsn, temporal = stack.addresses.database_url, stack.addresses.temporal
        conn = await asyncpg.connect(dsn)
        opened.push_async_callback(conn.close)
        sides = {
            OURS: await opened.enter_async_context(remote("bench.journeys_ours", dsn, temporal)),
            BARE: await opened.enter_async_context(remote("bench.journeys_bare", dsn, temporal)),
        }
        for side, process in sides.items():
            await run_through(conn, process, f"{side}-warm-up", WARM_UP)
        rates: dict[str, list[float]] = {OURS: [], BARE: []}
        costs: dict[str, str] = {}
        for number in range(plan.journey_rounds):
            for side in (OURS, BARE) if number % 2 else (BARE, OURS):
                used = CoreTime(stack, worker=sides[side].pid)
                seconds = await run_through(conn, sides[side], f"{side}-{number}", plan.journeys)
                rates[side].append(plan.journeys / seconds)
                costs[side] = used.told(plan.journeys)
            await _require_equal(conn, f"{OURS}-{number}", f"{BARE}-{number}", plan.journeys)
        count = plan.journeys // 2
        async with profiled(stack, f"{count} journeys", worker=sides[OURS].pid) as profiles:
            await run_through(conn, sides[OURS], "profiled", count)
        client = await Client.connect(temporal)
        events = {side: await _history_events(client, conn, f"{side}-warm-up") for side in sides}
    return [
        at_least(
            TARGET,
            "journeys, against a plain workflow",
            ratio(rates[OURS], rates[BARE]),
            "×",
            against="a plain Temporal workflow",
            rounds=ratios(rates[OURS], rates[BARE]),
        ),
        beside("journeys", median(rates[OURS]), "/s", f"rounds {spread(rates[OURS])}; {costs[OURS]}"),
        beside("journeys, plain workflow", median(rates[BARE]), "/s", f"rounds {spread(rates[BARE])}; {costs[BARE]}"),
        at_most(MOST_HISTORY_EVENTS, "history of a journey", events[OURS], "events"),
        beside("history of a journey, plain workflow", events[BARE], "events"),
        *profiles,
    ]


async def run_through(conn: Connection[Record], process: Remote, name: str, count: int) -> float:
    """Make so many subjects whose ids begin so, and let all of them in: seconds from the first admission until all have
    ended.
    """
    subject_ids = [f"{name}/{number}" for number in range(count)]
    await conn.execute(
        _ADD_SUBJECTS,
        [bucket_of(subject_id) for subject_id in subject_ids],
        subject_ids,
        [orjson.dumps(welcome.attributes(number)).decode() for number in range(count)],
    )
    began = time.perf_counter()
    await process.ask("let in", subject_ids)
    while await conn.fetchval(_OPEN):
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def _require_equal(conn: Connection[Record], ours: str, bare: str, count: int) -> None:
    """Raises AssertionError unless both sides have left the same rows for all their subjects."""
    left = [await conn.fetch(_LEFT, name) for name in (ours, bare)]
    for our_row, bare_row in zip(*left, strict=True):
        if our_row != bare_row:
            raise AssertionError(f"{ours} left {our_row}, and {bare} left {bare_row}")
    if len(left[0]) != count or any(len(row["visits"]) != 5 or len(row["sends"]) != 2 for row in left[0]):
        raise AssertionError(f"{ours} did not leave five visits and two sends for each of {count} subjects")


async def _history_events(client: Client, conn: Connection[Record], name: str) -> int:
    """The most that one of some executions has: a wait that is over before it is begun leaves no timer."""
    handles = [client.get_workflow_handle(row["workflow_id"]) for row in await conn.fetch(_WORKFLOWS, name)]
    return max([len((await handle.fetch_history()).events) for handle in handles])
