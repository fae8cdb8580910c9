"""SendsPauseService."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.page_tokens import page_limit, page_start, page_token
from orchestrator.application import sends_pauses
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.storage.sends_pauses import ALL, Pause
from orchestrator.v1 import sends_pause_pb2 as pb
from orchestrator.v1 import sends_pause_service_pb2 as rpc


class SendsPauseHandlers:
    async def ListSendsPauses(self, request: rpc.ListSendsPausesRequest, call: Call) -> rpc.ListSendsPausesResponse:
        limit = page_limit(request)
        start = page_start(request, str)
        found = await sends_pauses.paused(call.conn, call.scope, after=start[0] if start else None, limit=limit + 1)
        shown = found[:limit]
        return rpc.ListSendsPausesResponse(
            pauses=[_message(pause) for pause in shown],
            next_page_token=page_token(request, shown[-1].journey_id) if len(found) > limit else "",
        )

    @own_transactions
    async def PauseSends(self, request: rpc.PauseSendsRequest, call: Call) -> rpc.PauseSendsResponse:
        journey_id = _whose(request)

        async def work(conn: Connection[Record]) -> bytes:
            pause = await sends_pauses.pause(conn, call.scope, journey_id)
            return rpc.PauseSendsResponse(pause=_message(pause)).SerializeToString()

        answer = await call.transactions.once(call.scope, call.method, call.request_id, call.fingerprint, work)
        await sends_pauses.await_beginners(call.transactions, call.scope)
        return rpc.PauseSendsResponse.FromString(answer)

    async def ResumeSends(self, request: rpc.ResumeSendsRequest, call: Call) -> rpc.ResumeSendsResponse:
        await sends_pauses.resume(call.conn, call.scope, _whose(request))
        return rpc.ResumeSendsResponse()


def _message(pause: Pause) -> pb.SendsPause:
    count = None
    if pause.tally is not None:
        tally = pause.tally
        count = pb.SendsCount(send_count=tally.sends, failed_count=tally.failed, complained_count=tally.complained)
    return pb.SendsPause(
        journey_id=pause.journey_id,
        pause_time=to_timestamp(pause.paused_at),
        reason=pause.reason or "",
        count=count,
    )


def _whose(request: rpc.PauseSendsRequest | rpc.ResumeSendsRequest) -> str:
    """The journey's id, or ALL. Nothing is not everything. Raises InvalidArgument."""
    if request.all_journeys and request.journey_id:
        raise InvalidArgument.of("allJourneys", "INVALID_VALUE", "either one journey or all")
    if request.all_journeys:
        return ALL
    if not request.journey_id:
        raise InvalidArgument.of("journeyId", "REQUIRED", "a journey is required, or allJourneys: true")
    return request.journey_id
