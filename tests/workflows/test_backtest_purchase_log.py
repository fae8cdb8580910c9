"""A backtest on a real purchase log. What it says of thirty days is what really ran in them, to the last send; and what
it says of the thirty days to come is nearer to them than yesterday's rate carried on.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.testing import WorkflowEnvironment

from orchestrator.application import publishing, trigger_contracts
from orchestrator.application.backtests import Backtest, Backtests
from orchestrator.application.ingest import Ingest
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import inbox_entries
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from tests.integration.journey_world import ANY_STATE, World
from tests.purchase_log import lines, needs_purchase_log
from tests.workflows.virtual_clock import LATE, VirtualClock
from tests.workflows.world import Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The log, later: no test's clock goes back.
SHIFT = timedelta(days=3652)
DAY, DAYS = timedelta(days=1), 30
#: The day on which it is published, after nine months of the log; and those on which it would have been.
PUBLISHED = datetime(2021, 10, 1, tzinfo=UTC) + SHIFT
TRAINED = [datetime(2021, month, 1, tzinfo=UTC) + SHIFT for month in (6, 7, 8, 9, 10)]
#: One customer in so many.
SAMPLE = 3

AGAIN = {"kind": "event_fired", "eventName": "purchase", "window": {"type": "last", "duration": "4d"}, "atLeast": 2}
JOURNEY: dict[str, Any] = {
    "triggerContractId": "spent",
    "reentry": {"policy": "interval", "interval": "6d"},
    "steps": [
        {"id": "thanks", "send": {"communicationId": "welcome"}, "next": "half"},
        {
            "id": "half",
            "split": {
                "arms": [{"id": "soon", "weight": 1, "next": "pause"}, {"id": "never", "weight": 1, "next": "await"}]
            },
        },
        {"id": "pause", "wait": {"duration": "3d"}, "next": "again"},
        {"id": "again", "branch": {"arms": [{"id": "yes", "when": AGAIN, "next": "bye"}], "otherwise": "nudge"}},
        {"id": "nudge", "send": {"communicationId": "welcome"}, "next": "await"},
        {
            "id": "await",
            "waitFor": {"event": {"eventName": "purchase"}, "timeout": "7d", "otherwise": "bye"},
            "next": "cheer",
        },
        {"id": "cheer", "send": {"communicationId": "welcome"}, "next": "bye"},
        {"id": "bye", "exit": {"reason": "asked"}},
    ],
}

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1500),
    needs_purchase_log,
]


@dataclass(frozen=True, slots=True)
class Purchase:
    customer: str
    at: datetime
    amount: float


def purchases() -> list[Purchase]:
    """In the order of time, at noon of their days."""
    noon = SHIFT + timedelta(hours=12)
    found = [
        Purchase(f"c{customer}", day + noon, amount) for customer, day, amount in lines() if int(customer) % SAMPLE == 0
    ]
    return sorted(found, key=lambda purchase: purchase.at)


class Shop:
    """A project whose journey thanks those who spend much."""

    def __init__(self, world: World, clock: VirtualClock, environment: WorkflowEnvironment) -> None:
        self.world = world
        self.owner: Connection[Record] = world.owner
        self.clock = clock
        self.environment = environment
        self._sent = 0

    async def furnish(self) -> None:
        await self.world.furnish()
        large = {"kind": "attribute", "fieldPath": "amount", "operator": "greater_than", "value": 25}
        contract = Contract(name="Spent", event_name="purchase", predicate=large, entry_key_path=None)
        await self.world.do(trigger_contracts.create, "spent", contract)
        await self.world.draft("loyalty", JOURNEY)
        caps = {"frequencyCaps": [{"limit": 2, "window": "14d"}]}
        await self.owner.execute("UPDATE projects SET settings = settings || $1::jsonb", json.dumps(caps))

    async def buy(self, bought: Iterable[Purchase], *, backfill: bool) -> None:
        events = []
        for purchase in bought:
            self._sent += 1
            properties = json.dumps({"amount": purchase.amount}).encode()
            events.append(
                Event(
                    event_id=f"e{self._sent}",
                    name="purchase",
                    subject_id=purchase.customer,
                    occurred_at=purchase.at,
                    properties=properties,
                )
            )
        ingest, project_no = Ingest(self.world.transactions), self.world.scope.project_no
        for first in range(0, len(events), 1000):
            await ingest.take(project_no, events[first : first + 1000], backfill=backfill)
        async with self.world.transactions.read(project_no) as conn:
            await inbox_entries.ring(conn)

    async def backtest(self, at: datetime) -> Backtest:
        """Trained to that day."""
        await self.clock.set(at)
        backtests = Backtests(Versions(), budget=timedelta(seconds=300))
        return await backtests.run(self.world.transactions, self.world.scope, "loyalty", DAYS)

    async def until(self, condition: str, *args: object) -> None:
        async with asyncio.timeout(300):
            while not await self.owner.fetchval(f"SELECT {condition}", *args):
                await asyncio.sleep(0.02)

    async def settle(self, customers: list[str]) -> None:
        """All that has happened was worked on, and those it happened to have looked."""
        await self.until(
            "NOT EXISTS (SELECT FROM inbox) AND NOT EXISTS (SELECT FROM outbox)"
            " AND NOT EXISTS (SELECT FROM executions, virtual.clock"
            " WHERE outcome IS NULL AND (wakes_at IS NULL OR wakes_at + $1::interval <= at))",
            LATE,
        )
        rows = await self.owner.fetch(
            "SELECT workflow_id FROM executions JOIN subjects USING (project_no, bucket, subject_no)"
            " WHERE outcome IS NULL AND subject_id = ANY ($1)",
            customers,
        )
        for (workflow_id,) in rows:
            handle = self.environment.client.get_workflow_handle(workflow_id)
            await handle.query("__temporal_workflow_metadata", result_type=dict)

    async def run(self, log: list[Purchase], until: datetime) -> None:
        """Let time pass, and what the log says happen, until then."""
        days: defaultdict[datetime, list[Purchase]] = defaultdict(list)
        for purchase in log:
            days[purchase.at].append(purchase)
        coming = sorted(days)
        while True:
            wakes = await self.owner.fetchval("SELECT min(wakes_at) FROM executions WHERE outcome IS NULL")
            if coming and (wakes is None or coming[0] < wakes + LATE):
                at = coming.pop(0)
                await self.clock.move(at)
                await self.buy(days[at], backfill=False)
                await self.settle([purchase.customer for purchase in days[at]])
            elif wakes is not None and wakes + LATE < until:
                await self.clock.move(wakes + LATE)
                await self.settle([])
            else:
                return


@pytest.fixture
async def shop(owner: Connection[Record], database: str, time_skipping: WorkflowEnvironment) -> AsyncIterator[Shop]:
    clock = VirtualClock(owner, time_skipping)
    await clock.install(PUBLISHED)
    api_pool = await open_pool(database, role=API_ROLE, size=8, application_name="test-api")
    worker_pool = await open_pool(database, role=WORKER_ROLE, size=8, application_name="test-worker")
    try:
        shop = Shop(await World.make(owner, api_pool), clock, time_skipping)
        await shop.furnish()
        async with worker(time_skipping.client, database, worker_pool, Switchboard()):
            yield shop
    finally:
        await api_pool.close()
        await worker_pool.close()


async def test_a_backtest_is_what_really_ran_and_forecasts_better_than_yesterdays_rate(
    shop: Shop, request: pytest.FixtureRequest
) -> None:
    log = purchases()
    end = PUBLISHED + DAYS * DAY
    await shop.buy((one for one in log if one.at < PUBLISHED), backfill=True)
    await shop.until("NOT EXISTS (SELECT FROM inbox)")
    forecasts = {at: await shop.backtest(at) for at in TRAINED}
    actual = {at: await shop.backtest(at + DAYS * DAY) for at in TRAINED if at != PUBLISHED}
    await shop.clock.move(PUBLISHED)
    await shop.world.do(publishing.publish, "loyalty", ANY_STATE)

    await shop.run([one for one in log if PUBLISHED <= one.at < end], end)

    replayed = await shop.backtest(end)
    really = await _ledgers(shop.owner)
    assert _told(replayed) == really
    assert really["sends"].total() > 200
    assert set(really["ways"]) == {
        *((step, way) for step, ways in (("half", ("soon", "never")), ("again", ("yes", "otherwise"))) for way in ways),
        ("await", "came"),
        ("await", "timeout"),
    }
    actual[PUBLISHED] = replayed
    _print(request.config, forecasts, actual)
    for what in ("entries", "sends"):
        by_backtest, by_rate = _errors(forecasts, actual, what)
        assert by_backtest < by_rate, what


def _told(told: Backtest) -> dict[str, Any]:
    tally = told.tally
    return {
        "entries": tally.entries,
        "sends": Counter({day: count for (day, _), count in tally.sends.items()}),
        "ways": tally.ways,
        "stopped": tally.stopped,
        "outcomes": tally.outcomes,
        "under way": tally.under_way,
    }


async def _ledgers(owner: Connection[Record]) -> dict[str, Any]:
    """The same of what really ran."""

    async def counted(statement: str, *args: object) -> Counter[Any]:
        rows = [tuple(row) for row in await owner.fetch(statement, *args)]
        return Counter({row[0] if len(row) == 2 else row[:-1]: row[-1] for row in rows})

    by_day = "SELECT floor(extract(epoch FROM {} - $1) / 86400)::int, count(*) FROM {} GROUP BY 1"
    return {
        "entries": await counted(by_day.format("triggered_at", "enrollments"), PUBLISHED),
        "sends": await counted(by_day.format("reserved_at", "sends"), PUBLISHED),
        "ways": await counted(
            "SELECT step_id, reason, count(*) FROM visits WHERE step_kind IN ('branch', 'split', 'wait_for')"
            " GROUP BY 1, 2"
        ),
        "stopped": await counted("SELECT reason, count(*) FROM visits WHERE result = 'skipped' GROUP BY 1"),
        "outcomes": await counted("SELECT outcome, count(*) FROM executions WHERE outcome IS NOT NULL GROUP BY 1"),
        "under way": await owner.fetchval("SELECT count(*) FROM executions WHERE outcome IS NULL"),
    }


def _total(told: Backtest, what: str) -> int:
    return told.tally.entries.total() if what == "entries" else told.tally.sends.total()


def _naive(told: Backtest, what: str) -> int:
    """Yesterday's rate carried on."""
    tally = told.tally
    if what == "entries":
        return tally.entries[DAYS - 1] * DAYS
    return DAYS * sum(count for (day, _), count in tally.sends.items() if day == DAYS - 1)


def _errors(forecasts: dict[datetime, Backtest], actual: dict[datetime, Backtest], what: str) -> tuple[float, float]:
    """The mean error of the backtests and of the naive forecasts, in parts of what came."""
    errors = [
        (abs(guess - (came := _total(actual[at], what))) / came)
        for at, told in forecasts.items()
        for guess in (_total(told, what), _naive(told, what))
    ]
    return sum(errors[::2]) / len(forecasts), sum(errors[1::2]) / len(forecasts)


def _print(config: pytest.Config, forecasts: dict[datetime, Backtest], actual: dict[datetime, Backtest]) -> None:
    """The table: past pytest's capture, since it is part of the answer."""
    reporter, capture = (config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    assert reporter is not None
    assert capture is not None
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(f"forecasts of {DAYS} days on the purchase log (the last as really run; 1 in {SAMPLE})")
        head = "".join(f"{what:>9}{'came':>7}{'naive':>7}" for what in ("entries", "sends"))
        reporter.write_line(f"{'trained to':12}{head}")
        for at, told in forecasts.items():
            cells = [
                (_total(told, what), _total(actual[at], what), _naive(told, what)) for what in ("entries", "sends")
            ]
            row = "".join(f"{a:>9}{b:>7}{c:>7}" for a, b, c in cells)
            reporter.write_line(f"{(at - SHIFT).date()!s:12}{row}")
        for what in ("entries", "sends"):
            by_backtest, by_rate = _errors(forecasts, actual, what)
            reporter.write_line(f"mean error of {what}: {by_backtest:.0%}, and {by_rate:.0%} by yesterday's rate")
