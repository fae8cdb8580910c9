"""From draft to version. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application.examination import examine, existing
from orchestrator.application.journeys import changed, get, hold, record
from orchestrator.application.journeys import version as version_of
from orchestrator.application.predicates import count_events
from orchestrator.domain import journey_graph
from orchestrator.domain.audit import JOURNEY_PUBLISHED, Value
from orchestrator.domain.etag import Expected
from orchestrator.domain.graph_form import as_written
from orchestrator.domain.journey import Definition, Journey, JourneyStatus, Pinned
from orchestrator.domain.journey_form import digest, stored
from orchestrator.domain.journey_graph import Existing, Findings
from orchestrator.domain.refusals import FailedPrecondition, ResourceExhausted
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import clock, journey_schedules, journey_versions, journeys, projects
from orchestrator.storage.journey_versions import Published


class Pins(Enum):
    """Which revisions of its communications a version that is made anew sends: those of then, or the newest."""

    KEPT = "kept"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What publish made, and what is odd about it."""

    journey: Journey
    version: int
    warnings: tuple[Fault, ...]


async def validate(conn: Connection[Record], scope: Scope, journey_id: str) -> Findings:
    """What stands against publishing the draft; without one, what would stand against the newest version today.

    Raises NotFound.
    """
    journey = await get(conn, scope, journey_id)
    findings = await examine(conn, scope.project_no, stored(journey.definition), journey.goal)
    return told(findings, journey.definition)


def told(findings: Findings, document: Mapping[str, Any]) -> Findings:
    """What was found, in the form that the author wrote."""
    return Findings(
        faults=tuple(as_written(document, list(findings.faults))),
        warnings=tuple(as_written(document, list(findings.warnings))),
    )


async def publish(conn: Connection[Record], scope: Scope, journey_id: str, expected: Expected) -> Publication:
    """Make the draft a version that never changes, with the communications it sends as they are now.

    Without a draft, the newest version is made anew if any of its communications has changed since. New executions take
    it; running ones stay on theirs. A draft journey becomes active, a paused one stays paused.

    Raises NotFound, Conflict, ResourceExhausted PLAN_LIMIT_REACHED, and FailedPrecondition: JOURNEY_ARCHIVED, NO_DRAFT,
    or INVALID_DEFINITION with every fault.
    """
    journey = await hold(conn, scope, journey_id, expected)
    definition = stored(journey.definition)
    there = await existing(conn, scope.project_no, definition, journey.goal)
    if not journey.has_draft and not await _has_changed(conn, scope, journey, definition, there.communications):
        raise FailedPrecondition("NO_DRAFT", f"journey {journey_id} has nothing to publish", journeyId=journey_id)
    return await _make(conn, scope, journey, journey.definition, there, has_draft=False)


def refuse_faulty(journey_id: str, document: Mapping[str, Any], there: Existing) -> Findings:
    """What is odd about a definition. Raises FailedPrecondition INVALID_DEFINITION with all that stands against it."""
    findings = told(journey_graph.examine(stored(document), there), document)
    if findings.faults:
        raise FailedPrecondition(
            "INVALID_DEFINITION",
            f"journey {journey_id} cannot be published: {findings.faults[0].message}",
            findings.faults,
            journeyId=journey_id,
        )
    return findings


async def publish_again(
    conn: Connection[Record], scope: Scope, journey_id: str, number: int, pins: Pins, expected: Expected
) -> Publication:
    """Make an earlier version anew, as a version of its own: the way back. The draft, if there is one, stays.

    Raises what `publish` raises, and NotFound JOURNEY_VERSION_NOT_FOUND; NO_DRAFT where the newest version is equal.
    """
    journey = await hold(conn, scope, journey_id, expected)
    earlier = await version_of(conn, scope, journey_id, number)
    there = await existing(conn, scope.project_no, stored(earlier.definition), journey.goal)
    if pins is Pins.KEPT:
        kept = {name: earlier.pinned[name] for name in there.communications}
        there = replace(there, communications=kept)
    newest = await version_of(conn, scope, journey_id, journey.latest_version or number)
    if sha256_of(earlier.definition, there.communications) == newest.sha256:
        raise FailedPrecondition(
            "NO_DRAFT", f"version {newest.version} of journey {journey_id} is equal to it", journeyId=journey_id
        )
    return await _make(
        conn, scope, journey, earlier.definition, there, has_draft=journey.has_draft, from_version=number
    )


async def _make(
    conn: Connection[Record],
    scope: Scope,
    journey: Journey,
    document: Mapping[str, Any],
    there: Existing,
    *,
    has_draft: bool,
    from_version: int | None = None,
) -> Publication:
    """The next version, of this definition, if nothing stands against it. `has_draft`: whether a draft is left."""
    journey_id, definition = journey.journey_id, stored(document)
    findings = refuse_faulty(journey_id, document, there)
    if journey.status is JourneyStatus.DRAFT:
        await _require_room(conn, scope, journey_id)
    await count_events(conn, scope.project_no, journey_graph.predicates_in(definition))
    now = await clock.now(conn)
    version = Published(
        journey_id=journey_id,
        version=await journey_versions.highest(conn, scope.project_no, journey_id) + 1,
        definition=document,
        pinned=there.communications,
        sha256=sha256_of(document, there.communications),
        published_at=now,
        published_by=scope.actor,
    )
    await journey_versions.insert(conn, scope.project_no, version)
    status = JourneyStatus.ACTIVE if journey.status is JourneyStatus.DRAFT else journey.status
    shown = journey.definition if has_draft else document
    after = replace(journey, status=status, has_draft=has_draft, definition=shown, latest_version=version.version)
    journey = changed(after, now)
    await journeys.update(conn, scope.project_no, journey)
    await journey_schedules.changed(conn, scope.project_no, journey_id, now)
    metadata: dict[str, Value] = {"version": version.version, "sha256": version.sha256.hex()}
    if from_version is not None:
        metadata["fromVersion"] = from_version
    await record(conn, scope, now, JOURNEY_PUBLISHED, journey_id, metadata)
    return Publication(journey=journey, version=version.version, warnings=findings.warnings)


async def _has_changed(
    conn: Connection[Record],
    scope: Scope,
    journey: Journey,
    definition: Definition,
    communications: Mapping[str, Pinned],
) -> bool:
    """Whether the newest version would send anything else if it were published now."""
    assert journey.latest_version is not None, "what was never published has a draft"
    newest = await journey_versions.find(conn, scope.project_no, journey.journey_id, journey.latest_version)
    assert newest is not None, "versions are never deleted"
    for communication_id, now in communications.items():
        before = newest.pinned[communication_id]
        if definition.follow_live_communications:  # then a new text needs no new version
            before = replace(before, content_revision=now.content_revision)
        if now != before:
            return True
    return False


def sha256_of(definition: Mapping[str, object], pinned: Mapping[str, Pinned]) -> bytes:
    """What tells a version from every other: a digest of all that it fixes."""
    return digest({"definition": definition, "pinned": journey_versions.pinned_document(pinned)})


async def _require_room(conn: Connection[Record], scope: Scope, journey_id: str) -> None:
    most = (await projects.get(conn, scope.project_no)).settings.max_journeys
    if most is not None and await journeys.count_published_others(conn, scope.project_no, journey_id) >= most:
        raise ResourceExhausted(
            "PLAN_LIMIT_REACHED",
            f"the project may have {most} published journeys: archive one first",
            maxJourneys=str(most),
        )
