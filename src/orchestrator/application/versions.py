"""Published versions, made ready for deciding. They never change, so a process keeps those it has used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from asyncpg import Connection, Record

from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.conditions import happenings
from orchestrator.domain.journey import Goal, Happened, JourneyVersion
from orchestrator.domain.journey_graph import predicates_in
from orchestrator.predicates.builtin import SUBJECT
from orchestrator.predicates.facts import Needs, needs
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import journey_versions, journeys

#: More than a worker sees in a while; one version is some kilobytes.
KEPT = 1024


@dataclass(frozen=True)
class Prepared:
    """A version, and what its predicates need to know."""

    version: JourneyVersion

    @cached_property
    def asked(self) -> tuple[Predicate, ...]:
        """Its predicates about the subject."""
        return tuple(predicates_in(self.version.definition))

    @cached_property
    def needs(self) -> Needs:
        """What its predicates may ask."""
        return needs(self.asked)

    @cached_property
    def happenings(self) -> Mapping[str, Happened]:
        """The events it waits for or leaves for, by their names (domain/conditions.py)."""
        return happenings(self.version.definition)

    @cached_property
    def asks_of_ledgers(self) -> bool:
        """Whether any predicate needs more than attributes and the triggering event, so that facts are to be loaded."""
        asks_of_subject = any(path[0] == SUBJECT for path in self.needs.paths)
        return bool(self.needs.events or self.needs.cohorts or asks_of_subject)


class Versions:
    """The versions a process has used lately."""

    def __init__(self) -> None:
        #: The rules of segments that their predicates name.
        self.rule_book = RuleBook()
        self._kept: OrderedDict[tuple[int, str, int], Prepared] = OrderedDict()
        self._goals: OrderedDict[tuple[int, str, int], Goal] = OrderedDict()

    async def get(self, conn: Connection[Record], project_no: int, journey_id: str, version: int) -> Prepared:
        """Raises NotFound JOURNEY_VERSION_NOT_FOUND when there is no such version (its journey was deleted)."""
        at = (project_no, journey_id, version)
        if at not in self._kept:
            self._kept[at] = Prepared(await journey_versions.get(conn, project_no, journey_id, version))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(at)
        return self._kept[at]

    async def goal(self, conn: Connection[Record], project_no: int, prepared: Prepared, revision: int) -> Goal | None:
        """What enrollments under this revision of the goal are measured by, where the version ends by it."""
        if not prepared.version.definition.exit_on_goal:
            return None
        return await self.measure(conn, project_no, prepared.version.journey_id, revision)

    async def measure(self, conn: Connection[Record], project_no: int, journey_id: str, revision: int) -> Goal:
        """What enrollments under this revision of the goal are measured by."""
        at = (project_no, journey_id, revision)
        if at not in self._goals:
            self._goals[at] = await journeys.goal(conn, *at)
            while len(self._goals) > KEPT:
                self._goals.popitem(last=False)
        self._goals.move_to_end(at)
        return self._goals[at]
