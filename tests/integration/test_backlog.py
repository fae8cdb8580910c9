"""Where many wait at once, they are asked in one statement: it says and writes what asking each alone does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import inbox as consumer
from orchestrator.application import segments
from orchestrator.application.memberships import FEW
from orchestrator.domain.etag import Expected
from orchestrator.storage import inbox
from tests.eventually import eventually
from tests.integration.crowd import Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAY = timedelta(days=1)
MANY = 10 * FEW
PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
OFTEN: dict[str, Any] = {
    "kind": "event_fired",
    "eventName": "purchase",
    "window": {"type": "last_n_days", "days": 7},
    "atLeast": 2,
}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    await crowd.segment("listed", None)
    await crowd.segment("pros", PRO)
    await crowd.segment("often", OFTEN)
    await crowd.segment("frozen", {"kind": "or", "clauses": [PRO, {"kind": "in_cohort", "cohortId": "listed"}]})
    await crowd.run("build")
    return crowd


async def test_a_crowd_that_comes_at_once_is_where_it_belongs(crowd: Crowd) -> None:
    await crowd.known(**{f"s{n}": {"tier": "pro" if n % 3 else "free"} for n in range(MANY)})
    now = datetime.now(UTC)
    await crowd.happened(*((f"s{n}", "purchase", now - k * 4 * DAY) for n in range(MANY) for k in range(n % 4)))

    await crowd.settle()

    assert await crowd.members("pros") == {f"s{n}" for n in range(MANY) if n % 3}
    assert await crowd.members("often") == {f"s{n}" for n in range(MANY) if n % 4 >= 2}
    assert {(entered, cause) for _, entered, cause in await crowd.transitions("often")} == {(True, "data")}
    assert await crowd.wrong() == []


async def test_a_crowd_of_windows_that_run_out_leaves_because_of_the_time(crowd: Crowd) -> None:
    soon = datetime.now(UTC) - 7 * DAY + timedelta(seconds=4)
    await crowd.happened(*((f"s{n}", "purchase", soon) for n in range(MANY) for _ in range(2)))
    await crowd.settle()
    assert len(await crowd.members("often")) == MANY

    await asyncio.sleep(max(0.0, (soon + 7 * DAY - datetime.now(UTC)).total_seconds()))
    await crowd.settle()

    assert await crowd.members("often") == set()
    causes = [cause for _, entered, cause in await crowd.transitions("often") if not entered]
    assert causes == ["time"] * MANY
    assert await crowd.wrong() == []


async def test_a_segment_that_cannot_be_asked_stays_as_it_is(crowd: Crowd) -> None:
    await crowd.known(**{f"s{n}": {"tier": "pro"} for n in range(MANY)})
    await crowd.settle()
    await crowd.world.do(segments.delete, "listed", Expected(), force=True)

    await crowd.known(**{f"s{n}": {"tier": "free"} for n in range(MANY)})
    await crowd.settle()

    everybody = {f"s{n}" for n in range(MANY)}
    assert (await crowd.members("pros"), await crowd.members("frozen")) == (set(), everybody)
    assert await crowd.wrong() == []


async def test_consumers_share_a_crowd_and_whom_one_has_the_other_leaves_to_him(crowd: Crowd) -> None:
    await crowd.known(**{f"s{n}": {"tier": "pro"} for n in range(3 * MANY)})

    waiting = await crowd.inbox.waiting()
    async with crowd.owner.transaction():
        his = set(await inbox.claim(crowd.owner, waiting, MANY))
        worked = await crowd.inbox.work(waiting)
        left = set(await crowd.inbox.waiting())

    assert len(his) == MANY
    assert 0 < worked.subjects <= consumer.MANY
    assert his <= left
    assert len(left) == 3 * MANY - worked.subjects
    await crowd.settle()
    assert await crowd.wrong() == []


async def test_preferences_alone_make_nobody_look_at_membership(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"})
    await crowd.settle()
    await crowd.owner.execute("UPDATE subject_segments SET segment_nos = '{}'")
    await crowd.owner.execute(
        "INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at) "
        "SELECT project_no, bucket, subject_no, 'preferences', now() FROM subjects"
    )

    await crowd.settle()

    assert await crowd.owner.fetchval("SELECT segment_nos FROM subject_segments") == []
    assert await crowd.owner.fetchval("SELECT count(*) FROM inbox") == 0


async def test_a_window_that_ran_out_does_not_wait_for_all_who_wait_nor_they_for_it(crowd: Crowd) -> None:
    people = [f"s{n}" for n in range(MANY)]
    await crowd.known(**{name: {} for name in people})
    await crowd.settle()
    late, told = people[: MANY // 2], people[MANY // 2 :]
    await crowd.owner.execute(
        "UPDATE subject_segments SET next_due = now() FROM subjects AS s "
        "WHERE s.subject_no = subject_segments.subject_no AND s.subject_id = ANY ($1::text[])",
        late,
    )
    await crowd.known(**{name: {"tier": "pro"} for name in told})

    waiting = await crowd.inbox.waiting()

    ids = {
        row["subject_no"]: row["subject_id"]
        for row in await crowd.owner.fetch("SELECT subject_no, subject_id FROM subjects")
    }
    first = {ids[key.subject_no] for key in waiting[: consumer.SUBJECTS]}
    assert len(first & set(late)) == consumer.SUBJECTS // consumer.DUE_SHARE
    assert len(first & set(told)) == consumer.SUBJECTS - consumer.SUBJECTS // consumer.DUE_SHARE
    assert {ids[key.subject_no] for key in waiting} == set(people)


async def test_what_happens_while_the_past_of_a_subject_is_worked_on_moves_it_and_not_the_past(
    crowd: Crowd, owner: Connection[Record]
) -> None:
    await crowd.happened(("ann", "purchase", None), backfill=True)
    keys = await crowd.inbox.waiting()

    # The consumer has taken the past from the inbox, and is about to ask.
    async with owner.transaction():
        await owner.execute("LOCK TABLE segment_transitions IN ACCESS EXCLUSIVE MODE")
        working = asyncio.create_task(crowd.inbox.work(keys))
        await eventually(lambda: _waits_for(owner, "segment_transitions"))
        await crowd.happened(("ann", "purchase", None))
    await working

    assert await crowd.transitions("often") == [("ann", True, "data")]
    await crowd.settle()
    assert await crowd.transitions("often") == [("ann", True, "data")]


async def _waits_for(conn: Connection[Record], table: str) -> bool:
    return bool(
        await conn.fetchval("SELECT count(*) FROM pg_locks WHERE relation = $1::regclass AND NOT granted", table)
    )
