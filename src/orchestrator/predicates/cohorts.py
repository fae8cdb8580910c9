"""Segments with rules, asked about inside other predicates: their rules stand in for their stored membership.

So every answer is of one instant, whichever segment was evaluated last, and both engines see one tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from orchestrator.predicates.tree import AllOf, AnyOf, InCohort, Not, Predicate, leaves

#: Leaves of one predicate with the rules of its cohorts put in.
MAX_INLINED_LEAVES = 1000
#: Segments within each other that the rules of a segment ask about: whoever walks the tree goes down into each.
MAX_INLINED_COHORTS = 8


class CohortCycle(Exception):
    """A segment that, by way of others, asks about itself. `ids` is the way, from a segment back to it."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.ids = ids
        super().__init__(" → ".join(ids))


class TooManyLeaves(Exception):
    """With the rules of its cohorts put in, a predicate has more than `MAX_INLINED_LEAVES` leaves."""


class TooManyCohorts(Exception):
    """The rules of a segment ask about one that asks about another, and so on, more than `MAX_INLINED_COHORTS` deep."""


@dataclass(frozen=True, slots=True)
class _Inlined:
    """A predicate with rules put in: how many leaves it has, and how many cohorts lie within each other."""

    predicate: Predicate
    size: int
    depth: int


class Cohorts:
    """The segments with rules of one project, as they stand at one time. Lists are not among them."""

    def __init__(self, rules: Mapping[str, Predicate]) -> None:
        """`rules`: segment id → its rules as they were written."""
        self._rules = rules
        self._inlined: dict[str, _Inlined] = {}
        self._under_way: list[str] = []

    @property
    def ids(self) -> Set[str]:
        """Of the segments with rules."""
        return self._rules.keys()

    def inline(self, predicate: Predicate) -> Predicate:
        """The predicate with rules in every leaf that names a segment which has any; other leaves stay as they are.

        Raises CohortCycle, TooManyCohorts and TooManyLeaves; none of it happens with what was checked when it was
        saved.
        """
        return self._inline(predicate).predicate

    def rules_of(self, cohort_id: str) -> Predicate:
        """The rules of a segment that has any, with those of its cohorts put in. Raises as `inline` does."""
        return self._of(cohort_id).predicate

    def size_of(self, cohort_id: str) -> int:
        """How many leaves the rules of a segment have that has any, as `rules_of` gives them. Raises as that does."""
        return self._of(cohort_id).size

    def dependents(self, cohort_id: str) -> set[str]:
        """The segments whose rules, by way of others or not, ask about this one; itself only if there is a cycle."""
        naming: dict[str, set[str]] = {}
        for named_by, rules in self._rules.items():
            for leaf in leaves(rules):
                if isinstance(leaf, InCohort):
                    naming.setdefault(leaf.cohort_id, set()).add(named_by)
        found: set[str] = set()
        pending = [cohort_id]
        while pending:
            fresh = naming.get(pending.pop(), set()) - found
            found |= fresh
            pending += fresh
        return found

    def _inline(self, predicate: Predicate) -> _Inlined:
        match predicate:
            case AllOf(clauses=clauses) | AnyOf(clauses=clauses):
                within = [self._inline(clause) for clause in clauses]
                inlined = _Inlined(
                    replace(predicate, clauses=tuple(one.predicate for one in within)),
                    size=sum(one.size for one in within),
                    depth=max(one.depth for one in within),
                )
            case Not(clause=clause):
                one = self._inline(clause)
                inlined = replace(one, predicate=replace(predicate, clause=one.predicate))
            case InCohort(cohort_id=cohort_id) if cohort_id in self._rules:
                rules = self._of(cohort_id)
                inlined = _Inlined(replace(predicate, rules=rules.predicate), size=rules.size, depth=rules.depth + 1)
            case _:
                inlined = _Inlined(predicate, size=sum(1 for _ in leaves(predicate)), depth=0)
        if inlined.size > MAX_INLINED_LEAVES:
            raise TooManyLeaves
        return inlined

    def _of(self, cohort_id: str) -> _Inlined:
        if cohort_id in self._under_way:
            raise CohortCycle((*self._under_way[self._under_way.index(cohort_id) :], cohort_id))
        if cohort_id not in self._inlined:
            self._under_way.append(cohort_id)
            try:
                inlined = self._inline(self._rules[cohort_id])
            finally:
                self._under_way.pop()
            if inlined.depth > MAX_INLINED_COHORTS:
                raise TooManyCohorts
            self._inlined[cohort_id] = inlined
        return self._inlined[cohort_id]
