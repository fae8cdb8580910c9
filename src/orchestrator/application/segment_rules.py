"""The rules of a project's segments, made ready for asking, as its definitions stand now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from asyncpg import Connection, Record

from orchestrator.predicates.cohorts import CohortCycle, Cohorts, TooManyCohorts, TooManyLeaves
from orchestrator.predicates.facts import Needs, needs
from orchestrator.predicates.faults import Unreadable
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import EventFired, InCohort, Predicate, Source, leaves
from orchestrator.storage import catalog, derived_events, segments
from orchestrator.storage.segments import Ruled

#: Why rules cannot be put in. No rules are saved any more of which it holds.
UNFIT = (CohortCycle, TooManyCohorts, TooManyLeaves)


@dataclass(frozen=True)
class SegmentRules:
    """One project's segments with rules.

    `asked` are those that can be asked, with the rules of their cohorts put in, by number; `building` those of them
    that not every subject has been held against. Of the rest, `broken` name a segment that is gone, or whose rules
    cannot be put in, `counting` wait until the events they ask about have been counted: their stored membership stays
    as it is. `cohorts` are without those whose rules cannot be put in: who names one finds it gone.
    """

    cohorts: Cohorts
    lists: Mapping[str, int]
    ids: Mapping[int, str]
    asked: Mapping[int, Predicate]
    building: frozenset[int]
    revisions: Mapping[int, int]
    broken: Mapping[int, str]
    counting: frozenset[int]

    @cached_property
    def needs(self) -> Needs:
        """What asking all of them takes."""
        return needs(self.asked.values())

    @cached_property
    def new(self) -> Mapping[int, int]:
        """Those that are asked and being built, with the revision of their rules."""
        return {number: self.revisions[number] for number in self.building & self.asked.keys()}

    @property
    def unasked(self) -> frozenset[int]:
        """Those whose membership stays as it is."""
        return self.counting | self.broken.keys()


class RuleBook:
    """The rules of the projects that a process has worked on, kept as long as nobody changes them.

    Not for a transaction that has changed them itself: what is rolled back must not be kept.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[tuple[int, int, int], SegmentRules]] = {}

    async def current(self, conn: Connection[Record], project_no: int) -> tuple[SegmentRules, datetime]:
        """The rules as they stand now, or later, and the database's clock."""
        project = (await catalog.current(conn, [project_no]))[project_no]
        return await self.of(conn, project), project.now

    async def of(self, conn: Connection[Record], project: catalog.Current) -> SegmentRules:
        """The rules as they stood when `project` was read in this transaction, or later."""
        edition = (project.definitions_version, project.uncounted, project.unbuilt)
        kept = self._kept.get(project.project_no)
        if kept is None or kept[0] != edition:
            kept = edition, await read_rules(conn, project.project_no)
            self._kept[project.project_no] = kept
        return kept[1]


async def read_rules(conn: Connection[Record], project_no: int) -> SegmentRules:
    """The rules as they stand now."""
    ruled = await segments.ruled(conn, project_no)
    lists = await segments.lists(conn, project_no)
    uncounted = await derived_events.uncounted(conn, project_no)
    written = rules_of(ruled)
    unfit = _unfit(written)
    cohorts = Cohorts({segment_id: rules for segment_id, rules in written.items() if segment_id not in unfit})
    asked: dict[int, Predicate] = {}
    broken: dict[int, str] = {}
    counting: set[int] = set()
    for segment in ruled:
        if segment.segment_id not in written:
            broken[segment.segment_no] = segment.segment_id
            continue
        if segment.segment_id in unfit:
            broken[segment.segment_no] = min(_named(written[segment.segment_id]) & unfit, default=segment.segment_id)
            continue
        rules = cohorts.rules_of(segment.segment_id)
        if gone := _gone(rules, lists):
            broken[segment.segment_no] = gone
        elif uncounted & sources(rules):
            counting.add(segment.segment_no)
        else:
            asked[segment.segment_no] = rules
    return SegmentRules(
        cohorts=cohorts,
        lists=lists,
        ids={segment.segment_no: segment.segment_id for segment in ruled},
        asked=asked,
        building=frozenset(segment.segment_no for segment in ruled if segment.building),
        revisions={segment.segment_no: segment.rules_revision for segment in ruled},
        broken=broken,
        counting=frozenset(counting),
    )


def rules_of(ruled: Iterable[Ruled]) -> dict[str, Predicate]:
    """What was written as the rules of these segments, without those that no longer read: who names one finds it gone.

    Rules are checked when they are saved. But a row may be changed by hand, or by a release that reads more than this
    one; and one segment must not hold up all others of its project. The doctor names it.
    """
    read = {segment.segment_id: parse(segment.predicate)[0] for segment in ruled}
    return {segment_id: rules for segment_id, rules in read.items() if rules is not None}


def stored_rules(document: Any) -> Predicate:
    """The tree of a predicate that was checked when it was saved. Raises Unreadable."""
    predicate, faults = parse(document)
    if predicate is None:
        raise Unreadable("a stored predicate", faults)
    return predicate


def sources(predicate: Predicate) -> frozenset[Source]:
    """The events it counts."""
    return frozenset(leaf.source for leaf in leaves(predicate) if isinstance(leaf, EventFired))


def _gone(rules: Predicate, lists: Mapping[str, int]) -> str | None:
    """A cohort that does not exist; of several the smallest id."""
    return min(_named(rules) - lists.keys(), default=None)


def _unfit(written: Mapping[str, Predicate]) -> set[str]:
    """Segments whose rules cannot be put in, themselves or in others: saved before there was the limit they break."""
    cohorts = Cohorts(written)
    unfit = set()
    for segment_id in written:
        try:
            cohorts.rules_of(segment_id)
        except UNFIT:
            unfit.add(segment_id)
    return unfit


def _named(rules: Predicate) -> set[str]:
    """The cohorts that leaves name whose rules have not been put in."""
    return {leaf.cohort_id for leaf in leaves(rules) if isinstance(leaf, InCohort) and leaf.rules is None}
