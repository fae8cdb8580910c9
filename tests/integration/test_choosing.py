"""Choosing arms: once, by shares that can be computed again, and for as long as a choice holds. Without Temporal."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest

from orchestrator.application import merging, publishing
from orchestrator.application.advance import Advance
from orchestrator.application.choosing import Choosing
from orchestrator.application.journeys import Changes, update
from orchestrator.application.policies import Policies, read_policy
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.simulation_questions import Question as Simulated
from orchestrator.application.simulation_work import Choice
from orchestrator.application.simulations import Simulations
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arms import Chooser, InForce, choose_arm
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.contract import Effect, Question
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, LATE, Road

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Json = dict[str, Any]

ARMS: list[Json] = [{"id": "a", "next": "bye"}, {"id": "b", "next": "late"}]
ENTERS_AGAIN: Json = {"reentry": {"policy": "entry_key"}}


def choose(*arms: Json, **more: Any) -> Json:
    return {"id": "choose", "adaptiveBranch": {"arms": list(arms or ARMS), **more}}


class Desk:
    """Whoever chooses for the executions on a road, by the newest policy."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.owner = road.owner
        self.project_no = road.crowd.world.scope.project_no
        self.choosing = Choosing(road.crowd.transactions, road.versions, Policies(time_to_live=timedelta(0)))

    async def question(self, subject_id: str = "ann") -> Question:
        row = await self.owner.fetchrow(
            "SELECT e.* FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)"
            " WHERE s.subject_id = $1 AND e.outcome IS NULL",
            subject_id,
        )
        assert row is not None
        return Question(
            project_no=row["project_no"],
            bucket=row["bucket"],
            subject_no=row["subject_no"],
            execution_id=str(row["execution_id"]),
            seq=row["seq"],
            now=0.0,
        )

    async def choose(self, subject_id: str = "ann") -> Effect:
        return await self.choosing(await self.question(subject_id))

    async def enter(self, *subject_ids: str) -> None:
        await self.road.enroll(*subject_ids)
        for subject_id in subject_ids:
            await self.choose(subject_id)

    async def policy(self, document: Any, *, kind: str = "shares") -> None:
        """Publish it, whatever it is."""
        await self.owner.execute(
            """
            INSERT INTO policy_versions (project_no, journey_id, step_id, policy_version, version, goal_revision, kind,
                                         document, fingerprint, triangle, data_cutoff_at, created_at)
            SELECT $1, 'welcome', 'choose', 1 + count(*), 1, 1, $2, $3, '',
                   CASE WHEN $2 = 'shares' THEN '{}'::jsonb END, now(), now()
              FROM policy_versions WHERE project_no = $1
            """,
            self.project_no,
            kind,
            orjson.dumps(document).decode(),
        )

    async def shares(self, **ppm: int) -> None:
        arms = [{"arm_id": name, "ppm": share, "reason": "thompson", "paused": False} for name, share in ppm.items()]
        await self.policy({"kind": "shares", "arms": arms})

    async def republish(self, *steps: Json) -> None:
        world = self.road.crowd.world
        await world.do(update, "welcome", Changes(definition={"steps": list(steps)}), ANY_STATE)
        await world.do(publishing.publish, "welcome", ANY_STATE)

    async def rows(self, columns: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.owner.fetch(f"SELECT {columns} FROM arm_choices ORDER BY chosen_at")]

    async def visited(self) -> list[str]:
        rows = await self.owner.fetch("SELECT reason FROM visits WHERE step_id = 'choose' ORDER BY left_at")
        return [row[0] for row in rows]


@pytest.fixture
async def desk(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Desk:
    return Desk(await Road.make(owner, api_pool, worker_pool))


async def test_fifty_tries_across_a_change_of_the_policy_are_one_choice(desk: Desk) -> None:
    await desk.road.publish(choose(), BYE, LATE, goal="paid")
    await desk.shares(a=WHOLE, b=0)
    await desk.road.enroll("ann")
    question = await desk.question()

    tries = [asyncio.create_task(desk.choosing(question)) for _ in range(25)]
    await desk.shares(a=0, b=WHOLE)
    effects = await asyncio.gather(*tries, *(desk.choosing(question) for _ in range(25)))

    assert len({orjson.dumps(effect) for effect in effects}) == 1
    ((arm_id, policy_version),) = await desk.rows("arm_id, policy_version")
    assert (arm_id, policy_version) in [("a", 1), ("b", 2)]
    assert await desk.visited() == [arm_id]


async def test_all_that_a_choice_came_from_is_recorded_and_gives_it_again(desk: Desk) -> None:
    """For everybody the same: the shares, the draw, the arm. And arms are gone by as often as they should be."""
    control: Json = {"id": "c", "next": "bye", "share": 0.1}
    await desk.road.publish(choose(*ARMS, control), BYE, LATE, goal="paid")
    await desk.shares(a=700_000, b=200_000, c=100_000)
    subject_ids = [f"s{number}" for number in range(150)]
    await desk.enter(*subject_ids)

    document = orjson.loads(await desk.owner.fetchval("SELECT document FROM policy_versions"))
    in_force = InForce(policy_version=1, shares_of=await read_policy("shares", document))
    async with desk.road.crowd.transactions.read(None) as conn:
        version = (await Versions().get(conn, desk.project_no, "welcome", 1)).version
    step = version.definition.steps["choose"]
    rows = await desk.owner.fetch(
        "SELECT c.*, s.subject_id, v.reason AS visited FROM arm_choices AS c"
        " JOIN subjects AS s USING (project_no, bucket, subject_no)"
        " JOIN visits AS v ON v.execution_id = c.execution_id AND v.seq = c.seq + 1 AND v.step_id = c.step_id"
    )
    assert len(rows) == len(subject_ids)
    for row in rows:
        chooser = Chooser(
            project_id="default", journey_id="welcome", subject_id=row["subject_id"], entry_key="", attributes={}
        )
        again = choose_arm(step, in_force, chooser).choice  # type: ignore[arg-type]
        assert orjson.loads(row["propensities"]) == dict(again.propensities)
        assert (row["arm_id"], row["propensity_ppm"]) == (again.arm_id, again.propensity_ppm)
        assert (row["draw"], row["reason"], row["unit"]) == (Decimal(again.draw), again.reason.value, "")
        assert (row["visited"], row["policy_version"], row["goal_revision"]) == (row["arm_id"], 1, 2)
    # The draw alone, in the database, finds the arm again.
    agree = """
        SELECT bool_and(arm_id = (SELECT name FROM (
                   SELECT key AS name, sum(value::int) OVER (ORDER BY key) AS reached FROM jsonb_each_text(propensities)
               ) AS cumulated WHERE floor(draw * 1000000 / 18446744073709551616) < reached ORDER BY reached LIMIT 1))
          FROM arm_choices
    """
    assert await desk.owner.fetchval(agree)
    counts = Counter(row["arm_id"] for row in rows)
    for arm_id, share in {"a": 0.7, "b": 0.2, "c": 0.1}.items():
        expected = share * len(rows)
        assert abs(counts[arm_id] - expected) < 4 * (expected * (1 - share)) ** 0.5


async def test_a_choice_holds_whenever_the_subject_comes_whatever_is_learned_meanwhile(desk: Desk) -> None:
    await desk.road.publish(choose(), BYE, LATE, goal="paid", **ENTERS_AGAIN)
    await desk.shares(a=WHOLE, b=0)
    await desk.enter("ann")
    await desk.shares(a=0, b=WHOLE)

    await desk.enter("ann")

    assert await desk.visited() == ["a", "a"]
    assert await desk.rows("arm_id, round") == [("a", 0)]


async def test_a_choice_may_hold_for_one_visit(desk: Desk) -> None:
    await desk.road.publish(choose(stickiness="visit"), BYE, LATE, goal="paid", **ENTERS_AGAIN)
    await desk.shares(a=WHOLE, b=0)
    await desk.enter("ann")
    await desk.shares(a=0, b=WHOLE)

    await desk.enter("ann")

    assert await desk.visited() == ["a", "b"]
    assert await desk.rows("unit = execution_id::text, arm_id, round") == [(True, "a", 0), (True, "b", 0)]


async def test_where_the_arm_is_open_no_more_another_one_holds_from_then_on(desk: Desk) -> None:
    third: Json = {"id": "c", "next": "bye"}
    await desk.road.publish(choose(*ARMS, third), BYE, LATE, goal="paid", **ENTERS_AGAIN)
    await desk.shares(a=WHOLE, b=0, c=0)
    await desk.enter("ann")

    await desk.republish(choose(ARMS[0] | {"paused": True}, ARMS[1], third), BYE, LATE)
    await desk.shares(a=0, b=WHOLE, c=0)
    await desk.enter("ann")
    await desk.republish(choose(*ARMS, third), BYE, LATE)
    await desk.shares(a=WHOLE, b=0, c=0)
    await desk.enter("ann")
    await desk.republish(choose(ARMS[0], third), BYE)
    await desk.enter("ann")

    assert await desk.visited() == ["a", "b", "b", "a"]
    assert await desk.rows("arm_id, round, version") == [("a", 0, 1), ("b", 1, 2), ("a", 2, 4)]


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {"kind": "shares"},
        {"arms": [{"arm_id": "a", "ppm": 1, "reason": "thompson", "paused": False}]},
        {"arms": [{"arm_id": "a", "ppm": WHOLE, "reason": "liked", "paused": False}]},
        {"arms": [{"arm_id": "a", "ppm": 2e6, "reason": "forced", "paused": False}]},
        {"schema": 5},
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["shares", "context"])
async def test_a_policy_that_is_none_is_no_error(desk: Desk, kind: str, document: Any) -> None:
    step = choose()
    if kind == "context":
        step = {"id": "choose", "nbaDecision": {"arms": ARMS, "context": ["plan"]}}
    await desk.road.publish(step, BYE, LATE, goal="paid")
    if document is not None:
        await desk.policy(document, kind=kind)

    await desk.enter("ann")

    (row,) = await desk.rows("reason, propensity_ppm, policy_version")
    assert row == ("fallback", 500_000, None)


async def test_what_was_learned_of_another_kind_of_step_is_not_chosen_by(desk: Desk) -> None:
    await desk.road.publish(
        {"id": "choose", "nbaDecision": {"arms": ARMS, "context": ["plan"]}}, BYE, LATE, goal="paid"
    )
    await desk.shares(a=WHOLE, b=0)

    await desk.enter("ann")

    assert await desk.rows("reason, context") == [("fallback", "{}")]


async def test_whoever_is_held_out_is_chosen_nothing_for(desk: Desk) -> None:
    await desk.road.publish(choose(), BYE, LATE, goal="paid", holdout={"percent": 50})
    subject_ids = [f"s{number}" for number in range(30)]
    await desk.road.enroll(*subject_ids)
    held = {
        row[0]
        for row in await desk.owner.fetch(
            "SELECT s.subject_id FROM enrollments AS n JOIN subjects AS s USING (project_no, bucket, subject_no)"
            " WHERE n.held_out_by IS NOT NULL"
        )
    }
    assert 5 < len(held) < 25
    for subject_id in sorted(set(subject_ids) - held):
        await desk.choose(subject_id)

    assert await desk.owner.fetchval("SELECT count(*) FROM arm_choices") == 30 - len(held)
    assert not await desk.owner.fetchval(
        "SELECT EXISTS (SELECT FROM arm_choices AS c JOIN enrollments AS n ON n.enrollment_id = c.execution_id"
        " WHERE n.held_out_by IS NOT NULL)"
    )


async def test_of_two_who_are_merged_the_survivors_choice_holds(desk: Desk) -> None:
    world = desk.road.crowd.world
    await desk.road.publish(choose(), BYE, LATE, goal="paid", **ENTERS_AGAIN)
    await desk.shares(a=WHOLE, b=0)
    await desk.enter("ann")
    await desk.shares(a=0, b=WHOLE)
    await desk.enter("bob")

    await world.do(merging.merge, b"s" * 32, RuleBook(), "ann", into="bob")
    await desk.enter("bob")

    assert await desk.visited() == ["a", "b", "b"]
    bob = await world.subject("bob")
    rows = await desk.rows("subject_no, arm_id, CASE WHEN unit = '' THEN 'holds' ELSE split_part(unit, ':', 1) END")
    assert rows == [(bob.subject_no, "a", "merged"), (bob.subject_no, "b", "holds")]


async def test_what_fails_in_the_middle_has_not_happened_and_is_done_again(desk: Desk) -> None:
    await desk.road.publish(choose(), BYE, LATE, goal="paid")
    await desk.road.enroll("ann")
    question = await desk.question()
    await desk.owner.execute("ALTER TABLE visits ADD CONSTRAINT no_visits CHECK (step_id <> 'choose')")
    with pytest.raises(asyncpg.CheckViolationError):
        await desk.choosing(question)
    assert await desk.rows("arm_id") == []
    await desk.owner.execute("ALTER TABLE visits DROP CONSTRAINT no_visits")

    effect = await desk.choosing(question)

    assert (effect.kind, effect.outcome) == ("end", "completed")
    assert [row[0] for row in await desk.rows("arm_id")] == await desk.visited()


async def test_a_simulation_goes_by_the_same_arms(desk: Desk) -> None:
    """First as nobody has come yet, then as choices hold."""
    await desk.road.publish(choose(), BYE, LATE, goal="paid", **ENTERS_AGAIN)
    await desk.shares(a=600_000, b=400_000)
    subject_ids = [f"s{number}" for number in range(12)]
    await desk.road.crowd.known(**{subject_id: {} for subject_id in subject_ids})
    world, simulations = desk.road.crowd.world, Simulations(Versions())

    async def simulated(subject_id: str) -> tuple[str | None, Choice]:
        asked = Simulated(journey_id="welcome", subject_id=subject_id)
        found = await simulations.simulate(world.transactions, world.scope, asked)
        assert found.simulation is not None
        step = found.simulation.trace.steps[0]
        assert isinstance(step.carried_out, Choice)
        assert step.share == step.carried_out.share
        return step.reason, step.carried_out

    before = {subject_id: await simulated(subject_id) for subject_id in subject_ids}
    await desk.enter(*subject_ids)
    await desk.shares(a=0, b=WHOLE)
    after = {subject_id: await simulated(subject_id) for subject_id in subject_ids}

    rows = await desk.owner.fetch(
        "SELECT s.subject_id, c.* FROM arm_choices AS c JOIN subjects AS s USING (project_no, bucket, subject_no)"
    )
    assert {row["arm_id"] for row in rows} == {"a", "b"}
    for row in rows:
        share = row["propensity_ppm"] / WHOLE
        expected = Choice(share=share, reason=row["reason"], policy_version=row["policy_version"])
        assert before[row["subject_id"]] == (row["arm_id"], expected)
        assert after[row["subject_id"]] == (row["arm_id"], Choice(share=None))


async def test_a_process_reads_a_policy_once_a_minute(desk: Desk) -> None:
    await desk.road.publish(choose(), BYE, LATE, goal="paid")
    now = 0.0
    policies = Policies(clock=lambda: now)
    async with desk.road.crowd.transactions.read(None) as conn:
        version = (await Versions().get(conn, desk.project_no, "welcome", 1)).version
        step = version.definition.steps["choose"]

        async def served() -> int | None:
            found = await policies.of(conn, desk.project_no, "welcome", step)  # type: ignore[arg-type]
            return found.in_force.policy_version if found.in_force is not None else None

        assert await served() is None
        await desk.shares(a=WHOLE, b=0)
        assert await served() is None
        now = 59.9
        assert await served() is None
        now = 60.0
        assert await served() == 1


async def test_a_choice_costs_one_round_trip_more_than_a_decision(desk: Desk, database: str) -> None:
    wait: Json = {"id": "pause", "wait": {"duration": "1s"}, "next": "choose"}
    await desk.road.publish(wait, choose(), BYE, LATE, goal="paid")
    statements: list[str] = []
    pool = await open_pool(database, role=WORKER_ROLE, size=1, application_name="counted")
    async with pool.acquire() as conn:
        conn.add_query_logger(lambda asked: statements.append(asked.query))
    try:
        transactions = Transactions(pool)
        advance, choosing = Advance(transactions, desk.road.versions), Choosing(transactions, desk.road.versions)
        counts = []
        for subject_id in ("ann", "bob"):  # what versions and policies cost once has been paid by then
            await desk.road.enroll(subject_id)
            for ask in (advance, choosing):
                question = await desk.question(subject_id)
                question.now = (await desk.owner.fetchval("SELECT now()")).timestamp() + 5
                statements.clear()
                await ask(question)
                counts.append(len(statements))
    finally:
        await pool.close()

    assert counts[2] > 3
    assert counts[3] == counts[2] + 1, statements
