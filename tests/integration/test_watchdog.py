"""Executions that should have gone on and have not are found, and nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from orchestrator.application import watchdog
from orchestrator.application.transactions import Transactions
from orchestrator.application.watchdog import Late, Watchdog
from orchestrator.domain.refusals import NotFound
from orchestrator.storage import clock, stuck
from tests.integration.journey_world import World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    return await World.make(owner, api_pool)


async def lay(world: World, subject_id: str, **columns: object) -> UUID:
    """An execution that runs, with these columns."""
    now = await clock.now(world.owner)
    execution_id = await world.lay_execution(subject_id, started_at=now - 2 * HOUR)
    for name, value in columns.items():
        await world.owner.execute(f"UPDATE executions SET {name} = $2 WHERE execution_id = $1", execution_id, value)
    return execution_id


async def late(
    world: World, *, journey_id: str | None = None, overdue_by: timedelta | None = None, limit: int = 50
) -> list[Late]:
    found: list[Late] = []
    end = None
    while True:
        page, end = await world.look(
            watchdog.page, journey_id=journey_id, overdue_by=overdue_by, after=end, limit=limit
        )
        found += page
        if end is None:
            return found


async def lay_all(world: World) -> dict[UUID, str]:
    """One of each cause, and some with nothing wrong; by id the cause."""
    now = await clock.now(world.owner)
    run = '{"kind": "run", "queue": "channel-log"}'
    begun = await lay(world, "begun", effect=run)
    await world.lay_send("begun", begun, seq=1, state="sent")
    await world.owner.execute("UPDATE sends SET state = 'dispatching', settled_at = NULL, reserved_at = $1", now - HOUR)
    expected = {
        await lay(world, "overdue", wakes_at=now - HOUR): "wake",
        await lay(world, "canceled", wakes_at=now + HOUR, cancel_reason="x", cancel_asked_at=now - HOUR): "cancel",
        await lay(world, "not-begun", effect=run, since=now - HOUR): "send_not_begun",
        begun: "send_not_settled",
    }
    await lay(world, "asleep", wakes_at=now + HOUR)
    await lay(world, "just-due", wakes_at=now - timedelta(seconds=1))
    await lay(world, "held", effect=run, since=now - HOUR, parked="cohort_not_found", wakes_at=now + HOUR)
    await world.lay_execution("over", outcome="completed")
    return expected


async def test_each_cause_is_found_and_nobody_who_goes_on(world: World) -> None:
    expected = await lay_all(world)

    found = await late(world)

    assert {one.seen.execution.execution_id: one.cause for one in found} == expected
    assert await late(world, overdue_by=2 * HOUR) == []
    with pytest.raises(NotFound, match="no journey"):
        await late(world, journey_id="other")
    assert len(await late(world, journey_id="welcome", limit=1)) == 4


async def test_a_shorter_bound_finds_more(world: World) -> None:
    await lay_all(world)

    assert len(await late(world, overdue_by=timedelta())) == 5


async def test_looking_goes_on_behind_those_with_nothing_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = await lay_all(world)
    found: list[stuck.Stuck] = []
    end: stuck.Place | None = stuck.START
    async with world.transactions.read(world.scope.project_no) as conn:
        now = await clock.now(conn)
        while end is not None:
            page = await stuck.page(
                conn, world.scope.project_no, journey_id=None, after=end, bounds=stuck.Bounds(), now=now, scan=2
            )
            found += page.stuck
            end = page.end

    assert {one.execution_id: one.cause for one in found} == expected


async def test_one_process_counts_for_all(world: World, worker_pool: Pool[Record]) -> None:
    await lay_all(world)
    first, second = (Watchdog(Transactions(worker_pool)) for _ in range(2))
    counted = await first.look()

    await world.owner.execute("UPDATE executions SET wakes_at = NULL WHERE wakes_at < now()")
    told = await second.look()
    await world.owner.execute("UPDATE stuck_counts SET leased_until = now() - interval '1 second'")
    anew = await second.look()

    assert counted == told == {"wake": 1, "send_not_begun": 1, "send_not_settled": 1, "cancel": 1}
    assert anew["wake"] == 0


@pytest.mark.parametrize("at_once", [1, watchdog.AT_ONCE])
async def test_what_nobody_tries_again_since_its_execution_was_ended_is_settled(
    world: World, worker_pool: Pool[Record], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "AT_ONCE", at_once)
    now = await clock.now(world.owner)
    for name, ended_at, in_doubt in (
        ("away", now - 6 * MINUTE, False),
        ("unheard", now - 6 * MINUTE, True),
        ("under-way", now - 4 * MINUTE, True),
        ("running", None, False),
    ):
        outcome = None if ended_at is None else "canceled"
        execution_id = await world.lay_execution(name, outcome=outcome, started_at=now - HOUR)
        await world.lay_send(name, execution_id, seq=1)
        await world.lay_call(name, execution_id, seq=2)
        await world.owner.execute("UPDATE executions SET ended_at = $2 WHERE execution_id = $1", execution_id, ended_at)
        for ledger, state in (("sends", "dispatching"), ("webhook_calls", "calling")):
            await world.owner.execute(
                f"UPDATE {ledger} SET state = $2, settled_at = NULL, reserved_at = $3, in_doubt = $4, step_id = $5"
                " WHERE execution_id = $1",
                *(execution_id, state, now - HOUR, in_doubt, name),
            )

    await Watchdog(Transactions(worker_pool)).look()

    sends = await world.owner.fetch("SELECT step_id, state, reason, settled_at IS NOT NULL FROM sends ORDER BY 1")
    calls = await world.owner.fetch("SELECT step_id, state, reason, in_doubt FROM webhook_calls ORDER BY 1")
    assert [tuple(row) for row in sends] == [
        ("away", "failed", "execution_ended", True),
        ("running", "dispatching", None, False),
        ("under-way", "dispatching", None, False),
        ("unheard", "unknown", "execution_ended", True),
    ]
    assert [tuple(row) for row in calls] == [
        ("away", "failed", "execution_ended", False),
        ("running", "calling", None, False),
        ("under-way", "calling", None, True),
        ("unheard", "failed", "execution_ended", True),
    ]


async def test_who_has_a_row_in_hand_is_not_waited_for(world: World, worker_pool: Pool[Record], database: str) -> None:
    for name in ("held", "free"):
        execution_id = await world.lay_execution(name, outcome="canceled")
        await world.lay_send(name, execution_id, seq=1)
        await world.owner.execute("UPDATE sends SET step_id = $2 WHERE execution_id = $1", execution_id, name)
    await world.owner.execute("UPDATE sends SET state = 'dispatching', settled_at = NULL, in_doubt = false")
    merging = await asyncpg.connect(database)
    async with merging.transaction():
        await merging.execute("SELECT FROM sends WHERE step_id = 'held' FOR UPDATE")

        await Watchdog(Transactions(worker_pool)).look()

        rows = await world.owner.fetch("SELECT step_id, state FROM sends ORDER BY 1")
    await merging.close()
    assert [tuple(row) for row in rows] == [("free", "failed"), ("held", "dispatching")]


async def test_where_nothing_waits_the_oldest_has_waited_for_no_time(worker_pool: Pool[Record]) -> None:
    backlog = await Watchdog(Transactions(worker_pool)).backlog()

    assert backlog.oldest == dict.fromkeys(("inbox", "outbox", "erasures"), timedelta())
    assert backlog.set_aside == {"inbox": 0, "outbox": 0}


async def test_the_backlog_is_as_old_as_what_came_first(owner: Connection[Record], worker_pool: Pool[Record]) -> None:
    now = await clock.now(owner)
    for minutes in (5, 7, 3):
        since = now - timedelta(minutes=minutes)
        await owner.execute(
            "INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at) VALUES (1, 1, 1, 'events', $1)",
            since,
        )
        await owner.execute(
            "INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, "
            "created_at) VALUES (1, 1, 1, gen_random_uuid(), 'poke', 'w', $1, $1)",
            since,
        )
        await owner.execute(
            "INSERT INTO erasures (project_no, erasure_id, subject_ref, origin, ids, phase, phases, bucket, "
            "subject_no, subject_ids, requested_at) "
            "VALUES (1, $1, 'ref', 'request', 1, 'runs', '{}', 1, 1, '{gone}', $2)",
            f"era-{minutes}",
            since,
        )
    await owner.execute(
        "INSERT INTO inbox_dead (inbox_no, project_no, bucket, subject_no, kind, attempts, received_at, error, "
        "died_at) SELECT inbox_no, project_no, bucket, subject_no, kind, 10, received_at, 'Error', now() "
        "FROM inbox LIMIT 2"
    )

    backlog = await Watchdog(Transactions(worker_pool)).backlog()

    assert {queue: age >= timedelta(minutes=5) for queue, age in backlog.oldest.items()} == dict.fromkeys(
        ("inbox", "outbox", "erasures"), True
    )
    assert backlog.oldest["erasures"] >= timedelta(minutes=7)
    assert backlog.oldest["inbox"] < timedelta(minutes=7), "entries are taken in the order of their numbers"
    assert backlog.set_aside == {"inbox": 2, "outbox": 0}
