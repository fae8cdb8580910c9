"""Events as messages, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api.convert.violations import violations
from orchestrator.api.json_values import struct_to_json
from orchestrator.domain.event import Event, Outcome
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import event_pb2
from orchestrator.v1 import event_service_pb2 as pb

# Told of one event: a thousand of them must fit into one answer.
_VIOLATIONS = 10

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_STATUSES = {
    Outcome.ACCEPTED: event_pb2.EventResult.STATUS_ACCEPTED,
    Outcome.DUPLICATE: event_pb2.EventResult.STATUS_DUPLICATE,
    Outcome.FORGOTTEN: event_pb2.EventResult.STATUS_REJECTED,
}


def event_of(message: event_pb2.Event) -> Event:
    return Event(
        event_id=message.event_id,
        name=message.name,
        subject_id=message.subject_id,
        occurred_at=_instant(message.occur_time) if message.HasField("occur_time") else None,
        properties=orjson.dumps(struct_to_json(message.properties)),
    )


def _instant(time: Timestamp) -> datetime:
    """The same as `ToDatetime(UTC)`, at a quarter of its price."""
    return _EPOCH + timedelta(seconds=time.seconds, microseconds=time.nanos // 1000)


def ingest_response(
    count: int, outcomes: Iterable[tuple[int, Outcome]], rejected: dict[int, Sequence[Fault]]
) -> pb.IngestEventsResponse:
    statuses = [event_pb2.EventResult.STATUS_REJECTED] * count
    rejected = dict(rejected)
    for place, outcome in outcomes:
        statuses[place] = _STATUSES[outcome]
        if outcome is Outcome.FORGOTTEN:
            path = f"events[{place}].subjectId"
            rejected[place] = [Fault(path=path, reason="SUBJECT_FORGOTTEN", message="the subject was forgotten")]
    response = pb.IngestEventsResponse(
        accepted_count=statuses.count(event_pb2.EventResult.STATUS_ACCEPTED),
        duplicate_count=statuses.count(event_pb2.EventResult.STATUS_DUPLICATE),
        rejected_count=len(rejected),
    )
    for index, status in enumerate(statuses):
        response.results.add(index=index, status=status)
    for place, faults in rejected.items():
        response.results[place].violations.extend(violations(faults[:_VIOLATIONS]))
    return response
