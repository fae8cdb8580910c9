"""Merging while others are at work on both subjects: nothing is lost, nothing counted twice, nobody stands still."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from orchestrator.application import lifecycle, segments, subjects
from orchestrator.application.closings import Closings
from orchestrator.application.derived_events import Backfill
from orchestrator.domain.etag import Expected
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import SubjectPatch, bucket_of
from orchestrator.storage import outbox
from orchestrator.storage import subjects as stored
from tests.integration.crowd import Crowd
from tests.integration.test_merging import (
    BOUGHT_RED,
    BOUGHT_TWICE,
    NOBODY_BOUGHT,
    PRO,
    count_reds,
    counts,
    get,
    merged,
    refuse,
)

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

ROUNDS = 25


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    return await Crowd.make(owner, api_pool, worker_pool)


async def _again(act: Callable[[], Awaitable[object]]) -> None:
    """As a caller does who is told that two calls got in each other's way."""
    while True:
        try:
            await act()
        except asyncpg.DeadlockDetectedError:
            continue
        return


async def test_nothing_is_lost_while_two_become_one(crowd: Crowd) -> None:
    """Each round: two subjects that everybody writes about, are merged in the middle of it, some back and forth."""
    chance = random.Random(4)
    for segment_id, rules in (
        ("twice", BOUGHT_TWICE),
        ("nothing_bought", NOBODY_BOUGHT),
        ("pros", PRO),
        ("reds", BOUGHT_RED),
    ):
        await crowd.segment(segment_id, rules)
    await crowd.segment("friends", None)
    await count_reds(crowd)
    await Backfill(crowd.transactions).run()
    await crowd.run("build")
    told: Counter[str] = Counter()
    for number in range(ROUNDS):
        ann, bob = f"ann-{number}", f"bob-{number}"
        await crowd.known(**{ann: {}, bob: {}})

        async def ingests(ann: str = ann, bob: str = bob, number: int = number) -> None:
            for _ in range(6):
                batch = [(chance.choice((ann, bob)), chance.choice(("visit", "purchase")), None) for _ in range(5)]
                await crowd.happened(*batch, color=chance.choice(("red", "blue")))
                told[str(number)] += len(batch)

        async def upserts(ann: str = ann, bob: str = bob) -> None:
            for place in range(5):
                await _again(partial(crowd.known, **{ann: {f"a{place}": 1}, bob: {f"b{place}": 1}}))

        async def refuses(ann: str = ann) -> None:
            for channel in ("email", "sms", "push"):
                await refuse(crowd, ann, channel)

        async def lists(ann: str = ann, bob: str = bob) -> None:
            for subject_id in (ann, bob):
                await _again(partial(crowd.world.do, segments.add_members, "friends", [subject_id]))

        async def works() -> None:
            for _ in range(6):
                await crowd.inbox.work(await crowd.inbox.waiting())

        async def merges(one: str, other: str) -> None:
            await asyncio.sleep(chance.random() * 0.05)
            with_the_other_way_round = False
            try:
                await merged(crowd, one, other)
            except FailedPrecondition:
                with_the_other_way_round = True
            told["second"] += with_the_other_way_round

        async with asyncio.timeout(30):
            await asyncio.gather(
                *(ingests(), ingests(), upserts(), refuses(), lists(), works(), works()),
                *(_again(partial(merges, ann, bob)), _again(partial(merges, bob, ann)), crowd.run("sweep")),
            )

        whole = await get(crowd, ann)
        assert whole == await get(crowd, bob)
        assert {*whole.alias_ids, whole.subject_id} == {ann, bob}
        assert whole.attributes == {f"{name}{place}": 1 for name in "ab" for place in range(5)}
    await crowd.settle()

    assert told["second"] == ROUNDS
    assert await crowd.owner.fetchval("SELECT count(*) FROM subjects") == ROUNDS
    aggregates, recount = await counts(crowd.owner)
    assert aggregates == recount
    events = await crowd.owner.fetch("SELECT subject_id, total FROM subject_event_state JOIN subjects USING (project_no, bucket, subject_no) WHERE name_no = 0")  # fmt: skip  # noqa: E501
    assert {row[0].partition("-")[2]: row[1] for row in events} == {str(n): told[str(n)] for n in range(ROUNDS)}
    assert await crowd.owner.fetchval("SELECT count(*) FROM opt_outs") == 3 * ROUNDS
    assert len(await crowd.members("friends")) == ROUNDS
    assert await crowd.wrong() == []
    # Nothing that is left anywhere is about somebody who is not there.
    for table in ("events", "subject_event_days", "subject_event_state", "opt_outs", "static_members", "inbox"):
        assert not await crowd.owner.fetchval(
            f"SELECT EXISTS (SELECT FROM {table} AS t LEFT JOIN subjects AS s USING (project_no, bucket, subject_no)"
            " WHERE s.subject_id IS NULL)"
        ), table


async def test_a_merge_waits_for_the_consumer_and_the_consumer_for_it(crowd: Crowd) -> None:
    await crowd.known(ann={}, bob={})
    await crowd.happened(("ann", "visit", None))
    (ann,) = (await _keys(crowd, "ann")).values()

    async with crowd.transactions.write(None) as conn:
        await stored.lock(conn, [ann])
        merging = asyncio.create_task(merged(crowd, "ann", "bob"))
        await _somebody_waits(crowd)
        assert not merging.done()
        # The consumer passes by what somebody holds.
        assert not (await crowd.inbox.work([ann])).subjects
    await merging
    await crowd.settle()

    assert await crowd.owner.fetchval("SELECT count(*) FROM inbox") == 0
    assert await crowd.wrong() == []


async def test_an_id_that_becomes_an_alias_while_it_is_being_created_is_nobodys_own(
    crowd: Crowd, api_pool: Pool[Record], database: str
) -> None:
    """The stub waits behind another new subject, and meanwhile its id is created and merged away."""
    names = sorted((f"n{number}" for number in range(40)), key=lambda name: (bucket_of(name), name))
    blocker, late = names[0], names[-1]
    await crowd.known(bob={})

    async with crowd.world.transactions.write(crowd.project_no) as conn:
        await stored.ensure(conn, crowd.project_no, [blocker], datetime.now(UTC))
        waiting = asyncio.create_task(_upsert(crowd, blocker, late))
        await _somebody_waits(crowd)
        await crowd.known(**{late: {"first": True}})
        await merged(crowd, late, "bob")
        assert not waiting.done()
    await waiting

    assert await crowd.owner.fetchval("SELECT count(*) FROM subjects WHERE subject_id = $1", late) == 0
    bob = await get(crowd, late)
    assert (bob.subject_id, bob.attributes) == ("bob", {"first": True, "seen": True})
    assert await crowd.owner.fetchval("SELECT count(*) FROM subjects") == 2


async def test_an_execution_that_moves_behind_the_place_of_a_closing_is_told_all_the_same(crowd: Crowd) -> None:
    world = crowd.world
    await world.furnish()
    await world.draft()
    # In the order in which a closing tells them.
    first, *others, last = sorted((f"s{number}" for number in range(8)), key=lambda name: (bucket_of(name), name))
    running = {name: await world.lay_execution(name) for name in (first, *others, last)}
    over = await world.lay_execution(last, outcome="completed")
    await world.do(lifecycle.archive, "welcome", OnArchive.END, Expected())
    closings = Closings(crowd.transactions, page=3)

    await closings.step()
    await merged(crowd, last, first)
    while await closings.step():
        pass

    async with crowd.transactions.write(None) as conn:
        now = datetime.now(UTC) + timedelta(minutes=1)
        told, orphans = await outbox.claim(conn, now=now, lease=timedelta(seconds=5), limit=100)
    assert Counter(entry.execution_id for entry in told) == Counter(running.values()), "each is told, and once"
    assert over not in {entry.execution_id for entry in told}
    (moved,) = [entry for entry in told if entry.execution_id == running[last]]
    assert (moved.kind, moved.subject_id, orphans) == ("poke", first, [])


async def test_deleting_and_merging_at_once_leaves_one_of_both_outcomes(crowd: Crowd) -> None:
    for number in range(ROUNDS):
        ann, bob = f"ann-{number}", f"bob-{number}"
        await crowd.known(**{ann: {"a": 1}, bob: {"b": 1}})

        async with asyncio.timeout(20):
            done = await asyncio.gather(
                crowd.world.do(subjects.delete, b"s" * 48, ann, Expected()),
                merged(crowd, ann, bob),
                return_exceptions=True,
            )

        left = await crowd.owner.fetchval("SELECT count(*) FROM subjects")
        # Deleted first: bob alone is left. Merged first: the deletion found nobody, or both as one.
        assert [type(outcome).__name__ for outcome in done] in (
            ["NoneType", "NotFound"],
            ["NoneType", "Subject"],
            ["NotFound", "Subject"],
        )
        assert left == (0 if done[0] is None and not isinstance(done[1], BaseException) else 1)
        assert await crowd.owner.fetchval("SELECT count(*) FROM subject_aliases") == (1 if done[0] is not None else 0)
        await crowd.owner.execute("TRUNCATE subjects, subject_aliases, inbox")


async def _upsert(crowd: Crowd, *subject_ids: str) -> None:
    async with crowd.world.transactions.write(crowd.project_no) as conn:
        patches = [SubjectPatch(subject_id=subject_id, attributes={"seen": True}) for subject_id in subject_ids]
        await subjects.upsert(conn, crowd.project_no, patches)


async def _keys(crowd: Crowd, *subject_ids: str) -> dict[str, SubjectKey]:
    async with crowd.world.transactions.read(crowd.project_no) as conn:
        return await stored.find_keys(conn, crowd.project_no, subject_ids)


async def _somebody_waits(crowd: Crowd) -> None:
    async with asyncio.timeout(10):
        while not await crowd.owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            await asyncio.sleep(timedelta(milliseconds=10).total_seconds())
