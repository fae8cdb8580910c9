"""A change of a journey that also brings it into a status. Callers own the transaction."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.application import journeys, lifecycle, publishing
from orchestrator.application.journeys import Changes
from orchestrator.domain.etag import Expected
from orchestrator.domain.journey import Journey, JourneyStatus, OnArchive
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.scope import Scope
from orchestrator.storage import projects

_AS_IT_IS_NOW = Expected()


async def bring(
    conn: Connection[Record],
    scope: Scope,
    journey_id: str,
    changes: Changes,
    status: JourneyStatus,
    expected: Expected,
) -> Journey:
    """Make these changes, and then what leads to the status; the one that the journey has takes nothing.

    A draft becomes active by being published; an archived journey's executions finish.

    Raises what `journeys.update`, `publish`, `pause`, `resume` and `archive` raise, and FailedPrecondition
    JOURNEY_WAS_PUBLISHED where a journey that was published is to be a draft.
    """
    await projects.touch_definitions(conn, scope.project_no)
    journey = await journeys.get(conn, scope, journey_id)
    if changes.names():
        journey = await journeys.update(conn, scope, journey_id, changes, expected)
    else:
        expected.require(revision=journey.revision, updated_at=journey.updated_at, journeyId=journey_id)
    match journey.status, status:
        case before, after if before is after:
            return journey
        case _, JourneyStatus.DRAFT:
            raise FailedPrecondition(
                "JOURNEY_WAS_PUBLISHED",
                f"journey {journey_id} was published and cannot be a draft again",
                journeyId=journey_id,
                status=journey.status.value,
            )
        case JourneyStatus.DRAFT, JourneyStatus.ACTIVE:
            await publishing.publish(conn, scope, journey_id, _AS_IT_IS_NOW)
            return await journeys.get(conn, scope, journey_id)
        case _, JourneyStatus.ACTIVE:
            return await lifecycle.resume(conn, scope, journey_id, _AS_IT_IS_NOW)
        case _, JourneyStatus.PAUSED:
            return await lifecycle.pause(conn, scope, journey_id, _AS_IT_IS_NOW)
        case _:
            return (await lifecycle.archive(conn, scope, journey_id, OnArchive.FINISH, _AS_IT_IS_NOW)).journey
