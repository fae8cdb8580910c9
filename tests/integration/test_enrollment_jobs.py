"""Whole crowds enrolled in pages: everybody once, whatever happens on the way, and no faster than was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.application import audiences, enrollment_jobs, lifecycle, publishing, segments, subjects
from orchestrator.application import journeys as authoring
from orchestrator.application.enrollment_pages import TOO_MANY_ERRORS, EnrollmentPages, PageFailed, Step
from orchestrator.application.journeys import Changes
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.enrollment_job import EnrollmentJob, JobState
from orchestrator.domain.etag import Expected, etag_of
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.refusals import Conflict, FailedPrecondition, InvalidArgument, NotFound
from tests.integration.lost_commits import fail_first_commit
from tests.integration.poison import mend, poison
from tests.integration.road import BYE, Road

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
MONTH = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}


class Campaign:
    """A journey, a crowd of subjects every fourth of whom is a pro, and jobs that enroll them."""

    def __init__(self, road: Road, pool: Pool[Record]) -> None:
        self.road = road
        self.world = road.crowd.world
        self.owner = road.owner
        self.pool = pool

    def pages(self, size: int = 7) -> EnrollmentPages:
        return EnrollmentPages(Transactions(self.pool), Versions(), page=size)

    async def create(self, **crowd: Any) -> str:
        asked = {"job_id": "", "journey_id": "welcome", **(crowd or {"everyone": True})}
        return (await self.world.do(enrollment_jobs.create, **asked)).job_id

    async def job(self, job_id: str) -> EnrollmentJob:
        return await self.world.look(enrollment_jobs.get, job_id)

    async def work(self, pages: EnrollmentPages | None = None) -> None:
        """Until no job is due."""
        pages = pages or self.pages()
        while (await pages.step()).worked:
            pass

    async def work_until_enrolled(self, least: int, pages: EnrollmentPages, job_id: str) -> None:
        while (await self.job(job_id)).enrolled < least:
            await pages.step()

    async def enrolled(self, journey_id: str = "welcome") -> list[str]:
        """Once for each enrollment that has its execution and its start."""
        rows = await self.owner.fetch(
            """
            SELECT s.subject_id FROM enrollments AS n
              JOIN subjects AS s USING (project_no, bucket, subject_no)
              JOIN executions AS e ON (e.project_no, e.bucket, e.subject_no, e.execution_id)
                                    = (n.project_no, n.bucket, n.subject_no, n.enrollment_id)
              JOIN outbox AS o ON (o.project_no, o.execution_id) = (e.project_no, e.execution_id) AND o.kind = 'start'
             WHERE n.journey_id = $1
             ORDER BY 1
            """,
            journey_id,
        )
        return [row[0] for row in rows]

    async def pace_back(self, job_id: str, seconds: float) -> None:
        """As if the job had last let somebody in so long ago."""
        await self.owner.execute(
            "UPDATE enrollment_jobs SET paced_to = clock_timestamp() - $2::interval, next_at = clock_timestamp()"
            " WHERE enrollment_job_id = $1",
            job_id,
            timedelta(seconds=seconds),
        )


@pytest.fixture
async def campaign(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Campaign:
    road = await Road.make(owner, api_pool, worker_pool)
    await road.crowd.known(**{f"s{n}": {"tier": "pro" if n % 4 == 0 else "free"} for n in range(40)})
    audience = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
    await road.crowd.world.do(audiences.create, "pros", audience)
    await road.publish(MONTH, BYE)
    return Campaign(road, worker_pool)


EVERYBODY = sorted(f"s{n}" for n in range(40))
PROS = sorted(f"s{n}" for n in range(0, 40, 4))


async def test_everyone_is_enrolled_once_page_by_page(campaign: Campaign) -> None:
    job_id = await campaign.create(everyone=True)

    await campaign.work()

    job = await campaign.job(job_id)
    assert await campaign.enrolled() == EVERYBODY
    assert (job.state, job.looked_at, job.enrolled, job.skipped, job.errors) == (JobState.DONE, 40, 40, 0, 0)
    assert job.estimate == 40
    assert job.ended_at is not None
    assert (await campaign.world.actions())[-2:] == ["enrollment_job_created", "enrollment_job_done"]


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_an_audience_is_enrolled_whatever_the_size_of_its_pages(campaign: Campaign, size: int) -> None:
    job_id = await campaign.create(audience_id="pros")

    await campaign.work(campaign.pages(size))

    job = await campaign.job(job_id)
    assert await campaign.enrolled() == PROS
    assert (job.looked_at, job.enrolled, job.estimate) == (40, 10, 10)


async def test_a_segment_with_rules_and_a_list_are_enrolled_as_they_are_asked_now(campaign: Campaign) -> None:
    await campaign.road.crowd.segment("pro-segment", PRO)  # nobody has built it
    await campaign.world.do(segments.add_members, "vip", ["s1", "s2"])

    await campaign.create(segment_id="pro-segment")
    await campaign.work()
    await campaign.create(segment_id="vip")
    await campaign.work()

    assert await campaign.enrolled() == sorted([*PROS, "s1", "s2"])


async def test_who_leaves_the_crowd_before_the_job_comes_to_him_is_not_let_in(campaign: Campaign) -> None:
    job_id = await campaign.create(audience_id="pros")
    pages = campaign.pages(1)
    await campaign.work_until_enrolled(3, pages, job_id)
    left = sorted(set(PROS) - set(await campaign.enrolled()))
    await campaign.road.crowd.known(**{left[0]: {"tier": "free"}})

    await campaign.work(pages)

    assert await campaign.enrolled() == sorted(set(PROS) - {left[0]})


async def test_the_gates_refuse_as_ever_and_are_counted(campaign: Campaign) -> None:
    await campaign.road.enroll("s0", "s1")
    job_id = await campaign.create()

    await campaign.work()

    job = await campaign.job(job_id)
    assert (job.enrolled, job.skipped, dict(job.refused)) == (38, 2, {"re_entry": 2})
    counted = await campaign.owner.fetchval("SELECT sum(total) FROM refusal_counts WHERE reason = 're_entry'")
    assert counted == 2


async def test_a_page_that_is_cut_off_is_begun_again(campaign: Campaign) -> None:
    job_id = await campaign.create()
    pages = campaign.pages(7)
    await campaign.work_until_enrolled(7, pages, job_id)
    await fail_first_commit(campaign.owner, "outbox")

    # The commit fails; every process may be the one that goes on.
    with pytest.raises((asyncpg.RaiseError, PageFailed)):
        await pages.step()
    assert len(await campaign.enrolled()) == (await campaign.job(job_id)).enrolled == 7
    await campaign.work()

    assert await campaign.enrolled() == EVERYBODY
    assert (await campaign.job(job_id)).enrolled == 40


async def test_processes_share_jobs_and_let_nobody_in_twice(campaign: Campaign) -> None:
    for other in ("second", "third"):
        await campaign.road.publish(MONTH, BYE, journey_id=other)
    jobs = [await campaign.create(journey_id=j, everyone=True) for j in ("welcome", "second", "third")]

    async def work() -> None:
        pages = campaign.pages(3)
        while any([(await campaign.job(job_id)).state is JobState.RUNNING for job_id in jobs]):
            await pages.step()

    await asyncio.gather(*(work() for _ in range(4)))

    for journey_id in ("welcome", "second", "third"):
        assert await campaign.enrolled(journey_id) == EVERYBODY


async def test_nobody_enters_after_a_pause_and_all_the_others_after_the_resume(campaign: Campaign) -> None:
    job_id = await campaign.create()
    pages = campaign.pages(7)
    await campaign.work_until_enrolled(14, pages, job_id)

    await campaign.world.do(enrollment_jobs.pause, job_id, Expected())
    again = await campaign.world.do(enrollment_jobs.pause, job_id, Expected())
    step = await pages.step()
    paused = await campaign.enrolled()
    await campaign.world.do(enrollment_jobs.resume, job_id, Expected())
    await campaign.work(pages)

    assert (again.state, step) == (JobState.PAUSED, Step())
    assert len(paused) == 14
    assert await campaign.enrolled() == EVERYBODY
    actions = await campaign.world.actions()
    assert [action for action in actions if "job" in action] == [
        *("enrollment_job_created", "enrollment_job_paused", "enrollment_job_resumed", "enrollment_job_done"),
    ]


async def test_a_canceled_job_ends_where_it_stands(campaign: Campaign) -> None:
    job_id = await campaign.create()
    pages = campaign.pages(7)
    await campaign.work_until_enrolled(7, pages, job_id)

    canceled = await campaign.world.do(enrollment_jobs.cancel, job_id, Expected())
    await campaign.work(pages)

    assert (canceled.state, canceled.enrolled) == (JobState.CANCELED, 7)
    assert len(await campaign.enrolled()) == 7
    for verb in (enrollment_jobs.pause, enrollment_jobs.resume):
        with pytest.raises(FailedPrecondition, match="canceled"):
            await campaign.world.do(verb, job_id, Expected())
    assert (await campaign.world.do(enrollment_jobs.cancel, job_id, Expected())).state is JobState.CANCELED


async def test_progress_leaves_the_etag_as_it_is_and_a_pause_does_not(campaign: Campaign) -> None:
    job_id = await campaign.create()
    before = await campaign.job(job_id)
    await campaign.work_until_enrolled(7, campaign.pages(7), job_id)
    after = await campaign.job(job_id)
    seen = Expected(etag=etag_of(before.revision, before.updated_at))

    assert etag_of(after.revision, after.updated_at) == seen.etag
    await campaign.world.do(enrollment_jobs.pause, job_id, seen)
    with pytest.raises(Conflict):
        await campaign.world.do(enrollment_jobs.resume, job_id, seen)


async def test_a_rate_is_kept_over_time_and_missed_time_is_made_up_for_only_briefly(campaign: Campaign) -> None:
    job_id = await campaign.create(everyone=True, rate=5)
    pages = campaign.pages(100)
    await campaign.work(pages)  # it is estimated
    counts = []
    for seconds in (0.0, 0.4, 2.0):
        await campaign.pace_back(job_id, seconds)
        await campaign.work(pages)
        counts.append((await campaign.job(job_id)).enrolled)
    await campaign.pace_back(job_id, 3600)
    await campaign.work(pages)
    late = (await campaign.job(job_id)).enrolled
    behind = await campaign.owner.fetchval("SELECT clock_timestamp() - paced_to FROM enrollment_jobs")

    # What has passed between two statements may be worth one more.
    assert counts[0] <= 1
    assert 2 <= counts[1] - counts[0] <= 3
    assert 10 <= counts[2] - counts[1] <= 11
    assert 25 <= late - counts[2] <= 26
    assert timedelta(0) <= behind < timedelta(seconds=1)


async def test_a_rate_holds_whoever_gets_in_and_not_those_who_are_refused(campaign: Campaign) -> None:
    await campaign.road.enroll(*EVERYBODY[:35])
    job_id = await campaign.create(everyone=True, rate=1)
    pages = campaign.pages(10)
    await campaign.work(pages)

    for _ in range(2):
        await campaign.pace_back(job_id, 3.0)
        await campaign.work(pages)

    job = await campaign.job(job_id)
    assert (job.state, job.enrolled, job.skipped) == (JobState.DONE, 5, 35)


async def test_each_page_takes_the_newest_version(campaign: Campaign) -> None:
    job_id = await campaign.create()
    pages = campaign.pages(20)
    await campaign.work_until_enrolled(20, pages, job_id)
    await campaign.world.do(authoring.update, "welcome", Changes(definition={"maxDurationDays": 60}), Expected())
    await campaign.world.do(publishing.publish, "welcome", Expected())

    await campaign.work(pages)

    rows = await campaign.owner.fetch("SELECT version, count(*) FROM executions GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [(1, 20), (2, 20)]


async def test_a_paused_journey_pauses_its_job_which_goes_on_when_both_are_resumed(campaign: Campaign) -> None:
    job_id = await campaign.create()
    pages = campaign.pages(7)
    await campaign.work_until_enrolled(7, pages, job_id)
    await campaign.world.do(lifecycle.pause, "welcome", Expected())

    await campaign.work(pages)
    stopped = await campaign.job(job_id)
    with pytest.raises(FailedPrecondition, match="paused"):
        await campaign.world.do(enrollment_jobs.resume, job_id, Expected())
    await campaign.world.do(lifecycle.resume, "welcome", Expected())
    await campaign.world.do(enrollment_jobs.resume, job_id, Expected())
    await campaign.work(pages)

    assert (stopped.state, stopped.reason, stopped.enrolled) == (JobState.PAUSED, "journey_paused", 7)
    assert await campaign.enrolled() == EVERYBODY
    assert "enrollment_job_stopped" in await campaign.world.actions()


async def _archive(campaign: Campaign) -> None:
    await campaign.world.do(lifecycle.archive, "welcome", OnArchive.FINISH, Expected())


async def _delete(campaign: Campaign) -> None:
    await campaign.world.do(lifecycle.delete, "welcome", Expected(), force=True)


@pytest.mark.parametrize(
    ("end", "reason"), [(_archive, "journey_archived"), (_delete, "journey_not_found")], ids=["archived", "deleted"]
)
async def test_a_journey_that_is_over_ends_its_job(
    campaign: Campaign, end: Callable[[Campaign], Any], reason: str
) -> None:
    job_id = await campaign.create()
    await campaign.work_until_enrolled(7, campaign.pages(7), job_id)
    await end(campaign)

    await campaign.work()

    job = await campaign.job(job_id)
    assert (job.state, job.reason, job.enrolled) == (JobState.FAILED, reason, 7)


async def test_a_crowd_that_is_gone_stops_its_job_until_it_is_there_again(campaign: Campaign) -> None:
    by_audience = await campaign.create(audience_id="pros")
    by_segment = await campaign.create(segment_id="vip")
    await campaign.world.do(audiences.delete, "pros", Expected())
    await campaign.world.do(segments.delete, "vip", Expected(), force=True)

    await campaign.work()
    reasons = [(await campaign.job(job_id)).reason for job_id in (by_audience, by_segment)]
    audience = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
    await campaign.world.do(audiences.create, "pros", audience)
    await campaign.world.do(enrollment_jobs.resume, by_audience, Expected())
    await campaign.work()

    assert reasons == ["audience_not_found", "cohort_not_found"]
    assert await campaign.enrolled() == PROS


async def test_what_cannot_be_asked_yet_is_waited_for(campaign: Campaign) -> None:
    dear = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 100}
    bought = {"kind": "event_fired", "eventName": "purchase", "window": {"type": "ever"}, "where": dear}
    await campaign.road.crowd.happened(*((f"s{n}", "purchase", None) for n in range(5)), amount=200)
    audience = Audience(name="Buyers", description="", subject_type=END_USER, predicate=bought)
    await campaign.world.do(audiences.create, "dear-buyers", audience)
    job_id = await campaign.create(audience_id="dear-buyers")

    await campaign.work()

    job = await campaign.job(job_id)
    assert (job.state, job.reason) == (JobState.RUNNING, "events_being_counted")
    assert job.next_at > await campaign.owner.fetchval("SELECT clock_timestamp()")


async def test_who_takes_too_long_is_left_behind_and_counted_and_the_rest_goes_on(
    campaign: Campaign, hurried_pool: Pool[Record]
) -> None:
    await poison(campaign.owner, "s7", how="PERFORM pg_sleep(30)")
    job_id = await campaign.create(everyone=True)

    await Campaign(campaign.road, hurried_pool).work()

    job = await campaign.job(job_id)
    assert (job.state, job.enrolled, job.errors) == (JobState.DONE, 39, 1)
    assert await campaign.enrolled() == sorted({*EVERYBODY} - {"s7"})


async def test_one_who_cannot_be_worked_on_is_left_behind_and_the_others_go_on(campaign: Campaign) -> None:
    await poison(campaign.owner, "s7")
    job_id = await campaign.create()

    await campaign.work()

    job = await campaign.job(job_id)
    assert (job.state, job.enrolled, job.errors) == (JobState.DONE, 39, 1)
    assert await campaign.enrolled() == sorted(set(EVERYBODY) - {"s7"})


async def test_a_job_stops_when_nobody_can_be_worked_on(campaign: Campaign) -> None:
    await poison(campaign.owner, *EVERYBODY)
    job_id = await campaign.create()

    await campaign.work(campaign.pages(100))
    stopped = await campaign.job(job_id)
    await mend(campaign.owner, *EVERYBODY)
    await campaign.world.do(enrollment_jobs.resume, job_id, Expected())
    await campaign.work()

    assert (stopped.state, stopped.reason) == (JobState.PAUSED, "too_many_errors")
    assert stopped.errors == TOO_MANY_ERRORS - 1
    assert len(await campaign.enrolled()) == 40 - stopped.errors


async def test_who_is_deleted_or_comes_to_be_meanwhile_harms_nobody(campaign: Campaign) -> None:
    job_id = await campaign.create()
    pages = campaign.pages(7)
    await campaign.work_until_enrolled(7, pages, job_id)
    left = sorted(set(EVERYBODY) - set(await campaign.enrolled()))
    async with campaign.world.transactions.write(campaign.world.scope.project_no) as conn:
        await subjects.delete(conn, campaign.world.scope, b"secret", left[0], Expected())
    await campaign.world.subject("late")

    await campaign.work(pages)

    enrolled = await campaign.enrolled()
    assert set(enrolled) - {"late"} == set(EVERYBODY) - {left[0]}
    assert len(enrolled) == len(set(enrolled))


async def test_others_are_asked_after_while_a_job_runs(campaign: Campaign) -> None:
    pages = campaign.pages()
    before = await pages.others()
    job_id = await campaign.create()
    quiet = await pages.others()
    await campaign.work_until_enrolled(7, pages, job_id)
    await campaign.owner.execute("UPDATE inbox SET received_at = received_at - interval '2 s'")
    await campaign.road.crowd.happened(("s1", "purchase", None))
    await campaign.owner.execute("UPDATE inbox SET received_at = received_at - interval '2 s'")
    busy = await pages.others()

    assert before is None
    assert quiet is not None
    assert (quiet.untold, quiet.waiting) == (0, False)
    assert busy is not None
    assert (busy.untold, busy.waiting) == (7, True)


async def test_an_empty_project_is_soon_looked_through(campaign: Campaign) -> None:
    await campaign.owner.execute("DELETE FROM subjects")
    job_id = await campaign.create()

    await campaign.work()

    job = await campaign.job(job_id)
    assert (job.state, job.looked_at, job.estimate) == (JobState.DONE, 0, 0)


async def test_all_that_is_wrong_with_a_job_is_told_together(campaign: Campaign) -> None:
    with pytest.raises(InvalidArgument) as told:
        await campaign.create(job_id="a b", audience_id="nobody", segment_id="none", rate=0)
    with pytest.raises(InvalidArgument) as no_crowd:
        await campaign.create(everyone=False)

    assert [(fault.path, fault.reason) for fault in told.value.faults] == [
        ("id", "INVALID_ID"),
        ("ratePerSecond", "OUT_OF_RANGE"),
        ("segmentId", "INVALID_VALUE"),
        ("audienceId", "AUDIENCE_NOT_FOUND"),
        ("segmentId", "COHORT_NOT_FOUND"),
    ]
    assert [(fault.path, fault.reason) for fault in no_crowd.value.faults] == [("audienceId", "REQUIRED")]


async def test_only_active_journeys_have_crowds_enrolled(campaign: Campaign) -> None:
    await campaign.world.draft("never", {"steps": [BYE]})

    with pytest.raises(FailedPrecondition, match="draft"):
        await campaign.create(journey_id="never", everyone=True)
    with pytest.raises(NotFound):
        await campaign.create(journey_id="nowhere", everyone=True)
    with pytest.raises(NotFound):
        await campaign.job("job-of-nobody")


@pytest.fixture
def far() -> tuple[datetime, datetime]:
    return datetime.fromisoformat("2001-01-01T00:00:00Z"), datetime.fromisoformat("2199-01-01T00:00:00Z")


async def test_a_journey_that_has_not_started_is_waited_for_and_one_that_has_ended_ends_its_job(
    campaign: Campaign, far: tuple[datetime, datetime]
) -> None:
    past, future = (at.isoformat().replace("+00:00", "Z") for at in far)
    await campaign.road.publish(BYE, journey_id="early", startsAt=future)
    await campaign.road.publish(BYE, journey_id="over", endsAt=past)
    early = await campaign.create(journey_id="early", everyone=True)
    over = await campaign.create(journey_id="over", everyone=True)

    await campaign.work()

    waiting, ended = await campaign.job(early), await campaign.job(over)
    assert (waiting.state, waiting.reason) == (JobState.RUNNING, "journey_not_started")
    assert (ended.state, ended.reason) == (JobState.FAILED, "journey_ended")
    assert await campaign.enrolled("early") == await campaign.enrolled("over") == []


async def test_dates_refuse_whoever_comes_by_an_event_or_by_id(
    campaign: Campaign, far: tuple[datetime, datetime]
) -> None:
    past, future = (at.isoformat().replace("+00:00", "Z") for at in far)
    contract = await campaign.road.starts_on("purchase")
    dates = {"early": {"startsAt": future}, "over": {"endsAt": past}, "open": {"startsAt": past, "endsAt": future}}
    for journey_id, members in dates.items():
        await campaign.road.publish(MONTH, BYE, journey_id=journey_id, triggerContractId=contract, **members)
    await campaign.road.crowd.happened(("s1", "purchase", None))

    await campaign.road.crowd.settle()
    for journey_id in dates:
        await campaign.road.enroll("s2", journey_id=journey_id)

    counted = await campaign.owner.fetch("SELECT journey_id, reason, sum(total) FROM refusal_counts GROUP BY 1, 2")
    assert {tuple(row) for row in counted} == {("early", "not_started", 2), ("over", "ended", 2)}
    assert await campaign.owner.fetchval("SELECT count(*) FROM executions WHERE journey_id = 'open'") == 2


async def test_who_is_held_out_is_enrolled_and_counted_and_goes_nowhere(campaign: Campaign) -> None:
    await campaign.road.publish(MONTH, BYE, journey_id="measured", holdout={"percent": 50})
    job_id = await campaign.create(journey_id="measured", everyone=True)

    await campaign.work()

    job = await campaign.job(job_id)
    enrolled = await campaign.owner.fetchval("SELECT count(*) FROM enrollments WHERE held_out_by IS NOT NULL")
    assert job.enrolled == 40
    assert 0 < job.held_out < 40
    assert job.held_out == enrolled == 40 - len(await campaign.enrolled("measured"))
