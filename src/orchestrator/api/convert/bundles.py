"""Bundles as messages."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api.convert.audiences import audience_content, authored_audience
from orchestrator.api.convert.categories import category_number
from orchestrator.api.convert.communications import authored_communication, communication_content, given_content
from orchestrator.api.convert.journeys import (
    STATUSES,
    definition_message,
    goal_message,
    goal_window_of,
    status_of,
    whole_definition,
)
from orchestrator.api.convert.projects import project_settings, settings_message
from orchestrator.api.convert.segments import authored_segment, segment_content
from orchestrator.api.convert.trigger_contracts import authored_contract, contract_content
from orchestrator.api.convert.violations import violations
from orchestrator.api.expected import expected
from orchestrator.api.json_values import struct_of
from orchestrator.application.bundle_exports import LeftOut
from orchestrator.domain.bundle import Action, Bundle, Bundled, BundledJourney, Change, PinnedText
from orchestrator.domain.communication import content_of
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.resource import member_of
from orchestrator.domain.segment import Segment
from orchestrator.v1 import bundle_pb2 as pb
from orchestrator.v1 import communication_pb2, segment_pb2

_ACTIONS = {
    Action.UNCHANGED: pb.BundleChange.ACTION_UNCHANGED,
    Action.CREATED: pb.BundleChange.ACTION_CREATED,
    Action.UPDATED: pb.BundleChange.ACTION_UPDATED,
}


def bundle_of(message: pb.Bundle) -> Bundle:
    return Bundle(
        format_version=message.format_version,
        settings=project_settings(message.settings) if message.HasField("settings") else None,
        segments=[Bundled(id=m.id, content=segment_content(m), expected=expected(m)) for m in message.segments],
        audiences=[Bundled(id=m.id, content=audience_content(m), expected=expected(m)) for m in message.audiences],
        communications=[
            Bundled(id=m.id, content=communication_content(m), expected=expected(m)) for m in message.communications
        ],
        trigger_contracts=[
            Bundled(id=m.id, content=contract_content(m), expected=expected(m)) for m in message.trigger_contracts
        ],
        journeys=[_journey(m) for m in message.journeys],
    )


def bundle_message(bundle: Bundle) -> pb.Bundle:
    return pb.Bundle(
        format_version=bundle.format_version,
        settings=settings_message(bundle.settings) if bundle.settings is not None else None,
        segments=[_segment_message(one) for one in bundle.segments],
        audiences=[authored_audience(one.id, one.content) for one in bundle.audiences],
        communications=[authored_communication(one.id, one.content) for one in bundle.communications],
        trigger_contracts=[authored_contract(one.id, one.content) for one in bundle.trigger_contracts],
        journeys=[_journey_message(one) for one in bundle.journeys],
    )


def left_out_messages(left_out: Iterable[LeftOut]) -> list[pb.LeftOut]:
    return [pb.LeftOut(kind=one.kind, id=one.id, message=one.message) for one in left_out]


def change_messages(changes: Iterable[Change]) -> list[pb.BundleChange]:
    return [
        pb.BundleChange(
            kind=change.kind,
            id=change.id,
            action=_ACTIONS[change.action],
            fields=[member_of(change.kind, name) for name in change.fields],
            version=change.version,
            warnings=violations(change.warnings),
        )
        for change in changes
    ]


def _journey(message: pb.BundledJourney) -> BundledJourney:
    has_goal = message.HasField("goal")
    return BundledJourney(
        id=message.id,
        name=message.name,
        description=message.description,
        status=status_of(message.status) or JourneyStatus.DRAFT,
        definition=whole_definition(message.definition) if message.HasField("definition") else {},
        goal_event=message.goal.event_name if has_goal else None,
        goal_window=goal_window_of(message.goal) if has_goal else None,
        draft=whole_definition(message.draft) if message.HasField("draft") else None,
        pinned_texts=tuple(
            PinnedText(communication_id=text.communication_id, content=content_of(given_content(text.content)))
            for text in message.pinned_texts
        ),
        expected=expected(message),
    )


def _segment_message(segment: Bundled[Segment]) -> segment_pb2.Segment:
    message = authored_segment(segment.id, segment.content)
    message.ClearField("kind")  # there are rules or there are none
    return message


def _journey_message(journey: BundledJourney) -> pb.BundledJourney:
    assert journey.goal_window is not None, "every journey that is there has a window"
    return pb.BundledJourney(
        id=journey.id,
        name=journey.name,
        description=journey.description,
        status=STATUSES[journey.status],
        definition=definition_message(journey.definition),
        goal=goal_message(journey.goal_event, journey.goal_window),
        draft=definition_message(journey.draft) if journey.draft is not None else None,
        pinned_texts=[_pinned_text(text) for text in journey.pinned_texts],
    )


def _pinned_text(text: PinnedText) -> pb.PinnedText:
    content = text.content
    return pb.PinnedText(
        communication_id=text.communication_id,
        content=communication_pb2.CommunicationContent(
            channel=content["channel"],
            category=category_number(content["category"]),
            subject=content["subject"],
            body=content["body"],
            settings=struct_of(content["settings"]),
        ),
    )
