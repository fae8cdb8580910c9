"""Branches in worlds whose truth is planted: days pass, subjects come, convert late, and shares follow.

Many runs at once, along the first axis; the numbers of a day come from one seeded generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from orchestrator.learning.allocation import allocated
from orchestrator.learning.arrays import Counts, Floats
from orchestrator.learning.delays import pooled_delays
from orchestrator.learning.policy import PolicyRules
from orchestrator.learning.posterior import Evidence, evidence

#: What is believed, from (assigned, converted, rules).
Believing = Callable[[Counts, Counts, PolicyRules], Evidence]


def as_it_is(assigned: Counts, converted: Counts, rules: PolicyRules) -> Evidence:
    return evidence(
        assigned,
        converted,
        model=rules.delay_model,
        delay_shrinkage=rules.delay_shrinkage,
        grace_days=rules.grace_days,
        half_life_days=rules.half_life_days,
    )


def naive(assigned: Counts, converted: Counts, rules: PolicyRules) -> Evidence:
    """Wrong: who has not converted yet never will."""
    subjects = assigned.sum(axis=-1).astype(float)
    return Evidence(conversions=converted.sum(axis=(-2, -1)).astype(float), subjects=subjects, gathered=subjects)


def early_over_matured(assigned: Counts, converted: Counts, rules: PolicyRules) -> Evidence:
    """Wrong: conversions as they come, out of subjects whose window has passed."""
    matures = converted.shape[-1] - 1 + rules.grace_days
    subjects = assigned[..., matures:].sum(axis=-1).astype(float)
    return Evidence(conversions=converted.sum(axis=(-2, -1)).astype(float), subjects=subjects, gathered=subjects)


def by_pooled_delays(assigned: Counts, converted: Counts, rules: PolicyRules) -> Evidence:
    """Wrong where delays differ between arms."""
    window = converted.shape[-1] - 1
    pooled = pooled_delays(converted[..., window + rules.grace_days :, :].sum(axis=-2))
    age = np.minimum(np.arange(assigned.shape[-1]), window)
    subjects = (assigned * pooled[..., None, :][..., age]).sum(axis=-1)
    return Evidence(conversions=converted.sum(axis=(-2, -1)).astype(float), subjects=subjects, gathered=subjects)


@dataclass(frozen=True, kw_only=True)
class World:
    """`rates`: of the days from their key on. `delays`: mean days of each arm's (exponential) delays, those beyond the
    window being cut off and divided among the rest; 0: at once. One day is one update of the shares.
    """

    rates: dict[int, tuple[float, ...]]
    delays: tuple[float, ...]
    window: int = 7
    days: int = 60
    per_day: int = 300
    rules: PolicyRules = field(default_factory=PolicyRules)
    believing: Believing = as_it_is

    def but(self, believing: Believing | None = None, **rules: object) -> World:
        changed = replace(self.rules, **rules)  # type: ignore[arg-type]
        return replace(self, rules=changed, believing=believing or self.believing)


@dataclass(frozen=True, kw_only=True)
class Played:
    """`regret` (runs, days): conversions expected to be lost to the best arm. `shares` (runs, days, arms)."""

    regret: Floats
    shares: Floats
    chosen: Counts
    uniform: Floats

    def ratio(self) -> float:
        """Of the regret to that of equal shares."""
        return float(self.regret.sum(axis=1).mean() / self.uniform.sum())


def played(world: World, *, runs: int, seed: int) -> Played:
    dice = np.random.default_rng(seed)
    arms, lags = len(world.delays), world.window + 1
    lag_of = np.stack([_lags(mean, lags) for mean in world.delays])
    assigned = np.zeros((runs, arms, world.days), np.int64)  # by day, not by age
    converting = np.zeros((runs, arms, world.days, lags), np.int64)
    seen = np.add.outer(np.arange(world.days), np.arange(lags))  # the day on which a conversion is seen
    regret, shares_of_days = np.zeros((runs, world.days)), np.zeros((runs, world.days, arms))
    uniform = np.zeros(world.days)
    shares = np.full((runs, arms), 1 / arms)
    rates = np.zeros(arms)
    for day in range(world.days):
        rates = np.asarray(world.rates.get(day, rates))
        shares_of_days[:, day] = shares
        counts = dice.multinomial(world.per_day, shares)
        assigned[:, :, day] = counts
        conversions = dice.binomial(counts, rates)
        converting[:, :, day] = dice.multinomial(conversions, lag_of[None])
        lost = rates.max() - rates
        regret[:, day] = counts @ lost
        uniform[day] = world.per_day * lost.mean()
        visible = converting[:, :, : day + 1] * (seen[: day + 1] <= day)
        known = world.believing(assigned[:, :, day::-1], visible[:, :, ::-1], world.rules)
        shares, _, _ = allocated(
            known,
            np.ones((runs, arms), np.bool_),
            prior=(world.rules.prior_alpha, world.rules.prior_beta),
            min_share=world.rules.min_share,
            cold_start_total=world.rules.cold_start_total,
            cold_start_each=world.rules.cold_start_each,
            points=17,  # shares err by less than 1e-4
        )
    return Played(regret=regret, shares=shares_of_days, chosen=assigned, uniform=uniform)


def _lags(mean: float, lags: int) -> Floats:
    if mean == 0:
        return np.asarray(np.eye(1, lags)[0], dtype=np.float64)
    edges = np.exp(-np.arange(lags + 1) / mean)
    return np.asarray((edges[:-1] - edges[1:]) / (1 - edges[-1]), dtype=np.float64)
