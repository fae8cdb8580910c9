"""Segments over a million subjects: whole passes beside an expert's statements, few subjects, and the whole product."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING

import asyncpg

from bench import segments_checks, segments_freshness, segments_ingest, segments_rules
from bench.ground import WORKER, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import Remote, remote
from bench.rows import Row, at_least, at_most, beside, ratio, ratios, spread
from bench.segments_experts import Experts
from bench.segments_population import NAMES, populate
from bench.segments_rules import Asked, Numbers
from orchestrator.devstack.stack import Stack

if TYPE_CHECKING:
    from asyncpg import Connection, Record

PASS_SECONDS, AGAINST_EXPERTS = 45, 0.35
INCREMENTAL_SECONDS, INCREMENTAL_AGAINST_PASS = 2, 10
MEMORY, TENFOLD = 1.1, 11

SEGMENTS, CURVE = 50, (1, 10, 50, 200)

#: The project of `orchestrator up`, and one with a tenth of its subjects.
LARGE, SMALL = 1, 2

_SMALL = "INSERT INTO projects (project_id, name, created_at, updated_at) VALUES ('small', 'Small', now(), now())"

_LISTED = """
INSERT INTO static_members (project_no, bucket, subject_no, segment_no, added_at)
SELECT project_no, bucket, subject_no, $2, now() FROM subjects WHERE project_no = $1 AND subject_no % 50 = 0
"""
_MADE = """
INSERT INTO segments (project_no, segment_id, kind, name, description, predicate, created_at, updated_at)
VALUES ($1, $2, $3, $2, '', $4, now(), now()) RETURNING segment_no
"""
_ALL_NEW = "UPDATE segments SET built_revision = NULL WHERE project_no = $1 AND predicate IS NOT NULL"
_ASK_TO_BUILD = """
INSERT INTO segment_runs (project_no, kind, status, requested_at) VALUES ($1, 'build', 'queued', now())
ON CONFLICT DO NOTHING
"""
_NEWER = "UPDATE projects SET definitions_version = definitions_version + 1 WHERE project_no = $1"

# Every fiftieth subject gets another plan, and no inbox is told: a sweep finds them, and so do the experts.
_CHANGED = """
UPDATE subjects SET attributes = attributes || jsonb_build_object('plan',
           (ARRAY['pro', 'team', 'free'])[1 + ($2 + subject_no % 3) % 3])
 WHERE project_no = $1 AND subject_no % 50 = $2
"""

_SOME = """
SELECT subject_id FROM subjects WHERE project_no = $1 AND abs(hashint8(subject_no)) % 100 = $2 ORDER BY subject_id
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    rows: list[Row | Profile] = []
    async with ground() as stack:
        await stack.part(WORKER).stop()
        dsn = stack.addresses.database_url
        conn = await asyncpg.connect(dsn)
        anchor = datetime.now(UTC).replace(microsecond=0)
        await conn.execute(_SMALL)
        began = time.perf_counter()
        for project_no, count in ((LARGE, plan.subjects), (SMALL, plan.subjects // 10)):
            await populate(dsn, project_no, anchor, count)
        seconds = time.perf_counter() - began
        events = await conn.fetchval("SELECT sum(total)::bigint FROM subject_event_state WHERE name_no = 0")
        rows.append(
            beside("segments: generation", seconds, "s", f"{plan.subjects} subjects, {events} events with both")
        )
        async with remote("bench.segments_process", dsn) as process:
            small = await _define(conn, SMALL, SEGMENTS, anchor)
            large = await _define(conn, LARGE, SEGMENTS, anchor)
            rows += await _passes(plan, dsn, conn, process, large)
            rows += await _incremental(plan, conn, process)
            rows += await _profiles(plan, stack, conn, process)
            rows += await _curve(plan, conn, process, anchor, small)
        rows += await segments_ingest.measure(plan, stack, conn, SEGMENTS)
        rows += await segments_checks.measure(plan, stack)
        await stack.part(WORKER).start()
        rows += await segments_freshness.measure(plan, stack, conn, LARGE)
        await conn.close()
    return rows


async def _define(conn: Connection[Record], project_no: int, count: int, anchor: datetime) -> Mapping[int, Asked]:
    """Make the first `count` segments, those that are not there; returns them by number."""
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    rows = await conn.fetch("SELECT segment_id, segment_no FROM segments WHERE project_no = $1", project_no)
    known = {row["segment_id"]: row["segment_no"] for row in rows}
    if "listed" not in known:
        known["listed"] = await conn.fetchval(_MADE, project_no, "listed", "static", None)
        await conn.execute(_LISTED, project_no, known["listed"])
        await conn.execute("ANALYZE static_members")
        await conn.execute(_ALL_NEW, project_no)
    rows = await conn.fetch("SELECT name, name_no FROM event_names WHERE project_no = $1", project_no)
    name_nos = {row["name"]: row["name_no"] for row in rows}
    numbers = Numbers(events={name: name_nos[name] for name in NAMES}, list_id="listed", list_no=known["listed"])
    made = segments_rules.segments(count, numbers, anchor)
    for name, asked in made.items():
        if name not in known:
            known[name] = await conn.fetchval(_MADE, project_no, name, "dynamic", asked.rules)
    await conn.execute(_ASK_TO_BUILD, project_no)
    await conn.execute(_NEWER, project_no)
    return {known[name]: asked for name, asked in made.items()}


async def _passes(
    plan: Plan, dsn: str, conn: Connection[Record], process: Remote, asked: Mapping[int, Asked]
) -> list[Row]:
    """The small project first: the most memory ever taken only grows."""
    await process.ask("pass", [SMALL, "build"])
    await conn.execute("VACUUM (ANALYZE) subject_segments")
    await process.ask("pass", [SMALL, "sweep"])
    few = [await process.ask("pass", [SMALL, "sweep"]) for _ in range(plan.passes)]
    first = await process.ask("pass", [LARGE, "build"])
    await conn.execute("VACUUM (ANALYZE) subject_segments")
    experts = Experts(dsn, LARGE, asked)
    await experts.prepare()
    filled = await experts.run(datetime.now(UTC))
    await experts.vacuum()
    many, theirs = [], []
    for _ in range(plan.passes):
        many.append(await process.ask("pass", [LARGE, "sweep"]))
        theirs.append(await experts.run(datetime.now(UTC)))
    moved, by_hand, transitions = [], [], 0.0
    for number in range(plan.passes):
        await conn.execute(_CHANGED, LARGE, number, timeout=600)
        one = await process.ask("pass", [LARGE, "sweep"])
        moved.append(one["seconds"])
        transitions = one["moved"]
        by_hand.append(await experts.run(datetime.now(UTC)))
    members = await experts.compare()
    if drift := sum(one["drift"] for one in (*few, *many)):
        raise AssertionError(f"{drift} memberships were wrong")
    ours = [one["seconds"] for one in many]
    tenth = [one["seconds"] for one in few]
    note = f"rounds {spread(ours)}; with the 4 system segments; {members} members as the experts have them"
    by_experts = "a statement by hand for each, in time"
    memory = [max(one["peak"] for one in runs) for runs in (few, many)]
    return [
        at_most(PASS_SECONDS, f"{SEGMENTS} segments, whole pass", median(ours), "s", note),
        beside(f"{SEGMENTS} segments, first pass", first["seconds"], "s", f"{first['moved']:.0f} transitions"),
        at_most(
            AGAINST_EXPERTS, "whole pass, against as many statements by hand", ratio(ours, theirs), "×",
            against=by_experts, rounds=ratios(ours, theirs),
        ),
        at_most(
            AGAINST_EXPERTS, "whole pass when 2 % have changed, against as many statements by hand",
            ratio(moved, by_hand), "×", f"rounds {spread(moved)} s; {transitions:.0f} transitions in the last",
            against=by_experts, rounds=ratios(moved, by_hand),
        ),
        beside("as many statements by hand", median(theirs), "s", f"rounds {spread(theirs)}; the first {filled:.0f} s"),
        at_most(
            TENFOLD, "whole pass, of ten times as many subjects", median(ours) / median(tenth), "×",
            f"{plan.subjects // 10:,} → {plan.subjects:,}", against="a tenth of them, in time", path="growth",
        ),
        at_most(
            MEMORY, "memory of passes, of ten times as many subjects", memory[1] / memory[0], "×",
            f"{memory[0] / 1e6:.0f} → {memory[1] / 1e6:.0f} MB at most", against="a tenth of them", path="growth",
        ),
    ]  # fmt: skip


async def _incremental(plan: Plan, conn: Connection[Record], process: Remote) -> list[Row]:
    ours, whole = [], []
    for number in range(plan.passes):
        await process.ask("settle")
        some = [row[0] for row in await conn.fetch(_SOME, LARGE, number)]
        await process.ask("happen", [LARGE, f"some-{number}", some])
        ours.append(await process.ask("settle"))
        whole.append((await process.ask("pass", [LARGE, "sweep"]))["seconds"])
    note = f"rounds {spread(ours)}; {len(some)} subjects, by two consumers of the inbox"
    return [
        at_most(INCREMENTAL_SECONDS, "1 % of the subjects, through the inbox", median(ours), "s", note),
        at_least(
            INCREMENTAL_AGAINST_PASS, "whole pass, against 1 % of the subjects", ratio(whole, ours), "×",
            against="1 % of them, through the inbox, in time", rounds=ratios(whole, ours),
        ),
    ]  # fmt: skip


async def _profiles(plan: Plan, stack: Stack, conn: Connection[Record], process: Remote) -> list[Profile]:
    """Of a whole pass, and of the inbox."""
    async with profiled(stack, f"a pass over {SEGMENTS} segments", worker=process.pid) as whole:
        await process.ask("pass", [LARGE, "sweep"])
    some = [row[0] for row in await conn.fetch(_SOME, LARGE, plan.passes)]
    await process.ask("settle")
    await process.ask("happen", [LARGE, "profiled", some])
    async with profiled(stack, f"{len(some)} subjects through the inbox", worker=process.pid) as little:
        await process.ask("settle")
    return [*whole, *little]


async def _curve(
    plan: Plan, conn: Connection[Record], process: Remote, anchor: datetime, small: Mapping[int, Asked]
) -> list[Row]:
    """On the small project, one connection."""
    await _define(conn, SMALL, CURVE[-1], anchor)
    await process.ask("pass", [SMALL, "build"])
    await conn.execute("VACUUM (ANALYZE) subject_segments")
    rounds = [[await process.ask("some", [SMALL, count]) for count in CURVE] for _ in range(2 * plan.passes + 1)]
    seconds = [min(one[place] for one in rounds) for place in range(len(CURVE))]
    each = [
        1000 * (later - earlier) / (more - fewer)
        for earlier, later, fewer, more in zip(seconds, seconds[1:], CURVE, CURVE[1:], strict=False)
    ]
    told = ", ".join(f"{count}: {1000 * took:.0f} ms" for count, took in zip(CURVE, seconds, strict=True))
    return [
        at_most(
            1, "a segment more, from 50 to 200 against from 1 to 10", each[-1] / each[0], "×",
            f"{told}; each more {' → '.join(f'{one:.1f}' for one in each)} ms; {plan.subjects // 10} subjects",
            against="one of the first ten, in time",
        ),
    ]  # fmt: skip
