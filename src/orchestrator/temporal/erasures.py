"""Erasures, as Temporal knows them: names, inputs, how one is started; and how runs of executions go from Temporal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
)
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.temporal.client import CALL_TIMEOUT, LIST_TIMEOUT
from orchestrator.temporal.contract import PROJECT_ATTRIBUTE, SUBJECT_ATTRIBUTE
from orchestrator.temporal.executions import no_workflow

logger = logging.getLogger(__name__)

ERASURES_QUEUE = "erasures"
ERASURE_WORKFLOW = "SUBJECT_ERASURE"
STEP_ACTIVITY = "erase_some"

#: Workflows that are looked after at a time.
_AT_ONCE = 8
#: Temporal deletes a run once its queues have noted that its end is behind them (deploy/temporal.yaml), and tries that
#: ever less often. Whoever asks before is behind all others who did, so it is asked this long after the end.
_SETTLED = timedelta(seconds=5)
#: Of a terminated run, for whoever looks before it is gone.
_REASON = "subject forgotten"


@dataclass
class ErasureInput:
    """Which erasure; whose, only the database knows."""

    project_no: int
    erasure_id: str


@dataclass
class ErasureStep:
    """What one step has come to: `done` for good, or the next one is due after so many seconds."""

    done: bool
    pause: float = 0.0
    phase: str = ""


def erasure_workflow_id(project_no: int, erasure_id: str) -> str:
    return f"subject-erasure:{project_no}:{erasure_id}"


class ErasureWorkflows:
    """Starts erasures; built over a connected client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def see_to(self, project_no: int, erasure_id: str) -> None:
        """Start the workflow; one that runs already is as good. Raises RPCError."""
        await self._client.start_workflow(
            ERASURE_WORKFLOW,
            ErasureInput(project_no=project_no, erasure_id=erasure_id),
            id=erasure_workflow_id(project_no, erasure_id),
            task_queue=ERASURES_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary="forget a subject",
            rpc_timeout=CALL_TIMEOUT,
        )


class RunRemoval:
    """Takes executions' workflows out of Temporal. Everything raises RPCError when it is away."""

    def __init__(self, client: Client, *, searchable: bool, patience: timedelta = timedelta(seconds=8)) -> None:
        """`patience`: for how long one call of `remove` looks whether they are gone, before it is to be asked again."""
        self._client = client
        self._searchable = searchable
        self._patience = patience.total_seconds()
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def remove(self, workflow_ids: Iterable[str]) -> set[str]:
        """End these and delete every run of them; returns those of which no run is left. Of the others some may be, for
        Temporal deletes when it comes to it: ask again.
        """
        asked = sorted(set(workflow_ids))
        until = asyncio.get_running_loop().time() + self._patience
        found = await asyncio.gather(*(self._remove(workflow_id, until) for workflow_id in asked))
        return {workflow_id for workflow_id, is_gone in zip(asked, found, strict=True) if is_gone}

    async def of_subject(self, project_id: str, subject_ids: Iterable[str]) -> set[str]:
        """The workflows that Temporal's list has of these subjects, also such as the database knows nothing of any
        more. Nothing where the namespace lacks our search attributes.
        """
        if not self._searchable:
            return set()
        found: set[str] = set()
        try:
            for subject_id in subject_ids:
                async for run in self._client.list_workflows(_of(project_id, subject_id), rpc_timeout=LIST_TIMEOUT):
                    found.add(run.id)
        except RPCError as error:
            # Not every server tells beforehand which search attributes a namespace has. Where there are none of ours,
            # no execution has any.
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            logger.warning("the namespace lacks our search attributes, executions cannot be found by them")
            self._searchable = False
        return found

    async def _remove(self, workflow_id: str, until: float) -> bool:
        """Whether no run is left. The current one is the last to go: it leads to those before it."""
        while True:
            async with self._turn:
                current, ended = await self._current(workflow_id)
                runs = await self._runs(workflow_id, current)
                if not runs:
                    return True
                if current is not None and ended is None:
                    await self._terminate(workflow_id)
            going = {run_id for run_id in runs if run_id != current}
            if not going:
                if not await _settled(ended, until):
                    return False
                going = runs
            async with self._turn:
                # Asked for once: each request makes Temporal try, and it tries by itself until it can.
                for run_id in going:
                    await self._delete(workflow_id, run_id)
            if not await self._gone(workflow_id, going, until):
                return False

    async def _gone(self, workflow_id: str, run_ids: set[str], until: float) -> bool:
        """Whether these have gone before it is too late."""
        loop, left, pause = asyncio.get_running_loop(), set(run_ids), 0.1
        while left and loop.time() + pause < until:
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)
            async with self._turn:
                left = {run_id for run_id in left if await self._exists(workflow_id, run_id)}
        return not left

    async def _current(self, workflow_id: str) -> tuple[str | None, datetime | None]:
        """The run, and when it ended; None: there is none, it has not."""
        try:
            described = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=CALL_TIMEOUT)
        except RPCError as error:
            if no_workflow(error):
                return None, None
            raise
        return described.run_id, described.close_time

    async def _runs(self, workflow_id: str, current: str | None) -> set[str]:
        """All runs that there are: those of the chain that ends with the current one, and those that are listed, since
        an id can have been used again. The list lags behind, so whoever is on it is asked for.
        """
        listed = {
            run.run_id
            async for run in self._client.list_workflows(
                f"WorkflowId = {_quoted(workflow_id)}", rpc_timeout=LIST_TIMEOUT
            )
        }
        runs = {current} if current is not None else set()
        for run_id in listed - runs:
            if await self._exists(workflow_id, run_id):
                runs.add(run_id)
        earlier = current
        while earlier is not None and (earlier := await self._before(workflow_id, earlier)) is not None:
            if earlier not in runs and not await self._exists(workflow_id, earlier):
                break
            runs.add(earlier)
        return runs

    async def _exists(self, workflow_id: str, run_id: str) -> bool:
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace, execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
        )
        try:
            await self._client.workflow_service.describe_workflow_execution(request, timeout=CALL_TIMEOUT)
        except RPCError as error:
            if no_workflow(error):
                return False
            raise
        return True

    async def _before(self, workflow_id: str, run_id: str) -> str | None:
        """The run that this one went on from; None: it was the first, or is gone."""
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            maximum_page_size=1,
        )
        try:
            page = await self._client.workflow_service.get_workflow_execution_history(request, timeout=CALL_TIMEOUT)
        except RPCError as error:
            if no_workflow(error):
                return None
            raise
        if not page.history.events:
            return None
        started = page.history.events[0].workflow_execution_started_event_attributes
        return started.continued_execution_run_id or None

    async def _terminate(self, workflow_id: str) -> None:
        try:
            await self._client.get_workflow_handle(workflow_id).terminate(reason=_REASON, rpc_timeout=CALL_TIMEOUT)
        except RPCError as error:
            if not no_workflow(error):  # closed is as good
                raise

    async def _delete(self, workflow_id: str, run_id: str) -> None:
        request = DeleteWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        )
        try:
            await self._client.workflow_service.delete_workflow_execution(request, timeout=CALL_TIMEOUT)
        except RPCError as error:
            if not no_workflow(error):
                raise


async def _settled(ended: datetime | None, until: float) -> bool:
    """Waits until a run, which ended then or just now, can be deleted; False where that is too late."""
    since = timedelta(0) if ended is None else datetime.now(UTC) - ended
    rest = max(_SETTLED - max(since, timedelta(0)), timedelta(0)).total_seconds()
    if asyncio.get_running_loop().time() + rest >= until:
        return False
    await asyncio.sleep(rest)
    return True


def _of(project_id: str, subject_id: str) -> str:
    """The query for the executions of a subject."""
    return f"{SUBJECT_ATTRIBUTE.name} = {_quoted(subject_id)} AND {PROJECT_ATTRIBUTE.name} = {_quoted(project_id)}"


def _quoted(text: str) -> str:
    """As a value in a query. Ids hold neither quotes nor backslashes."""
    assert "'" not in text, "ids are escaped"
    return f"'{text}'"
