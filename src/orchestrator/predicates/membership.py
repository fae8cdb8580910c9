"""Who is in a segment with rules at an instant: its rules are asked then, whatever was stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.flip import next_flip
from orchestrator.predicates.tree import Predicate


def with_segments(subject: Facts, rules: Mapping[str, Predicate], as_of: datetime) -> Facts:
    """The subject with the answers of these segments at `as_of` beside its lists; `rules` have those of their own
    segments put in (`cohorts.py`).

    A segment whose rules name a list that is gone is as good as gone.
    """
    within, existing = set(subject.cohorts), set(subject.known_cohorts)
    flips: dict[str, datetime] = {}
    for cohort_id, predicate in rules.items():
        try:
            holds = evaluate(predicate, subject, as_of)
        except Missing:
            existing.discard(cohort_id)
            continue
        existing.add(cohort_id)
        if holds:
            within.add(cohort_id)
        if (flip := next_flip(predicate, subject, as_of)) is not None:
            flips[cohort_id] = flip
    return replace(subject, cohorts=frozenset(within), known_cohorts=frozenset(existing), cohort_flips=flips)
