"""What a named policy of an adaptive branch would have brought, from what was recorded of the one that ran."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from asyncpg import Connection, Record

from orchestrator.application.branch_performance import YOUNGEST, branch_of, has_own_shares
from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import arm_results, clock, impact, policy_log
from orchestrator.storage.arm_results import FOLDS, Alike, Question

if TYPE_CHECKING:
    from orchestrator.learning.arrays import Floats
    from orchestrator.learning.off_policy import PolicyValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """All open arms alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy:
    """The open arm that does best, as the others' conversions say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Always:
    """One arm, wherever it is open."""

    arm_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """Fixed weights of arms, among those that are open."""

    weights: tuple[tuple[str, float], ...]


NamedPolicy = Uniform | Greedy | Always | Weighted


@dataclass(frozen=True, slots=True, kw_only=True)
class Valued:
    """`observed`: conversions per choice of the policy that ran; None when nobody has matured. `sampled`: of the
    youngest of the matured.
    """

    value: PolicyValue
    observed: float | None
    sampled: bool


async def value_of_policy(
    conn: Connection[Record], scope: Scope, journey_id: str, step_id: str, policy: NamedPolicy
) -> Valued:
    """Of all choices at a branch that have matured.

    Raises NotFound: JOURNEY_NOT_FOUND, BRANCH_NOT_FOUND; InvalidArgument where the policy names arms that the branch
    never had, or weights that are none.
    """
    branch = await branch_of(conn, scope, journey_id, step_id)
    now = await clock.now(conn)
    question = Question(
        project_no=scope.project_no,
        journey_id=journey_id,
        graces={step_id: branch.grace},
        goal_revision=None,
        now=now,
    )
    history = [
        shares for shares in await policy_log.shares(conn, scope.project_no, journey_id) if shares.step_id == step_id
    ]
    again = await arm_results.choices_again(conn, question, most=YOUNGEST)  # each of them is a row
    sampled = has_own_shares(branch, history) or again > YOUNGEST
    if sampled:
        windows = [goal.window for goal in await impact.goals(conn, scope.project_no, journey_id)]
        until = now - max(windows, default=timedelta(0)) - branch.grace
        alike = await arm_results.youngest_by_subject(conn, question, until=until, limit=YOUNGEST)
    else:
        alike = await arm_results.by_subject(conn, question)
    arm_ids = sorted(branch.arm_ids | {name for one in alike for name in one.propensities})
    _refuse(policy, arm_ids)
    matured = [one for one in alike if one.matured]
    return await asyncio.to_thread(_valued, policy, arm_ids, matured, sampled=sampled)  # arrays take long to import


def _refuse(policy: NamedPolicy, arm_ids: Sequence[str]) -> None:
    def of_arm(arm_id: str, path: str) -> list[Fault]:
        if arm_id in arm_ids:
            return []
        return [Fault(path=path, reason="ARM_NOT_FOUND", message=f"the branch never had an arm {arm_id}")]

    faults: list[Fault] = []
    match policy:
        case Always(arm_id=arm_id):
            faults = of_arm(arm_id, "policy.armId")
        case Weighted(weights=weights):
            named = [arm_id for arm_id, _ in weights]
            for place, (arm_id, weight) in enumerate(weights):
                at = f"policy.weights[{place}]"
                faults += of_arm(arm_id, f"{at}.armId")
                if arm_id in named[:place]:
                    faults.append(Fault(path=f"{at}.armId", reason="DUPLICATE_ID", message="has a weight already"))
                if not (math.isfinite(weight) and weight >= 0):
                    faults.append(Fault(path=f"{at}.weight", reason="OUT_OF_RANGE", message="must not be below 0"))
            total = sum(weight for _, weight in weights)
            if not faults and not (math.isfinite(total) and total > 0):
                message = "at least one weight must be above 0, and their sum a number"
                faults.append(Fault(path="policy.weights", reason="OUT_OF_RANGE", message=message))
        case Uniform() | Greedy():
            pass
    if faults:
        raise InvalidArgument(faults)


def _valued(policy: NamedPolicy, arm_ids: Sequence[str], alike: Sequence[Alike], *, sampled: bool) -> Valued:
    import numpy as np

    from orchestrator.learning.off_policy import Logged, value_of

    propensities = np.array(
        [[one.propensities.get(arm_id, 0) / WHOLE for arm_id in arm_ids] for one in alike], dtype=np.float64
    ).reshape(len(alike), len(arm_ids))
    logged = Logged(
        propensities=propensities,
        chosen=np.array([arm_ids.index(one.arm_id) for one in alike], dtype=np.int64),
        subjects=np.array([one.matured for one in alike], dtype=np.int64),
        converted=np.array([one.matured_converted for one in alike], dtype=np.int64),
        cluster=np.array([one.cluster for one in alike], dtype=np.int64),
    )
    expected = _expected(arm_ids, alike)
    target = _target(policy, arm_ids, (propensities > 0).astype(np.float64), expected)
    subjects = sum(one.matured for one in alike)
    return Valued(
        value=value_of(logged, target, expected),
        observed=sum(one.matured_converted for one in alike) / subjects if subjects else None,
        sampled=sampled,
    )


def _target(policy: NamedPolicy, arm_ids: Sequence[str], open_arms: Floats, expected: Floats) -> Floats:
    import numpy as np

    from orchestrator.learning import off_policy

    match policy:
        case Uniform():
            return off_policy.uniform(open_arms)
        case Greedy():
            return off_policy.greedy(expected, open_arms)
        case Always(arm_id=arm_id):
            return off_policy.always(arm_ids.index(arm_id), open_arms)
        case Weighted(weights=weights):
            by_arm: Mapping[str, float] = dict(weights)
            return off_policy.weighted(np.array([by_arm.get(arm_id, 0.0) for arm_id in arm_ids]), open_arms)


def _expected(arm_ids: Sequence[str], alike: Sequence[Alike]) -> Floats:
    """What each arm would bring to the subjects of a row, learned from subjects of other folds: (rows, arms)."""
    import numpy as np

    subjects, converted = np.zeros((FOLDS, len(arm_ids))), np.zeros((FOLDS, len(arm_ids)))
    for one in alike:
        at = one.fold, arm_ids.index(one.arm_id)
        subjects[at] += one.matured
        converted[at] += one.matured_converted
    others = subjects.sum(axis=0) - subjects, converted.sum(axis=0) - converted
    rates = (1 + others[1]) / (2 + others[0])
    return np.asarray(rates[[one.fold for one in alike]], dtype=np.float64).reshape(len(alike), len(arm_ids))
