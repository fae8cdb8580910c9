"""Schedules of journeys, as Temporal knows them: it says when; what is done then is decided in Postgres."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.domain.schedule import CATCH_UP, Firing
from orchestrator.temporal.client import CALL_TIMEOUT
from orchestrator.temporal.contract import JOURNEYS_QUEUE
from orchestrator.temporal.regular_work import is_encrypted_as_now

FIRING_WORKFLOW = "SCHEDULED_ENROLLMENT"
FIRE_ACTIVITY = "enroll_on_schedule"

#: When an action was due, which Temporal notes on what it starts.
DUE_ATTRIBUTE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")


@dataclass
class FiringInput:
    """`digest` tells the schedule that fires from others that the journey had or has."""

    project_no: int
    journey_id: str
    digest: str


@dataclass
class DueFiring:
    """`due_at` in epoch seconds."""

    project_no: int
    journey_id: str
    digest: str
    due_at: float


def schedule_id(project_no: int, journey_id: str) -> str:
    return f"enroll:{project_no}:{journey_id}"


class JourneySchedules:
    """Makes, changes and removes them; built over a connected client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ensure(self, project_no: int, journey_id: str, firing: Firing, digest: str, *, paused: bool) -> None:
        """Have it fire so, and no other way. Raises RPCError."""
        own = schedule_id(project_no, journey_id)
        schedule = Schedule(
            action=ScheduleActionStartWorkflow(
                FIRING_WORKFLOW,
                FiringInput(project_no=project_no, journey_id=journey_id, digest=digest),
                id=own,
                task_queue=JOURNEYS_QUEUE,
                static_summary="enroll a crowd on schedule",
            ),
            spec=_spec(firing),
            # Each firing asks the database, which knows whether the job of the last one is done.
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL, catchup_window=CATCH_UP),
            state=ScheduleState(note=digest, paused=paused),
        )
        try:
            await self._client.create_schedule(own, schedule, rpc_timeout=CALL_TIMEOUT)
        except ScheduleAlreadyRunningError:
            handle = self._client.get_schedule_handle(own)
            await handle.update(lambda known: _updated(self._client, known, schedule), rpc_timeout=CALL_TIMEOUT)

    async def remove(self, project_no: int, journey_id: str) -> None:
        """Have it fire no more; one that is not there is as good. Raises RPCError."""
        try:
            await self._client.get_schedule_handle(schedule_id(project_no, journey_id)).delete(rpc_timeout=CALL_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise


def _updated(client: Client, known: ScheduleUpdateInput, schedule: Schedule) -> ScheduleUpdate | None:
    before = known.description.schedule
    same = before.state.note == schedule.state.note and before.state.paused == schedule.state.paused
    if same and before.policy == schedule.policy and is_encrypted_as_now(client, before):
        return None
    return ScheduleUpdate(schedule)


def _spec(firing: Firing) -> ScheduleSpec:
    schedule = firing.schedule
    if schedule.cron is not None:
        cron = schedule.cron
        calendar = ScheduleCalendarSpec(
            second=[ScheduleRange(0)],
            minute=_ranges(cron.minutes),
            hour=_ranges(cron.hours),
            day_of_month=_ranges(cron.days),
            month=_ranges(cron.months),
            day_of_week=_ranges(cron.weekdays),
            comment=cron.expression,
        )
    else:
        assert schedule.at is not None, "a schedule has an instant or a clock"
        at = schedule.at.astimezone(UTC)
        calendar = ScheduleCalendarSpec(
            second=[ScheduleRange(at.second)],
            minute=[ScheduleRange(at.minute)],
            hour=[ScheduleRange(at.hour)],
            day_of_month=[ScheduleRange(at.day)],
            month=[ScheduleRange(at.month)],
            year=[ScheduleRange(at.year)],
            comment="once",
        )
    return ScheduleSpec(
        calendars=[calendar],
        start_at=firing.starts_at,
        end_at=_before(firing.ends_at),
        time_zone_name=schedule.time_zone,
    )


def _before(end: datetime | None) -> datetime | None:
    """The last instant at which something may be due, where nothing is at the end."""
    return end - timedelta(microseconds=1) if end is not None else None


def _ranges(numbers: Iterable[int]) -> list[ScheduleRange]:
    ranges: list[ScheduleRange] = []
    for number in numbers:
        if ranges and ranges[-1].end == number - 1:
            ranges[-1] = ScheduleRange(ranges[-1].start, number)
        else:
            ranges.append(ScheduleRange(number, number))
    return ranges
