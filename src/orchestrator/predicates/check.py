"""What is wrong with a tree that reads well, given what there is in the project."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from orchestrator.predicates.cohorts import MAX_INLINED_LEAVES
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.tree import AllOf, AnyOf, EventFired, Ever, InCohort, Leaf, Not, Predicate


def unknown_cohorts(predicate: Predicate, known: Container[str], path: str = "") -> list[Fault]:
    """A fault for each leaf that names a segment which is not among the known ones."""
    return [
        Fault(path=under(at, "cohortId"), reason="COHORT_NOT_FOUND", message=f"there is no segment {leaf.cohort_id}")
        for leaf, at in _placed(predicate, path)
        if isinstance(leaf, InCohort) and leaf.rules is None and leaf.cohort_id not in known
    ]


def too_large(predicate: Predicate, sizes: Mapping[str, int], path: str = "") -> list[Fault]:
    """A fault at the leaf that names the segment with whose rules there are too many leaves.

    `sizes`: how many leaves the rules of each segment have that has any, with those of its cohorts put in.
    """
    grown: list[tuple[int, str]] = []
    total = 0
    for leaf, at in _placed(predicate, path):
        if isinstance(leaf, InCohort) and leaf.cohort_id in sizes:
            grown.append((sizes[leaf.cohort_id], at))
        else:
            total += 1
    for size, at in grown:
        total += size
        if total > MAX_INLINED_LEAVES:
            message = f"with the rules of its cohorts put in, a predicate has at most {MAX_INLINED_LEAVES} leaves"
            return [Fault(path=under(at, "cohortId"), reason="TOO_LARGE", message=message)]
    return []


def windowed_counts(predicate: Predicate, path: str = "") -> list[tuple[EventFired, str]]:
    """The leaves that count two or more events in a window, each with its place.

    Only they need the events themselves: for all else it is enough to know how many there were, and first and last.
    """
    return [
        (leaf, at)
        for leaf, at in _placed(predicate, path)
        if isinstance(leaf, EventFired) and leaf.at_least > 1 and not isinstance(leaf.window, Ever)
    ]


def _placed(predicate: Predicate, path: str) -> Iterator[tuple[Leaf, str]]:
    """Every leaf with its place in the document it was read from."""
    match predicate:
        case AllOf(clauses=clauses) | AnyOf(clauses=clauses):
            for index, clause in enumerate(clauses):
                yield from _placed(clause, under(under(path, "clauses"), index))
        case Not(clause=clause):
            yield from _placed(clause, under(path, "clause"))
        case InCohort(rules=rules) if rules is not None:
            # What stands in a segment has no place in this document: it is told at the leaf that names the segment.
            yield predicate, path
            yield from ((leaf, path) for leaf, _ in _placed(rules, path))
        case _:
            yield predicate, path
