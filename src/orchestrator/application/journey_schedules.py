"""Journeys that enroll a crowd on schedule: Temporal is told when, and each time that is due becomes one job.

Temporal may be away, be told late, or fire twice: what is right is decided here, from how the journey stands then.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.application import enrollment_jobs
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import JOURNEY_SCHEDULE_SKIPPED, RUNTIME
from orchestrator.domain.enrollment_job import ENDED, EnrollmentJob
from orchestrator.domain.journey import Definition, JourneyStatus
from orchestrator.domain.journey_form import digest, stored
from orchestrator.domain.refusals import AlreadyExists, FailedPrecondition, InvalidArgument
from orchestrator.domain.schedule import CATCH_UP, Firing
from orchestrator.domain.scope import Role, Scope
from orchestrator.storage import audit, clock, journey_schedules
from orchestrator.storage import enrollment_jobs as jobs
from orchestrator.storage.journey_schedules import Standing
from orchestrator.temporal.schedules import JourneySchedules

#: Schedules told of by one look, which has to be done within LEASE.
AT_ONCE = 16
LEASE = timedelta(seconds=30)

#: Whether Temporal's schedules are as they should be is looked at again after this: people may change or lose them.
LOOK_AGAIN = timedelta(minutes=5)

#: Firings that are made up for: as many as a clock can be due in that time.
MADE_UP = CATCH_UP // timedelta(minutes=1)

#: What a firing is that was seen to before, or is of a schedule that the journey has no more.
FIRED, CHANGED = "fired", "schedule_changed"


class JourneyScheduleErrands:
    """Run again and again by every worker; each time does what is left to do. Raises RPCError when Temporal is away."""

    def __init__(
        self, transactions: Transactions, schedules: JourneySchedules, *, look_again: timedelta = LOOK_AGAIN
    ) -> None:
        self._transactions = transactions
        self._schedules = schedules
        self._look_again = look_again

    async def run(self) -> None:
        """Tell Temporal of schedules that may have changed; those of which it could not be told come again."""
        async with self._transactions.write(None) as conn:
            now = await clock.now(conn)
            claimed = await journey_schedules.claim(conn, now, lease=LEASE, look_again=self._look_again, limit=AT_ONCE)
        told = await asyncio.gather(*(self._tell(one, now) for one in claimed), return_exceptions=True)
        _raise_first(told)

    async def _tell(self, standing: Standing, now: datetime) -> None:
        wanted = _wanted(standing, now)
        if wanted is not None:
            paused = standing.status == JourneyStatus.PAUSED.value
            digest = digest_of(_definition(standing))
            await self._schedules.ensure(standing.project_no, standing.journey_id, wanted, digest, paused=paused)
            if standing.is_news and not paused:
                await self._make_up(standing, wanted, digest)
        else:
            await self._schedules.remove(standing.project_no, standing.journey_id)
        async with self._transactions.write(None) as conn:
            await journey_schedules.told(conn, standing, now, there_is_one=wanted is not None)

    async def _make_up(self, standing: Standing, wanted: Firing, digest: str) -> None:
        """Temporal fires for no time that was over when it was told: what was due since this schedule counts."""
        async with self._transactions.read(None) as conn:
            now = await clock.now(conn)
        since = max(standing.changed_at, now - CATCH_UP)
        for due_at in wanted.after(since, MADE_UP):
            if due_at > now:
                break
            if standing.due_at is None or standing.due_at < due_at:
                await fire(self._transactions, standing.project_no, standing.journey_id, digest, due_at)


async def fire(transactions: Transactions, project_no: int, journey_id: str, digest: str, due_at: datetime) -> str:
    """Ask for the crowd that was due then to be enrolled, once however often this is called. Returns what came of it:
    FIRED, CHANGED, or why it was left out, which the audit log says too.
    """
    async with transactions.write(None) as conn:
        standing = await journey_schedules.hold(conn, project_no, journey_id)
        if standing is None or standing.status in (None, JourneyStatus.ARCHIVED.value):
            return CHANGED
        definition = _definition(standing)
        schedule = definition.schedule
        if schedule is None or digest_of(definition) != digest:
            return CHANGED
        if standing.due_at == due_at:
            return FIRED
        job_id = job_id_of(journey_id, due_at)
        scope = Scope(project_no=project_no, project_id=standing.project_id, actor=RUNTIME, role=Role.EDITOR)
        now = await clock.now(conn)
        skipped: str | None = None
        last: EnrollmentJob | None = None
        if now - due_at > CATCH_UP:
            skipped = "too_late"
        elif standing.enrollment_job_id is not None:
            last = await jobs.find(conn, project_no, standing.enrollment_job_id)
            if last is not None and last.has_paused_itself:  # nobody resumes it from here on
                last = await jobs.hold(conn, project_no, standing.enrollment_job_id)
            if last is not None and last.state not in ENDED and not last.has_paused_itself:
                skipped = "last_job_not_done"
        if skipped is None:
            try:
                await enrollment_jobs.create(
                    conn,
                    scope,
                    job_id=job_id,
                    journey_id=journey_id,
                    audience_id="" if schedule.has_crowd else definition.audience_id or "",
                    segment_id=schedule.segment_id or "",
                    everyone=schedule.everyone,
                    rate=schedule.rate,
                )
            except InvalidArgument as refusal:
                skipped = refusal.faults[0].reason.lower()
            except FailedPrecondition as refusal:
                skipped = refusal.reason.lower()
            except AlreadyExists:
                return FIRED
        await journey_schedules.seen_to(conn, standing, due_at, job_id if skipped is None else None)
        if skipped is None:
            if last is not None:  # else whatever it once met would keep everybody out from then on
                await enrollment_jobs.supersede(conn, scope, last, job_id)
            return FIRED
        await audit.append(
            conn,
            project_no=project_no,
            at=now,
            actor=RUNTIME,
            action=JOURNEY_SCHEDULE_SKIPPED,
            resource_id=journey_id,
            metadata={"dueAt": due_at.astimezone(UTC).isoformat(), "reason": skipped},
        )
        return skipped


def job_id_of(journey_id: str, due_at: datetime) -> str:
    """The id of the one job of a firing. Ids of journeys may be as long as ids of jobs."""
    whose = hashlib.sha256(journey_id.encode()).hexdigest()[:16]
    return f"schedule:{due_at.astimezone(UTC):%Y%m%dT%H%M%SZ}:{whose}"


def digest_of(definition: Definition) -> str:
    """What tells a schedule from every other that this journey may have."""
    firing = definition.firing
    assert firing is not None, "there is a schedule"
    schedule = firing.schedule
    said = {
        "at": schedule.at.isoformat() if schedule.at is not None else None,
        "cron": schedule.cron.expression if schedule.cron is not None else None,
        "timeZone": schedule.time_zone,
        "segmentId": schedule.segment_id,
        "everyone": schedule.everyone,
        "rate": schedule.rate,
        "audienceId": None if schedule.has_crowd else definition.audience_id,
        "startsAt": firing.starts_at.isoformat() if firing.starts_at is not None else None,
        "endsAt": firing.ends_at.isoformat() if firing.ends_at is not None else None,
    }
    return digest(said).hex()


def _definition(standing: Standing) -> Definition:
    return stored(standing.definition)


def _wanted(standing: Standing, now: datetime) -> Firing | None:
    """When Temporal is to fire; None: never again, as far as the newest version says."""
    if standing.status not in (JourneyStatus.ACTIVE.value, JourneyStatus.PAUSED.value) or standing.definition is None:
        return None
    firing = _definition(standing).firing
    return None if firing is None or firing.is_over(now) else firing


def _raise_first(told: Sequence[BaseException | None]) -> None:
    for failure in told:
        if failure is not None:
            raise failure
