"""The policy of a branch that looks at who comes: a model for each arm, and chances by the gaps between them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeAlias

import numpy as np

from orchestrator.domain.arm_choice import ArmShare, ChoiceReason
from orchestrator.learning.allocation import MOST_FOR_FLOORS
from orchestrator.learning.arm_rules import ArmRule, checked, in_millionths
from orchestrator.learning.arrays import Floats
from orchestrator.learning.features import Context, FeatureSchema, schema_of
from orchestrator.learning.logistic import fitted, log_odds, probabilities

# A row as what it is sorted by, and its fingerprint made of.
_Key: TypeAlias = tuple[int, str, str, int, int]

#: Of the method. Raise it when the same rows would give other shares.
CODE_VERSION = 1
#: Rows that a model is made of; of more, the youngest are taken.
MOST_ROWS = 50_000
#: Attributes that a branch may look at.
MOST_FIELDS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRules:
    """How a branch learns. `fields`: paths of the attributes it looks at. `exploration_scale`: the lower, the more is
    tried. `cold_start`: so many matured subjects come before anything is learned. Raises ValueError when out of range.
    """

    fields: tuple[str, ...]
    exploration_scale: float = 10.0
    min_share: float = 0.01
    cold_start: int = 200
    half_life_days: float | None = None

    def __post_init__(self) -> None:
        if len(set(self.fields)) != len(self.fields) or len(self.fields) > MOST_FIELDS:
            raise ValueError(f"fields are named once each, and at most {MOST_FIELDS}")
        half_life = 1.0 if self.half_life_days is None else self.half_life_days
        if not all(math.isfinite(number) and number > 0 for number in (self.exploration_scale, half_life)):
            raise ValueError("exploration_scale and half_life_days are above 0")
        if not 0 <= self.min_share <= MOST_FOR_FLOORS or self.cold_start < 0:
            raise ValueError(f"min_share is between 0 and {MOST_FOR_FLOORS}, and cold_start is not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matured:
    """Subjects of a context who went by an arm `age` days ago and whose windows have passed."""

    arm_id: str
    context: Context
    age: int
    subjects: int
    converted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmModel:
    """`coefficients` of the log-odds of converting, for the schema's columns. `matured`, `converted`: of its rows."""

    arm_id: str
    coefficients: tuple[float, ...]
    matured: int
    converted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPolicy:
    """`gap_scale`: exploration_scale · √matured; 0 in the cold start: all alike. `fingerprint`: of the rows."""

    schema: FeatureSchema
    arms: tuple[ArmModel, ...]
    rules: ContextRules
    arm_rules: tuple[ArmRule, ...]
    gap_scale: float
    matured: int
    fingerprint: str
    code_version: int = CODE_VERSION

    def expected(self, contexts: Sequence[Context]) -> Floats:
        """The expected rate of each arm, (contexts, arms)."""
        columns = self.schema.columns(contexts)
        return np.stack([probabilities(columns, np.array(arm.coefficients)) for arm in self.arms], axis=1)

    def shares(self, context: Context, open_arms: Collection[str]) -> tuple[ArmShare, ...]:
        """Of those of its arms that are open, for a subject of this context: what `choose` takes. They add up to a
        million; none when none of its arms is open and runs.
        """
        rules = [rule for rule in self.arm_rules if rule.arm_id in open_arms]
        if not any(rule.learns or (rule.fixed_ppm and not rule.paused) for rule in rules):
            return ()
        expected = dict(zip((arm.arm_id for arm in self.arms), self.expected([context])[0].tolist(), strict=True))
        learning = [rule.arm_id for rule in rules if rule.learns]
        chances = dict(zip(learning, self._chances([expected[arm_id] for arm_id in learning]), strict=True))
        ppm = in_millionths(rules, [chances.get(rule.arm_id, 0.0) for rule in rules])
        reason = ChoiceReason.CONTEXT if self.gap_scale > 0 else ChoiceReason.COLD_START
        return tuple(
            ArmShare(
                arm_id=rule.arm_id,
                ppm=ppm[rule.arm_id],
                reason=reason if rule.learns else ChoiceReason.FORCED,
                paused=rule.paused,
            )
            for rule in rules
        )

    def _chances(self, expected: Sequence[float]) -> list[float]:
        """Inverse-gap weighting (Foster and Rakhlin 2020, Simchi-Levi and Xu 2021), then the floor, which is added."""
        arms = len(expected)
        if arms == 0:
            return []
        best = max(range(arms), key=lambda place: (expected[place], -place))
        chances = [1 / (arms + self.gap_scale * (expected[best] - of_arm)) for of_arm in expected]
        chances[best] = 1 - sum(chance for place, chance in enumerate(chances) if place != best)
        floor = min(self.rules.min_share, MOST_FOR_FLOORS / arms)
        return [floor + (1 - arms * floor) * chance for chance in chances]


def learned_in_context(rows: Iterable[Matured], arm_rules: Sequence[ArmRule], rules: ContextRules) -> ContextPolicy:
    """The policy that these rows give, in whatever order they come. Rows of arms that are gone are left out.

    Raises ValueError for `arm_rules` that contradict each other and for rows that cannot be.
    """
    arm_rules = checked(arm_rules)
    names = {rule.arm_id for rule in arm_rules}
    ordered = sorted(((_order(row), row) for row in rows if row.arm_id in names and row.subjects), key=itemgetter(0))
    keys, kept = [key for key, _ in ordered[:MOST_ROWS]], [row for _, row in ordered[:MOST_ROWS]]
    if any(not 0 <= row.converted <= row.subjects or row.age < 0 for row in kept):
        raise ValueError("who converted is among the subjects, and nobody comes from the future")
    contexts = [row.context for row in kept]
    age = np.array([row.age for row in kept], dtype=float)
    fading = np.ones(len(kept)) if rules.half_life_days is None else np.exp2(-age / rules.half_life_days)
    number = np.array([row.subjects for row in kept], dtype=float)
    subjects = number * fading
    converted = np.array([row.converted for row in kept], dtype=float) * fading
    schema, columns = schema_of(rules.fields, contexts, number, subjects)
    prior = np.zeros(columns.shape[1])
    prior[0] = log_odds((converted.sum() + 1) / (subjects.sum() + 2))
    of_row = np.array([row.arm_id for row in kept], dtype=object)
    models = []
    for rule in arm_rules:
        own = of_row == rule.arm_id
        models.append(
            ArmModel(
                arm_id=rule.arm_id,
                coefficients=tuple(fitted(columns[own], subjects[own], converted[own], prior).tolist()),
                matured=sum(row.subjects for row in kept if row.arm_id == rule.arm_id),
                converted=sum(row.converted for row in kept if row.arm_id == rule.arm_id),
            )
        )
    matured = sum(model.matured for model in models)
    return ContextPolicy(
        schema=schema,
        arms=tuple(models),
        rules=rules,
        arm_rules=arm_rules,
        gap_scale=rules.exploration_scale * math.sqrt(matured) if matured > rules.cold_start else 0.0,
        matured=matured,
        fingerprint=_fingerprint(keys),
    )


def _order(row: Matured) -> _Key:
    return row.age, row.arm_id, json.dumps(row.context, sort_keys=True), row.subjects, row.converted


def _fingerprint(keys: Iterable[_Key]) -> str:
    digest = hashlib.sha256()
    for key in keys:
        digest.update(json.dumps(key).encode())
    return digest.hexdigest()
