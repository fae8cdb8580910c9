"""What branches learn: counted as a plain recount counts, published as versions from which it can be computed again."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import orjson
import pytest

from orchestrator.application import policy_updates, publishing
from orchestrator.application.journeys import Changes, update
from orchestrator.application.policy_updates import PolicyUpdates
from orchestrator.domain.refusals import FailedPrecondition, NotFound
from orchestrator.learning.policy import Policy, learned
from orchestrator.learning.policy_document import policy_from
from orchestrator.learning.triangle import CohortTriangle
from orchestrator.storage.policy_versions import LearningJourney
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, LATE, Road
from tests.integration.test_choosing import ARMS, Desk, choose

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Json = dict[str, Any]
DAY = timedelta(days=1)
DECIDE: Json = {"id": "choose", "nbaDecision": {"arms": ARMS, "context": ["plan", "age"], "learning": {"graceDays": 0}}}


class School(Desk):
    """A branch, those who went by it, and whoever makes its policies."""

    def __init__(self, road: Road) -> None:
        super().__init__(road)
        self.updates = PolicyUpdates(road.crowd.transactions)
        self.journey = LearningJourney(project_no=self.project_no, journey_id="welcome")
        self.random = Random(5)

    async def learn(self) -> int:
        return await self.updates.update(self.journey)

    async def lay(
        self,
        arm_id: str,
        subjects: int,
        converts: float,
        *,
        age: tuple[float, float] = (0.1, 30),
        goal_revision: int = 2,
        context: Json | None = None,
    ) -> None:
        """So many have been by this arm between these many days ago, and such a part has converted within 7 days."""
        now: datetime = await self.owner.fetchval("SELECT now()")
        choices, conversions = [], []
        for number in range(subjects):
            at = now - self.random.uniform(*age) * DAY
            key = (self.project_no, self.random.randrange(256), 1_000_000 + number, uuid4(), 0)
            choices.append((*key, arm_id, goal_revision, at, orjson.dumps(context).decode() if context else None))
            occurred = at + self.random.uniform(0.001, 6.999) * DAY
            if self.random.random() < converts and occurred < now:
                conversions.append((*key[:4], occurred))
        await self.owner.executemany(
            """
            INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                     goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, draw,
                                     chosen_at, context)
            VALUES ($1, $2, $3, $4, $5, 'welcome', 'choose', 1, $7, $4::uuid::text, 0, $6, 500000,
                    '{"a": 500000, "b": 500000}', 'fallback', 1, $8, $9)
            """,
            choices,
        )
        await self.owner.executemany(
            """
            INSERT INTO conversions (project_no, bucket, subject_no, enrollment_id, step_id, seq, journey_id,
                                     occurred_at, received_at)
            VALUES ($1, $2, $3, $4, 'choose', 0, 'welcome', $5, $5)
            """,
            conversions,
        )

    async def versions(self) -> list[Record]:
        rows: list[Record] = await self.owner.fetch("SELECT * FROM policy_versions ORDER BY policy_version")
        return rows

    async def newest(self) -> Policy:
        policy = policy_from(orjson.loads((await self.versions())[-1]["document"]))
        assert isinstance(policy, Policy)
        return policy


@pytest.fixture
async def school(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> School:
    return School(await Road.make(owner, api_pool, worker_pool))


async def test_counts_equal_a_recount_and_a_version_can_be_computed_again(school: School) -> None:
    await school.road.publish(choose(), BYE, LATE, goal="paid")
    await school.lay("a", 600, 0.05)
    await school.lay("b", 600, 0.15)
    await school.lay("gone", 50, 0.5)
    # Measured by a goal that is no more.
    await school.lay("a", 80, 0.9, goal_revision=1)

    assert await school.learn() == 1

    (version,) = await school.versions()
    cutoff = version["data_cutoff_at"]
    rows = await school.owner.fetch(
        "SELECT a.arm_id, a.chosen_at, c.occurred_at FROM arm_choices AS a LEFT JOIN conversions AS c"
        " ON c.enrollment_id = a.execution_id WHERE a.goal_revision = 2"
    )
    assigned, converted = Counter[tuple[str, int]](), Counter[tuple[str, int, int]]()
    for arm_id, chosen_at, occurred_at in rows:
        age = (cutoff - chosen_at) // DAY
        assigned[arm_id, age] += 1
        if occurred_at is not None:
            converted[arm_id, age, age - (cutoff - occurred_at) // DAY] += 1
    triangle = CohortTriangle.from_document(orjson.loads(version["triangle"]))
    names = triangle.arm_ids
    assert names == ("a", "b", "gone")
    document = triangle.document()
    assert {(names[arm], age): n for arm, age, n in document["assigned"]} == assigned
    assert {(names[arm], age, lag): n for arm, age, lag, n in document["converted"]} == converted

    policy = await school.newest()
    assert learned(triangle, policy.arm_rules, policy.rules) == policy
    assert version["fingerprint"] == policy.fingerprint == triangle.fingerprint()
    assert {arm.arm_id: arm.ppm for arm in policy.arms}["b"] > 900_000
    # And it is chosen by.
    await school.enter(*(f"s{number}" for number in range(8)))
    assert Counter(row[0] for row in await school.rows("reason"))["thompson"] > 5


async def test_a_version_is_published_when_it_is_worth_it(school: School) -> None:
    await school.road.publish(choose(), BYE, LATE, goal="paid")
    assert await school.learn() == 1
    assert await school.learn() == 0
    assert {arm.reason.value for arm in (await school.newest()).arms} == {"cold_start"}

    await school.republish(choose(*ARMS, {"id": "c", "next": "bye", "share": 0.5}), BYE, LATE)
    assert await school.learn() == 1
    assert [arm.ppm for arm in (await school.newest()).arms] == [250_000, 250_000, 500_000]

    await school.owner.execute("UPDATE policy_versions SET created_at = created_at - interval '25 hours'")
    assert await school.learn() == 1
    # What is no policy any more is replaced, and its number is not used again.
    await school.owner.execute("UPDATE policy_versions SET document = '[]' WHERE policy_version = 3")
    assert await school.learn() == 1
    # Another goal is learned by from nothing.
    await school.road.crowd.world.do(update, "welcome", Changes(goal_event="bought"), ANY_STATE)
    assert await school.learn() == 1
    assert [row["policy_version"] for row in await school.versions()] == [1, 2, 3, 4, 5]
    assert (await school.versions())[-1]["goal_revision"] == 3
    # Without one nothing is learned, and what is in force stays so.
    await school.road.crowd.world.do(update, "welcome", Changes(goal_event=""), ANY_STATE)
    assert await school.learn() == 0


async def test_whoever_is_killed_while_a_version_is_written_leaves_the_one_before_in_force(
    school: School, owner: Connection[Record]
) -> None:
    """The statement that writes it is held up, and its connection to the database is cut."""
    await school.road.publish(choose(), BYE, LATE, goal="paid")
    assert await school.learn() == 1
    await school.lay("a", 600, 0.05)
    await school.lay("b", 600, 0.30)
    async with owner.transaction():
        await owner.execute("LOCK TABLE policy_versions IN SHARE MODE")  # it can be read and not be written
        learning = asyncio.create_task(school.learn())
        writer = None
        async with asyncio.timeout(20):
            while writer is None:
                await asyncio.sleep(0.01)
                writer = await owner.fetchval(
                    "SELECT pid FROM pg_locks WHERE relation = 'policy_versions'::regclass AND NOT granted"
                )
        await owner.fetchval("SELECT pg_terminate_backend($1)", writer)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await learning

    assert [row["policy_version"] for row in await school.versions()] == [1]
    await school.enter("ann")
    assert {row[0] for row in await school.rows("policy_version")} == {None, 1}
    assert await school.learn() == 1
    assert [row["policy_version"] for row in await school.versions()] == [1, 2]
    assert {arm.arm_id: arm.ppm for arm in (await school.newest()).arms}["b"] > 900_000


async def test_what_comes_in_late_is_in_the_next_version(school: School) -> None:
    await school.road.publish(choose(), BYE, LATE, goal="paid")
    await school.lay("a", 300, 0.0, age=(10, 20))
    await school.lay("b", 300, 0.0, age=(10, 20))
    assert await school.learn() == 1
    before = {arm.arm_id: (arm.matured, arm.converted, arm.ppm) for arm in (await school.newest()).arms}

    await school.owner.execute(
        """
        INSERT INTO conversions (project_no, bucket, subject_no, enrollment_id, step_id, seq, journey_id, occurred_at,
                                 received_at)
        SELECT project_no, bucket, subject_no, execution_id, step_id, seq, journey_id, chosen_at + interval '7 days',
               now()
          FROM arm_choices WHERE arm_id = 'b' ORDER BY subject_no LIMIT 30
        """
    )
    assert await school.learn() == 1

    after = {arm.arm_id: (arm.matured, arm.converted, arm.ppm) for arm in (await school.newest()).arms}
    assert (before["a"][:2], before["b"][:2]) == ((300, 0), (300, 0))
    assert (after["a"][:2], after["b"][:2]) == ((300, 0), (300, 30))
    assert after["b"][2] > 900_000 > before["b"][2]


async def test_updates_beside_each_other_publish_once(school: School) -> None:
    await school.road.publish(choose(), BYE, LATE, goal="paid")

    published = await asyncio.gather(*(school.learn() for _ in range(4)))

    assert sum(published) == 1
    assert len(await school.versions()) == 1


async def test_a_decision_learns_whom_which_arm_suits(school: School) -> None:
    await school.road.publish(DECIDE, BYE, LATE, goal="paid")
    for plan, suits in (("free", "a"), ("pro", "b")):
        for arm_id in ("a", "b"):
            await school.lay(arm_id, 300, 0.5 if arm_id == suits else 0.02, age=(7.1, 30), context={"plan": plan})
    # Those who may still convert tell nothing yet.
    await school.lay("a", 300, 0.0, age=(0.1, 6.9), context={"plan": "free"})

    assert await school.learn() == 1
    assert await school.learn() == 0

    (version,) = await school.versions()
    assert (version["kind"], version["triangle"]) == ("context", None)
    assert orjson.loads(version["document"])["matured"] == 1200
    await school.road.crowd.known(ann={"plan": "free", "age": 7}, bob={"plan": "pro", "tags": ["x"]})
    await school.road.enroll("ann", "bob")
    await school.owner.execute("DELETE FROM conversions")
    await school.owner.execute("DELETE FROM arm_choices")
    await school.choose("ann")
    await school.choose("bob")
    rows = await school.rows("reason, policy_version, context, propensities")
    assert {row[:2] for row in rows} == {("context", 1)}
    (ann, bob) = ((orjson.loads(context), orjson.loads(shares)) for *_, context, shares in rows)
    assert (ann[0], bob[0]) == ({"plan": "free", "age": 7}, {"plan": "pro"})
    assert ann[1]["a"] > 900_000
    assert bob[1]["b"] > 900_000


async def test_what_is_asked_for_is_told_until_it_is_done(school: School) -> None:
    world = school.road.crowd.world
    await school.road.publish(choose(), BYE, LATE, goal="paid")
    assert await school.updates.claim_untold() == [school.journey], "publishing asks for it"
    assert await school.updates.claim_untold() == []
    await school.updates.not_told([school.journey])
    assert await school.updates.claim_untold() == [school.journey]
    await school.learn()
    assert not await school.owner.fetchval("SELECT EXISTS (SELECT FROM policy_requests)")

    assert await world.do(policy_updates.request, "welcome") == ["choose"]

    assert await school.updates.claim_untold() == [school.journey]
    assert (await world.actions())[-1] == "policy_update_requested"
    assert await school.updates.journeys(LearningJourney(project_no=0, journey_id=""), 10) == [school.journey]
    assert await school.updates.journeys(school.journey, 10) == []


async def test_nothing_is_asked_for_where_nothing_learns(school: School) -> None:
    world = school.road.crowd.world
    await world.draft("plain", {"steps": [BYE]})
    with pytest.raises(NotFound):
        await world.do(policy_updates.request, "nowhere")
    for published in (False, True):
        if published:
            await world.do(publishing.publish, "plain", ANY_STATE)
        with pytest.raises(FailedPrecondition, match="no published step that learns"):
            await world.do(policy_updates.request, "plain")
    await school.road.publish(choose(), BYE, LATE, goal="paid")
    await world.do(update, "welcome", Changes(goal_event=""), ANY_STATE)
    with pytest.raises(FailedPrecondition, match="no goal"):
        await world.do(policy_updates.request, "welcome")
    assert await school.updates.journeys(LearningJourney(project_no=0, journey_id=""), 10) == [school.journey]
