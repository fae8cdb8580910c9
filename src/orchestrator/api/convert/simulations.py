"""Simulations as messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct

from orchestrator.api.convert.categories import category_number
from orchestrator.api.convert.entry_explanations import way_message
from orchestrator.api.convert.execution_explanations import truth_message
from orchestrator.api.convert.executions import OUTCOMES, RESULTS
from orchestrator.api.convert.times import from_timestamp, to_timestamp
from orchestrator.api.json_values import struct_of, struct_to_json
from orchestrator.application.simulation_questions import Override, Question, Supposed
from orchestrator.application.simulation_traces import Cut, Passed, Slept, Stop
from orchestrator.application.simulation_work import Call, Change, Choice, Deed, Emission, Message
from orchestrator.application.simulations import Simulated, Simulation
from orchestrator.domain import reachable
from orchestrator.domain.execution import Why
from orchestrator.v1 import journey_service_pb2 as rpc
from orchestrator.v1 import simulation_pb2 as pb
from orchestrator.v1.execution_pb2 import Visit
from orchestrator.v1.journey_pb2 import WebhookStep

_OVERRIDES = {
    Override.OPT_OUT: pb.SIMULATION_OVERRIDE_OPT_OUT,
    Override.SUPPRESSION: pb.SIMULATION_OVERRIDE_SUPPRESSION,
    Override.FREQUENCY_CAP: pb.SIMULATION_OVERRIDE_FREQUENCY_CAP,
    Override.HOLDOUT: pb.SIMULATION_OVERRIDE_HOLDOUT,
}
_OVERRIDDEN = {number: override for override, number in _OVERRIDES.items()}
_STOPS = {
    Stop.ENDED: pb.Simulation.STOP_ENDED,
    Stop.NOT_ENTERED: pb.Simulation.STOP_NOT_ENTERED,
    Stop.HELD_OUT: pb.Simulation.STOP_HELD_OUT,
    Stop.WAITS: pb.Simulation.STOP_WAITS,
    Stop.LOOKS: pb.Simulation.STOP_LOOKS,
    Stop.SECONDS: pb.Simulation.STOP_SECONDS,
}
_CUTS = {Cut.TEXTS: pb.Simulation.CUT_TEXTS, Cut.EVIDENCE: pb.Simulation.CUT_EVIDENCE}
_METHODS = {
    "get": WebhookStep.METHOD_GET,
    "post": WebhookStep.METHOD_POST,
    "put": WebhookStep.METHOD_PUT,
    "patch": WebhookStep.METHOD_PATCH,
    "delete": WebhookStep.METHOD_DELETE,
}
_WHYS = {
    Why.WAIT: pb.SimulatedSleep.WHY_WAIT,
    Why.WAIT_FOR: pb.SimulatedSleep.WHY_WAIT_FOR,
    Why.GATE: pb.SimulatedSleep.WHY_GATE,
    Why.PARK: pb.SimulatedSleep.WHY_PARK,
}


def question_of(request: rpc.SimulateJourneyRequest) -> Question:
    has_attributes, has_entry = request.HasField("subject_attributes"), request.HasField("entry")
    return Question(
        journey_id=request.journey_id,
        subject_id=request.subject_id,
        attributes=struct_to_json(request.subject_attributes) if has_attributes else None,
        time_zone=request.time_zone,
        overrides=frozenset(_OVERRIDDEN[number] for number in request.overrides),
        entry=struct_to_json(request.entry) if has_entry else None,
        supposed=tuple(_supposed(request)),
        answers=struct_to_json(request.answers),
        starts_at=from_timestamp(request.start_time) if request.HasField("start_time") else None,
        enters_anyway=request.enter_anyway,
        all_paths=request.all_paths,
    )


def response_message(simulated: Simulated) -> rpc.SimulateJourneyResponse:
    simulation, paths = simulated.simulation, simulated.paths
    return rpc.SimulateJourneyResponse(
        journey_id=simulated.journey_id,
        version=simulated.version or 0,
        simulation=_simulation(simulation) if simulation is not None else None,
        paths=_paths(paths) if paths is not None else None,
    )


def _supposed(request: rpc.SimulateJourneyRequest) -> Iterator[Supposed]:
    for index, event in enumerate(request.events):
        yield Supposed(
            name=event.name,
            document=struct_to_json(event.properties),
            at=from_timestamp(event.at) if event.HasField("at") else None,
            after=event.after.ToTimedelta() if event.HasField("after") else None,
            path=f"events[{index}]",
        )
    for index, change in enumerate(request.changes):
        yield Supposed(
            name=None,
            document=struct_to_json(change.attributes),
            at=from_timestamp(change.at) if change.HasField("at") else None,
            after=change.after.ToTimedelta() if change.HasField("after") else None,
            path=f"changes[{index}]",
        )


def _simulation(simulation: Simulation) -> pb.Simulation:
    trace = simulation.trace
    return pb.Simulation(
        subject_id=simulation.subject_id,
        entry=way_message(simulation.way),
        held_out_by=simulation.held_out_by or "",
        overrides=sorted(_OVERRIDES[override] for override in simulation.overrides),
        start_time=to_timestamp(simulation.started_at),
        steps=[_step(step) for step in trace.steps],
        stop=_STOPS[trace.stop],
        stop_time=to_timestamp(trace.at),
        outcome=OUTCOMES[trace.outcome],
        reason=trace.reason,
        left_for=truth_message(trace.left_for) if trace.left_for is not None else None,
        cuts=sorted(_CUTS[cut] for cut in trace.cuts),
    )


def _step(step: Passed) -> pb.SimulatedStep:
    return pb.SimulatedStep(
        step_id=step.step_id,
        step_kind=step.step_kind,
        enter_time=to_timestamp(step.entered_at),
        leave_time=to_timestamp(step.left_at) if step.left_at is not None else None,
        result=RESULTS[step.result] if step.result is not None else Visit.RESULT_UNSPECIFIED,
        reason=step.reason or "",
        sleeps=[_sleep(slept) for slept in step.sleeps],
        conditions=[truth_message(truth) for truth in step.conditions],
        share=step.share,
        **_carried_out(step.carried_out),
    )


def _carried_out(carried_out: Deed | None) -> dict[str, Any]:
    """The member of a step that says what it does."""
    match carried_out:
        case None:
            return {}
        case Message() as message:
            return {"message": _message(message)}
        case Change(attributes=attributes):
            return {"change": pb.SimulatedChange(attributes=_struct(attributes))}
        case Emission(event_name=name, properties=properties):
            return {"event": pb.SimulatedEvent(event_name=name, properties=_struct(properties))}
        case Choice() as choice:
            return {
                "choice": pb.SimulatedChoice(
                    policy_version=choice.policy_version or 0, reason=choice.reason, held=choice.share is None
                )
            }
        case Call() as call:
            return {
                "call": pb.SimulatedCall(
                    method=_METHODS[call.method], url=call.url, body=_struct(call.body), answered=call.is_answered
                )
            }


def _struct(document: Mapping[str, Any] | None) -> Struct | None:
    return struct_of(document) if document is not None else None


def _sleep(slept: Slept) -> pb.SimulatedSleep:
    return pb.SimulatedSleep(
        why=_WHYS[slept.why],
        parked=slept.parked or "",
        start_time=to_timestamp(slept.since),
        end_time=to_timestamp(slept.until),
    )


def _message(message: Message) -> pb.SimulatedMessage:
    shown = message.shown
    return pb.SimulatedMessage(
        communication_id=message.communication_id,
        content_revision=message.content_revision,
        channel=message.channel,
        category=category_number(message.category),
        subject=shown.subject if shown is not None else "",
        body=shown.body if shown is not None else "",
        settings=struct_of(shown.settings) if shown is not None else None,
        failure=message.failed or "",
    )


def _paths(found: reachable.Reachable) -> pb.JourneyPaths:
    return pb.JourneyPaths(
        nodes=[
            pb.PathNode(step_id=node.step_id, step_kind=node.step_kind, ways=[_way(way) for way in node.ways])
            for node in found.nodes
        ],
        outcomes=[
            pb.PathOutcome(
                outcome=OUTCOMES[reached.outcome],
                reason=reached.reason,
                path=[pb.PathStep(step_id=passed.step_id, reason=passed.reason or "") for passed in reached.path],
                paths=reached.paths,
            )
            for reached in found.outcomes
        ],
    )


def _way(way: reachable.Way) -> pb.PathWay:
    return pb.PathWay(
        result=RESULTS[way.result],
        reason=way.reason or "",
        share=way.share,
        next=way.next or "",
        outcome=OUTCOMES[way.outcome],
        outcome_reason=way.outcome_reason,
    )
