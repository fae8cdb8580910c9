"""Starts executions and pokes them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.temporal.client import CALL_TIMEOUT, LIST_TIMEOUT
from orchestrator.temporal.codec import KeyMissing
from orchestrator.temporal.contract import (
    BEHIND_PRIORITY,
    BEHIND_QUEUE,
    ENROLLMENT_MEMO,
    EXECUTION_WORKFLOW,
    JOURNEY_ATTRIBUTE,
    JOURNEYS_QUEUE,
    PHASE_ATTRIBUTE,
    POKE_SIGNAL,
    PROJECT_ATTRIBUTE,
    SUBJECT_ATTRIBUTE,
    SUBJECT_MEMO,
    VERSION_ATTRIBUTE,
    ExecutionInput,
)
from orchestrator.temporal.memos import memo_of

logger = logging.getLogger(__name__)


class Told(Enum):
    """What Temporal answered. DONE: it holds; GONE: no such workflow runs."""

    DONE = "done"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose workflow has the id that was to be used; None: it does not say. `closed`: it runs no more."""

    execution_id: str | None
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything the workflow of an execution is started with. `behind`: it waits, in Temporal's queues and at workers,
    behind all that is started otherwise.
    """

    workflow_id: str
    project_id: str
    journey_id: str
    version: int
    subject_id: str
    input: ExecutionInput
    behind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An execution of which a run was ended from outside. `subject` is (project_no, bucket, subject_no). `outcome`:
    what it came to that ended by itself.
    """

    workflow_id: str
    execution_id: str
    subject: tuple[int, int, int]
    status: WorkflowExecutionStatus
    outcome: str | None = None


class Executions:
    """The executions' workflows. Raises `temporalio.service.RPCError` when Temporal cannot be reached or refuses."""

    def __init__(
        self,
        client: Client,
        *,
        eager: bool,
        searchable: bool,
        patience: timedelta = CALL_TIMEOUT,
    ) -> None:
        """`eager`: this process also runs a worker of the journeys queue on the same client.

        `searchable`: the namespace has our search attributes, or may have them (`client.missing_search_attributes`).
        `patience`: a call that takes longer has failed; what came of it, the next one finds out.
        """
        self._client = client
        self._eager = eager
        self._searchable = searchable
        self._patience = patience

    async def start(self, start: Start, *, anew: bool = False) -> Told | Holder:
        """Start the workflow once: a repeat finds it, running or closed, and is content.

        Where the id belongs to another enrollment, says whose it is. `anew`: start it all the same, if that one is
        closed; two who do so at once may start it twice, one after the other, and the second run finds all decided.
        Raises KeyMissing where the one that has the id was encrypted with a key that is not here.
        """
        if not self._searchable:
            return await self._start(start, anew=anew, searchable=False)
        try:
            return await self._start(start, anew=anew, searchable=True)
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
        # Not every server tells beforehand which search attributes its namespaces have. If it is something else that
        # it refuses, it refuses that again.
        told = await self._start(start, anew=anew, searchable=False)
        logger.warning("the namespace lacks our search attributes, executions cannot be found by them")
        self._searchable = False
        return told

    async def _start(self, start: Start, *, anew: bool, searchable: bool) -> Told | Holder:
        try:
            await self._client.start_workflow(
                EXECUTION_WORKFLOW,
                replace(start.input, searchable=searchable),
                id=start.workflow_id,
                task_queue=BEHIND_QUEUE if start.behind else JOURNEYS_QUEUE,
                id_reuse_policy=(
                    WorkflowIDReusePolicy.ALLOW_DUPLICATE if anew else WorkflowIDReusePolicy.REJECT_DUPLICATE
                ),
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={
                    ENROLLMENT_MEMO: start.input.execution_id,
                    SUBJECT_MEMO: [start.input.project_no, start.input.bucket, start.input.subject_no],
                },
                search_attributes=_search_attributes(start) if searchable else None,
                static_summary=f"{start.journey_id} v{start.version}",
                # An eager start keeps a place until its first task comes.
                request_eager_start=self._eager and not start.behind,
                priority=Priority(priority_key=BEHIND_PRIORITY) if start.behind else Priority.default,
                rpc_timeout=self._patience,
            )
        except WorkflowAlreadyStartedError:
            holder = await self._holder(start.workflow_id)
            return Told.DONE if holder.execution_id == start.input.execution_id else holder
        return Told.DONE

    async def _holder(self, workflow_id: str) -> Holder:
        """Raises KeyMissing when that cannot be read."""
        described = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=self._patience)
        memo = await memo_of(described)
        if memo.missing_kid is not None:
            raise KeyMissing(memo.missing_kid)
        return Holder(
            execution_id=str(memo.execution_id) if memo.execution_id is not None else None,
            closed=described.close_time is not None,
        )

    async def poke(self, workflow_id: str) -> Told:
        """Make an execution look again. GONE: it has ended, or was not started yet."""
        workflow = self._client.get_workflow_handle(workflow_id)
        try:
            await workflow.signal(POKE_SIGNAL, rpc_timeout=self._patience)
        except RPCError as error:
            if no_workflow(error):
                return Told.GONE
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            # A run takes so many pokes and no more; one that gets on begins anew long before. So what runs and takes no
            # more has yet to look at those it has, and will see then what this one is about.
            if (await workflow.describe(rpc_timeout=self._patience)).close_time is not None:
                raise
        return Told.DONE

    async def ended_elsewhere(self, since: datetime | None) -> AsyncIterator[Ended]:
        """Runs that did not end by themselves but were ended, after `since` (None: as far back as Temporal remembers).

        As Temporal's list has them, which lags behind a little.
        """
        query = (
            f"WorkflowType = '{EXECUTION_WORKFLOW}' "
            "AND ExecutionStatus IN ('Terminated', 'Canceled', 'Failed', 'TimedOut')"
        )
        if since is not None:
            query += f" AND CloseTime > '{since.isoformat()}'"
        unreadable: Counter[str] = Counter()
        async for found in self._client.list_workflows(query, page_size=1000, rpc_timeout=LIST_TIMEOUT):
            memo = await memo_of(found)
            if memo.missing_kid is not None:
                unreadable[memo.missing_kid] += 1  # the others are not to wait for it
            elif memo.execution_id is not None and memo.subject is not None and found.status is not None:
                yield Ended(
                    workflow_id=found.id,
                    execution_id=str(memo.execution_id),
                    subject=memo.subject,
                    status=found.status,
                )
        for kid, count in unreadable.items():
            logger.error("ended workflows cannot be read, a key is missing", extra={"kid": kid, "count": count})

    async def outcome(self, workflow_id: str) -> str:
        """What a workflow has come to that has ended by itself. Raises WorkflowFailureError when it has not."""
        outcome: str = await self._client.get_workflow_handle(workflow_id, result_type=str).result(
            rpc_timeout=self._patience
        )
        return outcome

    async def runs_on(self, ended: Ended) -> bool:
        """Whether a later run of the same execution is under way: somebody has reset its workflow."""
        try:
            holder = await self._holder(ended.workflow_id)
        except RPCError as error:
            if no_workflow(error):
                return False
            raise
        return not holder.closed and holder.execution_id == ended.execution_id


def no_workflow(error: RPCError) -> bool:
    """Whether Temporal says that no such workflow runs; that there is no such namespace is another matter."""
    if error.status is not RPCStatusCode.NOT_FOUND:
        return False
    return not any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def _search_attributes(start: Start) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(PROJECT_ATTRIBUTE, start.project_id),
            SearchAttributePair(JOURNEY_ATTRIBUTE, start.journey_id),
            SearchAttributePair(VERSION_ATTRIBUTE, start.version),
            SearchAttributePair(SUBJECT_ATTRIBUTE, start.subject_id),
            SearchAttributePair(PHASE_ATTRIBUTE, start.input.phase),
        ]
    )
