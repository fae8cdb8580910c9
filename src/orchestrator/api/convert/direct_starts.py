"""Executions that are started at somebody's word, as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import from_timestamp
from orchestrator.api.json_values import struct_to_json
from orchestrator.application.direct_starts import Happening, Started
from orchestrator.v1 import internal_service_pb2 as pb


def happening_of(message: pb.TriggeringEvent) -> Happening:
    return Happening(
        event_id=message.event_id,
        name=message.name,
        occurred_at=from_timestamp(message.occur_time) if message.HasField("occur_time") else None,
        properties=struct_to_json(message.properties),
    )


def started_message(started: Started) -> pb.StartExecutionResponse:
    if started.refused is not None:
        return pb.StartExecutionResponse(
            outcome=pb.StartExecutionResponse.OUTCOME_REFUSED, reason=started.refused.value
        )
    outcome = (
        pb.StartExecutionResponse.OUTCOME_HELD_OUT if started.held_out else pb.StartExecutionResponse.OUTCOME_STARTED
    )
    return pb.StartExecutionResponse(
        outcome=outcome,
        already=started.already,
        version=started.version,
        execution_id=str(started.enrollment_id) if started.enrollment_id is not None else "",
        workflow_id=started.workflow_id,
    )
