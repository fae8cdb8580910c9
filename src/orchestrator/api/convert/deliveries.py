"""Reports of deliveries as messages, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC

from orchestrator.api.convert.violations import violations
from orchestrator.application.deliveries import Outcome
from orchestrator.domain.delivery import Kind, Report
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import delivery_pb2
from orchestrator.v1 import delivery_service_pb2 as pb

# Told of one report: a thousand of them must fit into one answer.
_VIOLATIONS = 10

KINDS = {
    delivery_pb2.DeliveryReport.KIND_DELIVERED: Kind.DELIVERED,
    delivery_pb2.DeliveryReport.KIND_SOFT_BOUNCED: Kind.SOFT_BOUNCED,
    delivery_pb2.DeliveryReport.KIND_BOUNCED: Kind.BOUNCED,
    delivery_pb2.DeliveryReport.KIND_COMPLAINED: Kind.COMPLAINED,
    delivery_pb2.DeliveryReport.KIND_OPENED: Kind.OPENED,
    delivery_pb2.DeliveryReport.KIND_CLICKED: Kind.CLICKED,
}
_STATUSES = {
    Outcome.ACCEPTED: delivery_pb2.DeliveryReportResult.STATUS_ACCEPTED,
    Outcome.DUPLICATE: delivery_pb2.DeliveryReportResult.STATUS_DUPLICATE,
    Outcome.UNKNOWN_SEND: delivery_pb2.DeliveryReportResult.STATUS_UNKNOWN_SEND,
}


def report_of(message: delivery_pb2.DeliveryReport) -> Report:
    return Report(
        kind=KINDS[message.kind],
        key=message.idempotency_key,
        provider_id=message.provider_id,
        report_id=message.report_id,
        occurred_at=message.occur_time.ToDatetime(UTC) if message.HasField("occur_time") else None,
        link=message.link,
    )


def report_response(
    count: int, outcomes: Iterable[tuple[int, Outcome]], rejected: Mapping[int, Sequence[Fault]]
) -> pb.ReportDeliveriesResponse:
    statuses = [delivery_pb2.DeliveryReportResult.STATUS_REJECTED] * count
    for place, outcome in outcomes:
        statuses[place] = _STATUSES[outcome]
    response = pb.ReportDeliveriesResponse(
        accepted_count=statuses.count(delivery_pb2.DeliveryReportResult.STATUS_ACCEPTED),
        duplicate_count=statuses.count(delivery_pb2.DeliveryReportResult.STATUS_DUPLICATE),
        rejected_count=len(rejected),
        unknown_send_count=statuses.count(delivery_pb2.DeliveryReportResult.STATUS_UNKNOWN_SEND),
    )
    for index, status in enumerate(statuses):
        response.results.add(index=index, status=status)
    for place, faults in rejected.items():
        response.results[place].violations.extend(violations(faults[:_VIOLATIONS]))
    return response
