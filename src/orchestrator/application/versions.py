"""Published versions, made ready for deciding. They never change, so a process keeps those it has used."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

from asyncpg import Connection, Record

from orchestrator.domain.journey import Arm, Branch, JourneyVersion
from orchestrator.predicates.builtin import SUBJECT
from orchestrator.predicates.facts import Needs, needs
from orchestrator.storage import journey_versions

#: More than a worker sees in a while; one version is some kilobytes.
KEPT = 1024


@dataclass(frozen=True)
class Prepared:
    """A version, and what its predicates need to know."""

    version: JourneyVersion

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """All arms of all branches."""
        steps = self.version.definition.steps.values()
        return tuple(arm for step in steps if isinstance(step, Branch) for arm in step.arms)

    @cached_property
    def needs(self) -> Needs:
        """What its predicates may ask."""
        return needs(arm.when for arm in self.arms)

    @cached_property
    def asks_of_ledgers(self) -> bool:
        """Whether any predicate needs more than attributes and the triggering event, so that facts are to be loaded."""
        asks_of_subject = any(path[0] == SUBJECT for path in self.needs.paths)
        return bool(self.needs.events or self.needs.cohorts or asks_of_subject)


class Versions:
    """The versions a process has used lately."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str, int], Prepared] = OrderedDict()

    async def get(self, conn: Connection[Record], project_no: int, journey_id: str, version: int) -> Prepared:
        """Raises NotFound JOURNEY_VERSION_NOT_FOUND when there is no such version (its journey was deleted)."""
        at = (project_no, journey_id, version)
        if at not in self._kept:
            self._kept[at] = Prepared(await journey_versions.get(conn, project_no, journey_id, version))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(at)
        return self._kept[at]
