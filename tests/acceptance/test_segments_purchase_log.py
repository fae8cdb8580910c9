"""A real purchase log: recency and frequency segments equal a plain recount, at any instant and while the clock moves.

The recount below reads the file, and knows nothing of the product but the ids of its segments.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application.memberships import compiled
from orchestrator.application.segment_rules import read_rules
from orchestrator.domain.event import Event
from orchestrator.predicates.sql.inputs import Among
from tests.integration.crowd import Crowd
from tests.purchase_log import lines, needs_purchase_log

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAY = timedelta(days=1)

#: (days of the window or None for ever, at least, not) of every segment.
SEGMENTS: Mapping[str, tuple[int | None, int, bool]] = {
    "bought": (None, 1, False),
    "ten-times": (None, 10, False),
    "last-week": (7, 1, False),
    "last-month": (30, 1, False),
    "twice-a-month": (30, 2, False),
    "three-a-quarter": (90, 3, False),
    "five-a-year": (365, 5, False),
    "gone-for-a-quarter": (90, 1, True),
    "not-twice-a-year": (365, 2, True),
}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180), needs_purchase_log]

_SNAPSHOT = "SELECT clock_timestamp(), min(next_due) FROM subject_segments WHERE project_no = $1"

Purchases = Mapping[str, Sequence[datetime]]


def purchases() -> dict[str, list[datetime]]:
    """The instants of each customer's purchases, ascending. The file has days; each line is given its own second."""
    found: defaultdict[str, list[datetime]] = defaultdict(list)
    for number, (customer, day, _) in enumerate(lines()):
        found[f"c{customer}"].append(day + timedelta(seconds=number * 7919 % 86_400))
    return {customer: sorted(ats) for customer, ats in found.items()}


def recount(log: Purchases, as_of: datetime) -> dict[str, set[str]]:
    """Who is in each segment at that instant, if nothing happens after it."""
    members: dict[str, set[str]] = {}
    for name, (days, at_least, negated) in SEGMENTS.items():
        members[name] = set()
        for customer, ats in log.items():
            outside = 0 if days is None else bisect.bisect_right(ats, as_of - days * DAY)
            if (len(ats) - outside >= at_least) is not negated:
                members[name].add(customer)
    return members


def rules(days: int | None, at_least: int, negated: bool) -> dict[str, Any]:
    window = {"type": "last_n_days", "days": days} if days else {"type": "ever"}
    kind = "event_not_fired" if negated else "event_fired"
    return {"kind": kind, "eventName": "purchase", "window": window, "atLeast": at_least}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    for name, meaning in SEGMENTS.items():
        await crowd.segment(name, rules(*meaning))
    await crowd.run("build")
    return crowd


async def test_at_any_instant_the_segments_equal_a_recount(crowd: Crowd) -> None:
    log = purchases()
    end = max(ats[-1] for ats in log.values())
    await take_in(crowd, log)

    for days in (0, 1, 6.5, 29, 30.25, 89, 120, 364, 500, 600):
        as_of = end + days * DAY
        assert await asked(crowd, as_of) == recount(log, as_of)
    # Windows are open at their far end: the very instants at which a purchase leaves.
    for customer in sorted(log, key=lambda one: len(log[one]))[-2:]:
        for length in (7, 30, 90):
            edge = log[customer][-1] + length * DAY
            for as_of in (edge - timedelta(microseconds=1), edge, edge + timedelta(microseconds=1)):
                if as_of >= end:
                    assert await asked(crowd, as_of) == recount(log, as_of)


async def test_what_is_stored_equals_a_recount_while_the_clock_moves_through_the_log(crowd: Crowd) -> None:
    """The log is shifted so that it ends today, and so that many windows run out in the next seconds."""
    log = purchases()
    end = max(ats[-1] for ats in log.values())
    now: datetime = await crowd.owner.fetchval("SELECT clock_timestamp()")
    # A day's purchases, which the file does not tell apart, lie within 20 seconds that begin a little later.
    start = now - timedelta(seconds=1)

    def moved(at: datetime) -> datetime:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        days_ago = (end - midnight) // DAY + 2
        return start - days_ago * DAY + (at - midnight) / 4320 + timedelta(seconds=15)

    log = {customer: [moved(at) for at in ats] for customer, ats in log.items()}
    await take_in(crowd, log)

    compared = 0
    changes = 0
    before: dict[str, set[str]] | None = None
    async with asyncio.timeout(80):
        while compared < 12 or (await clock(crowd)) < start + timedelta(seconds=37):
            await crowd.settle()
            # One snapshot. Where nothing is due in it, what is stored holds for its instant.
            async with crowd.owner.transaction(isolation="repeatable_read"):
                at, due = await crowd.owner.fetchrow(_SNAPSHOT, crowd.project_no) or (None, None)
                stored = await members(crowd)
            assert at is not None
            if due is not None and due <= at:
                continue
            wanted = recount(log, at)
            assert stored == wanted
            compared += 1
            changes += before is not None and before != wanted
            before = wanted

    assert changes >= 10, "no window ran out meanwhile: nothing was tried"
    assert await crowd.wrong() == []


async def clock(crowd: Crowd) -> datetime:
    at: datetime = await crowd.owner.fetchval("SELECT clock_timestamp()")
    return at


async def take_in(crowd: Crowd, log: Purchases) -> None:
    """Through ingest, as it comes from callers; then everybody is worked on."""
    events = [
        Event(
            event_id=f"{customer}-{number}",
            name="purchase",
            subject_id=customer,
            occurred_at=at,
            properties=b"{}",
        )
        for customer, ats in log.items()
        for number, at in enumerate(ats)
    ]
    for first in range(0, len(events), 5000):
        await crowd.ingest.take(crowd.project_no, events[first : first + 5000], backfill=False)
    await crowd.owner.execute("ANALYZE")
    await crowd.settle()


async def asked(crowd: Crowd, as_of: datetime) -> dict[str, set[str]]:
    """What the statement of the passes says of everybody at that instant."""
    async with crowd.transactions.write(None) as conn:
        known = await read_rules(conn, crowd.project_no)
        query = await compiled(conn, crowd.project_no, known, known.asked, as_of, Among.BUCKETS)
        for name, value in query.settings.items():
            await conn.execute(f"SET LOCAL {name} = '{value}'")
        found = await conn.fetch(
            f"SELECT s.subject_id, q.segment_nos FROM ({query.text}) AS q "
            "JOIN subjects AS s ON s.project_no = $1 AND s.bucket = q.bucket AND s.subject_no = q.subject_no",
            crowd.project_no,
            0,
            255,
            *query.arguments,
        )
    return _by_segment(known.ids, found)


async def members(crowd: Crowd) -> dict[str, set[str]]:
    rows = await crowd.owner.fetch(
        "SELECT segment_no, segment_id FROM segments WHERE project_no = $1", crowd.project_no
    )
    ids = {row["segment_no"]: row["segment_id"] for row in rows}
    found = await crowd.owner.fetch(
        "SELECT s.subject_id, m.segment_nos FROM subject_segments AS m JOIN subjects AS s USING "
        "(project_no, bucket, subject_no) WHERE project_no = $1",
        crowd.project_no,
    )
    return _by_segment(ids, found)


def _by_segment(ids: Mapping[int, str], found: Sequence[Record]) -> dict[str, set[str]]:
    within: dict[str, set[str]] = {name: set() for name in SEGMENTS}
    for subject_id, segment_nos in found:
        for number in segment_nos:
            if ids[number] in within:
                within[ids[number]].add(subject_id)
    return within
