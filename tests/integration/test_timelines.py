"""What happened to a subject: all of it, newest first, in pages that neither repeat nor lose anything."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.application import preferences, timelines
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import NotFound
from orchestrator.storage import clock
from orchestrator.storage import timelines as stored
from orchestrator.storage.timelines import Item
from tests.integration.crowd import Crowd
from tests.integration.journey_world import START

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PASSED = ((1, "hello", "send", "executed"), (1, "pause", "wait", "executed"))


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    return await Crowd.make(owner, api_pool, worker_pool)


async def pages(crowd: Crowd, size: int) -> list[Item]:
    found: list[Item] = []
    end = None
    while True:
        page, end = await crowd.world.look(timelines.page, "ann", end, size)
        assert len(page) <= size
        found += page
        if end is None:
            return found


async def live(crowd: Crowd) -> None:
    """A life with something of each kind, much of it at one instant."""
    for day in range(3):
        execution_id = await crowd.world.lay_execution(
            "ann", outcome="completed" if day else None, started_at=START + timedelta(days=day), visits=PASSED
        )
        await crowd.world.lay_send("ann", execution_id, seq=1)
    await crowd.happened(*(("ann", name, START + timedelta(days=day)) for day in range(3) for name in ("buy", "open")))
    await crowd.happened(("ann", "buy", START), ("bob", "buy", START))
    changes = [PreferenceChange(channel="log", category="marketing", opted_out=True)]
    async with crowd.world.transactions.write(crowd.project_no) as conn:
        await preferences.update(conn, crowd.project_no, "ann", changes)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_pages_of_every_size_tell_the_same(crowd: Crowd, size: int) -> None:
    await live(crowd)

    found = await pages(crowd, size)

    kinds = [item.kind for item in found]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "event": 7,
        "opt_out": 1,
        "enrollment": 3,
        "send": 3,
        "visit": 6,
        "end": 2,
    }
    places = [item.place for item in found]
    assert places == sorted(set(places), reverse=True)


async def test_what_happens_meanwhile_moves_nothing(crowd: Crowd) -> None:
    await live(crowd)
    whole = await pages(crowd, 1000)
    first, end = await crowd.world.look(timelines.page, "ann", None, 5)
    await crowd.happened(("ann", "buy", None), ("ann", "new-name", None))

    rest, end = await crowd.world.look(timelines.page, "ann", end, 1000)

    assert end is None
    assert [item.place for item in (*first, *rest)] == [item.place for item in whole]


async def test_events_are_told_by_name_and_never_by_what_they_carry(crowd: Crowd) -> None:
    await crowd.happened(("ann", "buy", None), secret="s3cret")

    (item,) = await pages(crowd, 10)

    assert (item.event_name, item.event_id) == ("buy", "e0")
    assert "s3cret" not in repr(item)


async def test_who_is_not_there_has_no_timeline(crowd: Crowd) -> None:
    with pytest.raises(NotFound, match="no such subject"):
        await crowd.world.look(timelines.page, "nobody", None, 10)


async def test_a_page_is_read_by_indexes_however_many_others_there_are(crowd: Crowd) -> None:
    await live(crowd)
    key = await crowd.world.subject("ann")
    others = [(f"s{n}", "buy", START) for n in range(500)]
    await crowd.happened(*others)
    for table in ("events", "visits", "sends", "enrollments", "executions", "opt_outs", "suppressions", "subjects"):
        await crowd.owner.execute(f"ANALYZE {table}")
    now = await clock.now(crowd.owner)

    async with crowd.owner.transaction():
        # Small tables are read whole; what matters is that the statement can do without.
        await crowd.owner.execute("SET LOCAL enable_seqscan = off")
        plan = json.loads(
            await crowd.owner.fetchval(
                f"EXPLAIN (FORMAT JSON) {stored._PAGE}", key.project_no, key.bucket, key.subject_no, now, 9, "", 51
            )
        )

    scans: list[tuple[str, str]] = []

    def walk(node: dict[str, object]) -> None:
        if "Relation Name" in node:
            scans.append((str(node["Relation Name"]), str(node["Node Type"])))
        for child in node.get("Plans", []):  # type: ignore[attr-defined]
            walk(child)

    walk(plan[0]["Plan"])
    assert {kind for _, kind in scans} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
