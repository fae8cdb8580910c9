"""What predicates ask about subjects, segments with rules included: those are asked at the same instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.facts import Facts, Needs, needs
from orchestrator.predicates.flip import next_flip
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
    if not asked.cohorts:
        return await facts.load(conn, project_no, keys, asked)
    project = (await catalog.current(conn, [project_no]))[project_no]
    cohorts = (await rule_book.of(conn, project)).cohorts
    rules = {cohort_id: cohorts.rules_of(cohort_id) for cohort_id in asked.cohorts & cohorts.ids}
    known = await facts.load(conn, project_no, keys, asked | needs(rules.values()))
    return {key: replace(one, facts=_with_cohorts(one.facts, rules, now)) for key, one in known.items()}


def _with_cohorts(subject: Facts, rules: dict[str, Predicate], now: datetime) -> Facts:
    """One whose own rules name a list that is gone is as good as gone."""
    within, existing = set(subject.cohorts), set(subject.known_cohorts)
    flips: dict[str, datetime] = {}
    for cohort_id, predicate in rules.items():
        try:
            holds = evaluate(predicate, subject, now)
        except Missing:
            existing.discard(cohort_id)
            continue
        existing.add(cohort_id)
        if holds:
            within.add(cohort_id)
        if (flip := next_flip(predicate, subject, now)) is not None:
            flips[cohort_id] = flip
    return replace(subject, cohorts=frozenset(within), known_cohorts=frozenset(existing), cohort_flips=flips)
