"""A journey that learns, on real servers whose clock the test moves: people come, are chosen for, and some convert in
their time; the policy follows. In the end every number that is told is that of a plain recount of what happened.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.testing import WorkflowEnvironment

from orchestrator.application import branch_performance, impact, publishing, trigger_contracts
from orchestrator.application.ingest import Ingest
from orchestrator.application.journeys import Changes, update
from orchestrator.application.policy_updates import PolicyUpdates
from orchestrator.application.transactions import Transactions
from orchestrator.domain.event import Event
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import inbox_entries
from orchestrator.storage.policy_versions import LearningJourney
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from tests.integration.journey_world import ANY_STATE, World
from tests.workflows.virtual_clock import VirtualClock
from tests.workflows.world import Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAY = timedelta(days=1)
START = datetime(2031, 3, 1, 12, tzinfo=UTC)

#: Who converts, by the arm that he went by, and after how many days on average: the better one takes its time.
RATES, DELAYS = {"plain": 0.1, "rich": 0.35, "": 0.08}, {"plain": 0.3, "rich": 0.9, "": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`tells`: who came on the first `days` has matured when the test ends."""

    days: int
    a_day: int
    window: timedelta
    grace_days: int
    share: float

    @property
    def end(self) -> int:
        return self.days + self.window // DAY + self.grace_days + 2


SIZES = [
    pytest.param(
        Size(days=9, a_day=30, window=2 * DAY, grace_days=0, share=0.6),
        id="270-subjects",
        marks=pytest.mark.timeout(300),
    ),
    pytest.param(
        Size(days=25, a_day=80, window=7 * DAY, grace_days=1, share=0.85),
        id="2000-subjects",
        marks=[pytest.mark.faults, pytest.mark.timeout(1200)],
    ),
]


def journey(size: Size) -> dict[str, Any]:
    return {
        "triggerContractId": "on-signup",
        "holdout": {"percent": 20},
        "steps": [
            {
                "id": "pick",
                "adaptiveBranch": {
                    "arms": [{"id": "plain", "next": "bye"}, {"id": "rich", "next": "mail"}],
                    "learning": {"graceDays": size.grace_days},
                },
            },
            {"id": "mail", "send": {"communicationId": "welcome"}, "next": "bye"},
            {"id": "bye", "exit": {"reason": "done"}},
        ],
    }


class Shop:
    """Where people sign up, and some of them pay."""

    def __init__(self, world: World, clock: VirtualClock, pool: Pool[Record], size: Size) -> None:
        self.world = world
        self.owner: Connection[Record] = world.owner
        self.clock = clock
        self.size = size
        self.updates = PolicyUpdates(Transactions(pool))
        self.dice = Random(31)
        # By the day on which they come in: (subject, when it happened)
        self.payments: defaultdict[int, list[tuple[str, datetime]]] = defaultdict(list)

    async def furnish(self) -> None:
        await self.world.furnish()
        contract = Contract(name="Signup", event_name="signup", predicate=None, entry_key_path=None)
        await self.world.do(trigger_contracts.create, "on-signup", contract)
        await self.world.draft("welcome", journey(self.size))
        await self.world.do(update, "welcome", Changes(goal_event="paid", goal_window=self.size.window), ANY_STATE)
        await self.world.do(publishing.publish, "welcome", ANY_STATE)

    async def day(self, number: int) -> None:
        """What happens on a day, at noon: people come, payments come in, and the policy is looked over."""
        await self.clock.move(START + number * DAY)
        came = [f"s{number}-{one}" for one in range(self.size.a_day)] if number < self.size.days else []
        paid = self.payments.pop(number, [])
        await self._happen([(who, "signup", None) for who in came])
        await self._happen([(who, "paid", at) for who, at in paid + paid[: len(paid) // 3]])
        await self.until(
            "NOT EXISTS (SELECT FROM inbox) AND NOT EXISTS (SELECT FROM outbox)"
            " AND NOT EXISTS (SELECT FROM executions WHERE outcome IS NULL)"
        )
        await self._plan(number, came)
        await self.updates.update(LearningJourney(project_no=self.world.scope.project_no, journey_id="welcome"))

    async def _plan(self, number: int, came: Iterable[str]) -> None:
        """Who of those who came will pay when, by the arm he went by; and when that comes in, now and then late."""
        rows = await self.owner.fetch(
            """
            SELECT s.subject_id, n.triggered_at, c.arm_id FROM enrollments AS n
              JOIN subjects AS s USING (project_no, bucket, subject_no)
              LEFT JOIN arm_choices AS c ON c.execution_id = n.enrollment_id
             WHERE s.subject_id = ANY ($1) ORDER BY s.subject_id
            """,
            list(came),
        )
        for who, since, arm in rows:
            of_subject = Random(f"{who}/{arm}")
            if of_subject.random() < RATES[arm or ""]:
                delay = of_subject.expovariate(1 / DELAYS[arm or ""]) * DAY
                at = since + delay
                known = number + delay // DAY + 1
                if of_subject.random() < 0.05:
                    known += (self.size.window + 2 * DAY) // DAY
                self.payments[known].append((who, at.replace(microsecond=0)))
                self.payments[known + 1].append((who, at.replace(microsecond=0) + DAY))

    async def _happen(self, events: Iterable[tuple[str, str, datetime | None]]) -> None:
        batch = [
            Event(
                event_id=f"{who}/{name}/{at}",
                name=name,
                subject_id=who,
                occurred_at=at,
                properties=json.dumps({}).encode(),
            )
            for who, name, at in events
        ]
        if batch:
            await Ingest(self.world.transactions).take(self.world.scope.project_no, batch, backfill=False)
        async with self.world.transactions.read(self.world.scope.project_no) as conn:
            await inbox_entries.ring(conn)

    async def until(self, condition: str) -> None:
        async with asyncio.timeout(120):
            while not await self.owner.fetchval(f"SELECT {condition}"):
                await asyncio.sleep(0.02)

    async def shares(self) -> dict[str, float]:
        rows = await self.owner.fetch(
            "SELECT a ->> 'arm_id', (a ->> 'ppm')::int"
            "  FROM policy_versions, jsonb_array_elements(document -> 'arms') AS a"
            " WHERE policy_version = (SELECT max(policy_version) FROM policy_versions)"
        )
        return {arm_id: ppm / 1e6 for arm_id, ppm in rows}


@pytest.fixture
async def shop(
    request: pytest.FixtureRequest, owner: Connection[Record], database: str, time_skipping: WorkflowEnvironment
) -> AsyncIterator[Shop]:
    clock = VirtualClock(owner, time_skipping)
    await clock.install(START)
    api_pool = await open_pool(database, role=API_ROLE, size=8, application_name="test-api")
    worker_pool = await open_pool(database, role=WORKER_ROLE, size=8, application_name="test-worker")
    try:
        shop = Shop(await World.make(owner, api_pool), clock, worker_pool, request.param)
        await shop.furnish()
        async with worker(time_skipping.client, database, worker_pool, Switchboard()):
            yield shop
    finally:
        await api_pool.close()
        await worker_pool.close()


@pytest.mark.parametrize("shop", SIZES, indirect=True)
async def test_the_better_arm_gets_more_and_every_number_is_that_of_a_recount(shop: Shop) -> None:
    for number in range(shop.size.end):
        await shop.day(number)

    assert (await shop.shares())["rich"] >= shop.size.share
    told = await shop.world.look(impact.calibrated_impact, "welcome")
    (arms,) = await shop.world.look(branch_performance.branch_performance, "welcome")
    counts = await recount(shop)
    assert {
        "exposed": (told.impact.exposed.subjects, told.impact.exposed.converted),
        "journey": (told.impact.holdout.subjects, told.impact.holdout.converted),
        **{arm.arm_id: (arm.subjects_reached, arm.goal_events) for arm in arms.performance.arms},
    } == counts
    assert told.impact.matured_exposed.subjects == counts["exposed"][0]  # all of them have matured
    assert told.late > 0
    assert told.impact.lift is not None
    assert told.impact.lift > 0
    assert arms.policy_version == await shop.owner.fetchval("SELECT max(policy_version) FROM policy_versions")
    assert arms.performance.sample_ratio is not None
    assert not arms.performance.sample_ratio.alarm
    assert (
        await shop.owner.fetchval(
            "SELECT count(*) FROM enrollments AS n WHERE held_out_by IS NOT NULL AND ("
            " EXISTS (SELECT FROM arm_choices AS c WHERE c.subject_no = n.subject_no)"
            " OR EXISTS (SELECT FROM sends AS d WHERE d.subject_no = n.subject_no))"
        )
        == 0
    )


async def recount(shop: Shop) -> dict[str, tuple[int, int]]:
    """How many came to each side and each arm, and how many of these converted: from what happened, in plain Python."""
    owner = shop.owner
    paid: defaultdict[int, list[datetime]] = defaultdict(list)
    for row in await owner.fetch(
        "SELECT subject_no, occurred_at FROM events JOIN event_names USING (project_no, name_no) WHERE name = 'paid'"
    ):
        paid[row["subject_no"]].append(row["occurred_at"])
    came: Counter[str] = Counter()
    converted: Counter[str] = Counter()

    def count(name: str, subject_no: int, since: datetime) -> None:
        came[name] += 1
        converted[name] += any(since < at <= since + shop.size.window for at in paid[subject_no])

    for row in await owner.fetch("SELECT * FROM enrollments"):
        count(row["held_out_by"] or "exposed", row["subject_no"], row["triggered_at"])
    for row in await owner.fetch("SELECT * FROM arm_choices"):
        count(row["arm_id"], row["subject_no"], row["chosen_at"])
    return {name: (came[name], converted[name]) for name in came}
