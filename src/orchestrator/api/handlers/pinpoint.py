"""PinpointService."""

from __future__ import annotations

import asyncio

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.pinpoint import translation_message
from orchestrator.api.json_exports import export_to_document
from orchestrator.domain.channels import Rules
from orchestrator.pinpoint.translation import Gateways, translate
from orchestrator.v1 import pinpoint_service_pb2 as rpc


class PinpointHandlers:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @own_transactions
    async def TranslatePinpoint(
        self, request: rpc.TranslatePinpointRequest, call: Call
    ) -> rpc.TranslatePinpointResponse:
        gateways = Gateways(sms_url=request.sms_url or None, push_url=request.push_url or None, rules=self._rules)
        # Megabytes may take a second; nothing of it waits for anything.
        exports = [export_to_document(export) for export in request.exports]
        translation = await asyncio.to_thread(translate, exports, gateways)
        return translation_message(translation)
