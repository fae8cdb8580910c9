"""The calibrated impact of a journey: counted in the database, judged by `orchestrator.learning`."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from asyncpg import Connection, Record

from orchestrator.application import journeys
from orchestrator.domain.holdout import GLOBAL, JOURNEY, Holdout, share_against_exposed
from orchestrator.domain.project import MAX_GOAL_WINDOW
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import clock, projects
from orchestrator.storage import impact as counts
from orchestrator.storage.impact import Changed, MeasuredBy, Triggered

if TYPE_CHECKING:
    from orchestrator.learning.impact import Impact, Stratum
    from orchestrator.learning.planning import Plan

#: For so long after the end of a window events may take to come in, before a cohort counts as matured. Later ones count
#: too, and are told apart.
GRACE = timedelta(days=1)

#: In which part of cases a lift is to be seen that is planned for.
POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalOf:
    """A goal by which some of the triggered are measured, and how many."""

    goal: MeasuredBy
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedImpact:
    """`has_goal`: there is one by which anybody could have converted. `late` converted by an event that came in when
    their cohort had matured; they count. `goals` are those the triggered are measured by, newest first: with more than
    one, each enrollment by its own.

    `window_days` is the longest window of these, in whole days, after which, and after `grace`, a day has matured.
    `global_holdout` is the impact against those whom the project's holdout has, at the same trigger; they are on
    neither side of the journey's own. None: there are none. `holdout_share` is the part that the journey holds out of
    all others; None: it was changed, or nobody is held out.
    """

    journey_id: str
    has_goal: bool
    impact: Impact
    global_holdout: Impact | None
    goals: tuple[GoalOf, ...]
    window_days: int
    grace: timedelta
    holdout_share: float | None
    late: int
    as_of: datetime


async def calibrated_impact(
    conn: Connection[Record], scope: Scope, journey_id: str, goal_revision: int | None = None
) -> CalibratedImpact:
    """Of all who were triggered and are measured by a goal; with a `goal_revision`, of those measured by that one.

    Raises NotFound: JOURNEY_NOT_FOUND, GOAL_NOT_FOUND.
    """
    await journeys.get(conn, scope, journey_id)
    goals = await counts.goals(conn, scope.project_no, journey_id)
    require_goal(goals, journey_id, goal_revision)
    rows = await counts.triggered(conn, scope.project_no, journey_id, goal_revision, GRACE)
    holdouts = await counts.holdouts(conn, scope.project_no, journey_id)
    in_force = InForce(scope=scope, journey_id=journey_id, holdouts=holdouts, rows=rows)
    changed: list[Changed] = []
    if await _may_have_changed(conn, scope, rows, holdouts):
        changed = await counts.changed(conn, scope.project_no, journey_id, goal_revision)
    now = await clock.now(conn)
    measured: defaultdict[int, int] = defaultdict(int)
    for row in rows:
        measured[row.goal_revision] += row.subjects
    used = tuple(GoalOf(goal=goal, subjects=measured[goal.revision]) for goal in goals if goal.revision in measured)
    window_days = max((_whole_days(one.goal.window) for one in used), default=_whole_days(goals[0].window))
    judge = partial(_between, rows, changed, in_force, today=now.astimezone(UTC).date(), window_days=window_days)
    own = await asyncio.to_thread(judge, JOURNEY)  # arrays take long to import
    shares = {one.stratum.share if one.stratum is not None else None for one in own.strata}
    apart = None
    if any(row.held_out_by == GLOBAL for row in rows):
        apart = await asyncio.to_thread(judge, GLOBAL)
    return CalibratedImpact(
        journey_id=journey_id,
        has_goal=any(
            goal.event_name is not None for goal in goals if goal_revision is None or goal.revision == goal_revision
        ),
        impact=own,
        global_holdout=apart,
        goals=used,
        window_days=window_days,
        grace=GRACE,
        holdout_share=next(iter(shares)) or None if len(shares) == 1 else None,
        late=sum(row.late for row in rows if row.held_out_by != GLOBAL),
        as_of=now,
    )


async def _may_have_changed(
    conn: Connection[Record], scope: Scope, rows: Iterable[Triggered], holdouts: Mapping[int, Holdout]
) -> bool:
    """Whether more than one holdout, or none, was ever in force there."""
    of_project = (await projects.get(conn, scope.project_no)).settings.global_holdout
    now = (of_project.percent, of_project.salt) if of_project is not None else (0, None)
    return len(set(holdouts.values())) > 1 or any((row.global_percent, row.global_salt) != now for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """Which holdouts were in force at triggers: of the journey, that of the version; of the project, what the
    enrollment has recorded.
    """

    scope: Scope
    journey_id: str
    holdouts: Mapping[int, Holdout]
    rows: Iterable[Triggered]

    def stratum(self, row: Triggered | Changed, held_out_by: str) -> Stratum | None:
        """Of those whom this holdout has, and the exposed; None: it cannot be told."""
        from orchestrator.learning.impact import Stratum

        of_journey = self.holdouts.get(row.version)
        if of_journey is None:
            return None
        if row.global_percent is not None:
            of_project = Holdout(percent=row.global_percent, salt=row.global_salt)
        elif held_out_by == JOURNEY and (of_journey.salt is None or self._nobody_was_the_projects):
            of_project = Holdout(percent=0)  # whatever it was, it does not bear on the ratio
        else:
            return None
        of_side = of_project if held_out_by == GLOBAL else of_journey
        return Stratum(
            percent=of_side.percent,
            salt=of_side.salt,
            share=share_against_exposed(
                held_out_by, of_project, of_journey, project_id=self.scope.project_id, journey_id=self.journey_id
            ),
        )

    @property
    def _nobody_was_the_projects(self) -> bool:
        return not any(row.global_percent is None and row.held_out_by == GLOBAL for row in self.rows)


def _between(
    rows: Iterable[Triggered],
    changed: Iterable[Changed],
    in_force: InForce,
    held_out_by: str,
    *,
    today: date,
    window_days: int,
) -> Impact:
    """Of the exposed against those whom this holdout has."""
    from orchestrator.learning.impact import TriggerDay, impact_of
    from orchestrator.learning.lift import NOBODY, Side

    days = []
    for row in rows:
        if row.held_out_by not in (None, held_out_by):
            continue
        side = Side(subjects=row.subjects, converted=row.converted)
        exposed, holdout = (side, NOBODY) if row.held_out_by is None else (NOBODY, side)
        days.append(
            TriggerDay(day=row.day, exposed=exposed, holdout=holdout, stratum=in_force.stratum(row, held_out_by))
        )
    for one in changed:
        if one.held_out_by not in (None, held_out_by):
            continue
        stratum = in_force.stratum(one, held_out_by)
        days.append(TriggerDay(day=one.day, exposed=NOBODY, holdout=NOBODY, stratum=stratum, changed=one.subjects))
    return impact_of(days, today=today, window_days=window_days, grace_days=GRACE.days)


def require_goal(goals: Iterable[MeasuredBy], journey_id: str, revision: int | None) -> None:
    """Raises NotFound GOAL_NOT_FOUND unless this revision is among a journey's goals, or none is asked for."""
    if revision is not None and all(goal.revision != revision for goal in goals):
        raise NotFound(
            "GOAL_NOT_FOUND",
            f"journey {journey_id} has no revision {revision} of its goal",
            journeyId=journey_id,
            goalRevision=str(revision),
        )


async def plan(
    conn: Connection[Record],
    scope: Scope,
    *,
    base_rate: float,
    lift: float,
    holdout_percent: int,
    weekly_volume: float,
    window: timedelta | None = None,
    power: float | None = None,
) -> Plan:
    """How long until a lift can be seen. `window` None: the project's; `power` None: POWER.

    Raises InvalidArgument with every fault.
    """
    from orchestrator.learning.planning import planned

    if window is None:
        window = (await projects.get(conn, scope.project_no)).settings.goal_window
    if power is None:
        power = POWER

    faults = [
        Fault(path=path, reason="OUT_OF_RANGE", message=message)
        for path, is_right, message in (
            ("baseRate", 0 < base_rate < 1, "must lie between 0 and 1, neither of them"),
            ("lift", math.isfinite(lift) and lift > -1 and lift != 0, "must be above -1, and not 0"),
            ("holdoutPercent", 0 < holdout_percent < 100, "must be 1 to 99"),
            ("weeklyVolume", math.isfinite(weekly_volume) and weekly_volume > 0, "must be above 0"),
            ("window", timedelta(0) <= window <= MAX_GOAL_WINDOW, f"must be 0s to {MAX_GOAL_WINDOW.days}d"),
            ("power", 0 < power < 1, "must lie between 0 and 1, neither of them"),
        )
        if not is_right
    ]
    if not faults and not base_rate * (1 + lift) < 1:
        faults.append(
            Fault(path="lift", reason="OUT_OF_RANGE", message="with it, more than all of the exposed would convert")
        )
    if faults:
        raise InvalidArgument(faults)
    try:
        return planned(
            base_rate=base_rate,
            lift=lift,
            holdout_share=holdout_percent / 100,
            weekly_volume=weekly_volume,
            window_days=window / timedelta(days=1),
            grace_days=GRACE.days,
            power=power,
        )
    except ValueError:
        message = "so small a lift is not seen with any number of subjects that come together"
        raise InvalidArgument.of("lift", "OUT_OF_RANGE", message) from None


def _whole_days(window: timedelta) -> int:
    return max(math.ceil(window / timedelta(days=1)), 1)
