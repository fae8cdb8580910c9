"""Pausing, resuming, archiving and deleting journeys. Callers own the transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from asyncpg import Connection, Record

from orchestrator.application.journeys import changed, get, hold, record
from orchestrator.domain.audit import (
    JOURNEY_ARCHIVED,
    JOURNEY_DELETED,
    JOURNEY_PAUSED,
    JOURNEY_RESUMED,
    Action,
)
from orchestrator.domain.etag import Expected
from orchestrator.domain.journey import Journey, JourneyStatus, OnArchive
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.scope import Scope
from orchestrator.storage import (
    clock,
    journey_pokes,
    journey_schedules,
    journeys,
    projects,
    send_tallies,
    sends_pauses,
    stats,
)


async def pause(conn: Connection[Record], scope: Scope, journey_id: str, expected: Expected) -> Journey:
    """Take nobody in any more; running executions go on. A paused journey stays as it is.

    Raises NotFound, Conflict, and FailedPrecondition: JOURNEY_ARCHIVED, or JOURNEY_NOT_ACTIVE if never published.
    """
    return await _switch(conn, scope, journey_id, expected, JourneyStatus.PAUSED, JOURNEY_PAUSED)


async def resume(conn: Connection[Record], scope: Scope, journey_id: str, expected: Expected) -> Journey:
    """Take subjects in again. An active journey stays as it is.

    Raises NotFound, Conflict, and FailedPrecondition: JOURNEY_ARCHIVED, or JOURNEY_NOT_ACTIVE if never published.
    """
    return await _switch(conn, scope, journey_id, expected, JourneyStatus.ACTIVE, JOURNEY_RESUMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """An archived journey, and how many executions were running."""

    journey: Journey
    running: int


async def archive(
    conn: Connection[Record], scope: Scope, journey_id: str, on_archive: OnArchive, expected: Expected
) -> Archived:
    """Take nobody in, for ever. With END running executions are told to end, canceled, by a worker after the commit;
    with FINISH they go on.

    Archiving again is a no-op, but that those left to finish may still be ended. Raises NotFound, Conflict, and
    FailedPrecondition JOURNEY_ARCHIVED for an archived journey whose executions are to finish after all.
    """
    await projects.touch_definitions(conn, scope.project_no)
    await journeys.shut(conn, scope.project_no, journey_id)
    journey = await get(conn, scope, journey_id)
    expected.require(revision=journey.revision, updated_at=journey.updated_at, journeyId=journey_id)
    running = await stats.running(conn, scope.project_no, journey_id)
    if journey.on_archive is on_archive:
        return Archived(journey=journey, running=running)
    if journey.on_archive is OnArchive.END:
        raise FailedPrecondition(
            "JOURNEY_ARCHIVED", f"the executions of journey {journey_id} have been ended", journeyId=journey_id
        )
    now = await clock.now(conn)
    journey = changed(replace(journey, status=JourneyStatus.ARCHIVED, on_archive=on_archive), now)
    await journeys.update(conn, scope.project_no, journey)
    await journey_schedules.changed(conn, scope.project_no, journey_id, now)
    if on_archive is OnArchive.END:
        await journey_pokes.request(conn, scope.project_no, journey_id, now)
    await record(
        conn, scope, now, JOURNEY_ARCHIVED, journey_id, {"onArchive": on_archive.value, "runningExecutions": running}
    )
    return Archived(journey=journey, running=running)


async def delete(
    conn: Connection[Record], scope: Scope, journey_id: str, expected: Expected, *, force: bool = False
) -> None:
    """Remove the journey and its draft; versions and ledgers stay. If forced, running executions end, canceled: they
    are told after the commit, by a worker.

    Raises NotFound, Conflict, and FailedPrecondition JOURNEY_HAS_RUNNING_EXECUTIONS unless forced.
    """
    await projects.touch_definitions(conn, scope.project_no)
    await journeys.shut(conn, scope.project_no, journey_id)
    journey = await get(conn, scope, journey_id)
    expected.require(revision=journey.revision, updated_at=journey.updated_at, journeyId=journey_id)
    running = await stats.running(conn, scope.project_no, journey_id)
    if running and not force:
        raise FailedPrecondition(
            "JOURNEY_HAS_RUNNING_EXECUTIONS",
            f"{running} executions of journey {journey_id} are running",
            journeyId=journey_id,
            runningExecutions=str(running),
        )
    now = await clock.now(conn)
    if running:
        await journey_pokes.request(conn, scope.project_no, journey_id, now)
    # Who could end a pause of a journey that is not there?
    await sends_pauses.resume(conn, scope.project_no, journey_id)
    await send_tallies.forget(conn, scope.project_no, journey_id)
    await journeys.delete(conn, scope.project_no, journey_id)
    await journey_schedules.changed(conn, scope.project_no, journey_id, now)
    await record(conn, scope, now, JOURNEY_DELETED, journey_id, {"forced": force, "runningExecutions": running})


async def _switch(
    conn: Connection[Record],
    scope: Scope,
    journey_id: str,
    expected: Expected,
    status: JourneyStatus,
    action: Action,
) -> Journey:
    journey = await hold(conn, scope, journey_id, expected)
    if journey.status is JourneyStatus.DRAFT:
        raise FailedPrecondition(
            "JOURNEY_NOT_ACTIVE",
            f"journey {journey_id} was never published",
            journeyId=journey_id,
            status=journey.status.value,
        )
    if journey.status is status:
        return journey
    if status is JourneyStatus.PAUSED:
        await journeys.shut(conn, scope.project_no, journey_id)
    now = await clock.now(conn)
    journey = changed(replace(journey, status=status), now)
    await journeys.update(conn, scope.project_no, journey)
    await journey_schedules.changed(conn, scope.project_no, journey_id, now)
    await record(conn, scope, now, action, journey_id)
    return journey
