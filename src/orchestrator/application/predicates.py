"""Predicates that somebody wants to save: read, and held against what there is in the project."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import event_retention
from orchestrator.application.segment_rules import UNFIT, rules_of
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.predicates.check import too_large
from orchestrator.predicates.cohorts import MAX_INLINED_LEAVES, Cohorts
from orchestrator.predicates.facts import needs
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.parse import MAX_DEPTH, MAX_LEAVES, About, parse
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import derived_events, segments

#: Kinds of events that are counted in a project: each asks a question of each event of its name as it arrives.
MAX_KINDS = 500


async def predicate_faults(
    conn: Connection[Record],
    project_no: int,
    document: Any,
    path: str,
    *,
    about: About = About.SUBJECT,
    inlined: bool = True,
) -> list[Fault]:
    """Everything that is wrong with a predicate's document, segments that do not exist, rules of segments that make it
    too large, and events that are not kept included.

    What has no faults is about to be saved: `count_events`. The caller holds the project's definitions, and sees to
    the rules of segments itself if not `inlined`.
    """
    predicate, faults = parse(document, path, about=about)
    if about is About.EVENT:  # knows no segments, and counts nothing
        return faults
    # Looked for in the document, not in the tree, so that a fault elsewhere does not hide those of cohorts.
    named = list(islice(_named_cohorts(document, path, 1), MAX_LEAVES))
    known = await segments.known(conn, project_no, (cohort_id for cohort_id, _ in named))
    missing = [
        Fault(path=at, reason="COHORT_NOT_FOUND", message=f"there is no segment {cohort_id}")
        for cohort_id, at in named
        if cohort_id not in known
    ]
    faults += missing
    if predicate is not None:
        faults += await event_retention.window_faults(conn, project_no, [(predicate, path)])
        if inlined:
            sizes = await cohort_sizes(conn, project_no, known)
            faults += too_large(predicate, sizes, path)
        if not faults:
            await count_events(conn, project_no, [predicate], path)
    return faults


async def cohort_sizes(conn: Connection[Record], project_no: int, cohort_ids: Collection[str]) -> dict[str, int]:
    """How many leaves the rules of these segments have, with those of their cohorts put in; of those that have any.

    Rules that cannot be put in are too large for everybody.
    """
    if not cohort_ids:
        return {}
    ruled = await segments.ruled(conn, project_no)
    cohorts = Cohorts(rules_of(ruled))

    def size_of(cohort_id: str) -> int:
        try:
            return cohorts.size_of(cohort_id)
        except UNFIT:
            return MAX_INLINED_LEAVES + 1

    return {cohort_id: size_of(cohort_id) for cohort_id in cohorts.ids & set(cohort_ids)}


async def count_events(conn: Connection[Record], project_no: int, predicates: Iterable[Predicate], path: str) -> None:
    """Events that these predicates ask about are counted from now on; what was before follows. For who saves them.

    Raises InvalidArgument TOO_LARGE, about `path`, where more kinds of events would be counted than may be.
    """
    sources = needs(predicates).events
    if not sources:
        return
    before = await derived_events.count(conn, project_no)
    await derived_events.ensure(conn, project_no, sources)
    if await derived_events.count(conn, project_no) > max(before, MAX_KINDS):
        message = f"events of {MAX_KINDS} kinds (`where`) are counted in this project, and no more can be"
        raise InvalidArgument.of(path, "TOO_LARGE", message)


def _named_cohorts(document: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The ids that `in_cohort` leaves name, each with its place. Whatever cannot be read names none."""
    if not isinstance(document, dict) or depth > MAX_DEPTH:
        return
    match document.get("kind"):
        case "in_cohort":
            cohort_id = document.get("cohortId")
            if isinstance(cohort_id, str) and cohort_id.strip():
                yield cohort_id, under(path, "cohortId")
        case "and" | "or" if isinstance(document.get("clauses"), list):
            for index, clause in enumerate(document["clauses"]):
                yield from _named_cohorts(clause, under(under(path, "clauses"), index), depth + 1)
        case "not":
            yield from _named_cohorts(document.get("clause"), under(path, "clause"), depth + 1)
