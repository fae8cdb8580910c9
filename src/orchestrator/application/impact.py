"""The calibrated impact of a journey: counted in the database, judged by `orchestrator.learning`."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from asyncpg import Connection, Record

from orchestrator.application import journeys as authoring
from orchestrator.domain.holdout import GLOBAL, JOURNEY, Holdout
from orchestrator.domain.project import MAX_GOAL_WINDOW
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import clock, projects
from orchestrator.storage import impact as counts
from orchestrator.storage.impact import HeldOut, MeasuredBy, Triggered

if TYPE_CHECKING:
    from orchestrator.learning.impact import Impact, TriggerDay
    from orchestrator.learning.lift import Lift, Side
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
class GlobalHoldout:
    """Those whom the project's holdout has, at the same trigger; they are on neither side of the journey's own impact.

    `matured_lift` compares the exposed with them, over days that have matured, as are `matured_exposed` and `matured`.
    """

    side: Side
    matured: Side
    matured_exposed: Side
    matured_lift: Lift


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedImpact:
    """`has_goal`: there is one by which anybody could have converted. `late` converted by an event that came in when
    their cohort had matured; they count. `goals` are those the triggered are measured by, newest first: with more than
    one, each enrollment by its own.

    `window_days` is the longest window of these, in whole days, after which, and after `grace`, a day has matured.
    `holdout_share` is the part that the journey holds out; None: it was changed, or has no meaning.
    """

    journey_id: str
    has_goal: bool
    impact: Impact
    global_holdout: GlobalHoldout | None
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
    await authoring.get(conn, scope, journey_id)
    goals = await counts.goals(conn, scope.project_no, journey_id)
    require_goal(goals, journey_id, goal_revision)
    rows = await counts.triggered(conn, scope.project_no, journey_id, goal_revision, GRACE)
    settings = (await projects.get(conn, scope.project_no)).settings
    holdouts = await counts.holdouts(conn, scope.project_no, journey_id)
    now = await clock.now(conn)
    measured: defaultdict[int, int] = defaultdict(int)
    for row in rows:
        measured[row.goal_revision] += row.subjects
    used = tuple(GoalOf(goal=goal, subjects=measured[goal.revision]) for goal in goals if goal.revision in measured)
    window_days = max((_whole_days(one.goal.window) for one in used), default=_whole_days(goals[0].window))
    share = _share(rows, holdouts, settings.global_holdout)
    judge = partial(_between, rows, today=now.astimezone(UTC).date(), window_days=window_days)
    own = await asyncio.to_thread(judge, JOURNEY, holdout_share=share)  # arrays take long to import
    apart = None
    if any(row.held_out_by == GLOBAL for row in rows):
        against = judge(GLOBAL)
        apart = GlobalHoldout(
            side=against.holdout,
            matured=against.matured_holdout,
            matured_exposed=against.matured_exposed,
            matured_lift=against.matured,
        )
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
        holdout_share=share,
        late=sum(row.late for row in rows if row.held_out_by != GLOBAL),
        as_of=now,
    )


def _between(
    rows: Iterable[Triggered],
    held_out_by: str,
    *,
    today: date,
    window_days: int,
    holdout_share: float | None = None,
) -> Impact:
    """Of the exposed against those whom this holdout has."""
    from orchestrator.learning.impact import impact_of

    return impact_of(
        _days(rows, held_out_by),
        today=today,
        window_days=window_days,
        grace_days=GRACE.days,
        holdout_share=holdout_share,
    )


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
            power=power,
        )
    except ValueError:
        message = "so small a lift is not seen with any number of subjects that come together"
        raise InvalidArgument.of("lift", "OUT_OF_RANGE", message) from None


def _days(rows: Iterable[Triggered], held_out_by: str) -> list[TriggerDay]:
    """The exposed, against those whom this holdout has."""
    from orchestrator.learning.impact import TriggerDay
    from orchestrator.learning.lift import Side

    sides: defaultdict[date, dict[str | None, Side]] = defaultdict(dict)
    nobody = Side(subjects=0, converted=0)
    for row in rows:
        before = sides[row.day].get(row.held_out_by, nobody)
        sides[row.day][row.held_out_by] = Side(
            subjects=before.subjects + row.subjects, converted=before.converted + row.converted
        )
    return [
        TriggerDay(day=day, exposed=of_day.get(None, nobody), holdout=of_day.get(held_out_by, nobody))
        for day, of_day in sides.items()
    ]


def _share(rows: Iterable[Triggered], holdouts: dict[int, HeldOut], of_project: Holdout | None) -> float | None:
    """By which part the journey's holdout keeps the triggered; None where it changed, or where that of the project has
    the same salt, and so the same subjects.
    """
    used = {(held.percent, held.salt) for row in rows if (held := holdouts.get(row.version)) is not None}
    if len(used) != 1:
        return None
    ((percent, salt),) = used
    if not percent or (salt is not None and of_project is not None and of_project.salt == salt):
        return None
    return percent / 100


def _whole_days(window: timedelta) -> int:
    return max(math.ceil(window / timedelta(days=1)), 1)
