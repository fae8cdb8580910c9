"""PinpointService."""

from __future__ import annotations

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.pinpoint import translation_message
from orchestrator.api.json_exports import export_to_document
from orchestrator.application.threads import in_thread
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

        def translated() -> rpc.TranslatePinpointResponse:
            exports = [export_to_document(export) for export in request.exports]
            return translation_message(translate(exports, gateways))

        # Megabytes may take a second; nothing of it waits for anything.
        return await in_thread(translated)
