"""What another policy would have been worth, from what the one that ran has recorded."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

from orchestrator.learning.arrays import Counts, Floats
from orchestrator.learning.lift import score95

#: Less than so many equally weighted subjects say nothing.
LEAST_EFFECTIVE = 100.0
_Z95 = 1.959963984540054


class NoValue(enum.StrEnum):
    """Why a policy has no value."""

    NOTHING_LOGGED = "nothing_logged"
    #: The policy would choose what was never chosen: no number of subjects tells about that.
    NOT_SUPPORTED = "not_supported"
    FEW_EFFECTIVE = "few_effective"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    value: float
    standard_error: float
    interval95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """Conversions per choice. `ips`: inverse propensity scores; `snips`: the same, self-normalised; `dr`: doubly
    robust, where a model was given. All None for the reason `no_value`. `effective`: as many equally weighted subjects
    with one choice each would say as much. `subjects` made these choices.
    """

    ips: Estimate | None
    snips: Estimate | None
    dr: Estimate | None
    no_value: NoValue | None
    effective: float
    max_weight: float
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Logged:
    """One row for each choice, or for choices alike of as many subjects: `propensities` (rows, arms) with which each
    arm would have been chosen, the `chosen` arm's place, and of `subjects` in the row how many `converted`. Take
    matured ones only.

    `cluster` (rows): a number above 0 for each subject that has several rows, of one choice each; 0: those of the row
    have no other. None: no subject has. Choices of one subject are not independent: one purchase converts all of them.

    Raises ValueError when shapes or counts do not fit, or when an arm was chosen that had no propensity.
    """

    propensities: Floats
    chosen: Counts
    subjects: Counts
    converted: Counts
    cluster: Counts | None = None

    def __post_init__(self) -> None:
        rows, arms = self.propensities.shape
        if not self.chosen.shape == self.subjects.shape == self.converted.shape == (rows,):
            raise ValueError("each row has a choice, subjects and conversions")
        if (self.converted < 0).any() or (self.converted > self.subjects).any():
            raise ValueError("who converted is among the subjects")
        if ((self.chosen < 0) | (self.chosen >= arms)).any():
            raise ValueError("a chosen arm is not there")
        if (self.propensities < 0).any() or not np.allclose(self.propensities.sum(axis=1), 1, atol=1e-6):
            raise ValueError("propensities add up to 1")
        if (self.of_choice(self.propensities) <= 0)[self.subjects > 0].any():
            raise ValueError("an arm was chosen that had no propensity")
        if self.cluster is not None and (
            self.cluster.shape != (rows,) or (self.cluster < 0).any() or (self.subjects[self.cluster > 0] > 1).any()
        ):
            raise ValueError("a row of a subject with several is one choice")

    def of_choice(self, by_arm: Floats) -> Floats:
        """Of (rows, arms), each row's entry for its chosen arm."""
        return np.asarray(by_arm[np.arange(len(by_arm)), self.chosen.astype(np.intp)], dtype=np.float64)


def value_of(logged: Logged, target: Floats, model: Floats | None = None) -> PolicyValue:
    """The value of the policy that would have chosen with probabilities `target` (rows, arms).

    `model` (rows, arms): expected conversions by something that has not seen the row's own outcome: fitted to other
    subjects (cross-fitted), or an earlier policy version's.
    """
    if target.shape != logged.propensities.shape or (target < 0).any() or not np.allclose(target.sum(axis=1), 1):
        raise ValueError("a policy has a probability for each arm, and they add up to 1")
    keep = logged.subjects > 0
    count = logged.subjects[keep].astype(float)
    total = float(count.sum())
    if total == 0:
        return _none(NoValue.NOTHING_LOGGED, 0.0, 0.0, 0)
    chosen_target = logged.of_choice(target)[keep]
    weight = chosen_target / logged.of_choice(logged.propensities)[keep]
    choices = _Choices(
        count=count,
        won=logged.converted[keep].astype(float),
        cluster=logged.cluster[keep] if logged.cluster is not None else np.zeros(len(count), np.int64),
    )
    squares = choices.squares(weight, weight)
    sum_of_weights = float((count * weight).sum())
    effective = sum_of_weights**2 / squares if squares > 0 else 0.0
    largest = float(weight.max())
    subjects = choices.subjects
    if ((target > 0) & (logged.propensities <= 0))[keep].any():
        return _none(NoValue.NOT_SUPPORTED, effective, largest, subjects)
    if effective < LEAST_EFFECTIVE:
        return _none(NoValue.FEW_EFFECTIVE, effective, largest, subjects)

    ips = _mean(weight, np.zeros_like(weight), choices)
    ratio = float((weight * choices.won).sum() / sum_of_weights)
    # Linearised: w (r − V) / mean(w).
    scaled = weight * total / sum_of_weights
    snips = _as_a_rate(ratio, _mean(scaled, -scaled * ratio, choices).standard_error, effective)
    dr = None
    if model is not None:
        if model.shape != target.shape:
            raise ValueError("a model has an expectation for each arm")
        base = (target * model).sum(axis=1)[keep] - weight * logged.of_choice(model)[keep]
        dr = _mean(weight, base, choices)
    if ratio == 0:
        # Nobody converted of whom anything could be learned: what these would differ by cannot be seen in them.
        more = snips.interval95[1]
        ips, dr = _up_to(ips, more * sum_of_weights / total), _up_to(dr, more) if dr is not None else None
    return PolicyValue(
        ips=ips,
        snips=snips,
        dr=dr,
        no_value=None,
        effective=effective,
        max_weight=largest,
        subjects=subjects,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Choices:
    """As in `Logged`, of rows that are not empty."""

    count: Floats
    won: Floats
    cluster: Counts

    @property
    def subjects(self) -> int:
        return int(self.count[self.cluster == 0].sum()) + len(np.unique(self.cluster[self.cluster > 0]))

    def squares(self, with_it: Floats, without: Floats) -> float:
        """The sum over subjects of the square of what their choices come to together: `with_it` for each that
        converted, `without` for others (the sandwich of Liang and Zeger, Biometrika 73, 1986).
        """
        alone = self.cluster == 0
        won, lost = self.won, self.count - self.won
        squares = float((won * with_it**2 + lost * without**2)[alone].sum())
        _, of_whom = np.unique(self.cluster[~alone], return_inverse=True)
        together = np.bincount(of_whom.ravel(), weights=(won * with_it + lost * without)[~alone])
        return squares + float((together**2).sum())


def _mean(slope: Floats, base: Floats, choices: _Choices) -> Estimate:
    """The mean of base + slope · r over all choices, r being 1 for those that converted, and its standard error."""
    total, subjects = float(choices.count.sum()), choices.subjects
    with_it, without = base + slope, base
    mean = float((choices.won * with_it + (choices.count - choices.won) * without).sum()) / total
    square = choices.squares(with_it - mean, without - mean)
    error = math.sqrt(square * subjects / max(subjects - 1, 1)) / total
    return Estimate(value=mean, standard_error=error, interval95=(mean - _Z95 * error, mean + _Z95 * error))


def _as_a_rate(rate: float, error: float, effective: float) -> Estimate:
    """With Wilson's interval for as many subjects as one would be as uncertain of: near 0 and 1 the normal one is too
    narrow, and nothing where nobody converted (Korn and Graubard, Survey Methodology 24, 1998). Where all or none did,
    for the effective ones.
    """
    subjects = rate * (1 - rate) / error**2 if error > 0 and 0 < rate < 1 else effective
    return Estimate(value=rate, standard_error=error, interval95=score95(rate, subjects))


def _up_to(estimate: Estimate, more: float) -> Estimate:
    low, high = estimate.interval95
    return Estimate(
        value=estimate.value,
        standard_error=estimate.standard_error,
        interval95=(low, estimate.value + math.hypot(high - estimate.value, more)),
    )


def _none(reason: NoValue, effective: float, largest: float, subjects: int) -> PolicyValue:
    return PolicyValue(
        ips=None, snips=None, dr=None, no_value=reason, effective=effective, max_weight=largest, subjects=subjects
    )


def uniform(open_arms: Floats) -> Floats:
    """Equal probabilities for the arms that were open, (rows, arms) of 1 and 0."""
    return np.asarray(open_arms / open_arms.sum(axis=1, keepdims=True), dtype=np.float64)


def always(arm: int, open_arms: Floats) -> Floats:
    """The arm with this place wherever it was open, and elsewhere any that was, alike."""
    only = np.zeros_like(open_arms)
    only[:, arm] = open_arms[:, arm]
    return np.asarray(np.where(only.any(axis=1, keepdims=True), only, uniform(open_arms)), dtype=np.float64)


def greedy(model: Floats, open_arms: Floats) -> Floats:
    """The open arm of which most is expected; of several, the first."""
    best = np.where(open_arms > 0, model, -np.inf).argmax(axis=1)
    return np.asarray(np.eye(model.shape[1])[best], dtype=np.float64)


def weighted(weights: Floats, open_arms: Floats) -> Floats:
    """Fixed weights, (arms,), among the open arms; where these have none, alike."""
    of_open = open_arms * weights
    total = of_open.sum(axis=1, keepdims=True)
    shares = np.divide(of_open, total, out=np.zeros_like(of_open), where=total > 0)
    return np.asarray(np.where(total > 0, shares, uniform(open_arms)), dtype=np.float64)
