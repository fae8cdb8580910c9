"""The journeys of a bundle: made, changed, published, paused. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import journeys, lifecycle, publishing
from orchestrator.application.bundle_problems import BundleProblems
from orchestrator.application.bundle_texts import TextImports
from orchestrator.application.journeys import Changes
from orchestrator.application.project_definitions import Definitions
from orchestrator.application.publishing import Brought, Publication
from orchestrator.domain.bundle import STATUSES, Action, BundledJourney, Change
from orchestrator.domain.etag import Expected
from orchestrator.domain.graph_form import is_graph, with_graph
from orchestrator.domain.journey import Journey, JourneyStatus
from orchestrator.domain.journey_form import digest
from orchestrator.domain.refusals import Conflict, InvalidArgument
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault, under

_ANY_STATE = Expected()


@dataclass(slots=True)
class _Course:
    """What has been done with a journey so far. `journey` is how it stands now."""

    journey: Journey
    action: Action
    fields: list[str] = field(default_factory=list)
    publication: Publication | None = None


class JourneyImports:
    """Journeys may be in any order: what one of them tells or names of another is only looked for as they run."""

    def __init__(
        self,
        conn: Connection[Record],
        scope: Scope,
        problems: BundleProblems,
        before: Definitions,
        texts: TextImports,
    ) -> None:
        self._conn = conn
        self._scope = scope
        self._problems = problems
        self._before = before
        self._texts = texts

    async def bring(self) -> list[Change]:
        return [
            await self._bring(under("journeys", index), journey)
            for index, journey in enumerate(self._texts.bundle.journeys)
        ]

    async def _bring(self, place: str, wanted: BundledJourney) -> Change:
        course = await self._begin(place, wanted)
        if course is not None and wanted.status in STATUSES:
            if wanted.is_published:
                await self._publish(place, wanted, course)
                await self._edit(under(place, "draft"), course, wanted.draft, "draft")
                await self._switch(place, wanted, course)
            elif wanted.definition:
                await self._edit(place, course, wanted.definition, "definition")
        if course is None:  # it is refused, which is noted
            return Change(kind="journey", id=wanted.id, action=Action.UNCHANGED)
        published = course.publication
        return Change(
            kind="journey",
            id=wanted.id,
            action=course.action,
            fields=tuple(course.fields) if course.action is Action.UPDATED else (),
            version=published.version if published is not None else None,
            warnings=tuple(
                Fault(path=under(place, one.path) if one.path else place, reason=one.reason, message=one.message)
                for one in (published.warnings if published is not None else ())
            ),
        )

    async def _begin(self, place: str, wanted: BundledJourney) -> _Course | None:
        """The journey with the name, the description and the goal of the bundle; one that was not there has its first
        draft, too. None: it is refused."""
        before = self._before.journeys.get(wanted.id)
        if before is None:
            return await self._create(place, wanted)
        if before.status is JourneyStatus.ARCHIVED:
            fault = Fault(path="", reason="JOURNEY_ARCHIVED", message=f"journey {wanted.id} is archived for ever")
            self._problems.add(place, [fault])
            return None
        wanted.expected.require(revision=before.revision, updated_at=before.updated_at, place=place)
        goal = before.goal
        changes = Changes(
            name=wanted.name if wanted.name != before.name else None,
            description=wanted.description if wanted.description != before.description else None,
            goal_event=wanted.goal_event if wanted.goal_event != (goal.event_name or "") else None,
            goal_window=wanted.goal_window if wanted.goal_window != goal.window else None,
        )
        course = _Course(before, Action.UNCHANGED)
        await self._change(place, course, changes, changes.names(), {})
        return course

    async def _create(self, place: str, wanted: BundledJourney) -> _Course | None:
        if wanted.expected != _ANY_STATE:
            raise Conflict("ETAG_MISMATCH", "it is not there any more", place=place)
        work = journeys.create(
            self._conn,
            self._scope,
            journey_id=wanted.id,
            name=wanted.name,
            description=wanted.description,
            goal_event=wanted.goal_event or "",
            goal_window=wanted.goal_window,
            definition=wanted.definition or None,
        )
        made = await self._problems.collect("journey", wanted.id, place, work, _shown(wanted.definition))
        return _Course(made, Action.CREATED) if made is not None else None

    async def _publish(self, place: str, wanted: BundledJourney, course: _Course) -> None:
        """Publish what the bundle has published, unless the newest version is that."""
        if self._texts.is_published(wanted):
            return
        pins = await self._texts.pins(wanted)
        brought = Brought(document=wanted.definition or {"steps": []}, pins=pins)
        work = self._publish_sound(wanted.id, brought)
        made = await self._problems.collect("journey", wanted.id, place, work, _shown(wanted.definition))
        if made is None:
            return
        newest = self._before.versions.get(wanted.id)
        is_new = newest is None or digest(newest.definition) != digest(wanted.definition)
        course.fields.append("definition" if is_new else "communications")
        if course.journey.status is not made.journey.status:
            course.fields.append("status")
        _advance(course, made.journey)
        course.publication = made

    async def _publish_sound(self, journey_id: str, brought: Brought) -> Publication:
        """Publish what could be a draft."""
        if faults := await journeys.definition_faults(self._conn, self._scope.project_no, brought.document):
            raise InvalidArgument(faults)
        return await publishing.publish(self._conn, self._scope, journey_id, _ANY_STATE, again=brought)

    async def _edit(self, place: str, course: _Course, document: Mapping[str, Any] | None, name: str) -> None:
        """Make this the draft, unless it is, or it is published and there is none."""
        if document is not None and digest(course.journey.definition) != digest(document):
            await self._change(place, course, Changes(whole=document), [name], _shown(document))

    async def _change(
        self, place: str, course: _Course, changes: Changes, names: list[str], body: Mapping[str, Any]
    ) -> None:
        if not names:
            return
        work = journeys.update(self._conn, self._scope, course.journey.journey_id, changes, _ANY_STATE)
        journey = await self._problems.collect("journey", course.journey.journey_id, place, work, body)
        if journey is not None:
            course.fields += names
            _advance(course, journey)

    async def _switch(self, place: str, wanted: BundledJourney, course: _Course) -> None:
        """Pause or resume it. One that could not be published is left as it is."""
        journey = course.journey
        if journey.status in (wanted.status, JourneyStatus.DRAFT):
            return
        switch = lifecycle.pause if wanted.status is JourneyStatus.PAUSED else lifecycle.resume
        work = switch(self._conn, self._scope, wanted.id, _ANY_STATE)
        switched = await self._problems.collect("journey", wanted.id, place, work)
        if switched is not None:
            course.fields += ["status"] if "status" not in course.fields else []
            _advance(course, switched)


def _advance(course: _Course, journey: Journey) -> None:
    course.journey = journey
    if course.action is Action.UNCHANGED:
        course.action = Action.UPDATED


def _shown(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A definition in the form in which faults are told of it."""
    return with_graph(document) if is_graph(document) else document
