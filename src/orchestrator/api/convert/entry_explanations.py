"""Whether subjects would be let into journeys, as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_decode import decode_stored
from orchestrator.application import entry_explanations as told
from orchestrator.domain.entry import SegmentContract, TriggerContract
from orchestrator.storage.enrollments import Entered
from orchestrator.storage.held_entries import HeldEntry
from orchestrator.v1 import entry_explanation_pb2 as pb
from orchestrator.v1.explanation_pb2 import Explanation

_KINDS = {
    told.EVENT: pb.EntryWay.KIND_EVENT,
    told.SEGMENT: pb.EntryWay.KIND_SEGMENT,
    told.SCHEDULE: pb.EntryWay.KIND_SCHEDULE,
    told.ENROLL: pb.EntryWay.KIND_ENROLL,
}


def explanation_message(explanation: told.EntryExplanation) -> pb.EntryExplanation:
    return pb.EntryExplanation(
        journey_id=explanation.journey_id,
        version=explanation.version or 0,
        subject_id=explanation.subject_id,
        open=explanation.active,
        ways=[way_message(way) for way in explanation.ways],
        events=[_event(heard) for heard in explanation.events],
        earlier=[_earlier(entered) for entered in explanation.earlier],
        refused=explanation.refused,
        explain_time=to_timestamp(explanation.at),
        held_out_by=explanation.held_out_by or "",
        held=[_held(entry) for entry in explanation.held],
    )


def _held(entry: HeldEntry) -> pb.HeldEntry:
    return pb.HeldEntry(
        entry_kind=entry.entry_kind,
        entry_key=entry.entry_key,
        trigger_time=to_timestamp(entry.triggered_at),
        hold_time=to_timestamp(entry.held_at),
        look_time=to_timestamp(entry.look_at) if entry.look_at is not None else None,
    )


def way_message(way: told.Way) -> pb.EntryWay:
    contract = way.contract
    return pb.EntryWay(
        kind=_KINDS[way.kind],
        enters=way.refusal is None,
        refusal=way.refusal or "",
        gates=[_gate(gate) for gate in way.gates],
        trigger_contract_id=contract.trigger_contract_id if contract is not None else "",
        event_name=contract.event_name if isinstance(contract, TriggerContract) else "",
        segment_id=contract.segment_id if isinstance(contract, SegmentContract) else way.segment_id,
        transition=way.transition,
    )


def _gate(gate: told.Gate) -> pb.EntryGate:
    return pb.EntryGate(
        gate=gate.name,
        open=gate.refusal is None,
        refusal=gate.refusal or "",
        explanation=decode_stored(Explanation, gate.explanation) if gate.explanation is not None else None,
    )


def _event(heard: told.Heard) -> pb.EntryEvent:
    return pb.EntryEvent(
        event_id=heard.event.event_id,
        occur_time=to_timestamp(heard.event.occurred_at),
        receive_time=to_timestamp(heard.event.received_at),
        entry_key=heard.entry_key or "",
        enrollment_id=str(heard.enrollment.enrollment_id) if heard.enrollment is not None else "",
        refusal=heard.refusal or "",
        explanation=decode_stored(Explanation, heard.explanation) if heard.explanation is not None else None,
    )


def _earlier(entered: Entered) -> pb.EarlierEntry:
    return pb.EarlierEntry(
        enrollment_id=str(entered.enrollment_id),
        version=entered.version,
        entry_kind=entered.entry_kind,
        entry_key=entered.entry_key,
        trigger_time=to_timestamp(entered.triggered_at),
        enroll_time=to_timestamp(entered.enrolled_at),
        held_out_by=entered.held_out_by or "",
        outcome=entered.outcome or "",
    )
