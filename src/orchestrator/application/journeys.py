"""Writing journeys: the draft, and beside it name, description and goal. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application.event_retention import window_faults
from orchestrator.application.examination import examine
from orchestrator.application.predicates import count_events
from orchestrator.domain.audit import JOURNEY_CREATED, JOURNEY_UPDATED, Action, Value
from orchestrator.domain.definition_changes import edited_definition
from orchestrator.domain.entry import BROKEN
from orchestrator.domain.etag import Expected
from orchestrator.domain.event import name_fault
from orchestrator.domain.graph_form import as_written
from orchestrator.domain.ids import description_faults, id_fault, name_faults, new_id
from orchestrator.domain.journey import Goal, Journey, JourneyStatus
from orchestrator.domain.journey_form import ONE_EXIT, digest, parse, stored
from orchestrator.domain.journey_graph import placed_predicates, predicates_in
from orchestrator.domain.project import MAX_GOAL_WINDOW
from orchestrator.domain.refusals import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.resource import Place, later, to_tick
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import audit, clock, journey_versions, journeys, projects, stats
from orchestrator.storage.journey_versions import Published
from orchestrator.storage.journeys import Refused, Standing

#: Times of a schedule that are told of.
TIMES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What an update sets; None leaves a thing as it is.

    `goal_event` "" takes the goal away. `project_goal_window` sets the window to the project's, now. `definition` holds
    the members of the definition to set, of which a None one is removed; all others stay as they are. `whole` is all of
    the definition, as it is kept, in place of members.
    """

    name: str | None = None
    description: str | None = None
    goal_event: str | None = None
    goal_window: timedelta | None = None
    project_goal_window: bool = False
    definition: Mapping[str, Any] = field(default_factory=dict)
    whole: Mapping[str, Any] | None = None

    def names(self) -> list[str]:
        """What is set, in the words of the contract."""
        said = {
            "name": self.name is not None,
            "description": self.description is not None,
            "goal.eventName": self.goal_event is not None,
            "goal.window": self.goal_window is not None or self.project_goal_window,
            "definition": self.whole is not None,
        }
        return [name for name, is_set in said.items() if is_set] + list(self.definition)


async def create(
    conn: Connection[Record],
    scope: Scope,
    *,
    journey_id: str = "",
    name: str,
    description: str = "",
    goal_event: str = "",
    goal_window: timedelta | None = None,
    definition: Mapping[str, Any] | None = None,
) -> Journey:
    """Create a draft. Without an id it gets one, without `steps` a single exit, without a window the project's.

    Raises InvalidArgument with every fault, and AlreadyExists, also where ledgers keep the id of a deleted journey:
    what it did would be counted as this one's, and nobody whom it took in could come in.
    """
    given = _without_nulls(definition or {})
    document = given if "steps" in given else {**ONE_EXIT, **given}
    faults = [fault] if journey_id and (fault := id_fault(journey_id, "id")) else []
    faults += name_faults(name, "name") + description_faults(description, "description")
    await projects.touch_definitions(conn, scope.project_no)
    faults += _goal_faults(goal_event, goal_window) + await definition_faults(conn, scope.project_no, document)
    if faults:
        raise InvalidArgument(faults)
    await count_events(conn, scope.project_no, predicates_in(stored(document)), "steps")
    journey_id = journey_id or new_id("jrn")
    window = goal_window or await _project_goal_window(conn, scope)
    revision = await journeys.highest_goal_revision(conn, scope.project_no, journey_id) + 1
    now = await clock.now(conn)
    journey = Journey(
        journey_id=journey_id,
        name=name,
        description=description,
        status=JourneyStatus.DRAFT,
        on_archive=None,
        has_draft=True,
        definition=document,
        latest_version=None,
        goal=Goal(revision=revision, event_name=goal_event or None, window=window),
        revision=1,
        created_at=to_tick(now),
        updated_at=to_tick(now),
    )
    if not await journeys.insert(conn, scope.project_no, journey):
        raise AlreadyExists("ALREADY_EXISTS", f"there is a journey {journey_id}", journeyId=journey_id)
    if await stats.any_entries(conn, scope.project_no, journey_id):
        raise AlreadyExists(
            "ALREADY_EXISTS",
            f"there was a journey {journey_id}, whose records keep its id: choose another",
            journeyId=journey_id,
        )
    await record(conn, scope, now, JOURNEY_CREATED, journey_id)
    return journey


async def update(
    conn: Connection[Record], scope: Scope, journey_id: str, changes: Changes, expected: Expected
) -> Journey:
    """Change what `changes` sets and nothing else.

    A change of the definition is made to the draft; where there is none, one is made from the newest version. A goal
    that differs is a new revision, for enrollments made afterwards. Where everything is as it was, nothing is written.

    Raises NotFound, FailedPrecondition JOURNEY_ARCHIVED, Conflict, and InvalidArgument with every fault.
    """
    journey = await hold(conn, scope, journey_id, expected)
    document = edited_definition(journey.definition, changes.definition) if changes.whole is None else changes.whole
    faults = [] if changes.name is None else name_faults(changes.name, "name")
    faults += [] if changes.description is None else description_faults(changes.description, "description")
    faults += _goal_faults(changes.goal_event, changes.goal_window)
    edited = digest(document) != digest(journey.definition)
    faults += await definition_faults(conn, scope.project_no, document) if edited else []
    if faults:
        raise InvalidArgument(faults)
    if edited:
        await count_events(conn, scope.project_no, predicates_in(stored(document)), "steps")
    window = changes.goal_window or journey.goal.window
    if changes.project_goal_window:
        window = await _project_goal_window(conn, scope)
    event = journey.goal.event_name if changes.goal_event is None else changes.goal_event or None
    goal = replace(journey.goal, event_name=event, window=window)
    if goal != journey.goal:
        goal = replace(goal, revision=goal.revision + 1)
    after = replace(
        journey,
        name=journey.name if changes.name is None else changes.name,
        description=journey.description if changes.description is None else changes.description,
        goal=goal,
        has_draft=journey.has_draft or edited,
        definition=document if edited else journey.definition,
    )
    if after == journey:
        return journey
    now = await clock.now(conn)
    journey = changed(after, now)
    await journeys.update(conn, scope.project_no, journey)
    await record(conn, scope, now, JOURNEY_UPDATED, journey_id, {"fields": ",".join(changes.names())})
    return journey


async def definition_faults(conn: Connection[Record], project_no: int, document: Any) -> list[Fault]:
    """What stands against saving a draft: its form, and counts of events that are not kept."""
    definition, faults = parse(document)
    if definition is not None:
        faults += await window_faults(conn, project_no, placed_predicates(definition))
    return as_written(document, faults)


async def hold(conn: Connection[Record], scope: Scope, journey_id: str, expected: Expected) -> Journey:
    """The journey, which nobody else changes until the transaction ends.

    Raises NotFound, FailedPrecondition JOURNEY_ARCHIVED, and Conflict when it is not in the expected state.
    """
    await projects.touch_definitions(conn, scope.project_no)
    journey = await get(conn, scope, journey_id)
    if journey.status is JourneyStatus.ARCHIVED:
        raise FailedPrecondition("JOURNEY_ARCHIVED", f"journey {journey_id} is archived", journeyId=journey_id)
    expected.require(revision=journey.revision, updated_at=journey.updated_at, journeyId=journey_id)
    return journey


def changed(journey: Journey, now: datetime) -> Journey:
    """The journey one revision on."""
    return replace(journey, revision=journey.revision + 1, updated_at=later(journey.updated_at, now))


async def record(
    conn: Connection[Record],
    scope: Scope,
    at: datetime,
    action: Action,
    journey_id: str,
    metadata: Mapping[str, Value] | None = None,
) -> None:
    """Note in the audit log what is being done with a journey."""
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=at,
        actor=scope.actor,
        action=action,
        resource_id=journey_id,
        metadata=metadata,
    )


async def get(conn: Connection[Record], scope: Scope, journey_id: str) -> Journey:
    """Raises NotFound."""
    journey = await journeys.find(conn, scope.project_no, journey_id)
    if journey is None:
        raise not_found(journey_id)
    return journey


def not_found(journey_id: str) -> NotFound:
    return NotFound("JOURNEY_NOT_FOUND", f"there is no journey {journey_id}", journeyId=journey_id)


def not_active(journey_id: str, status: str) -> FailedPrecondition:
    """For what an active journey alone does; `status` is the one that it has."""
    return FailedPrecondition(
        "JOURNEY_NOT_ACTIVE", f"journey {journey_id} is {status}", journeyId=journey_id, status=status
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A journey; why entries are refused although it is active: something it names is gone; how many are held; and when
    its schedule enrolls next.
    """

    journey: Journey
    problems: Sequence[Refused]
    held: int
    enrolls_next: Sequence[datetime]


async def view(conn: Connection[Record], scope: Scope, journey_id: str) -> View:
    """Raises NotFound."""
    found = await journeys.standing(conn, scope.project_no, journey_id, [reason.value for reason in BROKEN])
    if found is None:
        raise not_found(journey_id)
    firing = stored(found.scheduled).firing if found.scheduled is not None else None
    return View(
        journey=found.journey,
        problems=await _problems(conn, scope, found),
        held=found.held,
        enrolls_next=firing.after(await clock.now(conn), TIMES_SHOWN) if firing is not None else (),
    )


async def _problems(conn: Connection[Record], scope: Scope, found: Standing) -> Sequence[Refused]:
    journey = found.journey
    if not found.refused or journey.status is not JourneyStatus.ACTIVE or journey.latest_version is None:
        return ()
    version = await journey_versions.find(conn, scope.project_no, journey.journey_id, journey.latest_version)
    assert version is not None, "versions are never deleted"
    findings = await examine(conn, scope.project_no, stored(version.definition), journey.goal)
    # What was mended without touching the journey no longer stands in the way.
    broken = {fault.reason.lower() for fault in findings.faults}
    return [problem for problem in found.refused if problem.reason in broken or problem.last_hour is None]


async def page(
    conn: Connection[Record],
    scope: Scope,
    statuses: Collection[JourneyStatus],
    after: Place | None,
    limit: int,
    *,
    offset: int = 0,
) -> tuple[list[Journey], Place | None]:
    """Journeys in one of these statuses (none: in any), newest first, and where the page ends; without definitions.

    The first page begins after `offset` of them.
    """
    passed_over = offset if after is None else 0
    return await journeys.page(conn, scope.project_no, statuses, after, limit, passed_over)


async def versions(
    conn: Connection[Record], scope: Scope, journey_id: str, before: int | None, limit: int
) -> tuple[list[Published], int | None]:
    """Versions, newest first, those below `before` if it is given, and where the page ends; without definitions.

    Raises NotFound.
    """
    journey = await get(conn, scope, journey_id)
    found = await journey_versions.page(
        conn, scope.project_no, journey_id, since=journey.created_at, before=before, limit=limit + 1
    )
    return found[:limit], found[limit - 1].version if len(found) > limit else None


async def version(conn: Connection[Record], scope: Scope, journey_id: str, number: int) -> Published:
    """Raises NotFound."""
    journey = await get(conn, scope, journey_id)
    found = await journey_versions.find(conn, scope.project_no, journey_id, number)
    if found is None or found.published_at < journey.created_at:
        raise journey_versions.not_found(journey_id, number)
    return found


async def _project_goal_window(conn: Connection[Record], scope: Scope) -> timedelta:
    return (await projects.get(conn, scope.project_no)).settings.goal_window


def _goal_faults(event_name: str | None, window: timedelta | None) -> list[Fault]:
    faults = []
    if event_name and (fault := name_fault(event_name, "goal.eventName")) is not None:
        faults.append(fault)
    if window is not None and not timedelta(seconds=1) <= window <= MAX_GOAL_WINDOW:
        message = f"must be 1s to {MAX_GOAL_WINDOW.days}d"
        faults.append(Fault(path="goal.window", reason="OUT_OF_RANGE", message=message))
    return faults


def _without_nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: member for name, member in document.items() if member is not None}
