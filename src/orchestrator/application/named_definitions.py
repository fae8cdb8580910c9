"""A part of a project's definitions: some journeys, and everything that they name, directly or by way of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.application.journeys import not_found
from orchestrator.application.project_definitions import Definitions
from orchestrator.domain.journey import Definition, JourneyStatus
from orchestrator.domain.journey_form import parse as parse_definition
from orchestrator.domain.journey_graph import communications_in, predicates_in, segments_in
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.predicates.facts import needs
from orchestrator.predicates.parse import About
from orchestrator.predicates.parse import parse as parse_predicate

_R = TypeVar("_R")


def named_by(there: Definitions, journey_ids: Collection[str]) -> Definitions:
    """These journeys with all that they name. Raises NotFound, and FailedPrecondition JOURNEY_ARCHIVED."""
    for journey_id in journey_ids:
        journey = there.journeys.get(journey_id)
        if journey is None:
            raise not_found(journey_id)
        if journey.status is JourneyStatus.ARCHIVED:
            raise FailedPrecondition("JOURNEY_ARCHIVED", f"journey {journey_id} is archived", journeyId=journey_id)
    journeys = _of(there.journeys, journey_ids)
    versions = _of(there.versions, journey_ids)
    documents = [*(one.definition for one in journeys.values()), *(one.definition for one in versions.values())]
    definitions = [found for found in (parse_definition(document)[0] for document in documents) if found is not None]
    audiences = _of(there.audiences, {one.audience_id for one in definitions})
    contracts = _of(there.trigger_contracts, {one.trigger_contract_id for one in definitions})
    segments = _segments_named(definitions)
    segments |= {one.content.segment_id for one in contracts.values()}
    segments |= _cohorts_in(one.content.predicate for one in audiences.values())
    segments |= _cohorts_in(one.content.predicate for one in contracts.values() if one.content.about is About.SUBJECT)
    return replace(
        there,
        segments=_of(there.segments, _with_their_own(there, segments)),
        audiences=audiences,
        communications=_of(there.communications, {each for one in definitions for each in communications_in(one)}),
        trigger_contracts=contracts,
        journeys=journeys,
        versions=versions,
    )


def _segments_named(definitions: Iterable[Definition]) -> set[str | None]:
    named: set[str | None] = set()
    for definition in definitions:
        named |= segments_in(definition) | needs(predicates_in(definition)).cohorts
    return named


def _with_their_own(there: Definitions, segment_ids: Iterable[str | None]) -> set[str]:
    """These segments, those that their rules name, and so on."""
    pending, found = set(segment_ids), set[str]()
    while pending:
        fresh = _of(there.segments, pending - found)
        found |= fresh.keys()
        pending = _cohorts_in(one.content.predicate for one in fresh.values()) - found
    return found


def _cohorts_in(documents: Iterable[Any]) -> set[str | None]:
    read = [parse_predicate(document)[0] for document in documents if document is not None]
    return set(needs([predicate for predicate in read if predicate is not None]).cohorts)


def _of(resources: Mapping[str, _R], ids: Iterable[str | None]) -> dict[str, _R]:
    """Those of these that there are."""
    return {one: resources[one] for one in ids if one is not None and one in resources}
