"""Audiences made ready for asking, as their project's definitions stand now."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from asyncpg import Connection, Record

from orchestrator.application.segment_rules import RuleBook, stored_rules
from orchestrator.predicates.facts import Needs, needs
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import catalog
from orchestrator.storage.audiences import audiences

#: More than a server is asked about in a while; one is some kilobytes.
KEPT = 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What an audience asks, with the rules of its cohorts put in, and what asking it takes."""

    predicate: Predicate
    needs: Needs


class AudienceBook:
    """The audiences that a process was asked about lately, each kept as long as nobody changes a definition.

    Like the rule book, not for a transaction that has changed definitions itself.
    """

    def __init__(self, rule_book: RuleBook) -> None:
        self._rule_book = rule_book
        #: By project and audience, with the version of the definitions it is good for.
        self._kept: OrderedDict[tuple[int, str], tuple[int, Asked]] = OrderedDict()

    async def of(self, conn: Connection[Record], project: catalog.Current, audience_id: str) -> Asked | None:
        """The audience as it stood when `project` was read in this transaction, or later; None when there is none."""
        at = (project.project_no, audience_id)
        kept = self._kept.get(at)
        if kept is None or kept[0] != project.definitions_version:
            asked = await self._read(conn, project, audience_id)
            if asked is None:
                self._kept.pop(at, None)
                return None
            kept = self._kept[at] = (project.definitions_version, asked)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(at)
        return kept[1]

    async def _read(self, conn: Connection[Record], project: catalog.Current, audience_id: str) -> Asked | None:
        audience = await audiences.find(conn, project.project_no, audience_id)
        if audience is None:
            return None
        predicate = stored_rules(audience.content.predicate)
        if needs([predicate]).cohorts:
            predicate = (await self._rule_book.of(conn, project)).cohorts.inline(predicate)
        return Asked(predicate, needs([predicate]))
