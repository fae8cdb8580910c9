"""Logistic regression with a normal prior."""

from __future__ import annotations

import numpy as np

from orchestrator.learning.arrays import Floats

# Newton's method doubles the digits in each step; it is there in five or six.
_STEPS = 25


def log_odds(rate: float) -> float:
    return float(np.log(rate / (1 - rate)))


def probabilities(columns: Floats, coefficients: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(columns @ coefficients, -40, 40))), dtype=np.float64)


def fitted(columns: Floats, subjects: Floats, converted: Floats, prior: Floats) -> Floats:
    """The most probable coefficients, (columns,), where `converted` of `subjects` in each row did.

    Each has a normal prior around `prior` with variance 1. Rounded to nine digits after the point, in which machines
    agree.
    """
    coefficients = prior.copy()
    reached = _objective(columns, subjects, converted, prior, coefficients)
    for _ in range(_STEPS):
        expected = probabilities(columns, coefficients)
        gradient = columns.T @ (converted - subjects * expected) - (coefficients - prior)
        weights = subjects * expected * (1 - expected)
        curvature = (columns * weights[:, None]).T @ columns + np.eye(len(prior))
        step = np.linalg.solve(curvature, gradient)
        while True:
            tried = coefficients + step
            reaches = _objective(columns, subjects, converted, prior, tried)
            if reaches >= reached or np.abs(step).max() < 1e-12:
                break
            step = step / 2  # too far: beyond the top
        coefficients, reached = tried, max(reaches, reached)
        if np.abs(step).max() < 1e-11:
            break
    return np.round(coefficients, 9)


def _objective(columns: Floats, subjects: Floats, converted: Floats, prior: Floats, coefficients: Floats) -> float:
    scores = columns @ coefficients
    likelihood = converted @ scores - subjects @ np.logaddexp(0, scores)
    return float(likelihood - ((coefficients - prior) ** 2).sum() / 2)
