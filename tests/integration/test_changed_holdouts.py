"""Holdouts that are changed while a journey runs: only who came under the same one is compared."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.convert.impact import impact_message
from orchestrator.api.json_encode import encode
from orchestrator.application import impact, publishing
from orchestrator.application.journeys import Changes, update
from orchestrator.domain.ids import new_uuid
from orchestrator.storage import impact as counts
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.road import BYE

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAY = timedelta(days=1)
WINDOW = 7 * DAY


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    world = await World.make(owner, api_pool)
    await world.furnish()
    await world.draft("welcome", {"steps": [BYE]})
    await world.do(update, "welcome", Changes(goal_event="paid", goal_window=WINDOW), ANY_STATE)
    return world


async def publish(world: World, **holdout: Any) -> None:
    definition = {"steps": [BYE], **({"holdout": holdout} if holdout else {})}
    await world.do(update, "welcome", Changes(definition=definition), ANY_STATE)
    await world.do(publishing.publish, "welcome", ANY_STATE)


async def lay(
    world: World,
    back: int,
    sides: dict[str | None, tuple[int, int]],
    *,
    version: int = 1,
    in_force: int | None = 0,
    salt: str | None = None,
    first: int,
) -> None:
    """By side: so many triggered so many days ago, and of them so many who converted the day after. `first` is the
    number of the first of these subjects, who are others or those of before.
    """
    owner, project_no, recorded = world.owner, world.scope.project_no, (in_force, salt)
    now: datetime = await owner.fetchval("SELECT now()")
    revision = await owner.fetchval("SELECT goal_revision FROM journeys WHERE journey_id = 'welcome'")
    at = now - back * DAY
    entered, converted = [], []
    for side, (subjects, conversions) in sides.items():
        for number in range(first, first + subjects):
            enrollment_id = new_uuid()
            whose = (project_no, number % 256, number, enrollment_id)
            key = str(enrollment_id)
            entered.append((*whose, "welcome", version, revision, "event", key, at, at, side, *recorded))
            if number < first + conversions:
                converted.append((*whose, "", 0, "welcome", at + DAY, at + DAY))
        first += subjects
    await owner.copy_records_to_table(
        "enrollments",
        records=entered,
        columns=[
            "project_no", "bucket", "subject_no", "enrollment_id", "journey_id", "version", "goal_revision",
            "entry_kind", "entry_key", "triggered_at", "enrolled_at", "held_out_by", "global_percent", "global_salt",
        ],
    )  # fmt: skip
    await owner.copy_records_to_table("conversions", records=converted)


async def test_a_share_that_was_changed_is_no_lift(world: World) -> None:
    await publish(world, percent=10)
    await publish(world, percent=50)
    await lay(world, 60, {None: (4500, 90), "journey": (500, 10)}, first=1_000_000)
    await lay(world, 20, {None: (2500, 250), "journey": (2500, 250)}, version=2, first=2_000_000)

    told = await world.look(impact.calibrated_impact, "welcome")

    matured = told.impact.matured
    assert told.holdout_share is None
    assert matured.lift == pytest.approx(0)
    assert matured.incremental == pytest.approx(0)
    assert not matured.significant
    assert told.impact.sample_ratio is not None
    assert not told.impact.sample_ratio.alarm
    document = encode(impact_message(told))["matured"]
    assert [(one["holdoutShare"], one["triggered"], one["compared"]) for one in document["strata"]] == [
        (0.1, {"exposed": 4500, "holdout": 500}, True),
        (0.5, {"exposed": 2500, "holdout": 2500}, True),
    ]


async def test_a_holdout_of_the_project_that_was_switched_on_later_is_no_lift(world: World) -> None:
    await publish(world)
    await lay(world, 90, {None: (4000, 80)}, first=1_000_000)
    await lay(world, 20, {None: (1800, 180), "global": (200, 20)}, in_force=10, salt="all", first=2_000_000)

    told = await world.look(impact.calibrated_impact, "welcome")

    assert told.global_holdout is not None
    matured = told.global_holdout.matured
    assert matured.lift == pytest.approx(0)
    assert matured.incremental == pytest.approx(0)
    assert not matured.significant
    assert told.global_holdout.sample_ratio is not None
    assert not told.global_holdout.sample_ratio.alarm
    assert [one.stratum.share for one in told.global_holdout.strata if one.stratum] == [0, 0.1]
    assert told.impact.matured.no_lift == "nobody_held_out"


async def test_of_before_the_projects_share_was_recorded_nothing_is_compared_with_it(world: World) -> None:
    """The journey's own is known of old ones as well, unless it may hold out the same subjects as the project's."""
    await publish(world, percent=50)
    await publish(world, percent=50, salt="all")
    sides: dict[str | None, tuple[int, int]] = {None: (500, 50), "journey": (500, 50), "global": (50, 5)}
    await lay(world, 60, sides, in_force=None, first=1_000_000)
    await lay(world, 50, sides, in_force=None, version=2, first=2_000_000)

    told = await world.look(impact.calibrated_impact, "welcome")

    assert told.global_holdout is not None
    assert (told.global_holdout.matured.no_lift, told.global_holdout.matured.lift) == ("holdout_unknown", None)
    assert [(one.stratum is None, one.compared) for one in told.impact.strata] == [(False, True), (True, False)]
    assert told.impact.matured.lift == pytest.approx(0)


async def test_whoever_comes_again_on_another_side_takes_all_of_these_days_along(world: World) -> None:
    """Held out for a half, and of these all who came last are let in when a tenth is held out: they convert then."""
    await publish(world, percent=50)
    await publish(world, percent=10)
    half: dict[str | None, tuple[int, int]] = {None: (500, 50), "journey": (500, 50)}
    await lay(world, 60, half, first=1_000_000)
    await lay(world, 33, {None: (500, 50), "journey": (500, 200)}, first=2_000_000)
    await lay(world, 30, {None: (250, 0)}, version=2, first=2_000_500)

    told = await world.look(impact.calibrated_impact, "welcome")

    assert [(one.left_out, one.exposed.subjects) for one in told.impact.strata] == [(1000, 500)]
    assert told.impact.matured.lift == pytest.approx(0)
    assert (told.impact.matured_exposed.subjects, told.impact.matured_holdout.subjects) == (1000, 1000)


async def test_two_sides_of_subjects_that_became_one_leave_nobody_out(world: World) -> None:
    await publish(world, percent=50)
    await publish(world, percent=50, salt="other")
    await lay(world, 60, {None: (500, 50), "journey": (500, 50)}, first=1_000_000)
    await lay(world, 58, {"journey": (10, 0)}, first=1_000_000)

    told = await world.look(impact.calibrated_impact, "welcome")

    assert [(one.left_out, one.exposed.subjects) for one in told.impact.strata] == [(0, 500)]


async def test_first_triggers_can_be_found_by_their_index_alone(world: World) -> None:
    await publish(world, percent=50)
    await lay(world, 60, {None: (1000, 10), "journey": (1000, 10)}, first=1_000_000)
    await world.owner.execute(
        """
        INSERT INTO enrollments (project_no, bucket, subject_no, enrollment_id, journey_id, version, goal_revision,
                                 entry_kind, entry_key, triggered_at, enrolled_at, global_percent)
        SELECT project_no, bucket, subject_no, gen_random_uuid(), 'other' || n, 1, 1, 'event', entry_key, triggered_at,
               enrolled_at, 0
          FROM enrollments CROSS JOIN generate_series(1, 9) AS n
        """
    )
    await world.owner.execute("VACUUM ANALYZE enrollments")
    plan = "\n".join(
        row[0]
        for row in await world.owner.fetch(
            "EXPLAIN " + counts.TRIGGERED, world.scope.project_no, "welcome", None, timedelta(days=1)
        )
    )

    assert "Index Only Scan using enrollments_firsts" in plan, plan
