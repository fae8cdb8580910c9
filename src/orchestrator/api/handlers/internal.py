"""InternalService. The pipeline has put each call into the project that it names."""

from __future__ import annotations

from functools import partial

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.direct_starts import happening_of, started_message
from orchestrator.application import direct_starts
from orchestrator.application.dispatching import Dispatching
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.inbox_rounds import Tell
from orchestrator.application.versions import Versions
from orchestrator.domain.dispatch import DEFAULT_SUBJECTS, DEFAULT_TIME_LIMIT
from orchestrator.v1 import internal_service_pb2 as rpc


class InternalHandlers:
    def __init__(self, dispatching: Dispatching, bell: InboxBell, versions: Versions, tell: Tell) -> None:
        """`tell` tells Temporal, after the commit, of executions that were started."""
        self._dispatching = dispatching
        self._bell = bell
        self._versions = versions
        self._tell = tell

    @own_transactions
    async def DispatchEntries(self, request: rpc.DispatchEntriesRequest, call: Call) -> rpc.DispatchEntriesResponse:
        has_limit = request.HasField("time_limit")
        done = await self._dispatching.dispatch(
            call.scope.project_no,
            request.subject_ids,
            max_subjects=request.max_subjects or DEFAULT_SUBJECTS,
            time_limit=request.time_limit.ToTimedelta() if has_limit else DEFAULT_TIME_LIMIT,
        )
        return rpc.DispatchEntriesResponse(
            subject_count=done.subjects,
            entry_count=done.entries,
            started_count=done.started,
            poked_count=done.poked,
            failed_count=done.failed,
            more=done.more,
        )

    async def StartExecution(self, request: rpc.StartExecutionRequest, call: Call) -> rpc.StartExecutionResponse:
        started = await direct_starts.start(
            call.conn,
            call.scope,
            self._versions,
            journey_id=request.journey_id,
            subject_id=request.subject_id,
            entry_key=request.entry_key,
            happening=happening_of(request.event),
        )
        if started.told:
            call.after_commit(partial(self._tell, started.told))
        if started.created:
            call.after_commit(self._bell.ring)
        return started_message(started)
