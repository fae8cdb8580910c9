"""Each time that is due on schedule becomes one job, however often and however late Temporal says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import journeys, lifecycle, publishing, segments
from orchestrator.application.entry_explanations import explain_entry
from orchestrator.application.journey_schedules import CHANGED, FIRED, digest_of, fire
from orchestrator.application.journeys import Changes
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.journey_form import stored
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.storage import clock, journey_schedules
from orchestrator.storage.journey_schedules import Standing
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, Road

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAILY: dict[str, Any] = {"cron": "0 9 * * *", "timeZone": "Europe/Berlin", "segmentId": "vip", "ratePerSecond": 50}
HOUR = timedelta(hours=1)
VIP = Segment(kind=STATIC, name="VIP", description="", predicate=None)


class Clockwork:
    """A journey `welcome` with a schedule, and Temporal's side of it."""

    def __init__(self, road: Road, pool: Pool[Record]) -> None:
        self.world, self.owner = road.crowd.world, road.owner
        self.transactions = Transactions(pool)
        self.due_at = datetime.now(UTC).replace(microsecond=0)

    async def publish(self, **definition: Any) -> None:
        await self.world.draft("welcome", {"steps": [BYE], **definition})
        await self.world.do(publishing.publish, "welcome", ANY_STATE)

    async def change(self, **definition: Any) -> None:
        await self.world.do(journeys.update, "welcome", Changes(definition=definition), ANY_STATE)
        await self.world.do(publishing.publish, "welcome", ANY_STATE)

    async def digest(self) -> str:
        definition = await self.owner.fetchval("SELECT definition FROM journey_versions ORDER BY version DESC LIMIT 1")
        return digest_of(stored(json.loads(definition)))

    async def fire(self, *, ago: timedelta = timedelta(0), digest: str | None = None) -> str:
        project_no = self.world.scope.project_no
        return await fire(self.transactions, project_no, "welcome", digest or await self.digest(), self.due_at - ago)

    async def jobs(self) -> list[tuple[Any, ...]]:
        rows = await self.owner.fetch(
            "SELECT segment_id, audience_id, rate, created_by FROM enrollment_jobs ORDER BY created_at"
        )
        return [tuple(row) for row in rows]

    async def states(self) -> list[str]:
        return [row[0] for row in await self.owner.fetch("SELECT state FROM enrollment_jobs ORDER BY created_at")]

    async def skipped(self) -> list[str]:
        rows = await self.owner.fetch(
            "SELECT metadata ->> 'reason' FROM audit_log WHERE action = 'journey_schedule_skipped' ORDER BY audit_no"
        )
        return [row[0] for row in rows]

    async def claim(self) -> list[Standing]:
        async with self.transactions.write(None) as conn:
            return await journey_schedules.claim(conn, await clock.now(conn), lease=HOUR, look_again=HOUR, limit=9)

    async def told(self, standing: Standing, *, there_is_one: bool = True) -> None:
        async with self.transactions.write(None) as conn:
            await journey_schedules.told(conn, standing, await clock.now(conn), there_is_one=there_is_one)


@pytest.fixture
async def clockwork(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Clockwork:
    return Clockwork(await Road.make(owner, api_pool, worker_pool), worker_pool)


async def test_a_time_that_is_due_becomes_one_job(clockwork: Clockwork) -> None:
    await clockwork.publish(schedule=DAILY)

    assert [await clockwork.fire(), await clockwork.fire()] == [FIRED, FIRED]
    assert await clockwork.jobs() == [("vip", None, 50, "runtime")]
    # The job runs: what is due meanwhile is left out, once, and what was due before it is not done again.
    assert [await clockwork.fire(ago=-HOUR / 2) for _ in range(2)] == ["last_job_not_done", FIRED]
    await clockwork.owner.execute("UPDATE enrollment_jobs SET state = 'done', ended_at = now()")
    assert [await clockwork.fire(), await clockwork.fire(ago=HOUR / 4)] == [FIRED, FIRED]
    assert (len(await clockwork.jobs()), await clockwork.skipped()) == (2, ["last_job_not_done"])


async def test_a_job_that_has_paused_itself_silences_no_schedule_and_one_that_somebody_paused_does(
    clockwork: Clockwork,
) -> None:
    await clockwork.publish(schedule=DAILY)
    await clockwork.fire()
    await clockwork.owner.execute("UPDATE enrollment_jobs SET state = 'paused', reason = 'journey_paused'")
    await clockwork.world.do(segments.delete, "vip", ANY_STATE, force=True)
    assert await clockwork.fire(ago=HOUR / 4) == "cohort_not_found"
    assert await clockwork.states() == ["paused"], "nothing has taken its place"
    await clockwork.world.do(segments.create, "vip", VIP)

    assert [await clockwork.fire(ago=HOUR / 2) for _ in range(2)] == [FIRED, FIRED]
    assert await clockwork.states() == ["canceled", "running"]
    await clockwork.owner.execute("UPDATE enrollment_jobs SET state = 'paused' WHERE state = 'running'")
    assert await clockwork.fire(ago=HOUR / 3) == "last_job_not_done"
    assert await clockwork.states() == ["canceled", "paused"]
    said = await clockwork.owner.fetchval(
        "SELECT metadata ->> 'supersededBy' FROM audit_log WHERE action = 'enrollment_job_canceled'"
    )
    assert said == await clockwork.owner.fetchval("SELECT enrollment_job_id FROM journey_schedules")


async def test_whoever_asks_is_told_whom_a_schedule_lets_in(clockwork: Clockwork) -> None:
    await clockwork.publish(schedule=DAILY)
    await clockwork.world.subject("ann")

    async def ask() -> list[tuple[str, str | None]]:
        told = await clockwork.world.look(explain_entry, Versions(), "welcome", "ann")
        return [(way.kind, way.refusal) for way in told.ways]

    outside = await ask()
    await clockwork.world.do(segments.add_members, "vip", ["ann"])
    within = await ask()
    await clockwork.world.do(segments.delete, "vip", ANY_STATE, force=True)

    assert outside == [("schedule", "crowd"), ("enroll", None)]
    assert within == [("schedule", None), ("enroll", None)]
    assert await ask() == [("schedule", "cohort_not_found"), ("enroll", None)]


async def test_only_the_schedule_that_the_journey_has_now_enrolls_anybody(clockwork: Clockwork) -> None:
    await clockwork.publish(schedule=DAILY)
    old = await clockwork.digest()
    await clockwork.change(maxDurationDays=9)
    assert await clockwork.digest() == old
    await clockwork.change(schedule={**DAILY, "cron": "0 10 * * *"})

    assert await clockwork.fire(digest=old) == CHANGED
    assert await clockwork.fire(ago=2 * HOUR) == "too_late"
    await clockwork.world.do(lifecycle.pause, "welcome", ANY_STATE)
    assert await clockwork.fire() == "journey_not_active"
    await clockwork.world.do(lifecycle.resume, "welcome", ANY_STATE)
    await clockwork.world.do(segments.delete, "vip", ANY_STATE, force=True)
    assert await clockwork.fire(ago=HOUR / 2) == "cohort_not_found"
    await clockwork.world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)
    assert await clockwork.fire(ago=HOUR / 3) == CHANGED
    await clockwork.world.do(lifecycle.delete, "welcome", ANY_STATE)
    assert await clockwork.fire(ago=HOUR / 4) == CHANGED

    assert await clockwork.jobs() == []
    assert await clockwork.skipped() == ["too_late", "journey_not_active", "cohort_not_found"]


async def test_the_journeys_audience_is_enrolled_where_nobody_else_is_named(clockwork: Clockwork) -> None:
    await clockwork.publish(audienceId="buyers", schedule={"at": "2126-01-01T00:00:00Z"})

    await clockwork.fire()

    assert await clockwork.jobs() == [(None, "buyers", None, "runtime")]
    with pytest.raises(FailedPrecondition) as refused:
        await clockwork.change(audienceId=None)
    assert [fault.reason for fault in refused.value.faults] == ["SCHEDULE_WITHOUT_CROWD"]


async def test_temporal_is_told_of_every_change_and_of_none_twice(clockwork: Clockwork) -> None:
    await clockwork.publish(schedule=DAILY)
    (first,) = await clockwork.claim()
    assert (first.journey_id, first.status, await clockwork.claim()) == ("welcome", "active", [])
    await clockwork.world.do(lifecycle.pause, "welcome", ANY_STATE)  # while it is being told

    await clockwork.told(first)
    (second,) = await clockwork.claim()
    await clockwork.told(second)
    assert (second.status, await clockwork.claim()) == ("paused", [])
    await clockwork.owner.execute("UPDATE journey_schedules SET told_at = told_at - interval '2 hours'")
    (again,) = await clockwork.claim()  # whatever became of it there
    await clockwork.told(again)
    await clockwork.change(schedule=None)
    await clockwork.change(maxDurationDays=3)
    (third,) = await clockwork.claim()
    await clockwork.change(maxDurationDays=4)
    await clockwork.told(third, there_is_one=False)

    (last,) = await clockwork.claim()
    await clockwork.told(last, there_is_one=False)
    await clockwork.change(maxDurationDays=5)
    assert await clockwork.claim() == []
    assert await clockwork.owner.fetchval("SELECT count(*) FROM journey_schedules") == 0


async def test_an_entry_condition_is_of_the_version_and_a_segment_in_use(clockwork: Clockwork) -> None:
    """Its way in runs in test_held_entries.py; here is what keeps it true."""
    await clockwork.publish(
        entryCondition={"segmentId": "vip"}, schedule={"at": "2126-01-01T00:00:00Z", "everyone": True}
    )
    with pytest.raises(FailedPrecondition) as refused:
        await clockwork.world.do(segments.delete, "vip", ANY_STATE, force=False)
    await clockwork.world.do(segments.delete, "vip", ANY_STATE, force=True)

    seen = await clockwork.world.look(journeys.view, "welcome")

    assert [fault.path for fault in refused.value.faults] == ["audience/buyers", "journey_version/welcome/1"]
    assert [(problem.reason, problem.last_hour) for problem in seen.problems] == [("trigger_segment_not_found", None)]
    assert "trigger_segment_deleted" in await clockwork.world.actions()
    assert list(seen.enrolls_next) == [datetime(2126, 1, 1, tzinfo=UTC)]
    with pytest.raises(FailedPrecondition) as missing:
        await clockwork.change(maxDurationDays=3)
    assert [(fault.path, fault.reason) for fault in missing.value.faults] == [
        ("entryCondition.segmentId", "COHORT_NOT_FOUND")
    ]
