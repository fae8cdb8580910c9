"""Deliveries: what becomes of messages after a provider has taken them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.deliveries import report_of, report_response
from orchestrator.application.deliveries import Deliveries
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.domain.delivery import Report, faults_in
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import delivery_service_pb2 as pb


class DeliveryHandlers:
    def __init__(self, deliveries: Deliveries, bell: InboxBell) -> None:
        self._deliveries = deliveries
        self._bell = bell

    @own_transactions
    async def ReportDeliveries(self, request: pb.ReportDeliveriesRequest, call: Call) -> pb.ReportDeliveriesResponse:
        rejected: dict[int, Sequence[Fault]] = dict(call.item_faults)
        batch: dict[int, Report] = {}
        for place, message in enumerate(request.reports):
            if place in rejected:
                continue
            if faults := faults_in(message.idempotency_key, message.provider_id, f"reports[{place}]"):
                rejected[place] = faults
            else:
                batch[place] = report_of(message)
        outcomes = await self._deliveries.take(
            call.scope, list(batch.values()), committed=lambda: call.after_commit(self._bell.ring)
        )
        return report_response(len(request.reports), zip(batch, outcomes, strict=True), rejected)
