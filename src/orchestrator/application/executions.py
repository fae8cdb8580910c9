"""Looking at executions. What has ended is read from the ledger; about the others Temporal is asked as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application.journeys import not_found
from orchestrator.application.transactions import Transactions
from orchestrator.domain.execution_status import Status, status_of
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.domain.scope import Scope
from orchestrator.storage import executions_read, journeys
from orchestrator.storage.executions_read import Called, Passed, Sent, Shown
from orchestrator.storage.running_call import time_left
from orchestrator.temporal.statuses import Statuses

#: Open executions of one page that Temporal is asked about, the newest ones; of the rest the ledger tells.
ASKED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An execution with its status; `live`: Temporal said so, a moment ago."""

    execution: Shown
    status: Status
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An execution, what it passed, sent and called, in order."""

    seen: Seen
    visits: tuple[Passed, ...]
    sends: tuple[Sent, ...]
    calls: tuple[Called, ...]


class Executions:
    """Use cases; no connection is held while Temporal is asked."""

    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses

    async def page(
        self,
        transactions: Transactions,
        scope: Scope,
        *,
        journey_id: str | None,
        subject_id: str | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> tuple[list[Seen], tuple[datetime, UUID] | None]:
        """Executions of a journey, of a subject, or of one in the other, newest first, and where the page ends.

        Also those of a journey that was deleted. Raises InvalidArgument when neither is named, and NotFound when there
        never was such a journey.
        """
        if journey_id is None and subject_id is None:
            raise InvalidArgument.of("journeyId", "REQUIRED", "name a journey, a subject or both")
        async with transactions.read(scope.project_no) as conn:
            found = await executions_read.page(
                conn,
                scope.project_no,
                journey_id=journey_id,
                subject_id=subject_id,
                after=after,
                limit=limit + 1,
            )
            if not found and after is None and journey_id is not None:
                await require_journey(conn, scope, journey_id)
        shown = found[:limit]
        end = (shown[-1].started_at, shown[-1].execution_id) if len(found) > limit else None
        return await self._with_status(transactions, scope, shown), end

    async def get(self, transactions: Transactions, scope: Scope, execution_id: str) -> Whole:
        """Raises NotFound."""
        try:
            key = UUID(execution_id)
        except ValueError:
            raise no_execution(execution_id) from None
        async with transactions.read(scope.project_no) as conn:
            shown = (await executions_read.by_id(conn, scope.project_no, [key])).get(key)
            if shown is None:
                raise no_execution(execution_id)
            visits = await executions_read.visits(conn, scope.project_no, key)
            sends = await executions_read.sends(conn, scope.project_no, key)
            calls = await executions_read.webhook_calls(conn, scope.project_no, key)
        seen = await self._with_status(transactions, scope, [shown])
        return Whole(seen=seen[0], visits=tuple(visits), sends=tuple(sends), calls=tuple(calls))

    async def _with_status(self, transactions: Transactions, scope: Scope, shown: Sequence[Shown]) -> list[Seen]:
        running = [execution for execution in shown if execution.outcome is None][:ASKED]
        told = await self._statuses.of([execution.workflow_id for execution in running], time_left=time_left())
        over = [
            execution.execution_id
            for execution in running
            if told.get(execution.workflow_id, Status.RUNNING) is not Status.RUNNING
        ]
        # It ended while we asked, or was ended in Temporal and the ledger does not know yet: look again.
        newer = {}
        if over:
            async with transactions.read(scope.project_no) as conn:
                newer = await executions_read.by_id(conn, scope.project_no, over)
        return [_seen(newer.get(execution.execution_id, execution), told) for execution in shown]


def _seen(execution: Shown, told: dict[str, Status]) -> Seen:
    if execution.outcome is None and execution.workflow_id in told:
        return Seen(execution=execution, status=told[execution.workflow_id], live=True)
    return Seen(execution=execution, status=status_of(execution.outcome), live=False)


async def require_journey(conn: Connection[Record], scope: Scope, journey_id: str) -> None:
    """Raises NotFound."""
    if not await journeys.exists(conn, scope.project_no, journey_id):
        raise not_found(journey_id)


def no_execution(execution_id: str) -> NotFound:
    return NotFound("EXECUTION_NOT_FOUND", f"there is no execution {execution_id}", executionId=execution_id)
