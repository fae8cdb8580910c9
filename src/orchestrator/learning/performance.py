"""How the arms of an adaptive branch do, and how far the branch has come."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.domain.apportionment import WHOLE
from orchestrator.learning.arrays import Floats
from orchestrator.learning.best_arm import compared, value_remaining
from orchestrator.learning.rates import interval95
from orchestrator.learning.sample_ratio import Assigned, SampleRatio, sample_ratio_of_arms

#: Fewer samples than this are a cold start: no interval is told.
COLD_START = 200
#: `converged`: no other arm is better by more than this part of the best one's rate, with 95 % …
CONVERGED_VALUE = 0.01
#: … after so many days, and with COLD_START matured subjects for each of the two leading arms.
CONVERGED_DAYS = 14
#: `stalled`: nobody has been assigned for so many days.
STALLED_DAYS = 14
#: `leading`: an arm is the best with this probability, which is no proof: of two arms that are alike, daily looks find
#: one leading at some time in every second branch.
LEADING = 0.95


class DecisionState(enum.StrEnum):
    LEARNING = "learning"
    LEADING = "leading"
    CONVERGED = "converged"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes(Assigned):
    """Subjects who were assigned with the same propensities, as an Assigned has them; of those of each arm, how many
    converted so far, how many have matured, and how many of the matured converted. Arms in the order of `arm_ids`.
    """

    converted: tuple[int, ...]
    matured: tuple[int, ...]
    matured_converted: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCounts:
    """All who went by an arm. `propensity_range`: the lowest and the highest with which anybody did, in millionths."""

    subjects: int
    converted: int
    matured: int
    matured_converted: int
    propensity_range: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPerformance:
    """`subjects_reached` to `cold_start` count all who were assigned: while windows are open, the rate is too low.
    `matured_*` count only those whose window has passed. What compares the arm with others is None while these are
    fewer than 200, and for an arm that does not run. `relative_loss`: of the best one's rate. `ipw_rate`: the matured
    rate, weighted by 1/propensity (Hájek): a check without the slight bias of adaptive means, of a larger variance.
    `propensity_range`: the lowest and the highest with which anybody went by this arm, in millionths.
    """

    arm_id: str
    subjects_reached: int
    goal_events: int
    rate: float | None
    credible_interval95: tuple[float, float] | None
    cold_start: bool
    matured_subjects: int
    matured_goal_events: int
    matured_rate: float | None
    matured_interval95: tuple[float, float] | None
    pending_subjects: int
    prob_best: float | None
    expected_loss: float | None
    relative_loss: float | None
    ipw_rate: float | None
    propensity_range: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPerformance:
    """`improvement_over_equal`: matured conversions beyond those that equal shares would have brought at the same
    rates; None until every arm has a rate. `value_remaining`: by what part of its rate the best arm may be beaten.
    """

    arms: tuple[ArmPerformance, ...]
    state: DecisionState
    value_remaining: float | None
    improvement_over_equal: float | None
    sample_ratio: SampleRatio | None


def performance_of(
    arm_ids: Sequence[str],
    groups: Iterable[Outcomes],
    *,
    running: Collection[str],
    days: int,
    days_since_last: int,
    counts: Sequence[ArmCounts] | None = None,
) -> BranchPerformance:
    """`groups` are all assignments of the branch, none twice. Where too many have propensities of their own, they may
    be some of them: then `counts` are those of all, for each arm, and only what rests on propensities is of the
    groups. Only arms that are `running` are compared. `days` since the first, and since the last assignment.

    Raises ValueError when a group has other numbers of arms, or more conversions than subjects.
    """
    groups = list(groups)
    for group in groups:
        _check(group, len(arm_ids))
    counts = counts if counts is not None else [_counted(groups, at) for at in range(len(arm_ids))]
    matured = np.array([count.matured for count in counts], dtype=float)
    won = np.array([count.matured_converted for count in counts], dtype=float)
    alpha, beta = 1 + won, 1 + matured - won
    runs = np.array([arm_id in running for arm_id in arm_ids], dtype=np.bool_)
    known = runs & (matured >= COLD_START)
    comparison = compared(alpha, beta, known)
    best_rate = float((alpha / (alpha + beta))[known].max()) if known.any() else None
    arms = []
    for at, (arm_id, count) in enumerate(zip(arm_ids, counts, strict=True)):
        reached, goals = count.subjects, count.converted
        ready, of_ready = count.matured, count.matured_converted
        loss = float(comparison.expected_loss[at]) if known[at] else None
        arms.append(
            ArmPerformance(
                arm_id=arm_id,
                subjects_reached=reached,
                goal_events=goals,
                rate=goals / reached if reached else None,
                credible_interval95=interval95(goals, reached) if reached >= COLD_START else None,
                cold_start=reached < COLD_START,
                matured_subjects=ready,
                matured_goal_events=of_ready,
                matured_rate=of_ready / ready if ready else None,
                matured_interval95=interval95(of_ready, ready) if ready >= COLD_START else None,
                pending_subjects=reached - ready,
                prob_best=float(comparison.prob_best[at]) if known[at] else None,
                expected_loss=loss,
                relative_loss=loss / best_rate if loss is not None and best_rate else None,
                ipw_rate=_ipw_rate(groups, at),
                propensity_range=count.propensity_range,
            )
        )
    remaining, prob_best = None, np.zeros(len(arm_ids))
    if runs.sum() > 1:
        # Arms of which little is known count here too: one of them may still be the best.
        prob_best = compared(alpha, beta, runs).prob_best
        leader = int(np.argmax(prob_best))
        remaining = value_remaining(alpha[runs], beta[runs], int(runs[:leader].sum()))
    return BranchPerformance(
        arms=tuple(arms),
        state=_state(prob_best, matured, remaining, days=days, days_since_last=days_since_last),
        value_remaining=remaining,
        improvement_over_equal=float(won.sum() - matured.sum() * (won / matured).mean())
        if len(arm_ids) and matured.all()
        else None,
        sample_ratio=sample_ratio_of_arms(groups),
    )


def _counted(groups: Sequence[Outcomes], at: int) -> ArmCounts:
    used = [group.propensities_ppm[at] for group in groups if group.subjects[at]]
    return ArmCounts(
        subjects=sum(group.subjects[at] for group in groups),
        converted=sum(group.converted[at] for group in groups),
        matured=sum(group.matured[at] for group in groups),
        matured_converted=sum(group.matured_converted[at] for group in groups),
        propensity_range=(min(used), max(used)) if used else None,
    )


def _check(group: Outcomes, arms: int) -> None:
    rows = (group.propensities_ppm, group.subjects, group.converted, group.matured, group.matured_converted)
    if any(len(row) != arms for row in rows):
        raise ValueError("a group has other numbers of arms")
    if sum(group.propensities_ppm) != WHOLE or min(map(min, rows)) < 0:
        raise ValueError("propensities add up to a million, and no count is negative")
    for subjects, converted, matured, won in zip(*rows[1:], strict=True):
        if converted > subjects or matured > subjects or won > min(matured, converted):
            raise ValueError("who converted is among the subjects")


def _ipw_rate(groups: Sequence[Outcomes], at: int) -> float | None:
    """Σ r/p over Σ 1/p of the matured who went by the arm."""
    weights = [(group, WHOLE / group.propensities_ppm[at]) for group in groups if group.propensities_ppm[at]]
    subjects = sum(weight * group.matured[at] for group, weight in weights)
    return sum(weight * group.matured_converted[at] for group, weight in weights) / subjects if subjects else None


def _state(
    prob_best: Floats,
    matured: Floats,
    remaining: float | None,
    *,
    days: int,
    days_since_last: int,
) -> DecisionState:
    leading_pair = matured[np.argsort(prob_best)[-2:]]
    enough = remaining is not None and bool((leading_pair >= COLD_START).all())
    if enough and days >= CONVERGED_DAYS and remaining is not None and remaining <= CONVERGED_VALUE:
        return DecisionState.CONVERGED
    if days_since_last >= STALLED_DAYS:
        return DecisionState.STALLED
    return DecisionState.LEADING if enough and prob_best.max() >= LEADING else DecisionState.LEARNING
