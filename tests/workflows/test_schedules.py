"""Schedules of journeys, on the development server, with a real worker."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError

from orchestrator.application import journeys, lifecycle, publishing
from orchestrator.application.journey_schedules import JourneyScheduleErrands
from orchestrator.application.journeys import Changes
from orchestrator.application.transactions import Transactions
from orchestrator.domain.journey import OnArchive
from orchestrator.temporal.schedules import JourneySchedules, schedule_id
from tests.eventually import eventually
from tests.integration.journey_world import ANY_STATE, World
from tests.workflows.world import Running, Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

BYE = {"id": "bye", "exit": {}}
YEARLY: dict[str, Any] = {"cron": "30 9 1,2,3,15 jan,feb *", "timeZone": "Europe/Berlin", "everyone": True}


async def described(client: Client, journey_id: str, project_no: int) -> ScheduleDescription | None:
    with suppress(RPCError):
        return await client.get_schedule_handle(schedule_id(project_no, journey_id)).describe()
    return None


async def test_a_crowd_is_enrolled_when_it_is_due(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record], temporal: Client, database: str
) -> None:
    world = await World.make(owner, api_pool)
    run = Running(world, temporal, worker_pool, Switchboard())
    for name in ("ann", "bob"):
        await world.subject(name)
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)

    async with worker(temporal, database, worker_pool, run.channel):
        await run.publish(BYE, journey_id="on-time", schedule={"at": at.isoformat(), "everyone": True})
        await run.until("count(*) = 2 FROM executions WHERE outcome = 'completed'", within=40)

    job = await owner.fetchrow("SELECT enrollment_job_id, created_at, state, enrolled FROM enrollment_jobs")
    assert job is not None
    assert job["enrollment_job_id"].startswith(f"schedule:{at:%Y%m%dT%H%M%SZ}:")
    assert job["created_at"] >= at
    assert (job["state"], job["enrolled"]) == ("done", 2)
    await JourneySchedules(temporal).remove(world.scope.project_no, "on-time")


async def test_what_was_due_before_temporal_was_told_is_made_up_for_once_and_what_was_due_during_a_pause_is_not(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record], temporal: Client
) -> None:
    """Whoever was to tell Temporal has died, and the next one comes too late."""
    world = await World.make(owner, api_pool)
    schedules = JourneySchedules(temporal)
    errands = JourneyScheduleErrands(Transactions(worker_pool), schedules, look_again=timedelta(0))
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    for journey_id in ("late", "paused"):
        await world.draft(journey_id, {"steps": [BYE], "schedule": {"at": at.isoformat(), "everyone": True}})
        await world.do(publishing.publish, journey_id, ANY_STATE)
    await world.do(lifecycle.pause, "paused", ANY_STATE)
    await eventually(lambda: owner.fetchval("SELECT clock_timestamp() > $1", at))
    await world.do(lifecycle.resume, "paused", ANY_STATE)

    await errands.run()
    await owner.execute("UPDATE journey_schedules SET told_revision = 0")  # who told of it has died before saying so
    await errands.run()

    jobs = [row["enrollment_job_id"] for row in await owner.fetch("SELECT * FROM enrollment_jobs")]
    assert [job.rpartition(":")[0] for job in jobs] == [f"schedule:{at:%Y%m%dT%H%M%SZ}"]
    assert await owner.fetchval("SELECT journey_id FROM enrollment_jobs") == "late"
    assert await owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'journey_schedule_skipped'") == 0
    for journey_id in ("late", "paused"):
        await schedules.remove(world.scope.project_no, journey_id)


async def test_temporal_has_the_schedule_that_the_newest_version_says(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record], temporal: Client
) -> None:
    world = await World.make(owner, api_pool)
    schedules = JourneySchedules(temporal)
    errands = JourneyScheduleErrands(Transactions(worker_pool), schedules, look_again=timedelta(0))

    async def there() -> ScheduleDescription | None:
        await errands.run()
        return await described(temporal, "yearly", world.scope.project_no)

    await world.draft("yearly", {"steps": [BYE], "schedule": YEARLY})
    assert await there() is None
    await world.do(publishing.publish, "yearly", ANY_STATE)
    first = await there()
    assert first is not None
    seen = await world.look(journeys.view, "yearly")
    assert first.info.next_action_times[:3] == list(seen.enrolls_next)  # both of its ranges, by the zone's clocks
    unchanged = await there()
    assert unchanged is not None
    assert unchanged.info.last_updated_at == first.info.last_updated_at

    await world.do(lifecycle.pause, "yearly", ANY_STATE)
    paused = await there()
    assert paused is not None
    assert paused.schedule.state.paused
    await world.do(lifecycle.resume, "yearly", ANY_STATE)
    handle = temporal.get_schedule_handle(schedule_id(world.scope.project_no, "yearly"))
    await there()
    await handle.pause(note="by somebody")
    mended = await there()
    assert mended is not None
    assert not mended.schedule.state.paused

    changed = Changes(definition={"schedule": {**YEARLY, "cron": "0 8 * * *"}})
    await world.do(journeys.update, "yearly", changed, ANY_STATE)
    await world.do(publishing.publish, "yearly", ANY_STATE)
    second = await there()
    assert second is not None
    assert second.info.next_action_times[0] == (await world.look(journeys.view, "yearly")).enrolls_next[0]
    await handle.delete()
    assert await there() is not None

    await world.do(lifecycle.archive, "yearly", OnArchive.FINISH, ANY_STATE)
    assert await there() is None
    await schedules.remove(world.scope.project_no, "yearly")  # there is none
