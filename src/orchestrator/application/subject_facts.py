"""What predicates ask about subjects, segments with rules included: those are asked at the same instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.facts import Needs, needs
from orchestrator.predicates.membership import with_segments
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import catalog, facts
from orchestrator.storage.facts import Known


async def load(
    conn: Connection[Record],
    rule_book: RuleBook,
    project_no: int,
    keys: Sequence[SubjectKey],
    asked: Needs,
    now: datetime,
) -> dict[SubjectKey, Known]:
    """What `asked` asks of these subjects at `now`; those that do not exist are missing from the answer.

    A decision takes the subjects' locks first, in a statement of its own.
    """
    rules = await rules_asked(conn, rule_book, project_no, asked)
    if not rules:
        return await facts.load(conn, project_no, keys, asked)
    known = await facts.load(conn, project_no, keys, asked | needs(rules.values()))
    return {key: replace(one, facts=with_segments(one.facts, rules, now)) for key, one in known.items()}


async def rules_asked(
    conn: Connection[Record], rule_book: RuleBook, project_no: int, asked: Needs
) -> Mapping[str, Predicate]:
    """The rules of those of the segments it names that have any, as they stand now."""
    if not asked.cohorts:
        return {}
    project = (await catalog.current(conn, [project_no]))[project_no]
    cohorts = (await rule_book.of(conn, project)).cohorts
    return {cohort_id: cohorts.rules_of(cohort_id) for cohort_id in asked.cohorts & cohorts.ids}
