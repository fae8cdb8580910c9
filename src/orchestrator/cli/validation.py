"""What stands against publishing the journeys of documents, with all that the documents would make of the project.

A server examines journeys that it has; these it may not have yet, nor what they name. So they are examined here, with
the same rules, against what it has and what is to come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from orchestrator.api.convert.categories import category_word
from orchestrator.api.json_encode import encode
from orchestrator.cli.changes import Change, Prospect, find_changes, refusals
from orchestrator.cli.documents import Document, Documents, Finding
from orchestrator.cli.kinds import AUDIENCE, COMMUNICATION, JOURNEY, SEGMENT, TRIGGER_CONTRACT, Kind
from orchestrator.cli.names import names_in
from orchestrator.client import OrchestratorClient, messages
from orchestrator.domain import journey_graph
from orchestrator.domain.communication import MARKETING
from orchestrator.domain.graph_form import as_written
from orchestrator.domain.journey import Definition, Pinned
from orchestrator.domain.journey_form import kept as keep
from orchestrator.domain.journey_form import parse as parse_definition
from orchestrator.domain.journey_graph import Existing
from orchestrator.predicates.cohorts import CohortCycle, Cohorts, TooManyCohorts, TooManyLeaves
from orchestrator.predicates.facts import needs
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.parse import parse as parse_predicate
from orchestrator.predicates.tree import Everyone, Predicate


@dataclass(slots=True, kw_only=True)
class Findings:
    """`faults` stand against `apply`, `warnings` do not."""

    faults: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)


async def examine(client: OrchestratorClient, documents: Documents) -> Findings:
    """Everything that is wrong or odd, with whatever document. Changes nothing."""
    changes = await find_changes(client, documents.sound)
    findings = Findings(faults=[*documents.faults, *await refusals(client, changes, documents.unsound)])
    prospect = Prospect(client, changes, documents.unsound)
    retention = await _event_retention(client)
    for change in changes:
        if change.document.kind is JOURNEY:
            await _examine_journey(prospect, change, retention, findings)
    return findings


async def _examine_journey(prospect: Prospect, change: Change, retention: timedelta | None, findings: Findings) -> None:
    journey = change.after
    if journey.status == messages.Journey.STATUS_ARCHIVED:  # never published again
        return
    written = encode(journey.definition)
    definition, _ = parse_definition(written)
    if definition is None:  # which the server has said, as it would not keep it
        return
    found = journey_graph.examine(definition, await _existing(prospect, definition, journey, retention))
    kept = keep(written)
    faults, warnings = (as_written(kept, list(some)) for some in (found.faults, found.warnings))
    told = {(f.fault.path, f.fault.reason) for f in findings.faults if f.document is change.document}
    document = change.document
    findings.faults += _about(document, (fault for fault in faults if (fault.path, fault.reason) not in told))
    findings.warnings += _about(document, warnings)


def _about(document: Document, faults: Iterable[Fault]) -> list[Finding]:
    return [Finding(place=document.place, document=document, fault=fault) for fault in faults]


async def _existing(prospect: Prospect, definition: Definition, journey: Any, retention: timedelta | None) -> Existing:
    """Of what a definition names, that which there will be."""
    communications = await _found(prospect, COMMUNICATION, journey_graph.communications_in(definition))
    audiences = await _found(prospect, AUDIENCE, {definition.audience_id} - {None})
    contracts = await _found(prospect, TRIGGER_CONTRACT, {definition.trigger_contract_id} - {None})
    asked = needs(journey_graph.predicates_in(definition)).cohorts
    heard = {name for contract in contracts.values() for name in names_in(contract)[SEGMENT]}
    named = {name for audience in audiences.values() for name in names_in(audience)[SEGMENT]}
    own = definition.entry_condition.contract if definition.entry_condition is not None else None
    named |= journey_graph.segments_in(definition)
    return Existing(
        communications={
            communication_id: Pinned(
                content_revision=communication.content_revision,
                channel=communication.channel,
                category=category_word(communication.category, unspecified=MARKETING),
            )
            for communication_id, communication in communications.items()
        },
        audiences={audience_id: _predicate(audience.predicate) for audience_id, audience in audiences.items()},
        trigger_contracts=contracts.keys(),
        cohorts=(await _found(prospect, SEGMENT, asked | heard | named)).keys(),
        heard_cohorts=heard,
        has_goal=bool(journey.goal.event_name),
        contract_asks=any(c.segment_id and c.HasField("predicate") for c in contracts.values()),
        has_entry_keys=any(not c.segment_id for c in contracts.values()) or (own is not None and not own.segment_id),
        event_retention=retention,
        sizes=await _sizes(prospect, asked),
    )


async def _found(prospect: Prospect, kind: Kind, ids: Iterable[str | None]) -> dict[str, Any]:
    found = {one: await prospect.find(kind, one) for one in sorted(filter(None, ids))}
    return {one: resource for one, resource in found.items() if resource is not None}


async def _sizes(prospect: Prospect, asked: Iterable[str]) -> dict[str, int]:
    """How many leaves the rules of these segments will have, with those of their cohorts put in."""
    segments: dict[str, Any] = {}
    pending = set(asked)
    while pending:
        fresh = await _found(prospect, SEGMENT, pending - segments.keys())
        segments |= fresh
        pending = {name for segment in fresh.values() for name in names_in(segment)[SEGMENT]} - segments.keys()
    cohorts = Cohorts({name: _predicate(s.rules) for name, s in segments.items() if s.HasField("rules")})
    sizes: dict[str, int] = {}
    for name in cohorts.ids & set(asked):
        try:
            sizes[name] = cohorts.size_of(name)
        except (CohortCycle, TooManyCohorts, TooManyLeaves):  # a fault of the segment
            continue
    return sizes


def _predicate(message: Any) -> Predicate:
    """What stands in an unsound document, or is missing there, asks for nothing."""
    predicate = parse_predicate(encode(message))[0] if message.WhichOneof("node") else None
    return Everyone() if predicate is None else predicate


async def _event_retention(client: OrchestratorClient) -> timedelta | None:
    """How long the project keeps events; None: for ever."""
    # A key does not say of which project it is. Whatever would be made with it does.
    anybody = messages.Audience(name="Anybody", predicate=messages.Predicate(everyone=messages.Everyone()))
    made = await AUDIENCE.create(client, anybody, validate_only=True)
    request = messages.GetProjectRequest(project_id=made.project_id)
    settings = (await client.projects.GetProject(request)).project.settings
    return settings.event_retention.ToTimedelta() if settings.HasField("event_retention") else None
