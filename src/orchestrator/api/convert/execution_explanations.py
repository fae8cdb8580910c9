"""Why executions stand where they stand, as messages."""

from __future__ import annotations

from orchestrator.api.convert.executions import execution_message, whole_message
from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_decode import decode_stored
from orchestrator.application.execution_explanations import ExecutionExplanation, Truth
from orchestrator.application.watchdog import Late
from orchestrator.domain.conditions import ANY_EVENT, ATTRIBUTES, GATES, PREFERENCES, event_in, segment_in
from orchestrator.domain.standing import Doing
from orchestrator.storage import stuck
from orchestrator.v1 import execution_explanation_pb2 as pb
from orchestrator.v1.explanation_pb2 import Explanation

_DOING = {
    Doing.ENDED: pb.ExecutionExplanation.DOING_ENDED,
    Doing.WAIT: pb.ExecutionExplanation.DOING_WAIT,
    Doing.WAIT_FOR: pb.ExecutionExplanation.DOING_WAIT_FOR,
    Doing.SEND: pb.ExecutionExplanation.DOING_SEND,
    Doing.RUN: pb.ExecutionExplanation.DOING_RUN,
    Doing.GATE: pb.ExecutionExplanation.DOING_GATE,
    Doing.PARK: pb.ExecutionExplanation.DOING_PARK,
    Doing.DUE: pb.ExecutionExplanation.DOING_DUE,
}
_CAUSES = {
    stuck.WAKE: pb.StuckExecution.CAUSE_WAKE,
    stuck.SEND_NOT_BEGUN: pb.StuckExecution.CAUSE_SEND_NOT_BEGUN,
    stuck.SEND_NOT_SETTLED: pb.StuckExecution.CAUSE_SEND_NOT_SETTLED,
    stuck.CANCEL: pb.StuckExecution.CAUSE_CANCEL,
}


def explanation_message(told: ExecutionExplanation) -> pb.ExecutionExplanation:
    return pb.ExecutionExplanation(
        execution=whole_message(told.whole),
        summary=told.summary,
        doing=_DOING[told.doing],
        step_kind=told.step_kind,
        awaits=[_awaited(topic) for topic in told.awaits],
        conditions=[_truth(truth) for truth in told.truths],
        expire_time=to_timestamp(told.expires_at) if told.expires_at else None,
        explain_time=to_timestamp(told.at),
    )


def stuck_message(late: Late) -> pb.StuckExecution:
    return pb.StuckExecution(
        execution=execution_message(late.seen), cause=_CAUSES[late.cause], due_time=to_timestamp(late.due_at)
    )


def _awaited(topic: str) -> pb.Awaited:
    if topic == ATTRIBUTES:
        return pb.Awaited(attributes=True)
    if topic == PREFERENCES:
        return pb.Awaited(preferences=True)
    if topic == GATES:
        return pb.Awaited(gates=True)
    if topic == ANY_EVENT:
        return pb.Awaited(event_name="*")
    return pb.Awaited(event_name=event_in(topic) or "", segment_id=segment_in(topic) or "")


def _truth(truth: Truth) -> pb.ConditionTruth:
    return pb.ConditionTruth(
        rule_id=truth.rule_id,
        arm_id=truth.arm_id,
        truth=truth.truth,
        event_name=truth.event_name,
        last_event_time=to_timestamp(truth.last_event_at) if truth.last_event_at else None,
        field_path=truth.field_path,
        explanation=decode_stored(Explanation, truth.explanation) if truth.explanation is not None else None,
        flip_time=to_timestamp(truth.flips_at) if truth.flips_at else None,
    )
