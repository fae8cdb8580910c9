"""ApiKeyService."""

from __future__ import annotations

from orchestrator.api.call import Call
from orchestrator.api.convert.api_keys import api_key_message, role_of
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.times import from_timestamp
from orchestrator.api.page_tokens import page_limit
from orchestrator.application.api_keys import ApiKeys
from orchestrator.v1 import api_key_service_pb2 as rpc


class ApiKeyHandlers:
    def __init__(self, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys

    async def ListApiKeys(self, request: rpc.ListApiKeysRequest, call: Call) -> rpc.ListApiKeysResponse:
        keys, end = await self._api_keys.page(call.conn, call.scope, place_of(request), page_limit(request))
        return rpc.ListApiKeysResponse(
            api_keys=[api_key_message(key) for key in keys], next_page_token=token_after(request, end)
        )

    async def CreateApiKey(self, request: rpc.CreateApiKeyRequest, call: Call) -> rpc.CreateApiKeyResponse:
        sent = request.api_key
        made = await self._api_keys.create(
            call.conn,
            call.scope,
            name=sent.name,
            role=role_of(sent.role),
            expires_at=from_timestamp(sent.expire_time) if sent.HasField("expire_time") else None,
        )
        return rpc.CreateApiKeyResponse(api_key=api_key_message(made.api_key), secret=made.secret)

    async def RevokeApiKey(self, request: rpc.RevokeApiKeyRequest, call: Call) -> rpc.RevokeApiKeyResponse:
        key = await self._api_keys.revoke(call.conn, call.scope, request.api_key_id)
        return rpc.RevokeApiKeyResponse(api_key=api_key_message(key))

    async def RotateApiKey(self, request: rpc.RotateApiKeyRequest, call: Call) -> rpc.RotateApiKeyResponse:
        made = await self._api_keys.rotate(
            call.conn,
            call.scope,
            request.api_key_id,
            overlap=request.overlap.ToTimedelta() if request.HasField("overlap") else None,
        )
        return rpc.RotateApiKeyResponse(api_key=api_key_message(made.api_key), secret=made.secret)
