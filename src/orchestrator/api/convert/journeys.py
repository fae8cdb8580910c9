"""Journeys and what belongs to them as messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from orchestrator.api.convert.categories import category_number
from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.json_decode import decode_stored
from orchestrator.api.json_encode import encode
from orchestrator.application.journeys import Changes, View
from orchestrator.application.publishing import Again, Pins
from orchestrator.application.stats import Funnel
from orchestrator.domain.etag import etag_of
from orchestrator.domain.graph_form import is_graph, with_graph, with_steps
from orchestrator.domain.journey import Journey, JourneyStatus, OnArchive, Pinned
from orchestrator.domain.journey_form import kept
from orchestrator.storage.journey_versions import Published
from orchestrator.storage.journeys import Refused
from orchestrator.storage.stats import StepCounts
from orchestrator.v1 import journey_pb2 as pb
from orchestrator.v1 import journey_service_pb2 as rpc
from orchestrator.v1 import journey_stats_pb2 as stats_pb

STATUSES = {
    JourneyStatus.DRAFT: pb.Journey.STATUS_DRAFT,
    JourneyStatus.ACTIVE: pb.Journey.STATUS_ACTIVE,
    JourneyStatus.PAUSED: pb.Journey.STATUS_PAUSED,
    JourneyStatus.ARCHIVED: pb.Journey.STATUS_ARCHIVED,
}
_STATUSES_MEANT = {number: status for status, number in STATUSES.items()}

_ON_ARCHIVE = {
    None: pb.OnArchive.ON_ARCHIVE_UNSPECIFIED,
    OnArchive.FINISH: pb.OnArchive.ON_ARCHIVE_FINISH,
    OnArchive.END: pb.OnArchive.ON_ARCHIVE_END,
}


_AS_WRITTEN = pb.DefinitionForm.DEFINITION_FORM_UNSPECIFIED

#: The fields of a definition: as paths of updates name them, and as its document does.
_MEMBERS = {field.name: field.json_name for field in descriptor_of(pb.JourneyDefinition).fields}


def journey_message(
    journey: Journey, refused: Sequence[Refused] = (), form: pb.DefinitionForm.ValueType = _AS_WRITTEN
) -> pb.Journey:
    """`definition` is absent where the journey comes without one, in lists."""
    return pb.Journey(
        id=journey.journey_id,
        name=journey.name,
        description=journey.description,
        status=STATUSES[journey.status],
        latest_version=journey.latest_version,
        has_draft=journey.has_draft,
        definition=definition_message(journey.definition, form),
        goal=goal_message(journey.goal.event_name, journey.goal.window),
        on_archive=_ON_ARCHIVE[journey.on_archive],
        entry_problems=[
            pb.EntryProblem(
                reason=problem.reason,
                refused_count=problem.total,
                last_refuse_time=None if problem.last_hour is None else to_timestamp(problem.last_hour),
            )
            for problem in refused
        ],
        create_time=to_timestamp(journey.created_at),
        update_time=to_timestamp(journey.updated_at),
        etag=etag_of(journey.revision, journey.updated_at),
    )


def seen_message(seen: View, form: pb.DefinitionForm.ValueType) -> pb.Journey:
    """A journey as it is looked at by itself."""
    message = journey_message(seen.journey, seen.problems, form)
    if seen.held:
        message.held_entrants = seen.held
    message.enrolls_next.extend(pb.ScheduledTime(due_time=to_timestamp(at)) for at in seen.enrolls_next)
    return message


def version_message(version: Published, form: pb.DefinitionForm.ValueType = _AS_WRITTEN) -> pb.JourneyVersion:
    """`definition` is absent where the version comes without one, in lists."""
    return pb.JourneyVersion(
        journey_id=version.journey_id,
        version=version.version,
        definition=definition_message(version.definition, form),
        communications={communication_id: _pin(pinned) for communication_id, pinned in version.pinned.items()},
        publish_time=to_timestamp(version.published_at),
        publisher=version.published_by,
    )


def definition_in(message: pb.JourneyDefinition, form: pb.DefinitionForm.ValueType) -> pb.JourneyDefinition:
    """The same definition in this form; it is one that is stored."""
    shown = definition_message(whole_definition(message), form)
    return shown if shown is not None else message


def statuses_of(status: pb.Journey.Status.ValueType) -> tuple[JourneyStatus, ...]:
    """The statuses a list is limited to; none: it is not."""
    return (_STATUSES_MEANT[status],) if status in _STATUSES_MEANT else ()


def status_of(status: pb.Journey.Status.ValueType) -> JourneyStatus | None:
    """The status that is asked for; None: none is."""
    return _STATUSES_MEANT.get(status)


def on_archive_of(number: pb.OnArchive.ValueType) -> OnArchive:
    return OnArchive.END if number == pb.OnArchive.ON_ARCHIVE_END else OnArchive.FINISH


def new_definition(message: pb.JourneyDefinition) -> dict[str, Any]:
    """The document of a new journey's definition: without steps where none were sent, so that it gets its first one."""
    document = _document(message)
    if not document.get("steps"):
        document.pop("steps", None)
    return kept(document)


def whole_definition(message: pb.JourneyDefinition) -> dict[str, Any]:
    """A definition as it is kept."""
    return kept(_document(message))


def goal_window_of(message: pb.Goal) -> timedelta | None:
    return message.window.ToTimedelta() if message.HasField("window") else None


def changes_of(message: pb.Journey, paths: Iterable[str]) -> Changes:
    """What an update of these paths sets. What is not in the message is emptied."""
    named = set(paths)
    goal_event = "goal" in named or "goal.event_name" in named
    goal_window = goal_window_of(message.goal) if named & {"goal", "goal.window"} else None
    document = _document(message.definition)
    return Changes(
        name=message.name if "name" in named else None,
        description=message.description if "description" in named else None,
        goal_event=message.goal.event_name if goal_event else None,
        goal_window=goal_window,
        project_goal_window=bool(named & {"goal", "goal.window"}) and goal_window is None,
        definition={
            member: document.get(member)
            for field, member in _MEMBERS.items()
            if named & {"definition", f"definition.{field}"}
        },
    )


def again_of(request: rpc.PublishJourneyRequest | rpc.PreviewCarryRequest) -> Again | None:
    """The earlier version that is to be made anew; None: it is the draft."""
    if not request.HasField("from_version"):
        return None
    pins = Pins.NEWEST if request.pins == rpc.PublishJourneyRequest.PINS_NEWEST else Pins.KEPT
    return Again(number=request.from_version, pins=pins)


def step_messages(counts: Iterable[StepCounts]) -> list[stats_pb.StepStats]:
    return [
        stats_pb.StepStats(
            step_id=step.step_id,
            step_kind=step.step_kind,
            executed=step.executed,
            skipped=step.skipped,
            failed=step.failed,
            active=step.active,
        )
        for step in counts
    ]


def funnel_message(funnel: Funnel) -> stats_pb.JourneyFunnel:
    return stats_pb.JourneyFunnel(
        journey_id=funnel.journey_id,
        enrolled=funnel.enrolled,
        held_out=funnel.held_out,
        active=funnel.active,
        completed=funnel.by_outcome,
        completion_rate=funnel.completion_rate,
        refused=funnel.refused,
        steps=step_messages(funnel.steps),
        versions=[
            stats_pb.VersionStats(
                entry_version=travelled.entry_version,
                version=travelled.version,
                active=travelled.active,
                completed=travelled.by_outcome,
            )
            for travelled in funnel.versions
        ],
    )


def definition_message(
    document: Mapping[str, Any], form: pb.DefinitionForm.ValueType = _AS_WRITTEN
) -> pb.JourneyDefinition | None:
    """A definition as it is kept; None of an empty one."""
    if not document:
        return None
    as_graph = is_graph(document) if form == _AS_WRITTEN else form == pb.DEFINITION_FORM_GRAPH
    return decode_stored(pb.JourneyDefinition, with_graph(document) if as_graph else with_steps(document))


def _document(message: pb.JourneyDefinition) -> dict[str, Any]:
    document: dict[str, Any] = encode(message)
    return document


def goal_message(event_name: str | None, window: timedelta) -> pb.Goal:
    return pb.Goal(event_name=event_name or "", window=to_duration(window))


def _pin(pinned: Pinned) -> pb.PinnedCommunication:
    return pb.PinnedCommunication(
        content_revision=pinned.content_revision,
        channel=pinned.channel,
        category=category_number(pinned.category),
    )
