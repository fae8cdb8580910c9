"""RefusedEntryService."""

from __future__ import annotations

from orchestrator.api.call import Call
from orchestrator.api.convert.refused_entries import refused_messages, replay_message, span_of, summary_message
from orchestrator.application import entry_replays
from orchestrator.application.versions import Versions
from orchestrator.v1 import refused_entry_service_pb2 as rpc


class RefusedEntryHandlers:
    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def GetRefusedEntries(
        self, request: rpc.GetRefusedEntriesRequest, call: Call
    ) -> rpc.GetRefusedEntriesResponse:
        found = await entry_replays.refused(call.conn, call.scope, request.journey_id, *span_of(request))
        return rpc.GetRefusedEntriesResponse(refusals=[summary_message(refused) for refused in found])

    async def ReplayRefusedEntries(
        self, request: rpc.ReplayRefusedEntriesRequest, call: Call
    ) -> rpc.ReplayRefusedEntriesResponse:
        meant = (request.journey_id, request.reason, *span_of(request))
        if call.validate_only:
            rehearsed = await entry_replays.rehearse(call.conn, call.scope, self._versions, *meant)
            return rpc.ReplayRefusedEntriesResponse(
                count=rehearsed.count,
                tried_count=rehearsed.looked_at,
                tried_enrolled_count=rehearsed.enrolled,
                tried_refused=refused_messages(rehearsed.refused),
            )
        replay = await entry_replays.ask(call.conn, call.scope, *meant, request.at_most)
        return rpc.ReplayRefusedEntriesResponse(replay=replay_message(replay), count=replay.matched)

    async def GetEntryReplay(self, request: rpc.GetEntryReplayRequest, call: Call) -> rpc.GetEntryReplayResponse:
        found = await entry_replays.get(call.conn, call.scope, request.entry_replay_id)
        return rpc.GetEntryReplayResponse(replay=replay_message(found))

    async def CancelEntryReplay(
        self, request: rpc.CancelEntryReplayRequest, call: Call
    ) -> rpc.CancelEntryReplayResponse:
        canceled = await entry_replays.cancel(call.conn, call.scope, request.entry_replay_id)
        return rpc.CancelEntryReplayResponse(replay=replay_message(canceled))
