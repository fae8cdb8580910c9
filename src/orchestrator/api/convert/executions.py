"""Executions as messages."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from orchestrator.api.convert.categories import category_number
from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.page_tokens import page_start, page_token
from orchestrator.application.executions import Seen, Whole
from orchestrator.domain.execution import Outcome, Result
from orchestrator.domain.execution_status import Status
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.storage.executions_read import Called, Passed, Sent
from orchestrator.v1 import execution_pb2 as pb
from orchestrator.v1.execution_service_pb2 import ListExecutionsRequest

_STATUSES = {
    Status.RUNNING: pb.Execution.STATUS_RUNNING,
    Status.SUCCEEDED: pb.Execution.STATUS_SUCCEEDED,
    Status.FAILED: pb.Execution.STATUS_FAILED,
    Status.TIMED_OUT: pb.Execution.STATUS_TIMED_OUT,
    Status.ABORTED: pb.Execution.STATUS_ABORTED,
}
OUTCOMES = {
    None: pb.Execution.OUTCOME_UNSPECIFIED,
    Outcome.COMPLETED: pb.Execution.OUTCOME_COMPLETED,
    Outcome.EXITED: pb.Execution.OUTCOME_EXITED,
    Outcome.GOAL_REACHED: pb.Execution.OUTCOME_GOAL_REACHED,
    Outcome.EXPIRED: pb.Execution.OUTCOME_EXPIRED,
    Outcome.CANCELED: pb.Execution.OUTCOME_CANCELED,
    Outcome.FAILED: pb.Execution.OUTCOME_FAILED,
    Outcome.FORGOTTEN: pb.Execution.OUTCOME_FORGOTTEN,
}
RESULTS = {
    Result.EXECUTED: pb.Visit.RESULT_EXECUTED,
    Result.SKIPPED: pb.Visit.RESULT_SKIPPED,
    Result.FAILED: pb.Visit.RESULT_FAILED,
}
_STATES = {
    "dispatching": pb.Send.STATE_DISPATCHING,
    "sent": pb.Send.STATE_SENT,
    "failed": pb.Send.STATE_FAILED,
    "unknown": pb.Send.STATE_UNKNOWN,
}
_CALL_STATES = {
    "calling": pb.WebhookCall.STATE_CALLING,
    "answered": pb.WebhookCall.STATE_ANSWERED,
    "failed": pb.WebhookCall.STATE_FAILED,
}


def execution_message(seen: Seen) -> pb.Execution:
    """Without visits, sends and calls."""
    execution = seen.execution
    return pb.Execution(
        id=str(execution.execution_id),
        workflow_id=execution.workflow_id,
        subject_id=execution.subject_id,
        journey_id=execution.journey_id,
        version=execution.version,
        status=_STATUSES[seen.status],
        status_source=pb.Execution.STATUS_SOURCE_TEMPORAL if seen.live else pb.Execution.STATUS_SOURCE_LEDGER,
        outcome=OUTCOMES[execution.outcome],
        reason=execution.reason or "",
        current_step_id=execution.step_id,
        step_time=to_timestamp(execution.since),
        wake_time=to_timestamp(execution.wakes_at) if execution.wakes_at else None,
        parked=execution.parked or "",
        start_time=to_timestamp(execution.started_at),
        end_time=to_timestamp(execution.ended_at) if execution.ended_at else None,
        canceling=execution.canceling or "",
        entry_version=execution.entry_version,
        carry_version=execution.carry_version,
    )


def whole_message(whole: Whole) -> pb.Execution:
    message = execution_message(whole.seen)
    message.visits.extend(_visit(visit) for visit in whole.visits)
    message.sends.extend(_send(send) for send in whole.sends)
    message.webhook_calls.extend(_call(call) for call in whole.calls)
    return message


def place_of(request: ListExecutionsRequest) -> tuple[datetime, UUID] | None:
    """Where the page before ended; None for the first. Raises InvalidArgument PAGE_TOKEN_INVALID."""
    start = page_start(request, datetime, str)
    if start is None:
        return None
    try:
        return start[0], UUID(start[1])
    except ValueError:
        message = "not a token that this list gave: start from the first page"
        raise InvalidArgument.of("pageToken", "PAGE_TOKEN_INVALID", message) from None


def token_after(request: ListExecutionsRequest, end: tuple[datetime, UUID] | None) -> str:
    """The token of the page after the one that ended there; empty after the last."""
    return page_token(request, end[0], str(end[1])) if end else ""


def _visit(visit: Passed) -> pb.Visit:
    return pb.Visit(
        seq=visit.seq,
        step_id=visit.step_id,
        step_kind=visit.step_kind,
        result=RESULTS[visit.result],
        reason=visit.reason or "",
        enter_time=to_timestamp(visit.entered_at),
        leave_time=to_timestamp(visit.left_at),
        version=visit.version,
    )


def _call(call: Called) -> pb.WebhookCall:
    return pb.WebhookCall(
        seq=call.seq,
        step_id=call.step_id,
        state=_CALL_STATES[call.state],
        attempt=call.attempt,
        status=call.status,
        reason=call.reason or "",
        has_answer=call.has_answer,
        reserve_time=to_timestamp(call.reserved_at),
        settle_time=to_timestamp(call.settled_at) if call.settled_at else None,
    )


def _send(send: Sent) -> pb.Send:
    return pb.Send(
        seq=send.seq,
        step_id=send.step_id,
        communication_id=send.communication_id,
        content_revision=send.content_revision,
        channel=send.channel,
        category=category_number(send.category),
        state=_STATES[send.state],
        attempt=send.attempt,
        reason=send.reason or "",
        provider_id=send.provider_id or "",
        reserve_time=to_timestamp(send.reserved_at),
        settle_time=to_timestamp(send.settled_at) if send.settled_at else None,
        deliver_time=to_timestamp(send.delivered_at) if send.delivered_at else None,
        soft_bounce_time=to_timestamp(send.soft_bounced_at) if send.soft_bounced_at else None,
        bounce_time=to_timestamp(send.bounced_at) if send.bounced_at else None,
        complain_time=to_timestamp(send.complained_at) if send.complained_at else None,
        open_time=to_timestamp(send.opened_at) if send.opened_at else None,
        click_time=to_timestamp(send.clicked_at) if send.clicked_at else None,
    )
