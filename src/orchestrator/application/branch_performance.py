"""How the arms of a journey's adaptive branches do: counted in the database, judged by `orchestrator.learning`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from asyncpg import Connection, Record

from orchestrator.application import journeys
from orchestrator.application.impact import require_goal
from orchestrator.application.policies import CONTEXT
from orchestrator.application.policy_updates import steps_that_learn
from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.journey import AdaptiveStep, Journey, NbaDecision
from orchestrator.domain.journey_form import stored
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Scope
from orchestrator.storage import arm_results, clock, impact, journey_versions, policy_log
from orchestrator.storage.arm_results import Alike, ArmTotals, Question
from orchestrator.storage.policy_log import Shares

if TYPE_CHECKING:
    from orchestrator.learning import performance
    from orchestrator.learning.share_history import SharesSince

#: Of a branch that is in no version of the journey any more.
GRACE = timedelta(days=1)

#: Where each subject has shares of its own, so many choices, the youngest, are looked at for what rests on them.
YOUNGEST = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A step at which arms are chosen. `step` None: it is not in the newest version, and no arm of it runs."""

    step_id: str
    step: AdaptiveStep | None

    @property
    def grace(self) -> timedelta:
        return timedelta(days=self.step.learning.grace_days) if self.step is not None else GRACE

    @property
    def running(self) -> frozenset[str]:
        return frozenset(arm.id for arm in self.step.arms if not arm.paused) if self.step is not None else frozenset()

    @property
    def arm_ids(self) -> frozenset[str]:
        return frozenset(arm.id for arm in self.step.arms) if self.step is not None else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPerformance:
    """`current_shares` are those of the newest policy, empty where each subject has its own. `sampled`: what rests on
    propensities is of the youngest choices. `mature_before`: whoever was chosen for by then has matured; None: nobody
    was chosen for.
    """

    branch: Branch
    performance: performance.BranchPerformance
    policy_version: int | None
    current_shares: Mapping[str, int]
    share_history: tuple[SharesSince, ...]
    late: int
    sampled: bool
    goal_revisions: tuple[int, ...]
    mature_before: datetime | None
    as_of: datetime


async def branches_of(conn: Connection[Record], scope: Scope, journey: Journey) -> list[Branch]:
    """Those of the newest version in its order, then those of older versions at which anything was chosen."""
    found: dict[str, Branch] = {}
    if journey.latest_version is not None:
        version = await journey_versions.find(conn, scope.project_no, journey.journey_id, journey.latest_version)
        assert version is not None, "versions are never deleted"
        for step in steps_that_learn(stored(version.definition)):
            found[step.id] = Branch(step_id=step.id, step=step)
    for step_id in await arm_results.steps(conn, scope.project_no, journey.journey_id):
        found.setdefault(step_id, Branch(step_id=step_id, step=None))
    return list(found.values())


async def branch_of(conn: Connection[Record], scope: Scope, journey_id: str, step_id: str) -> Branch:
    """Raises NotFound: JOURNEY_NOT_FOUND, BRANCH_NOT_FOUND."""
    journey = await journeys.get(conn, scope, journey_id)
    for branch in await branches_of(conn, scope, journey):
        if branch.step_id == step_id:
            return branch
    raise NotFound(
        "BRANCH_NOT_FOUND",
        f"journey {journey_id} has no adaptive branch {step_id}",
        journeyId=journey_id,
        stepId=step_id,
    )


async def branch_performance(
    conn: Connection[Record], scope: Scope, journey_id: str, goal_revision: int | None = None
) -> list[BranchPerformance]:
    """Of each branch, all choices that are measured by a goal; with a `goal_revision`, those measured by that one.

    Raises NotFound: JOURNEY_NOT_FOUND, GOAL_NOT_FOUND.
    """
    journey = await journeys.get(conn, scope, journey_id)
    require_goal(await impact.goals(conn, scope.project_no, journey_id), journey_id, goal_revision)
    branches = await branches_of(conn, scope, journey)
    if not branches:
        return []
    now = await clock.now(conn)
    totals: defaultdict[str, list[ArmTotals]] = defaultdict(list)
    for row in await arm_results.totals(conn, _question(scope, journey_id, branches, goal_revision, now)):
        totals[row.step_id].append(row)
    published: defaultdict[str, list[Shares]] = defaultdict(list)
    for shares in await policy_log.shares(conn, scope.project_no, journey_id):
        published[shares.step_id].append(shares)
    told = []
    for branch in branches:
        if branch.step is None and not totals[branch.step_id]:
            continue  # nobody who went by it is measured, and nobody will
        history = published[branch.step_id]
        each_has_its_own = has_own_shares(branch, history)
        question = _question(scope, journey_id, [branch], goal_revision, now)
        if each_has_its_own:
            alike = await arm_results.youngest_alike(conn, question, until=now, limit=YOUNGEST)
        else:
            alike = await arm_results.alike(conn, question)
        judge = partial(_judged, branch, totals[branch.step_id], alike, history, now, sampled=each_has_its_own)
        told.append(await asyncio.to_thread(judge))  # arrays take long to import, and integrals to compute
    return told


def has_own_shares(branch: Branch, history: Iterable[Shares]) -> bool:
    """Whether each subject has shares of its own there."""
    return isinstance(branch.step, NbaDecision) or any(shares.kind == CONTEXT for shares in history)


def _question(
    scope: Scope, journey_id: str, branches: Iterable[Branch], goal_revision: int | None, now: datetime
) -> Question:
    return Question(
        project_no=scope.project_no,
        journey_id=journey_id,
        graces={branch.step_id: branch.grace for branch in branches},
        goal_revision=goal_revision,
        now=now,
    )


def _judged(
    branch: Branch,
    totals: Sequence[ArmTotals],
    alike: Sequence[Alike],
    history: Sequence[Shares],
    now: datetime,
    *,
    sampled: bool,
) -> BranchPerformance:
    from orchestrator.learning.performance import performance_of
    from orchestrator.learning.share_history import SharesSince, share_history

    arm_ids = sorted(branch.arm_ids | {row.arm_id for row in totals} | {name for a in alike for name in a.propensities})
    first, last = (min(row.first_at for row in totals), max(row.last_at for row in totals)) if totals else (now, now)
    windows = [row.window for row in totals]
    newest = history[-1] if history else None
    return BranchPerformance(
        branch=branch,
        performance=performance_of(
            arm_ids,
            _outcomes(arm_ids, alike),
            running=branch.running,
            days=(now - first).days,
            days_since_last=(now - last).days,
            counts=_counts(arm_ids, totals),
        ),
        policy_version=newest.policy_version if newest is not None else None,
        current_shares=newest.ppm if newest is not None else {},
        share_history=share_history(
            SharesSince(version=one.policy_version, since=one.created_at, ppm=tuple(sorted(one.ppm.items())))
            for one in history
            if one.ppm
        ),
        late=sum(row.late for row in totals),
        sampled=sampled,
        goal_revisions=tuple(sorted({row.goal_revision for row in totals if row.subjects}, reverse=True)),
        mature_before=now - max(windows) - branch.grace if windows else None,
        as_of=now,
    )


def _counts(arm_ids: Sequence[str], totals: Iterable[ArmTotals]) -> list[performance.ArmCounts]:
    from orchestrator.learning.performance import ArmCounts

    rows: defaultdict[str, list[ArmTotals]] = defaultdict(list)
    for row in totals:
        rows[row.arm_id].append(row)
    return [
        ArmCounts(
            subjects=sum(row.subjects for row in rows[arm_id]),
            converted=sum(row.converted for row in rows[arm_id]),
            matured=sum(row.matured for row in rows[arm_id]),
            matured_converted=sum(row.matured_converted for row in rows[arm_id]),
            propensity_range=(min(row.least_ppm for row in rows[arm_id]), max(row.most_ppm for row in rows[arm_id]))
            if rows[arm_id]
            else None,
        )
        for arm_id in arm_ids
    ]


def _outcomes(arm_ids: Sequence[str], alike: Iterable[Alike]) -> list[performance.Outcomes]:
    """One for all choices with the same propensities."""
    from orchestrator.learning.performance import Outcomes

    groups: defaultdict[tuple[int, ...], list[Alike]] = defaultdict(list)
    for one in alike:
        groups[tuple(one.propensities.get(arm_id, 0) for arm_id in arm_ids)].append(one)
    return [
        Outcomes(
            propensities_ppm=propensities,
            subjects=tuple(sum(a.subjects for a in group if a.arm_id == arm_id) for arm_id in arm_ids),
            converted=tuple(sum(a.converted for a in group if a.arm_id == arm_id) for arm_id in arm_ids),
            matured=tuple(sum(a.matured for a in group if a.arm_id == arm_id) for arm_id in arm_ids),
            matured_converted=tuple(
                sum(a.matured_converted for a in group if a.arm_id == arm_id) for arm_id in arm_ids
            ),
        )
        for propensities, group in groups.items()
        if sum(propensities) == WHOLE
    ]
