"""ErasureService."""

from __future__ import annotations

from orchestrator.api.call import Call
from orchestrator.api.convert.erasures import erasure_message
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import forgetting
from orchestrator.v1 import erasure_service_pb2 as rpc


class ErasureHandlers:
    """`secret` is the instance's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    async def ForgetSubject(self, request: rpc.ForgetSubjectRequest, call: Call) -> rpc.ForgetSubjectResponse:
        erasure = await forgetting.forget(call.conn, call.scope, self._secret, request.subject_id)
        return rpc.ForgetSubjectResponse(erasure=erasure_message(erasure))

    async def ListErasures(self, request: rpc.ListErasuresRequest, call: Call) -> rpc.ListErasuresResponse:
        page, end = await forgetting.page(call.conn, call.scope, after=place_of(request), limit=page_limit(request))
        return rpc.ListErasuresResponse(
            erasures=[erasure_message(erasure) for erasure in page], next_page_token=token_after(request, end)
        )

    async def GetErasure(self, request: rpc.GetErasureRequest, call: Call) -> rpc.GetErasureResponse:
        erasure = await forgetting.get(call.conn, call.scope, request.erasure_id)
        return rpc.GetErasureResponse(erasure=erasure_message(erasure))

    async def LiftTombstone(self, request: rpc.LiftTombstoneRequest, call: Call) -> rpc.LiftTombstoneResponse:
        erasure = await forgetting.lift(call.conn, call.scope, request.subject_id)
        return rpc.LiftTombstoneResponse(erasure=erasure_message(erasure))
