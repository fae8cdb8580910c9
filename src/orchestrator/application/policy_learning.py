"""What a step learns from what was counted: between rows of the database and the statistics. Imports arrays, so who
does not learn imports this where it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.domain.journey import AdaptiveArm, AdaptiveBranch, NbaDecision
from orchestrator.learning.arm_rules import ArmRule
from orchestrator.learning.context_policy import (
    MOST_ROWS,
    ContextPolicy,
    ContextRules,
    Matured,
    learned_in_context,
)
from orchestrator.learning.policy import Policy, PolicyRules, learned, worth_publishing
from orchestrator.learning.policy_document import document_of, policy_from
from orchestrator.learning.posterior import DelayModel
from orchestrator.learning.triangle import Cell, CohortTriangle
from orchestrator.predicates.paths import join_path
from orchestrator.storage.arm_choices import Counted, MaturedChoice

__all__ = ["MOST_ROWS", "Learned", "learned_of_choices", "learned_of_counts"]

DAY = timedelta(days=1)
#: A model is published when it is made of other rows, and in any case when the last one is so old.
MODEL_WORTH_AFTER = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A policy as it is stored. `is_news`: it is worth taking the place of the one before."""

    document: dict[str, Any]
    fingerprint: str
    triangle: dict[str, Any] | None
    is_news: bool


def window_days(window: timedelta) -> int:
    """Whole days that hold a goal's window."""
    return max(1, math.ceil(window / DAY))


def learned_of_counts(
    step: AdaptiveBranch, counts: Sequence[Counted], window: timedelta, before: Any, age: timedelta
) -> Learned:
    """`before`: the document of the policy that was published `age` ago; None: there is none for this goal."""
    days = window_days(window)
    cells: list[Cell] = []
    for one in counts:
        cells.append(Cell(arm_id=one.arm_id, age=one.age, lag=None, subjects=one.subjects))
        if one.lag is not None:
            cells.append(Cell(arm_id=one.arm_id, age=one.age, lag=min(one.lag, days), subjects=one.subjects))
    arm_ids = {arm.id for arm in step.arms} | {one.arm_id for one in counts}
    triangle = CohortTriangle.of(arm_ids, days, cells)
    learning = step.learning
    rules = PolicyRules(
        delay_model=DelayModel(learning.delay_model),
        min_share=learning.min_share,
        half_life_days=learning.half_life_days,
        grace_days=learning.grace_days,
    )
    policy = learned(triangle, _arm_rules(step.arms), rules)
    published = _read(before)
    return Learned(
        document=document_of(policy),
        fingerprint=policy.fingerprint,
        triangle=triangle.document(),
        is_news=worth_publishing(policy, published if isinstance(published, Policy) else None, age),
    )


def learned_of_choices(step: NbaDecision, choices: Iterable[MaturedChoice], before: Any, age: timedelta) -> Learned:
    """As `learned_of_counts`, of a step that looks at a context."""
    learning = step.learning
    rules = ContextRules(
        fields=tuple(join_path(path) for path in step.context),
        exploration_scale=learning.exploration_scale,
        min_share=learning.min_share,
        half_life_days=learning.half_life_days,
    )
    rows = [
        Matured(arm_id=one.arm_id, context=one.context, age=one.age, subjects=1, converted=int(one.converted))
        for one in choices
    ]
    policy = learned_in_context(rows, _arm_rules(step.arms), rules)
    published = _read(before)
    is_news = (
        not isinstance(published, ContextPolicy)
        or age >= MODEL_WORTH_AFTER
        or (policy.rules, policy.arm_rules, policy.fingerprint)
        != (published.rules, published.arm_rules, published.fingerprint)
    )
    return Learned(document=document_of(policy), fingerprint=policy.fingerprint, triangle=None, is_news=is_news)


def _arm_rules(arms: Iterable[AdaptiveArm]) -> list[ArmRule]:
    return [ArmRule(arm_id=arm.id, fixed_ppm=arm.share_ppm, paused=arm.paused) for arm in arms]


def _read(document: Any) -> Policy | ContextPolicy | None:
    """None for what is no policy, which is then replaced."""
    if document is None:
        return None
    try:
        return policy_from(document)
    except ValueError:
        return None
