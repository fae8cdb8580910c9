"""AuditService."""

from __future__ import annotations

from orchestrator.api.call import Call
from orchestrator.api.convert.audit import (
    PAGE_SIZE,
    anchors_of,
    entry_message,
    number_before,
    token_below,
    verified_message,
)
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import audit, audit_verification
from orchestrator.v1 import audit_service_pb2 as rpc


class AuditHandlers:
    async def ListAuditEntries(self, request: rpc.ListAuditEntriesRequest, call: Call) -> rpc.ListAuditEntriesResponse:
        entries, end = await audit.page(
            call.conn,
            call.scope,
            request.resource_kind,
            request.resource_id,
            number_before(request),
            page_limit(request, default=PAGE_SIZE),
        )
        return rpc.ListAuditEntriesResponse(
            audit_entries=[entry_message(entry) for entry in entries], next_page_token=token_below(request, end)
        )

    async def VerifyAuditLog(self, request: rpc.VerifyAuditLogRequest, call: Call) -> rpc.VerifyAuditLogResponse:
        anchors = anchors_of(request)
        return verified_message(await audit_verification.verify(call.conn, call.scope.project_no, anchors))
