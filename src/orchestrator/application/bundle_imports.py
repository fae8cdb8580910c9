"""A bundle taken over by a project: all of it or nothing. Callers own the transaction, and roll it back on a refusal.

What is as the bundle says is not touched. The rest goes through the use cases that everybody goes through, each thing
after those that it names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import audiences, projects, segments, trigger_contracts
from orchestrator.application.bundle_journeys import JourneyImports
from orchestrator.application.bundle_problems import BundleProblems
from orchestrator.application.bundle_texts import TextImports
from orchestrator.application.communications import Communications
from orchestrator.application.project_definitions import Definitions, current_etag, read_definitions
from orchestrator.domain.audit import BUNDLE_IMPORTED
from orchestrator.domain.bundle import Action, Bundle, Bundled, Change, faults_in, format_fault
from orchestrator.domain.etag import Expected
from orchestrator.domain.project import ProjectSettings
from orchestrator.domain.refusals import Conflict, InvalidArgument, PermissionDenied
from orchestrator.domain.resource import Resource, differ
from orchestrator.domain.scope import Role, Scope
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.domain.trigger_contract import completed
from orchestrator.predicates.facts import needs
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.parse import parse
from orchestrator.storage import audit, clock
from orchestrator.storage.projects import hold_definitions

#: Who may change the settings of a project.
_MAY_SET = (Role.OWNER, Role.INTERNAL)

_ANY_STATE = Expected()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One change for each thing in the bundle. The etags name the states of the project's definitions."""

    changes: tuple[Change, ...]
    etag_before: str
    etag_after: str

    def count(self, action: Action) -> int:
        return sum(change.action is action for change in self.changes)

    @property
    def published(self) -> int:
        """Journeys that were published."""
        return sum(change.version is not None for change in self.changes)


async def import_bundle(
    conn: Connection[Record], scope: Scope, use_cases: Communications, bundle: Bundle, *, expected_etag: str = ""
) -> Imported:
    """Make everything that the bundle speaks of as it says. What it does not speak of stays; nothing is deleted.

    Where nothing differs nothing is written. Raises InvalidArgument with every fault, each with its place in the
    bundle, if anything is wrong with the bundle in itself; else FailedPrecondition BUNDLE_REFUSED, with the same;
    Conflict where an etag is not the present one; ResourceExhausted PLAN_LIMIT_REACHED; PermissionDenied ROLE_TOO_LOW
    where settings would change and the scope is no owner's. After a refusal the transaction must be rolled back.
    """
    if fault := format_fault(bundle):
        raise InvalidArgument([fault])
    await hold_definitions(conn, scope.project_no)
    before = await read_definitions(conn, scope.project_no)
    if expected_etag and expected_etag != before.etag:
        raise Conflict(
            "ETAG_MISMATCH", "definitions have changed since they were read: read them again", currentEtag=before.etag
        )
    problems = BundleProblems()
    problems.add_wrong(faults_in(bundle))
    texts = TextImports(conn, scope, use_cases, problems, bundle, before)
    work = _Import(conn, scope, problems, before)
    changes = [
        *await work.settings(bundle.settings),
        *await work.segments(bundle.segments),
        *await work.audiences(bundle.audiences),
        *await texts.bring(),
        *await work.trigger_contracts(bundle.trigger_contracts),
        *await JourneyImports(conn, scope, problems, before, texts).bring(),
    ]
    await work.shorten_retention()
    problems.require_none()
    imported = Imported(
        changes=tuple(changes), etag_before=before.etag, etag_after=await current_etag(conn, scope.project_no)
    )
    if imported.count(Action.UNCHANGED) < len(changes):
        await audit.append(
            conn,
            project_no=scope.project_no,
            at=await clock.now(conn),
            actor=scope.actor,
            action=BUNDLE_IMPORTED,
            resource_id=scope.project_id,
            metadata={
                "created": imported.count(Action.CREATED),
                "updated": imported.count(Action.UPDATED),
                "published": imported.published,
            },
        )
    return imported


class _Import:
    def __init__(self, conn: Connection[Record], scope: Scope, problems: BundleProblems, before: Definitions) -> None:
        self._conn = conn
        self._scope = scope
        self._problems = problems
        self._before = before
        self._retention: timedelta | None = None

    async def settings(self, wanted: ProjectSettings | None) -> list[Change]:
        """Events are kept for as long as before, if that is longer, until `shorten_retention`."""
        if wanted is None:
            return []
        project = self._before.project
        there = project.settings
        wanted = replace(wanted, of_newer_releases=there.of_newer_releases)
        different = tuple(_differing(there, wanted))
        if not different:
            return [Change(kind="settings", id=project.project_id, action=Action.UNCHANGED)]
        if self._scope.role not in _MAY_SET:
            required = Role.OWNER.name.lower()
            message = f"the bundle changes settings of the project, and that needs the role {required}"
            raise PermissionDenied("ROLE_TOO_LOW", message, requiredRole=required)
        changes = {name: getattr(wanted, name) for name in different}
        kept = wanted.event_retention
        if kept is not None and (there.event_retention is None or kept < there.event_retention):
            self._retention = changes.pop("event_retention")
        await self._set(changes)
        return [Change(kind="settings", id=project.project_id, action=Action.UPDATED, fields=different)]

    async def shorten_retention(self) -> None:
        """Once nothing asks for events of a longer time any more."""
        if self._retention is not None:
            await self._set({"event_retention": self._retention})

    async def _set(self, changes: Mapping[str, Any]) -> None:
        project_id = self._before.project.project_id
        work = projects.update(self._conn, self._scope, project_id, changes, _ANY_STATE)
        await self._problems.collect("settings", project_id, "", work)

    async def segments(self, wanted: Sequence[Bundled[Segment]]) -> list[Change]:
        """Each after those that its rules name."""
        changes: list[Change] = []
        for index in self._in_order(wanted):
            one = wanted[index]
            place = under("segments", index)
            change = await self._bring(
                "segment",
                place,
                one,
                self._before.segments.get(one.id),
                segments.create,
                segments.update,
                {"rules": one.content.predicate},
            )
            if change.action is Action.CREATED and one.content.kind == STATIC:
                message = "is a list, and nobody is in it yet: whatever asks about it finds nobody there"
                change = replace(change, warnings=(Fault(path=place, reason="LIST_IS_EMPTY", message=message),))
            changes.append(change)
        return changes

    async def audiences(self, wanted: Sequence[Bundled[Any]]) -> list[Change]:
        return [
            await self._bring(
                "audience",
                under("audiences", index),
                one,
                self._before.audiences.get(one.id),
                audiences.create,
                audiences.update,
                {"predicate": one.content.predicate},
            )
            for index, one in enumerate(wanted)
        ]

    async def trigger_contracts(self, wanted: Sequence[Bundled[Any]]) -> list[Change]:
        return [
            await self._bring(
                "triggerContract",
                under("triggerContracts", index),
                replace(one, content=completed(one.content)),
                self._before.trigger_contracts.get(one.id),
                trigger_contracts.create,
                trigger_contracts.update,
                {"segmentId": one.content.segment_id, "predicate": one.content.predicate},
            )
            for index, one in enumerate(wanted)
        ]

    async def _bring(
        self,
        kind: str,
        place: str,
        wanted: Bundled[Any],
        before: Resource[Any] | None,
        create: Callable[[Connection[Record], Scope, str, Any], Awaitable[Any]],
        update: Callable[[Connection[Record], Scope, str, Mapping[str, Any], Expected], Awaitable[Any]],
        body: Mapping[str, Any],
    ) -> Change:
        content = wanted.content
        if before is None:
            require_absent(wanted, place)
            made = create(self._conn, self._scope, wanted.id, content)
            await self._problems.collect(kind, wanted.id, place, made, body)
            return Change(kind=kind, id=wanted.id, action=Action.CREATED)
        wanted.expected.require(revision=before.revision, updated_at=before.updated_at, place=place)
        different = tuple(_differing(before.content, content))
        if not different:
            return Change(kind=kind, id=wanted.id, action=Action.UNCHANGED)
        changes = {field.name: getattr(content, field.name) for field in fields(content)}
        made = update(self._conn, self._scope, wanted.id, changes, _ANY_STATE)
        await self._problems.collect(kind, wanted.id, place, made, body)
        return Change(kind=kind, id=wanted.id, action=Action.UPDATED, fields=different)

    def _in_order(self, wanted: Sequence[Bundled[Segment]]) -> list[int]:
        """The places of segments, each after those that it names; of a cycle, one is named as at fault and left out."""
        places = {one.id: index for index, one in enumerate(wanted)}
        naming = {one.id: _cohorts_in(one.content.predicate) & places.keys() for one in wanted}
        in_cycles: set[str] = set()
        while True:
            try:
                order = list(TopologicalSorter(naming).static_order())
            except CycleError as error:
                way: list[str] = error.args[1][::-1]
                in_cycles.add(way[0])
                naming[way[0]] = set()
                message = f"the segment would ask about itself: {' → '.join(way)}"
                path = under(under("segments", places[way[0]]), "rules")
                self._problems.add_wrong([Fault(path=path, reason="COHORT_CYCLE", message=message)])
                self._problems.miss("segment", way[0])
            else:
                return [places[one] for one in order if one not in in_cycles]


def require_absent(wanted: Any, place: str) -> None:
    """Raises Conflict where somebody has seen what is not there."""
    if wanted.expected != _ANY_STATE:
        raise Conflict("ETAG_MISMATCH", "it is not there any more", place=place)


def _differing(before: Any, after: Any) -> Collection[str]:
    """The fields in which two contents differ."""
    return [field.name for field in fields(after) if differ(getattr(before, field.name), getattr(after, field.name))]


def _cohorts_in(predicate: Any) -> set[str]:
    """The segments that rules name; of rules that do not read, none."""
    read = parse(predicate)[0] if predicate is not None else None
    return set(needs([read]).cohorts) if read is not None else set()
