from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.learning.arrays import Floats
from orchestrator.learning.off_policy import Logged, NoValue, always, greedy, uniform, value_of, weighted

# Contexts × arms: what each arm is worth to whom, and how the policy that ran chose.
WORTH = np.array([[0.10, 0.30, 0.05], [0.25, 0.05, 0.10]])
RAN = np.array([[0.10, 0.60, 0.30], [0.50, 0.30, 0.20]])
TARGET = np.array([[0.70, 0.20, 0.10], [0.10, 0.10, 0.80]])
TRUTH = float((TARGET * WORTH).sum(axis=1).mean())


def logged(rows: int, seed: int) -> tuple[Logged, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    dice = np.random.default_rng(seed)
    context = dice.integers(0, 2, rows)
    chosen = (dice.random(rows)[:, None] > RAN[context].cumsum(axis=1)).sum(axis=1)
    converted = (dice.random(rows) < WORTH[context, chosen]).astype(np.int64)
    return Logged(
        propensities=RAN[context], chosen=chosen, subjects=np.ones(rows, np.int64), converted=converted
    ), context


def test_estimates_are_without_bias_and_a_model_makes_them_less_uncertain() -> None:
    values = []
    for seed in range(500):
        log, context = logged(600, seed)
        values.append(value_of(log, TARGET[context], WORTH[context] * 0.8 + 0.02))
    ips, snips, dr = (np.array([getattr(value, name).value for value in values]) for name in ("ips", "snips", "dr"))

    for estimates in (ips, snips, dr):
        assert abs(estimates.mean() - TRUTH) < 3 * estimates.std() / math.sqrt(500)
    assert dr.var() < ips.var()
    for name, estimates in (("ips", ips), ("snips", snips), ("dr", dr)):
        errors = np.array([getattr(value, name).standard_error for value in values])
        assert errors.mean() == pytest.approx(estimates.std(), rel=0.1)
    covered = [low <= TRUTH <= high for value in values if value.snips for low, high in [value.snips.interval95]]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


def test_rows_of_subjects_alike_count_as_often_as_these_are() -> None:
    log, context = logged(5000, 1)
    keys = np.stack([context, log.chosen], axis=1)
    alike, at = np.unique(keys, axis=0, return_inverse=True)
    grouped = Logged(
        propensities=RAN[alike[:, 0]],
        chosen=alike[:, 1],
        subjects=np.bincount(at.ravel()),
        converted=np.bincount(at.ravel(), weights=log.converted).astype(np.int64),
    )

    one, other = (value_of(rows, TARGET[of], WORTH[of]) for rows, of in ((log, context), (grouped, alike[:, 0])))

    for ours, theirs in ((one.ips, other.ips), (one.snips, other.snips), (one.dr, other.dr)):
        assert ours is not None
        assert theirs is not None
        assert ours.value == pytest.approx(theirs.value)
        assert ours.standard_error == pytest.approx(theirs.standard_error)
    assert one.effective == pytest.approx(other.effective)


def test_the_policy_that_ran_is_worth_what_happened() -> None:
    log, context = logged(3000, 2)

    value = value_of(log, RAN[context])

    assert value.snips is not None
    assert value.snips.value == pytest.approx(log.converted.mean())
    assert (value.effective, value.max_weight, value.subjects) == pytest.approx((3000, 1, 3000))


def rows(propensities: list[float], chosen: list[int], subjects: list[int]) -> Logged:
    return Logged(
        propensities=np.tile(np.array(propensities), (len(chosen), 1)),
        chosen=np.array(chosen),
        subjects=np.array(subjects),
        converted=np.zeros(len(chosen), np.int64),
    )


@pytest.mark.parametrize(
    ("log", "target", "reason"),
    [
        (rows([0.5, 0.5], [], []), [0.5, 0.5], NoValue.NOTHING_LOGGED),
        (rows([0.5, 0.5], [0], [0]), [0.5, 0.5], NoValue.NOTHING_LOGGED),
        (rows([1.0, 0.0], [0], [1000]), [0.5, 0.5], NoValue.NOT_SUPPORTED),
        (rows([0.98, 0.02], [0, 1], [980, 20]), [0.0, 1.0], NoValue.FEW_EFFECTIVE),
        (rows([0.98, 0.02], [0], [980]), [0.0, 1.0], NoValue.FEW_EFFECTIVE),
    ],
)
def test_what_the_log_cannot_tell_is_not_told(log: Logged, target: list[float], reason: NoValue) -> None:
    value = value_of(log, np.tile(np.array(target), (len(log.chosen), 1)))

    assert (value.no_value, value.ips, value.snips, value.dr) == (reason, None, None, None)


@pytest.mark.parametrize(
    ("propensities", "chosen", "says"),
    [
        ([0.5, 0.6], [0], "add up to 1"),
        ([1.0, 0.0], [1], "had no propensity"),
        ([0.5, 0.5], [2], "not there"),
    ],
)
def test_logs_that_cannot_be_are_refused(propensities: list[float], chosen: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rows(propensities, chosen, [1] * len(chosen))


def test_policies_have_names() -> None:
    open_arms = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])

    def of(policy: Floats) -> list[list[float]]:
        return [[round(each, 6) for each in row] for row in policy.tolist()]

    assert of(uniform(open_arms)) == [[0.333333] * 3, [0.5, 0, 0.5]]
    assert of(always(1, open_arms)) == [[0, 1, 0], [0.5, 0, 0.5]]
    assert of(greedy(np.array([[0.1, 0.3, 0.3], [0.1, 0.3, 0.2]]), open_arms)) == [[0, 1, 0], [0, 0, 1]]
    assert of(weighted(np.array([0.2, 0.8, 0.0]), open_arms)) == [[0.2, 0.8, 0], [1, 0, 0]]
    assert of(weighted(np.array([0.0, 1.0, 0.0]), open_arms)) == [[0, 1, 0], [0.5, 0, 0.5]]
