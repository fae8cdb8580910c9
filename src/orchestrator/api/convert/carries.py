"""The carrying over of executions as messages."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.convert.violations import violations
from orchestrator.application.carry_previews import Place, Preview
from orchestrator.application.carrying import Progress
from orchestrator.application.publishing import Confirmed
from orchestrator.domain.carrying import CarryMode, Stays
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import carry_pb2 as pb
from orchestrator.v1 import journey_service_pb2 as rpc

_MODES = {
    CarryMode.COMPATIBLE: pb.CarryMode.CARRY_MODE_COMPATIBLE,
    CarryMode.MAPPED: pb.CarryMode.CARRY_MODE_MAPPED,
}
_MODES_MEANT = {number: mode for mode, number in _MODES.items()}

_STAYS = {
    Stays.STEP_GONE: pb.StayReason.STAY_REASON_STEP_GONE,
    Stays.KIND_CHANGED: pb.StayReason.STAY_REASON_KIND_CHANGED,
    Stays.WAIT_CHANGED: pb.StayReason.STAY_REASON_WAIT_CHANGED,
}


def mode_of(request: rpc.PreviewCarryRequest) -> CarryMode:
    """Raises InvalidArgument where nobody would go over."""
    mode = _MODES_MEANT.get(request.carry)
    if mode is None:
        message = "previews are of executions that go over: compatible or mapped"
        raise InvalidArgument.of("carry", "INVALID_VALUE", message)
    return mode


def pairs_of(mapping: Iterable[pb.StepMapping]) -> tuple[tuple[str, str], ...]:
    return tuple((step.from_step_id, step.to_step_id) for step in mapping)


def confirmed(request: rpc.PublishJourneyRequest) -> Confirmed | None:
    """Who is to go over; None: nobody. Raises InvalidArgument where nobody is, and something is said of it."""
    mode = _MODES_MEANT.get(request.carry)
    if mode is not None:
        return Confirmed(mode=mode, pairs=pairs_of(request.step_mapping), token=request.token)
    given = {"stepMapping": bool(request.step_mapping), "token": bool(request.token)}
    message = "says something only where executions are carried over"
    faults = [Fault(path=path, reason="INVALID_VALUE", message=message) for path, there in given.items() if there]
    if faults:
        raise InvalidArgument(faults)
    return None


def carry_message(progress: Progress) -> pb.Carry:
    carry = progress.carry
    return pb.Carry(
        journey_id=carry.journey_id,
        version=carry.version,
        mode=_MODES[carry.order.mode],
        step_mapping=[
            pb.StepMapping(from_step_id=old, to_step_id=new) for old, new in sorted(carry.order.mapping.items())
        ],
        matched_count=carry.matched,
        carried_count=carry.told,
        pending_count=progress.pending,
        stayed=carry.stayed,
        request_time=to_timestamp(carry.requested_at),
        end_time=to_timestamp(carry.ended_at) if carry.ended_at else None,
    )


def preview_message(preview: Preview) -> rpc.PreviewCarryResponse:
    return rpc.PreviewCarryResponse(
        version=preview.version,
        places=[_place(place) for place in preview.places],
        carried_count=preview.carried,
        staying_count=preview.staying,
        warnings=violations(preview.warnings),
        token=preview.token,
        expire_time=to_timestamp(preview.expires_at),
    )


def _place(place: Place) -> pb.CarryPlace:
    crowd, fate = place.crowd, place.fate
    message = pb.CarryPlace(
        version=crowd.version,
        step_id=crowd.step_id,
        step_kind=place.step_kind,
        count=crowd.count,
        over_at_once_count=place.over_at_once,
        expired_at_once_count=place.expired_at_once,
    )
    if isinstance(fate, Stays):
        message.stays = _STAYS[fate]
    else:
        message.to_step_id, message.arrives_anew = fate.step_id, fate.anew
    return message
