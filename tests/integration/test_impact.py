"""What a journey changed and how its arms do: every count is that of a plain recount of the ledgers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.api.convert.branch_performance import performance_message
from orchestrator.api.convert.impact import impact_message
from orchestrator.api.json_encode import encode
from orchestrator.application import branch_performance, impact, policy_history, policy_values, publishing
from orchestrator.application.journeys import Changes, update
from orchestrator.application.policy_values import Always, Greedy, Uniform, Weighted
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.domain.subject import bucket_of
from orchestrator.storage.pool import API_ROLE, open_pool
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.road import BYE

if TYPE_CHECKING:
    from asyncpg import Record

DAY = timedelta(days=1)
WINDOW = 7 * DAY
PICK: dict[str, Any] = {
    "id": "pick",
    "adaptiveBranch": {"arms": [{"id": "a", "next": "bye"}, {"id": "b", "next": "bye"}, {"id": "c", "next": "bye"}]},
}
#: Subjects, each triggered once or more.
CROWD = 3000
RATES = {"a": 0.10, "b": 0.20, "c": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A world in which a journey has run for forty days, laid down in its ledgers."""

    world: World
    now: datetime


@pytest.fixture(scope="module")
async def past(shared_database: str) -> AsyncIterator[Past]:
    owner = await asyncpg.connect(shared_database)
    pool = await open_pool(shared_database, role=API_ROLE, size=2, application_name="test-api")
    world = await World.make(owner, pool)
    await world.furnish()
    await world.draft("welcome", {"steps": [PICK, BYE], "holdout": {"percent": 20}})
    await world.do(update, "welcome", Changes(goal_event="paid", goal_window=WINDOW), ANY_STATE)
    await world.do(publishing.publish, "welcome", ANY_STATE)
    now: datetime = await owner.fetchval("SELECT now()")
    await _lay(world, now)
    await owner.execute("ANALYZE")
    yield Past(world=world, now=now)
    await pool.close()
    await owner.close()


async def _lay(world: World, now: datetime) -> None:
    """Enrollments, choices and conversions as the inbox and the workers leave them."""
    dice = Random(25)
    project_no = world.scope.project_no
    owner = world.owner
    revision = await owner.fetchval("SELECT goal_revision FROM journeys WHERE journey_id = 'welcome'")
    subject_nos = {
        row["subject_id"]: (row["bucket"], row["subject_no"])
        for row in await owner.fetch(
            "INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)"
            " SELECT $1, b, s, now(), now() FROM unnest($2::smallint[], $3::text[]) AS q (b, s)"
            " RETURNING subject_id, bucket, subject_no",
            project_no,
            [bucket_of(f"s{number}") for number in range(CROWD)],
            [f"s{number}" for number in range(CROWD)],
        )
    }
    entered, chosen, converted = [], [], []
    for bucket, subject_no in subject_nos.values():
        side = dice.choices([None, "journey", "global"], [76, 19, 5])[0]
        for again in range(dice.choice([1, 1, 1, 2])):
            at = now - dice.random() * 40 * DAY
            enrollment_id = new_uuid()
            whose = (project_no, bucket, subject_no, enrollment_id)
            entered.append((*whose, "welcome", 1, revision, "event", str(enrollment_id), at, at, side, 5))
            rate = 0.08
            if side is None and again == 0:
                older = dice.random() < 0.5
                shares = {"a": 400_000, "b": 400_000, "c": 200_000} if older else {"a": 300_000, "b": 700_000}
                arm = dice.choices(list(shares), list(shares.values()))[0]
                chosen.append((*whose, 1, "welcome", "pick", 1, revision, "", 0, arm, shares[arm],
                               json.dumps(shares), None,
                               "thompson", at))  # fmt: skip
                rate = RATES[arm]
            after = dice.random() * WINDOW
            late = dice.random() < 0.02
            received = at + (WINDOW + 3 * DAY if late else after)
            if dice.random() < rate and received < now:
                converted.append((*whose, "", 0, "welcome", at + after, received))
                if side is None and again == 0:
                    converted.append((*whose, "pick", 1, "welcome", at + after, received))
    await owner.copy_records_to_table(
        "enrollments",
        records=entered,
        columns=[
            "project_no", "bucket", "subject_no", "enrollment_id", "journey_id", "version", "goal_revision",
            "entry_kind", "entry_key", "triggered_at", "enrolled_at", "held_out_by", "global_percent",
        ],
    )  # fmt: skip
    await owner.executemany(
        "INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,"
        " goal_revision, unit, round, arm_id, propensity_ppm, propensities, policy_version, reason, chosen_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        chosen,
    )
    await owner.copy_records_to_table("conversions", records=converted)


Tally = Counter[tuple[str, bool, bool]]


async def recounted(past: Past) -> tuple[Tally, Mapping[date, Counter[str]], int]:
    """(side, whether matured, whether converted) of first triggers; by day and side; who converted late."""
    owner = past.world.owner
    known = {
        row["enrollment_id"]: row
        for row in await owner.fetch("SELECT * FROM conversions WHERE journey_id = 'welcome' AND step_id = ''")
    }
    firsts: dict[int, Record] = {}
    for row in await owner.fetch("SELECT * FROM enrollments WHERE journey_id = 'welcome'"):
        before = firsts.get(row["subject_no"])
        if before is None or row["triggered_at"] < before["triggered_at"]:
            firsts[row["subject_no"]] = row
    tally: Tally = Counter()
    days: dict[date, Counter[str]] = {}
    late = 0
    for row in firsts.values():
        day = row["triggered_at"].astimezone(UTC).date()
        matured = day + WINDOW + DAY < past.now.astimezone(UTC).date()
        credit = known.get(row["enrollment_id"])
        tally[row["held_out_by"] or "exposed", matured, credit is not None] += 1
        days.setdefault(day, Counter())[row["held_out_by"] or "exposed"] += 1
        if row["held_out_by"] != "global":
            late += credit is not None and credit["received_at"] > row["triggered_at"] + WINDOW + DAY
    return tally, days, late


def of(tally: Tally, side: str, *, matured: bool | None = None, converted: bool | None = None) -> int:
    return sum(
        count
        for (whose, has_matured, has_converted), count in tally.items()
        if whose == side
        and (matured is None or has_matured is matured)
        and (converted is None or has_converted is converted)
    )


async def test_impact_is_that_of_a_recount_of_first_triggers(past: Past) -> None:
    tally, days, late = await recounted(past)

    told = await past.world.look(impact.calibrated_impact, "welcome")

    found = told.impact
    for side, name in ((found.exposed, "exposed"), (found.holdout, "journey")):
        assert (side.subjects, side.converted) == (of(tally, name), of(tally, name, converted=True))
    for side, name in ((found.matured_exposed, "exposed"), (found.matured_holdout, "journey")):
        assert side.subjects == of(tally, name, matured=True)
        assert side.converted == of(tally, name, matured=True, converted=True)
    assert told.global_holdout is not None
    assert told.global_holdout.holdout.subjects == of(tally, "global")
    assert told.global_holdout.matured_holdout.converted == of(tally, "global", matured=True, converted=True)
    assert (told.late, late > 0) == (late, True)
    assert found.lift == pytest.approx(
        of(tally, "exposed", converted=True) / of(tally, "exposed")
        / (of(tally, "journey", converted=True) / of(tally, "journey")) - 1
    )  # fmt: skip
    assert [day.day for day in found.trend] == [past.now.date() - back * DAY for back in reversed(range(30))]
    for day in found.trend:
        assert day.exposed.subjects == days.get(day.day, Counter())["exposed"]
        assert day.holdout.subjects == days.get(day.day, Counter())["journey"]
    assert not any(day.mature for day in found.trend[-8:])
    assert [(one.goal.event_name, one.subjects) for one in told.goals] == [("paid", tally.total())]
    assert (told.holdout_share, told.window_days) == (0.2, 7)
    assert found.sample_ratio is not None
    assert not found.sample_ratio.alarm


async def test_performance_of_arms_is_that_of_a_recount_of_choices(past: Past) -> None:
    owner = past.world.owner
    choices = await owner.fetch("SELECT * FROM arm_choices WHERE journey_id = 'welcome'")
    known = {row["enrollment_id"] for row in await owner.fetch("SELECT * FROM conversions WHERE step_id = 'pick'")}

    (told,) = await past.world.look(branch_performance.branch_performance, "welcome")

    assert [arm.arm_id for arm in told.performance.arms] == ["a", "b", "c"]
    for arm in told.performance.arms:
        mine = [row for row in choices if row["arm_id"] == arm.arm_id]
        ready = [row for row in mine if row["chosen_at"] + WINDOW + DAY <= told.as_of]
        assert arm.subjects_reached == len(mine)
        assert arm.goal_events == sum(row["execution_id"] in known for row in mine)
        assert arm.rate == pytest.approx(arm.goal_events / arm.subjects_reached)
        assert arm.matured_subjects == len(ready)
        assert arm.matured_goal_events == sum(row["execution_id"] in known for row in ready)
        assert arm.propensity_range == (
            min(row["propensity_ppm"] for row in mine), max(row["propensity_ppm"] for row in mine)
        )  # fmt: skip
    best = max(told.performance.arms, key=lambda arm: arm.prob_best or 0.0)
    assert best.arm_id == "b"
    assert told.performance.sample_ratio is not None
    assert not told.performance.sample_ratio.alarm
    assert (told.policy_version, told.share_history, told.sampled) == (None, (), False)


async def test_the_value_of_a_policy_is_that_of_its_arms(past: Past) -> None:
    async def value(policy: policy_values.NamedPolicy) -> float:
        told = await past.world.look(policy_values.value_of_policy, "welcome", "pick", policy)
        assert told.value.snips is not None
        assert told.value.dr is not None
        assert told.value.dr.value == pytest.approx(told.value.snips.value, abs=0.02)
        return told.value.snips.value

    assert await value(Always(arm_id="b")) == pytest.approx(0.2, abs=0.03)
    assert await value(Greedy()) == pytest.approx(0.2, abs=0.03)
    assert await value(Weighted(weights=(("a", 1.0), ("b", 1.0)))) == pytest.approx(0.15, abs=0.03)
    assert await value(Uniform()) < await value(Greedy())
    closed = await past.world.look(policy_values.value_of_policy, "welcome", "pick", Always(arm_id="c"))
    assert closed.value.no_value is None  # where c was closed, the others are alike


async def test_policies_that_are_none_are_refused_with_every_fault(past: Past) -> None:
    nonsense = Weighted(weights=(("a", -1.0), ("a", 1.0), ("z", 1.0)))

    with pytest.raises(InvalidArgument) as refused:
        await past.world.look(policy_values.value_of_policy, "welcome", "pick", nonsense)
    with pytest.raises(NotFound, match="no adaptive branch"):
        await past.world.look(policy_values.value_of_policy, "welcome", "bye", Uniform())

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("policy.weights[0].weight", "OUT_OF_RANGE"),
        ("policy.weights[1].armId", "DUPLICATE_ID"),
        ("policy.weights[2].armId", "ARM_NOT_FOUND"),
    ]


async def test_the_log_of_choices_is_read_in_pages_and_of_one_subject(past: Past) -> None:
    world = past.world
    everybody = await world.owner.fetch(
        "SELECT execution_id FROM arm_choices WHERE journey_id = 'welcome'"
        " ORDER BY chosen_at DESC, execution_id, seq LIMIT 5"
    )

    first, end = await world.look(policy_history.choices, "welcome", "pick", None, None, 2)
    then, _ = await world.look(policy_history.choices, "welcome", "pick", None, end, 3)
    mine, last = await world.look(policy_history.choices, "welcome", "pick", first[0].subject_id, None, 10)

    assert [one.execution_id for one in (*first, *then)] == [row["execution_id"] for row in everybody]
    assert ([one.execution_id for one in mine], last) == ([first[0].execution_id], None)
    with pytest.raises(NotFound):
        await world.look(policy_history.choices, "welcome", "pick", "nobody", None, 10)
    assert await world.look(policy_history.versions, "welcome", "pick", None, 10) == ([], None)


async def test_one_revision_of_the_goal_can_be_looked_at_alone_and_of_one_that_is_not_there_it_is_said(
    past: Past,
) -> None:
    world = past.world
    revision = await world.owner.fetchval("SELECT max(goal_revision) FROM journey_goals WHERE journey_id = 'welcome'")

    everybody = await world.look(impact.calibrated_impact, "welcome")
    of_it = await world.look(impact.calibrated_impact, "welcome", revision)
    of_none = await world.look(impact.calibrated_impact, "welcome", 1)  # as it was made, it named no event

    assert of_it.impact.exposed == everybody.impact.exposed
    (arms_of_none,) = await world.look(branch_performance.branch_performance, "welcome", 1)
    assert (of_none.impact.exposed.subjects, of_none.goals, of_none.has_goal) == (0, (), False)
    assert [arm.subjects_reached for arm in arms_of_none.performance.arms] == [0, 0, 0]
    for ask in (impact.calibrated_impact, branch_performance.branch_performance):
        with pytest.raises(NotFound) as missing:
            await world.look(ask, "welcome", revision + 1)
        assert missing.value.reason == "GOAL_NOT_FOUND"


async def test_without_anybody_there_is_nothing_to_tell_and_no_fault(past: Past) -> None:
    await past.world.draft("empty")

    told = await past.world.look(impact.calibrated_impact, "empty")

    assert (told.has_goal, told.impact.exposed.subjects, told.impact.lift, told.goals) == (False, 0, None, ())
    assert await past.world.look(branch_performance.branch_performance, "empty") == []
    with pytest.raises(NotFound):
        await past.world.look(impact.calibrated_impact, "nowhere")
    with pytest.raises(NotFound):
        await past.world.look(branch_performance.branch_performance, "nowhere")


async def test_a_plan_says_how_long_it_takes_and_what_is_wrong_with_what_was_asked(past: Past) -> None:
    told = await past.world.look(
        impact.plan, base_rate=0.05, lift=0.2, holdout_percent=10, weekly_volume=7_000.0, window=WINDOW
    )
    with pytest.raises(InvalidArgument) as refused:
        await past.world.look(
            impact.plan, base_rate=float("nan"), lift=-1.0, holdout_percent=0, weekly_volume=0.0, power=1.0,
            window=-DAY,
        )  # fmt: skip

    assert told.subjects == pytest.approx(49_000, rel=0.01)
    assert told.weeks == pytest.approx(told.subjects / 7_000 + 9 / 7)
    assert {fault.path for fault in refused.value.faults} == {
        "baseRate", "lift", "holdoutPercent", "weeklyVolume", "power", "window",
    }  # fmt: skip


async def test_the_documented_fields_have_their_documented_names_and_forms(past: Past) -> None:
    told = encode(impact_message(await past.world.look(impact.calibrated_impact, "welcome")))
    (branch,) = (
        encode(performance_message(one))
        for one in await past.world.look(branch_performance.branch_performance, "welcome")
    )

    for cohorts in ("triggered", "converted"):
        assert all(type(told[cohorts][side]) is int for side in ("exposed", "holdout"))
    assert all(type(told[name]) is float for name in ("exposureRate", "holdoutRate", "lift"))
    assert (told["underpowered"], len(told["dailyTrend"])) == (False, 30)
    arms = {arm["armId"]: arm for arm in branch["arms"]}
    assert branch["stepId"] == "pick"
    assert all(type(arms["a"][name]) is int for name in ("subjectsReached", "goalEvents"))
    low, high = arms["a"]["credibleInterval95"]
    assert low < arms["a"]["rate"] < high
    assert arms["a"]["coldStart"] is False


async def test_where_each_subject_has_shares_of_its_own_all_are_counted_and_the_youngest_weighed(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = past.world
    decide = {"id": "decide", "nbaDecision": {"arms": PICK["adaptiveBranch"]["arms"], "context": ["plan"]}}
    await world.draft("nba", {"steps": [decide, BYE]})
    await world.do(update, "nba", Changes(goal_event="paid", goal_window=WINDOW), ANY_STATE)
    await world.do(publishing.publish, "nba", ANY_STATE)
    await world.owner.execute(
        """
        INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                 goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, chosen_at)
        SELECT project_no, bucket, subject_no, execution_id, 2, 'nba', 'decide', 1, 2, execution_id::text, 0, arm_id,
               propensity_ppm, propensities, 'context', chosen_at
          FROM arm_choices WHERE journey_id = 'welcome';
        INSERT INTO conversions
        SELECT project_no, bucket, subject_no, enrollment_id, 'decide', 2, 'nba', occurred_at, received_at
          FROM conversions WHERE step_id = 'pick'
        """
    )
    everybody = await world.owner.fetchval("SELECT count(*) FROM arm_choices WHERE journey_id = 'nba'")
    (same,) = await world.look(branch_performance.branch_performance, "welcome")
    monkeypatch.setattr(branch_performance, "YOUNGEST", 1500)
    monkeypatch.setattr(policy_values, "YOUNGEST", 500)

    (told,) = await world.look(branch_performance.branch_performance, "nba")
    valued = await world.look(policy_values.value_of_policy, "nba", "decide", Greedy())

    assert (told.sampled, told.current_shares) == (True, {})
    assert sum(arm.subjects_reached for arm in told.performance.arms) == everybody
    assert [arm.matured_rate for arm in told.performance.arms] == [arm.matured_rate for arm in same.performance.arms]
    assert told.performance.sample_ratio != same.performance.sample_ratio
    assert (valued.sampled, valued.value.subjects) == (True, 500)


async def test_after_the_goal_was_changed_each_is_counted_by_his_own_and_the_goals_are_told(past: Past) -> None:
    world = past.world
    await world.draft("changing", {"steps": [BYE]})
    for goal, window in (("paid", 2 * DAY), ("visited", 5 * DAY)):
        await world.do(update, "changing", Changes(goal_event=goal, goal_window=window), ANY_STATE)
    await world.owner.execute(
        """
        INSERT INTO enrollments (project_no, bucket, subject_no, enrollment_id, journey_id, version, goal_revision,
                                 entry_kind, entry_key, triggered_at, enrolled_at)
        SELECT project_no, bucket, subject_no, gen_random_uuid(), 'changing', 1, 1 + number % 3, 'event', number::text,
               now() - interval '6 days', now()
          FROM (SELECT *, row_number() OVER () AS number FROM subjects LIMIT 9) AS s
        """
    )

    told = await world.look(impact.calibrated_impact, "changing")
    of_first = await world.look(impact.calibrated_impact, "changing", 2)

    assert [(one.goal.event_name, one.subjects) for one in told.goals] == [("visited", 3), ("paid", 3)]
    # Those of before there was a goal measure nothing.
    assert (told.impact.exposed.subjects, told.window_days) == (6, 5)
    assert told.impact.matured_exposed.subjects == 0
    assert (of_first.impact.matured_exposed.subjects, of_first.window_days) == (3, 2)


async def test_shares_are_told_of_the_first_of_the_newest_and_of_versions_between_them(past: Past) -> None:
    world = past.world
    await world.draft("old", {"steps": [PICK, BYE]})
    await world.do(update, "old", Changes(goal_event="paid"), ANY_STATE)
    await world.do(publishing.publish, "old", ANY_STATE)
    await world.owner.execute(
        """
        INSERT INTO policy_versions (project_no, journey_id, step_id, policy_version, version, goal_revision, kind,
                                     document, fingerprint, triangle, data_cutoff_at, created_at)
        SELECT $1, 'old', 'pick', n, 1, 2, 'shares',
               jsonb_build_object('arms', jsonb_build_array(jsonb_build_object('arm_id', 'a', 'ppm', n),
                                                            jsonb_build_object('arm_id', 'b', 'ppm', 1000000 - n))),
               'f', '{}', now(), now() - (1000 - n) * interval '1 hour'
          FROM generate_series(1, 1000) AS n
        """,
        world.scope.project_no,
    )

    await world.owner.execute(
        """
        INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                 goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, chosen_at)
        SELECT project_no, bucket, subject_no, gen_random_uuid(), 1, 'old', 'gone', 1, 1, '', 0, 'a', 1000000,
               '{"a": 1000000}', 'single_arm', now()
          FROM subjects LIMIT 1
        """
    )

    (told,) = await world.look(branch_performance.branch_performance, "old")  # without the one that nothing measures
    page, end = await world.look(policy_history.versions, "old", "pick", 900, 3)
    whole = await world.look(policy_history.version, "old", "pick", 7)

    assert told.policy_version == 1000
    assert told.current_shares == {"a": 1000, "b": 999_000}
    assert (told.share_history[0].version, told.share_history[-1].version) == (1, 1000)
    assert 150 <= len(told.share_history) <= 200
    assert ([one.policy_version for one in page], end, page[0].document) == ([899, 898, 897], 897, None)
    assert whole.document is not None
    assert whole.document["arms"][0] == {"arm_id": "a", "ppm": 7}
    with pytest.raises(NotFound, match="has no policy 1001"):
        await world.look(policy_history.version, "old", "pick", 1001)


async def test_a_value_is_as_uncertain_as_it_is_of_subjects_and_not_of_their_visits(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 subjects, each by both arms three times, convert with all of these or with none."""
    world = past.world
    of_visits = {**PICK, "adaptiveBranch": {**PICK["adaptiveBranch"], "stickiness": "visit"}}
    await world.draft("visits", {"steps": [of_visits, BYE]})
    await world.do(update, "visits", Changes(goal_event="paid", goal_window=WINDOW), ANY_STATE)
    await world.do(publishing.publish, "visits", ANY_STATE)
    await world.owner.execute(
        """
        INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                 goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, chosen_at)
        SELECT project_no, bucket, subject_no, md5(subject_id || '/visits/' || turn)::uuid, 1, 'visits', 'pick', 1, 2,
               md5(subject_id || '/visits/' || turn), 0, CASE turn % 2 WHEN 0 THEN 'b' ELSE 'a' END, 500000,
               '{"a": 500000, "b": 500000}', 'fallback', now() - interval '20 days' + turn * interval '1 hour'
          FROM (SELECT * FROM subjects WHERE subject_id ~ '^s' ORDER BY subject_no LIMIT 200) AS s
         CROSS JOIN generate_series(1, 6) AS turn;
        INSERT INTO conversions
        SELECT project_no, bucket, subject_no, execution_id, 'pick', 1, 'visits', now() - interval '19 days',
               now() - interval '19 days'
          FROM (SELECT *, dense_rank() OVER (ORDER BY subject_no) AS number
                  FROM arm_choices WHERE journey_id = 'visits') AS c
         WHERE number <= 20
        """
    )

    told = await world.look(policy_values.value_of_policy, "visits", "pick", Uniform())
    monkeypatch.setattr(policy_values, "YOUNGEST", 600)
    some = await world.look(policy_values.value_of_policy, "visits", "pick", Uniform())

    snips = told.value.snips
    assert snips is not None
    assert (told.value.subjects, told.sampled) == (200, False)
    assert told.observed == pytest.approx(0.1)
    assert told.value.effective == pytest.approx(200)
    assert snips.standard_error == pytest.approx((0.1 * 0.9 / 199) ** 0.5)
    assert (some.sampled, some.value.subjects) == (True, 200)  # the three youngest visits of each


async def test_whoever_goes_by_an_arm_again_is_one_subject_of_whom_the_first_time_counts(past: Past) -> None:
    """By visits, in rounds, and as two who became one: each of them goes three times by one arm, once by the other."""
    world = past.world
    await world.draft("again", {"steps": [PICK, BYE]})
    await world.do(update, "again", Changes(goal_event="paid", goal_window=WINDOW), ANY_STATE)
    await world.do(publishing.publish, "again", ANY_STATE)
    await world.owner.execute(
        """
        INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                 goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, chosen_at)
        SELECT project_no, bucket, subject_no, md5(subject_id || '/' || turn)::uuid, 1, 'again', 'pick', 1, 2,
               CASE number % 3 WHEN 0 THEN md5(subject_id || '/' || turn)
                               WHEN 1 THEN '' ELSE CASE turn WHEN 3 THEN '' ELSE 'merged:' || turn END END,
               CASE number % 3 WHEN 1 THEN turn ELSE 0 END,
               CASE turn WHEN 2 THEN 'b' ELSE 'a' END, 500000, '{"a": 500000, "b": 500000}', 'fallback',
               now() - interval '20 days' + turn * interval '5 days'
          FROM (SELECT *, row_number() OVER () AS number FROM subjects WHERE subject_id ~ '^s' LIMIT 12) AS s
         CROSS JOIN generate_series(0, 3) AS turn;
        INSERT INTO conversions
        SELECT project_no, bucket, subject_no, execution_id, 'pick', 1, 'again', chosen_at + interval '1 hour',
               chosen_at + interval '1 hour'
          FROM (SELECT *, row_number() OVER (ORDER BY chosen_at, subject_no) AS number
                  FROM arm_choices WHERE journey_id = 'again') AS c
         WHERE number BETWEEN 9 AND 24 OR arm_id = 'b'
        """
    )

    (told,) = await world.look(branch_performance.branch_performance, "again")

    arms = {arm.arm_id: arm for arm in told.performance.arms}
    assert (arms["a"].subjects_reached, arms["a"].goal_events) == (12, 4)
    assert arms["a"].rate == pytest.approx(1 / 3)
    assert (arms["b"].subjects_reached, arms["b"].goal_events) == (12, 12)
    assert (arms["a"].matured_subjects, arms["b"].matured_subjects) == (12, 12)
    assert (arms["a"].pending_subjects, arms["a"].propensity_range) == (0, (500_000, 500_000))
