"""The cancelling of executions as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import from_timestamp, to_timestamp
from orchestrator.domain.cancellation import Cancellation, Count, Filter
from orchestrator.v1 import cancellation_pb2 as pb


def filter_of(message: pb.ExecutionFilter) -> Filter:
    return Filter(
        everybody=message.all,
        version=message.version or None,
        step_ids=tuple(dict.fromkeys(message.step_ids)),
        subject_ids=tuple(message.subject_ids),
        started_after=from_timestamp(message.started_after) if message.HasField("started_after") else None,
        started_before=from_timestamp(message.started_before) if message.HasField("started_before") else None,
        parked=message.parked,
    )


def cancellation_message(cancellation: Cancellation) -> pb.Cancellation:
    wanted = cancellation.filter
    return pb.Cancellation(
        id=cancellation.id,
        journey_id=cancellation.journey_id,
        filter=pb.ExecutionFilter(
            all=wanted.everybody,
            version=wanted.version or 0,
            step_ids=wanted.step_ids,
            started_after=to_timestamp(wanted.started_after) if wanted.started_after else None,
            started_before=to_timestamp(wanted.started_before) if wanted.started_before else None,
            parked=wanted.parked,
        ),
        reason=cancellation.reason,
        matched_count=cancellation.matched,
        canceled_count=cancellation.canceled,
        request_time=to_timestamp(cancellation.requested_at),
        end_time=to_timestamp(cancellation.ended_at) if cancellation.ended_at else None,
    )


def step_messages(count: Count) -> list[pb.StepCount]:
    return [pb.StepCount(step_id=step_id, count=total) for step_id, total in count.by_step.items()]
