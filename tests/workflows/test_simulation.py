"""What is simulated is what happens: random journeys travelled both ways, step by step and instant by instant."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from orchestrator.application import preferences, publishing, segments, trigger_contracts
from orchestrator.application.enrollment import enroll
from orchestrator.application.ingest import Ingest
from orchestrator.application.journeys import Changes, update
from orchestrator.application.relay import Relay
from orchestrator.application.simulation_questions import Question, Supposed
from orchestrator.application.simulation_work import Message
from orchestrator.application.simulations import Simulation, Simulations
from orchestrator.application.subjects import upsert
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.segment import DYNAMIC, STATIC, Segment
from orchestrator.domain.subject import SubjectPatch
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import inbox_entries
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from orchestrator.temporal.executions import Executions
from tests.core import journeys
from tests.core.moves import caps, quiet_hours, written
from tests.core.world import GOAL_EVENT, GOAL_HOURS
from tests.integration.channels.receiver import Receiver, answering, receiving
from tests.integration.journey_world import ANY_STATE, World
from tests.workflows.virtual_clock import LATE, VirtualClock
from tests.workflows.world import Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Connection, Record

START = datetime(2031, 3, 1, 9, 0, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
#: Real seconds that one journey takes at most; it takes some two.
LONGEST = 45.0
#: Events by which somebody who stands still is known.
LAST = 6
#: How long one of them is followed, and over how many moves of the clock.
FOLLOWED, MOVES = 12 * DAY, 30
TIERS: list[dict[str, Any]] = [
    {"tier": "pro"},
    {"tier": "free"},
    {"tier": None},
    {"score": 5},
    {"score": "5"},
    {"plan": {"level": 2}},
]
WINDOW = {"type": "last", "duration": "1d"}
VISITORS = {"kind": "event_fired", "eventName": "view", "window": WINDOW}

#: What steps change, filled in.
FILLED: list[dict[str, Any]] = [
    {"score": {"$path": "$entry.amount"}, "tier": "{% if subject.attributes.tier == 'pro' %}free{% endif %}"},
    {"tier": "{{ subject.attributes.score | plus: 1 }}", "plan": {"level": {"$path": "score"}}},
]
#: What webhooks answer, of those that answer anything.
ANSWER: dict[str, Any] = {"score": 7, "tier": "pro"}

_ids = count()


@dataclass(slots=True)
class Called:
    """Two servers that webhooks may call: what one answers is kept, the other answers nothing."""

    telling: Receiver
    silent: Receiver


@dataclass(slots=True)
class Both:
    """Two projects that are alike. In `real` subjects travel, and `twin` is where they are simulated."""

    real: World
    twin: World
    clock: VirtualClock
    owner: Connection[Record]
    workers: Transactions
    executions: Executions
    called: Called
    environment: WorkflowEnvironment
    now: datetime = START
    tally: Counter[str] = field(default_factory=Counter)

    @property
    def worlds(self) -> tuple[World, World]:
        return self.real, self.twin

    async def furnish(self) -> None:
        for world in self.worlds:
            await world.do(segments.create, "vip", Segment(kind=STATIC, name="VIP", description="", predicate=None))
            await world.do(
                segments.create, "trial", Segment(kind=DYNAMIC, name="Trial", description="", predicate=VISITORS)
            )
            for name in ("hello", "nudge", "news"):
                await world.add_communication(
                    name, "marketing", body="{% if subject.attributes.score > 3 %}much{% endif %} {{ entry.amount }}"
                )

    async def move(self, to: datetime) -> None:
        self.now = to
        await self.clock.move(to)

    async def happen(self, world: World, subject_id: str, name: str, properties: Any, at: datetime | None) -> None:
        event = Event(
            event_id=f"e{next(_ids)}",
            name=name,
            subject_id=subject_id,
            occurred_at=at,
            properties=json.dumps(properties).encode(),
        )
        await Ingest(world.transactions).take(world.scope.project_no, [event], backfill=False)
        await self.ring(world)

    async def known(self, world: World, subject_id: str, attributes: dict[str, Any], zone: str | None = None) -> None:
        async with world.transactions.write(world.scope.project_no) as conn:
            patch = SubjectPatch(subject_id=subject_id, attributes=attributes, time_zone=zone)
            await upsert(conn, world.scope.project_no, [patch])
        await self.ring(world)

    async def ring(self, world: World) -> None:
        async with world.transactions.read(world.scope.project_no) as conn:
            await inbox_entries.ring(conn)

    async def until(self, condition: str, *args: object) -> None:
        async with asyncio.timeout(30):
            while not await self.owner.fetchval(f"SELECT {condition}", *args):
                await asyncio.sleep(0.005)

    async def settled(self) -> Record | None:
        """The newest execution, once all that has happened was worked on; None when there is none."""
        await self.until("NOT EXISTS (SELECT FROM inbox) AND NOT EXISTS (SELECT FROM outbox)")
        while True:
            row = await self.standing()
            if row is None or row["outcome"] is not None:
                return row
            # Answered behind whatever the workflow is at; on a busy machine the server gives up on it first.
            handle = self.environment.client.get_workflow_handle(row["workflow_id"])
            try:
                await handle.query("__temporal_workflow_metadata", result_type=dict)
            except RPCError as failed:
                if failed.status is not RPCStatusCode.DEADLINE_EXCEEDED:
                    raise
                continue
            after = await self.standing()
            if after == row and row["wakes_at"] is not None:
                return row

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """The block ends within LONGEST, or fails with where the newest execution stands. Neither server nor workflow
        would ever say: this clock stands still as well.
        """
        try:
            async with asyncio.timeout(LONGEST):
                yield
        except TimeoutError:
            raise AssertionError(await self._where_it_stands()) from None

    async def _where_it_stands(self) -> str:
        row = await self.standing()
        if row is None:
            return "nobody has come in"
        handle = self.environment.client.get_workflow_handle(row["workflow_id"])
        try:
            events = (await asyncio.wait_for(handle.fetch_history(), 10)).events
        except TimeoutError:
            return f"{dict(row)} stands still, and the time-skipping server does not answer"
        names = [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in events[-LAST:]]
        told = f"{dict(row)} stands still after {', '.join(names)}"
        if names[-1] == "WORKFLOW_TASK_STARTED":
            # temporalio/sdk-java#3088: it takes the task for done, its history does not, and it holds on to its clock.
            told += (
                '. If the time-skipping server has logged "invalid history builder state for action", it is to blame:'
                " it refuses a task that cancels a timer which has fired meanwhile, and never hands it out again"
            )
        return told

    async def standing(self) -> Record | None:
        return await self.owner.fetchrow(
            "SELECT execution_id, workflow_id, seq, step_id, since, wakes_at, outcome, reason, ended_at, started_at"
            " FROM executions ORDER BY started_at DESC, execution_id DESC LIMIT 1"
        )


@pytest.fixture
async def both(owner: Connection[Record], database: str, time_skipping: WorkflowEnvironment) -> AsyncIterator[Both]:
    clock = VirtualClock(owner, time_skipping)
    await clock.install(START)
    api_pool = await open_pool(database, role=API_ROLE, size=8, application_name="test-api")
    worker_pool = await open_pool(database, role=WORKER_ROLE, size=8, application_name="test-worker")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(api_pool.close)
        stack.push_async_callback(worker_pool.close)
        telling = await stack.enter_async_context(receiving(answering(200, json.dumps(ANSWER).encode())))
        silent = await stack.enter_async_context(receiving(answering(204)))
        real, twin = [await World.make(owner, api_pool, name) for name in ("default", "twin")]
        both = Both(
            real=real,
            twin=twin,
            clock=clock,
            owner=owner,
            workers=Transactions(worker_pool),
            executions=Executions(time_skipping.client, eager=True, searchable=False),
            called=Called(telling, silent),
            environment=time_skipping,
        )
        await both.furnish()
        async with worker(time_skipping.client, database, worker_pool, Switchboard()):
            yield both


async def test_what_is_simulated_is_what_happens(both: Both, request: pytest.FixtureRequest) -> None:
    await _compare(both, range(30, 60), request.config)


@pytest.mark.faults
@pytest.mark.timeout(1200)
async def test_what_is_simulated_is_what_happens_on_hundreds_of_journeys(
    both: Both, request: pytest.FixtureRequest
) -> None:
    await _compare(both, range(1000, 1200), request.config)


async def _compare(both: Both, seeds: range, config: pytest.Config) -> None:
    for seed in seeds:
        async with both.in_time():
            await _Travelled(both, seed).compare()
    _print(config, both.tally, len(seeds))
    kinds = {
        *("send", "wait", "wait_for", "branch", "split", "adaptive_branch", "nba_decision"),
        *("update_subject", "emit_event", "webhook", "exit"),
    }
    assert {kind for kind in kinds if not both.tally[f"step: {kind}"]} == set()


class _Travelled:
    """One random journey, and somebody who travels it."""

    def __init__(self, both: Both, seed: int) -> None:
        self.both = both
        self.seed = seed
        self.random = Random(seed)
        self.journey_id, self.subject_id = f"j{seed}", f"u{seed}"
        self.by_event = self.random.random() < 0.5
        self.entry = {"amount": self.random.choice([5, 50, 500]), "order": self.random.choice(["o1", 7])}
        #: What is supposed to happen, with when: its instants are those of what then happened.
        self.supposed: list[Supposed] = []
        #: What webhooks answer, by step.
        self.answers: dict[str, Any] = {}

    async def compare(self) -> None:
        both = self.both
        await both.move(both.now + self.random.choice([HOUR, 7 * HOUR, 31 * HOUR]))
        await self._prepare()
        start = both.now
        entered = await self._enter()
        if entered is not None:
            await self._follow(start)
        end = both.now
        await both.clock.set(start)
        simulation = await self._simulate(start)
        await both.clock.set(end)
        if entered is None:
            assert simulation.trace.stop.value in ("not_entered", "held_out"), (self.seed, simulation)
            both.tally[f"end: {simulation.trace.stop.value}"] += 1
            return
        await self._same(simulation, end)

    async def _prepare(self) -> None:
        """The same journey, and the same subject, in both projects."""
        both, random = self.both, self.random
        times = [written(both.now + hours * HOUR) for hours in (-30, 7, 33, 60)]
        document = journeys.Author(random, times).journey()
        document["reentry"] = {"policy": "entry_key"}
        self._point(document)
        sending: dict[str, Any] = {"quietHours": quiet_hours(random), "frequencyCaps": []}
        if sending["quietHours"] is not None:
            sending["quietHours"].pop("channels", None)
        sending["frequencyCaps"] = [cap | {"channel": "*", "category": "marketing"} for cap in caps(random)]
        zone = random.choice([None, *journeys.ZONES])
        attributes = random.choice(TIERS) | {"seen": written(both.now - random.choice([HOUR, 2 * DAY]))}
        attributes |= {"due": written(both.now + random.choice([-1, 1, 2]) * DAY)}
        past = [
            (random.choice(journeys.EVENTS), both.now - random.choice([HOUR, DAY + HOUR, 3 * DAY])) for _ in range(3)
        ]
        opted_out = random.random() < 0.1
        vip = random.random() < 0.3
        for world in both.worlds:
            await both.owner.execute(
                "UPDATE projects SET settings = settings || $2::jsonb WHERE project_no = $1",
                world.scope.project_no,
                json.dumps(sending | {"timeZone": random_zone(self.seed)}),
            )
            if self.by_event:
                contract = Contract(
                    name="Start", event_name=f"start-{self.seed}", predicate=None, entry_key_path="order"
                )
                await world.do(trigger_contracts.create, f"on-{self.seed}", contract)
                document["triggerContractId"] = f"on-{self.seed}"
            await self._publish(world, document)
            await both.known(world, self.subject_id, attributes, zone)
            for name, at in past:
                await both.happen(world, self.subject_id, name, {"amount": 5, "order": "o1"}, at)
            if vip:
                await world.do(segments.add_members, "vip", [self.subject_id])
            if opted_out:
                await self._opt_out(world)
        await both.until("NOT EXISTS (SELECT FROM inbox) AND NOT EXISTS (SELECT FROM outbox)")

    def _point(self, document: dict[str, Any]) -> None:
        """Webhooks call the servers here. What steps do takes no time on this clock, so what they let happen is not
        within the instant of the entry. Arms are drawn alike in both projects, and for an entry by hand, which has a
        key of its own in each, by the subject."""
        first = document["steps"][0]["id"]
        if self.seed % 5 == 0:  # few ways lead over these
            kind = journeys.LEARNING[self.seed % 2]
            arms = [{"id": "a", "next": first}, {"id": "b", "next": first, "share": 0.25}]
            more = {"context": ["tier"]} if kind == "nbaDecision" else {}
            document["steps"].insert(0, {"id": "learn", kind: {"arms": arms, **more}})
        for step in document["steps"]:
            if "webhook" in step:
                tells = self.random.random() < 0.6
                receiver = self.both.called.telling if tells else self.both.called.silent
                step["webhook"] |= {"url": f"http://127.0.0.1:{receiver.port}/", "body": {"plan": {"$path": "tier"}}}
                if tells:
                    self.answers[step["id"]] = ANSWER
            for kind in journeys.LEARNING:
                if kind in step:
                    step[kind] |= {"salt": "salt"} | ({} if self.by_event else {"stickiness": "subject"})
            if "updateSubject" in step and self.random.random() < 0.5:
                step["updateSubject"] = {"attributes": self.random.choice(FILLED)}
        if any("emitEvent" in step for step in document["steps"]):
            first = document["steps"][0]["id"]
            document["steps"].insert(0, {"id": "moment", "wait": {"duration": "10s"}, "next": first})

    async def _publish(self, world: World, document: dict[str, Any]) -> None:
        await world.draft(self.journey_id, document)
        await world.do(
            update, self.journey_id, Changes(goal_event=GOAL_EVENT, goal_window=timedelta(hours=GOAL_HOURS)), ANY_STATE
        )
        try:
            await world.do(publishing.publish, self.journey_id, ANY_STATE)
        except FailedPrecondition:  # a wait that does not fit
            document.pop("maxDurationDays")
            await world.do(update, self.journey_id, Changes(definition={"maxDurationDays": None}), ANY_STATE)
            await world.do(publishing.publish, self.journey_id, ANY_STATE)

    async def _opt_out(self, world: World) -> None:
        change = PreferenceChange(channel="*", category="marketing", opted_out=True)
        async with world.transactions.write(world.scope.project_no) as conn:
            await preferences.update(conn, world.scope.project_no, self.subject_id, [change])

    async def _enter(self) -> Record | None:
        """Let the subject in; None when a gate refused."""
        both = self.both
        before = await both.standing()
        if self.by_event:
            await both.happen(both.real, self.subject_id, f"start-{self.seed}", self.entry, None)
        else:
            async with both.workers.write(None) as conn:
                enrolled = await enroll(conn, both.real.scope, Versions(), self.journey_id, [self.subject_id])
            await Relay(both.workers, both.executions).tell(enrolled.told)
        after = await both.settled()
        return (
            None if after == before or (before and after and after["execution_id"] == before["execution_id"]) else after
        )

    async def _follow(self, start: datetime) -> None:
        """Let time pass and things happen until it ends, or long enough."""
        both, random = self.both, self.random
        coming = sorted(
            start + timedelta(seconds=random.randrange(90, int(random.choice([HOUR, DAY, 4 * DAY]).total_seconds())))
            for _ in range(random.randint(1, 6))
        )
        for _ in range(MOVES):
            row = await both.settled()
            assert row is not None
            if row["outcome"] is not None or both.now > start + FOLLOWED:
                return
            wakes = row["wakes_at"]
            if coming and coming[0] < wakes:
                at = max(coming.pop(0), both.now + SECOND)
                await both.move(at)
                await self._happen(at)
                continue
            await both.move(wakes + LATE)
            await both.until(
                "EXISTS (SELECT FROM executions WHERE execution_id = $1"
                " AND (seq, wakes_at, outcome) IS DISTINCT FROM ($2, $3, NULL))",
                row["execution_id"], row["seq"], wakes,
            )  # fmt: skip

    async def _happen(self, at: datetime) -> None:
        both, random = self.both, self.random
        if random.random() < 0.6:
            name = random.choice(journeys.EVENTS)
            document: dict[str, Any] = {"amount": random.choice([1, 5, 100]), "order": random.choice(["o1", 7, None])}
            await both.happen(both.real, self.subject_id, name, document, None)
            self.supposed.append(Supposed(name=name, document=document, at=at, after=None, path=""))
        else:
            among: list[dict[str, Any]] = [*TIERS, {"due": written(at + DAY)}, {"seen": written(at)}]
            document = random.choice(among)
            await both.known(both.real, self.subject_id, document)
            self.supposed.append(Supposed(name=None, document=document, at=at, after=None, path=""))

    async def _simulate(self, start: datetime) -> Simulation:
        twin = self.both.twin
        question = Question(
            journey_id=self.journey_id,
            subject_id=self.subject_id,
            entry=self.entry if self.by_event else None,
            supposed=self.supposed,
            answers=self.answers,
            starts_at=start,
        )
        simulated = await Simulations(Versions()).simulate(twin.transactions, twin.scope, question, late=LATE)
        assert simulated.simulation is not None
        return simulated.simulation

    async def _same(self, simulation: Simulation, end: datetime) -> None:
        both = self.both
        row = await both.standing()
        assert row is not None
        visits = [
            tuple(visit)
            for visit in await both.owner.fetch(
                "SELECT step_id, step_kind, result, reason, entered_at, left_at FROM visits WHERE execution_id = $1"
                " ORDER BY seq, place",
                row["execution_id"],
            )
        ]
        sends = [
            tuple(send)
            for send in await both.owner.fetch(
                "SELECT communication_id, content_revision, reserved_at FROM sends WHERE execution_id = $1"
                " ORDER BY seq",
                row["execution_id"],
            )
        ]
        trace = simulation.trace
        passed = [one for one in trace.steps if one.left_at is not None and one.left_at <= end]
        told = (self.seed, [tuple(visit) for visit in visits], trace)
        assert [
            (one.step_id, one.step_kind, one.result and one.result.value, one.reason, one.entered_at, one.left_at)
            for one in passed
        ] == visits, told
        messages = [(one.carried_out, one.left_at) for one in passed if isinstance(one.carried_out, Message)]
        assert [(one.communication_id, one.content_revision, at) for one, at in messages] == sends, told
        if row["outcome"] is not None:
            assert trace.outcome is not None, told
            assert (trace.outcome.value, trace.reason, trace.at) == (row["outcome"], row["reason"], row["ended_at"]), (
                told
            )
        else:
            standing = next(one for one in trace.steps if one not in passed)
            assert (standing.step_id, standing.entered_at) == (row["step_id"], row["since"]), told
        for one in passed:
            both.tally[f"step: {one.step_kind}"] += 1
        both.tally[f"end: {row['outcome'] or 'under way'}"] += 1
        both.tally["looks: things that happened"] += len(self.supposed)


def random_zone(seed: int) -> str:
    return Random(seed).choice(journeys.ZONES)


def _print(config: pytest.Config, tally: Counter[str], travelled: int) -> None:
    """The table: past pytest's capture, since it is part of the answer."""
    reporter, capture = (config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    assert reporter is not None
    assert capture is not None
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        counts = ", ".join(f"{count} {row}" for row, count in sorted(tally.items()))
        reporter.write_line(f"simulated as it happened: {travelled} journeys: {counts}")
