"""From draft to version. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import carrying
from orchestrator.application.examination import examine, existing
from orchestrator.application.journeys import changed, get, hold, record
from orchestrator.application.journeys import version as version_of
from orchestrator.application.policy_updates import steps_that_learn
from orchestrator.application.predicates import count_events
from orchestrator.domain import journey_graph
from orchestrator.domain.audit import JOURNEY_PUBLISHED, Value
from orchestrator.domain.carry_token import Previewed
from orchestrator.domain.carrying import CarryMode, Order, order_faults
from orchestrator.domain.etag import Expected
from orchestrator.domain.graph_form import as_written
from orchestrator.domain.journey import Definition, Journey, JourneyStatus, Pinned
from orchestrator.domain.journey_form import digest, stored
from orchestrator.domain.journey_graph import Existing, Findings
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, ResourceExhausted
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import (
    carries,
    clock,
    journey_schedules,
    journey_versions,
    journeys,
    policy_versions,
    projects,
)
from orchestrator.storage.carries import Carry
from orchestrator.storage.journey_versions import Published


class Pins(Enum):
    """Which revisions of its communications a version that is made anew sends: those of then, or the newest."""

    KEPT = "kept"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What publish made, and what is odd about it. `carry`: the going over of executions, if it was asked for."""

    journey: Journey
    version: int
    warnings: tuple[Fault, ...]
    carry: Carry | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """An earlier version that is made anew, as a version of its own: the way back."""

    number: int
    pins: Pins


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A definition, as it is kept, that somebody brings along; it need not be the draft. `pins`: of what it sends, the
    revisions that are not the newest, by id."""

    document: Mapping[str, Any]
    pins: Mapping[str, Pinned]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """The version that publishing would make, and what is odd about it. `has_draft`: whether a draft is left."""

    journey: Journey
    version: int
    document: Mapping[str, Any]
    definition: Definition
    communications: Mapping[str, Pinned]
    sha256: bytes
    has_draft: bool
    from_version: int | None
    warnings: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """Who goes over to the version: `pairs` is the mapping as it was written. `token` is what the preview gave."""

    mode: CarryMode
    pairs: tuple[tuple[str, str], ...]
    token: str


async def publish(
    conn: Connection[Record],
    scope: Scope,
    journey_id: str,
    expected: Expected,
    *,
    again: Again | Brought | None = None,
    carry: Confirmed | None = None,
) -> Publication:
    """Make the draft a version that never changes, with the communications it sends as they are now.

    Without a draft, the newest version is made anew if any of its communications has changed since; with `again` an
    earlier one is, or what was brought along, which makes a version also if it is equal to the newest. The draft stays
    then, if there is one, unless it is what was brought. New executions take the version; running ones stay on theirs,
    unless they are carried over. A draft journey becomes active, a paused one stays paused.

    Raises NotFound: JOURNEY_NOT_FOUND, JOURNEY_VERSION_NOT_FOUND; Conflict; ResourceExhausted PLAN_LIMIT_REACHED;
    FailedPrecondition: JOURNEY_ARCHIVED, NO_DRAFT, CARRY_TOKEN_STALE, or INVALID_DEFINITION with every fault;
    InvalidArgument about what is to be carried over, with every fault.
    """
    journey = await hold(conn, scope, journey_id, expected)
    prospect = await prospect_of(conn, scope, journey, again, carried=carry is not None)
    now = await clock.now(conn)
    order: Order | None = None
    if carry is not None:
        order = await order_of(conn, scope, prospect, carry.mode, carry.pairs)
        previewed(scope, prospect, order).require(carry.token, now)
    if journey.status is JourneyStatus.DRAFT:
        await _require_room(conn, scope, journey_id)
    await count_events(conn, scope.project_no, journey_graph.predicates_in(prospect.definition), "steps")
    version = Published(
        journey_id=journey_id,
        version=prospect.version,
        definition=prospect.document,
        pinned=prospect.communications,
        sha256=prospect.sha256,
        published_at=now,
        published_by=scope.actor,
    )
    await journey_versions.insert(conn, scope.project_no, version)
    status = JourneyStatus.ACTIVE if journey.status is JourneyStatus.DRAFT else journey.status
    shown = journey.definition if prospect.has_draft else prospect.document
    after = replace(
        journey, status=status, has_draft=prospect.has_draft, definition=shown, latest_version=version.version
    )
    journey = changed(after, now)
    await journeys.update(conn, scope.project_no, journey)
    if steps_that_learn(prospect.definition):  # its rules may be others
        await policy_versions.request(conn, scope.project_no, journey_id, now)
    await journey_schedules.changed(conn, scope.project_no, journey_id, now)
    metadata: dict[str, Value] = {"version": version.version, "sha256": version.sha256.hex()}
    if prospect.from_version is not None:
        metadata["fromVersion"] = prospect.from_version
    begun: Carry | None = None
    if order is not None:
        begun = await carrying.begin(conn, scope, journey_id, version.version, order, now)
        metadata |= {"carry": order.mode.value, "executions": begun.matched}
    await record(conn, scope, now, JOURNEY_PUBLISHED, journey_id, metadata)
    return Publication(journey=journey, version=version.version, warnings=prospect.warnings, carry=begun)


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


async def prospect_of(
    conn: Connection[Record], scope: Scope, journey: Journey, again: Again | Brought | None, *, carried: bool
) -> Prospect:
    """What publishing would make of a journey now. It is made for those who go over to it, too: if somebody is to be
    carried over, it may be equal to the newest version.

    Raises NotFound JOURNEY_VERSION_NOT_FOUND; FailedPrecondition: NO_DRAFT, INVALID_DEFINITION with every fault.
    """
    journey_id, document, has_draft = journey.journey_id, journey.definition, False
    pins: Mapping[str, Pinned] = {}
    if isinstance(again, Brought):
        document, pins = again.document, again.pins
        has_draft = journey.has_draft and digest(journey.definition) != digest(document)
    elif again is not None:
        earlier = await version_of(conn, scope, journey_id, again.number)
        document, has_draft = earlier.definition, journey.has_draft
        pins = earlier.pinned if again.pins is Pins.KEPT else pins
    definition = stored(document)
    there = await existing(conn, scope.project_no, definition, journey.goal)
    there = replace(there, communications={name: pins.get(name, pin) for name, pin in there.communications.items()})
    if not carried and not isinstance(again, Brought):
        await _require_news(conn, scope, journey, again, document, there)
    findings = refuse_faulty(journey_id, document, there)
    return Prospect(
        journey=journey,
        version=await journey_versions.highest(conn, scope.project_no, journey_id) + 1,
        document=document,
        definition=definition,
        communications=there.communications,
        sha256=sha256_of(document, there.communications),
        has_draft=has_draft,
        from_version=again.number if isinstance(again, Again) else None,
        warnings=findings.warnings,
    )


async def order_of(
    conn: Connection[Record], scope: Scope, prospect: Prospect, mode: CarryMode, pairs: Sequence[tuple[str, str]]
) -> Order:
    """Who goes over to the version, and as what. Raises InvalidArgument with every fault."""
    old = [step_id for step_id, _ in pairs]
    known = await carries.known_steps(conn, scope.project_no, prospect.journey.journey_id, old) if old else set()
    if faults := order_faults(mode, prospect.definition, known, pairs):
        raise InvalidArgument(faults)
    return Order(mode=mode, mapping=dict(pairs))


def previewed(scope: Scope, prospect: Prospect, order: Order) -> Previewed:
    """What a preview of this stands for, and what has to be confirmed."""
    return Previewed(
        project_no=scope.project_no,
        journey_id=prospect.journey.journey_id,
        version=prospect.version,
        sha256=prospect.sha256,
        order=order,
    )


async def _require_news(
    conn: Connection[Record],
    scope: Scope,
    journey: Journey,
    again: Again | None,
    document: Mapping[str, Any],
    there: Existing,
) -> None:
    """Raises FailedPrecondition NO_DRAFT where publishing would make the newest version a second time."""
    journey_id = journey.journey_id
    if again is not None:
        newest = await version_of(conn, scope, journey_id, journey.latest_version or again.number)
        if sha256_of(document, there.communications) == newest.sha256:
            raise FailedPrecondition(
                "NO_DRAFT", f"version {newest.version} of journey {journey_id} is equal to it", journeyId=journey_id
            )
    elif not journey.has_draft and not await _has_changed(conn, scope, journey, stored(document), there.communications):
        raise FailedPrecondition("NO_DRAFT", f"journey {journey_id} has nothing to publish", journeyId=journey_id)


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
