"""Kinds of events (`where`): each event is counted once, by ingest or by the backfill, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest

from orchestrator.application import audiences
from orchestrator.application.derived_events import Backfill
from orchestrator.application.ingest import Ingest
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.derived_event import matches
from orchestrator.domain.event import Event, Outcome
from orchestrator.domain.refusals import Unavailable
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import ANY_EVENT, EventFired, Source
from orchestrator.storage import clock, derived_events, subjects
from orchestrator.storage.event_names import numbers_of
from orchestrator.storage.migrations import known_migrations, migrate
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.integration.projects import make_project

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PAST = datetime(2024, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)

_numbers = itertools.count()


@pytest.fixture
def transactions(api_pool: Pool[Record]) -> Transactions:
    return Transactions(api_pool)


@pytest.fixture
def ingest(transactions: Transactions) -> Ingest:
    return Ingest(transactions)


@pytest.fixture
def backfill(worker_pool: Pool[Record]) -> Backfill:
    return Backfill(Transactions(worker_pool))


def kind(name: str = "purchase", *, over: float = 100) -> Source:
    """Events of this name with an amount of more than that."""
    where = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": over}
    leaf, faults = parse({"kind": "event_fired", "eventName": name, "where": where})
    assert isinstance(leaf, EventFired), faults
    return leaf.source


def purchase(
    subject_id: str = "user-1",
    amount: float = 200,
    *,
    at: datetime | None = PAST,
    name: str = "purchase",
    event_id: str | None = None,
) -> Event:
    return Event(
        event_id=event_id or f"event-{next(_numbers)}",
        name=name,
        subject_id=subject_id,
        occurred_at=at,
        properties=orjson.dumps({"amount": amount}),
    )


def json_of(source: Source) -> Any:
    assert source.where is not None
    return orjson.loads(source.where.text)


async def take(ingest: Ingest, *events: Event, backfill: bool = False) -> list[Outcome]:
    return await ingest.take(1, events, backfill=backfill)


async def ask(transactions: Transactions, *sources: Source) -> dict[Source, int]:
    """Save something that counts these."""
    async with transactions.write(1) as conn:
        return dict(await derived_events.ensure(conn, 1, sources))


async def assert_counted(owner: Connection[Record]) -> None:
    """Copies, counts and days of every kind, and the counts of every name, are what the events say."""
    events = await owner.fetch(
        "SELECT e.subject_no, e.name_no, e.event_no, e.occurred_at, e.properties::text AS properties FROM events AS e"
        " JOIN event_names USING (project_no, name_no)"
    )
    kinds = await owner.fetch("SELECT name_no, base_no, predicate::text AS predicate FROM derived_events")
    expected: list[tuple[int, int, int, datetime]] = []
    for row in kinds:
        where, _ = parse(orjson.loads(row["predicate"]), about=About.COUNTED)
        assert where is not None
        expected += [
            (e["subject_no"], row["name_no"], e["event_no"], e["occurred_at"])
            for e in events
            if e["name_no"] == row["base_no"] and matches(where, orjson.loads(e["properties"]))
        ]
    copies = await owner.fetch(
        "SELECT subject_no, name_no, event_no, occurred_at FROM events"
        " WHERE name_no NOT IN (SELECT name_no FROM event_names)"
    )
    assert sorted(tuple(row) for row in copies) == sorted(expected)
    names = [(e["subject_no"], e["name_no"], e["event_no"], e["occurred_at"]) for e in events]
    altogether = [(subject_no, 0, event_no, at) for subject_no, _, event_no, at in names]
    assert await kept(owner, "subject_event_state") == recounted(names + expected + altogether, by_day=False)
    assert await kept(owner, "subject_event_days") == recounted(names + expected, by_day=True)


async def kept(owner: Connection[Record], table: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    day = ", day" if table == "subject_event_days" else ""
    rows = await owner.fetch(f"SELECT total, first_at, last_at, subject_no, name_no{day} FROM {table}")
    return {tuple(row)[3:]: tuple(row)[:3] for row in rows}


def recounted(
    events: Sequence[tuple[int, int, int, datetime]], *, by_day: bool
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    groups: dict[tuple[Any, ...], list[datetime]] = {}
    for subject_no, name_no, _, at in events:
        key = (subject_no, name_no, at.date()) if by_day else (subject_no, name_no)
        groups.setdefault(key, []).append(at)
    return {key: (len(ats), min(ats), max(ats)) for key, ats in groups.items()}


async def total(owner: Connection[Record], name_no: int) -> int:
    found: int | None = await owner.fetchval(
        "SELECT sum(total)::bigint FROM subject_event_state WHERE name_no = $1", name_no
    )
    return found or 0


async def is_ready(owner: Connection[Record], name_no: int) -> bool:
    return bool(await owner.fetchval("SELECT ready_at IS NOT NULL FROM derived_events WHERE name_no = $1", name_no))


async def test_an_event_of_a_kind_is_counted_as_it_arrives_late_ones_and_told_past_too(
    transactions: Transactions, ingest: Ingest, owner: Connection[Record]
) -> None:
    dear = (await ask(transactions, kind()))[kind()]

    await take(ingest, purchase(amount=200), purchase(amount=50), purchase("user-2", 101, at=None))
    await take(ingest, purchase(amount=300, at=PAST - timedelta(days=900)), purchase(amount=300, name="look"))
    await take(ingest, purchase(amount=400), backfill=True)

    assert await total(owner, dear) == 4
    await assert_counted(owner)


async def test_an_event_that_comes_twice_is_counted_once(
    transactions: Transactions, ingest: Ingest, owner: Connection[Record]
) -> None:
    dear = (await ask(transactions, kind()))[kind()]
    once = purchase(event_id="e1")

    await take(ingest, once, once)
    await take(ingest, once, purchase("user-2", 500, event_id="e1"))

    assert await total(owner, dear) == 1
    await assert_counted(owner)


async def test_the_inbox_hears_of_names_and_not_of_kinds(
    transactions: Transactions, ingest: Ingest, owner: Connection[Record]
) -> None:
    numbers = await ask(transactions, kind(), Source(name="purchase"))

    await take(ingest, purchase(), purchase(amount=5))

    (row,) = await owner.fetch("SELECT kind, name_nos, event_nos FROM inbox")
    assert (row["kind"], row["name_nos"]) == ("events", [numbers[Source(name="purchase")]] * 2)
    assert len(set(row["event_nos"])) == 2


async def test_what_nobody_can_count_yet_gets_its_number_when_it_is_asked_about(
    transactions: Transactions, ingest: Ingest, owner: Connection[Record]
) -> None:
    sources = {kind(), kind(over=5), Source(name="never.seen"), ANY_EVENT}

    numbers = await ask(transactions, *sources)
    again = await ask(transactions, *sources)
    async with transactions.read(1) as conn:
        found = await numbers_of(conn, 1, [*sources, Source(name="unknown"), kind("unknown")])

    assert numbers.keys() == sources
    assert again == numbers == found
    assert numbers[ANY_EVENT] == 0
    assert len(set(numbers.values())) == 4
    assert await owner.fetchval("SELECT count(*) FROM derived_events") == 2


async def test_two_ways_to_write_a_kind_are_one(transactions: Transactions, owner: Connection[Record]) -> None:
    def written(text: str) -> Source:
        leaf, faults = parse({"kind": "event_fired", "eventName": "purchase", "where": orjson.loads(text)})
        assert isinstance(leaf, EventFired), faults
        return leaf.source

    sources = [
        written('{"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 1e18}'),
        written('{"value": 1000000000000000000.0, "operator": "gt", "kind": "attribute", "fieldPath": "amount"}'),
        written('{"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 1000000000000000000}'),
    ]
    numbers = await ask(transactions, *sources)
    async with transactions.read(1) as conn:
        uncounted = await derived_events.uncounted(conn, 1)

    assert len(set(numbers.values())) == 1
    assert uncounted == set(sources)


async def test_events_of_before_are_counted_afterwards_and_the_inbox_hears_whose_counts_changed(
    transactions: Transactions, ingest: Ingest, backfill: Backfill, owner: Connection[Record]
) -> None:
    await take(ingest, purchase("dear", 200), purchase("cheap", 5), purchase("looks", 500, name="look"))
    dear = (await ask(transactions, kind()))[kind()]
    await take(ingest, purchase("late", 200))
    await owner.execute("TRUNCATE inbox")

    before = await is_ready(owner, dear)
    finished = await backfill.run()

    assert (before, finished, await is_ready(owner, dear)) == (False, 1, True)
    assert await total(owner, dear) == 2
    await assert_counted(owner)
    told = await owner.fetch("SELECT subject_id, kind FROM inbox JOIN subjects USING (bucket, subject_no)")
    assert [tuple(row) for row in told] == [("dear", "backfill")]
    assert await backfill.run() == 0


async def test_what_has_been_counted_is_known_to_be(
    transactions: Transactions, backfill: Backfill, owner: Connection[Record]
) -> None:
    async def uncounted() -> frozenset[Source]:
        async with transactions.read(1) as conn:
            return await derived_events.uncounted(conn, 1)

    await ask(transactions, kind(), kind(over=5))

    before = await uncounted()
    await backfill.run()

    assert before == {kind(), kind(over=5)}
    assert await uncounted() == frozenset()


async def test_of_a_subject_with_very_many_events_some_are_counted_at_a_time(
    transactions: Transactions, ingest: Ingest, worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    # Many at one instant, so that no instant divides them.
    many = [purchase("busy", number % 300, at=PAST + timedelta(seconds=number // 40)) for number in range(900)]
    await take(ingest, *many, purchase("calm"), purchase("user-1"), purchase("user-2"))
    dear = (await ask(transactions, kind()))[kind()]

    await Backfill(Transactions(worker_pool), events_at_once=7).run()

    assert await total(owner, dear) == 3 + sum(number % 300 > 100 for number in range(900))
    await assert_counted(owner)


async def test_a_project_does_not_count_for_another(
    transactions: Transactions, ingest: Ingest, backfill: Backfill, owner: Connection[Record]
) -> None:
    await ask(transactions, kind())

    await ingest.take(2, [purchase()], backfill=False)
    await backfill.run()

    async with transactions.read(2) as conn:
        assert await conn.fetchval("SELECT count(*) FROM derived_events") == 0
    assert await owner.fetchval("SELECT count(*) FROM events") == 1


async def test_whoever_registers_while_others_take_in_misses_nothing_and_counts_nothing_twice(
    transactions: Transactions, worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    randomness = random.Random(20240229)
    takers = [Ingest(transactions) for _ in range(3)]
    for ingest in takers:
        await take(ingest, purchase())
    workers = Transactions(worker_pool)
    met_uncounted = 0
    for number in range(40):
        # Everybody's second batch comes while the kind is being registered, or just before, or just after.
        source = kind(over=number)

        async def feed(ingest: Ingest) -> None:
            for _ in range(3):
                events = [
                    purchase(f"user-{randomness.randrange(12)}", randomness.randrange(70), at=None) for _ in range(15)
                ]
                await take(ingest, *events, backfill=randomness.random() < 0.2)

        async def register(source: Source = source) -> None:
            await asyncio.sleep(randomness.uniform(0, 0.012))
            await ask(transactions, source)
            await asyncio.gather(Backfill(workers, subjects_at_once=5).run(), Backfill(workers).run())

        await asyncio.gather(*(feed(ingest) for ingest in takers), register())
        late = await owner.fetchval(
            "SELECT count(*) FROM events JOIN derived_events USING (name_no) WHERE received_at >= created_at"
        )
        early = await owner.fetchval(
            "SELECT count(*) FROM events JOIN derived_events USING (name_no) WHERE received_at < created_at"
        )
        met_uncounted += bool(late and early)

    # Lost locks are not a reason to fail: the other of the two has finished it or its lease runs on.
    await owner.execute("UPDATE derived_events SET leased_until = created_at WHERE ready_at IS NULL")
    await Backfill(workers).run()
    assert await owner.fetchval("SELECT count(*) FROM derived_events WHERE ready_at IS NULL") == 0
    assert met_uncounted > 20
    await assert_counted(owner)


async def test_two_who_register_the_same_kinds_at_once_register_them_once(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    sources = [kind(name, over=over) for name in ("purchase", "look") for over in range(5)]
    randomness = random.Random(7)

    found = await asyncio.gather(*(ask(transactions, *randomness.sample(sources, 10)) for _ in range(8)))

    assert all(numbers == found[0] for numbers in found)
    assert await owner.fetchval("SELECT count(*) FROM derived_events") == 10


async def test_a_backfill_that_is_killed_is_taken_up_where_it_was(
    transactions: Transactions, ingest: Ingest, worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    await take(ingest, *(purchase(f"user-{number % 150}", number) for number in range(900)))
    numbers = await ask(transactions, kind(over=300), kind(over=600))
    workers = Transactions(worker_pool)
    randomness = random.Random(3)
    killed = 0
    places = set()
    while await owner.fetchval("SELECT count(*) FROM derived_events WHERE ready_at IS NULL"):
        task = asyncio.create_task(Backfill(workers, subjects_at_once=4, lease=timedelta(0)).run())
        await asyncio.wait([task], timeout=randomness.uniform(0, 0.05))
        if randomness.random() < 0.5:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test-worker'"
            )
        else:
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        killed += isinstance(result, BaseException)
        places.add(await owner.fetchval("SELECT sum(bucket) FROM derived_events"))

    assert killed > 5
    assert len(places) > 3
    assert await total(owner, numbers[kind(over=300)]) == 599
    await assert_counted(owner)


async def test_backfill_ingest_and_deletions_get_along(
    transactions: Transactions,
    worker_pool: Pool[Record],
    owner: Connection[Record],
    caplog: pytest.LogCaptureFixture,
) -> None:
    randomness = random.Random(11)
    feeder = Ingest(transactions)
    await take(feeder, *(purchase(f"user-{number % 60}", number) for number in range(600)))
    workers = Transactions(worker_pool)

    async def delete(number: int) -> None:
        await asyncio.sleep(randomness.uniform(0, 0.3))
        async with transactions.write(1) as conn:
            (key,) = (await subjects.find_keys(conn, 1, [f"user-{number}"])).values()
            await subjects.lock(conn, [key])
            await subjects.delete(conn, key, await clock.now(conn))

    async def feed() -> None:
        for _ in range(20):
            events = [purchase(f"user-{randomness.randrange(80)}", randomness.randrange(600)) for _ in range(5)]
            await take(feeder, *events)

    async def register() -> None:
        for over in (50, 250, 450):
            await ask(transactions, kind(over=over))
            await Backfill(workers, subjects_at_once=7).run()

    await asyncio.gather(register(), feed(), *(delete(number) for number in range(0, 60, 3)))

    assert await owner.fetchval("SELECT count(*) FROM derived_events WHERE ready_at IS NOT NULL") == 3
    assert caplog.records == []
    await assert_counted(owner)


async def test_a_process_that_has_died_is_waited_for_and_one_that_lives_is_left_alone(
    transactions: Transactions, ingest: Ingest, worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    await take(ingest, *(purchase(f"user-{number}") for number in range(10)))
    await ask(transactions, kind())
    workers = Transactions(worker_pool)
    first, second = (Backfill(workers, subjects_at_once=3) for _ in range(2))

    begun = await first.step()
    meanwhile = await second.step()
    await owner.execute("UPDATE derived_events SET leased_until = now()")
    taken_over = await second.step()

    assert (begun, meanwhile, taken_over) == (False, None, False)
    assert await second.run() == 1
    await assert_counted(owner)


async def test_workers_count_what_was_there_before_an_audience_asked(
    start_stack: StartStack, api_pool: Pool[Record], owner: Connection[Record]
) -> None:
    scope = await make_project(api_pool, "counted")
    transactions = Transactions(api_pool)
    events = [purchase(f"user-{number}", number) for number in range(200)]
    await Ingest(transactions).take(scope.project_no, events, backfill=True)
    often = {"kind": "event_fired", "eventName": "purchase", "where": json_of(kind()), "atLeast": 2}
    audience = Audience(name="A", description="", subject_type=END_USER, predicate=often)
    async with transactions.write(scope.project_no) as conn:
        await audiences.create(conn, scope, "often", audience)

    await start_stack(workers=2)

    await eventually(lambda: owner.fetchval("SELECT bool_and(ready_at IS NOT NULL) FROM derived_events"), within=30)
    assert await owner.fetchval("SELECT count(*) FROM derived_events") == 1
    await assert_counted(owner)


async def test_an_upgrade_counts_events_of_every_name_from_what_was_counted_by_name(empty_database: str) -> None:
    known = known_migrations()
    await migrate(empty_database, known=known[:5])
    conn = await asyncpg.connect(empty_database)
    try:
        await conn.executemany(
            "INSERT INTO subject_event_state (project_no, bucket, subject_no, name_no, total, first_at, last_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            [
                (1, 3, 7, 1, 5, PAST, PAST + timedelta(days=3)),
                (1, 3, 7, 2, 4, PAST - timedelta(days=1), PAST + timedelta(days=1)),
                (1, 3, 8, 1, 1, PAST, PAST),
                (2, 3, 7, 9, 2, PAST, PAST),
            ],
        )
        await migrate(empty_database)
        rows = await conn.fetch(
            "SELECT project_no, bucket, subject_no, total, first_at, last_at FROM subject_event_state"
            " WHERE name_no = 0 ORDER BY project_no, subject_no"
        )
    finally:
        await conn.close()

    assert [tuple(row) for row in rows] == [
        (1, 3, 7, 9, PAST - timedelta(days=1), PAST + timedelta(days=3)),
        (1, 3, 8, 1, PAST, PAST),
        (2, 3, 7, 2, PAST, PAST),
    ]


async def test_a_kind_that_does_not_read_stops_events_of_its_name_alone_and_only_until_it_is_mended(
    ingest: Ingest, transactions: Transactions, owner: Connection[Record]
) -> None:
    """A count with a hole would be wrong for ever."""
    source = kind("purchase")
    await ask(transactions, source, kind("refund"))
    await owner.execute(
        'UPDATE derived_events SET predicate = \'{"kind": "of-another-release"}\''
        " WHERE base_no = (SELECT name_no FROM event_names WHERE name = 'purchase')"
    )

    with pytest.raises(Unavailable) as refused:
        await take(ingest, purchase(name="refund"), purchase())
    assert (refused.value.reason, refused.value.metadata["eventName"]) == ("EVENT_KIND_UNREADABLE", "purchase")
    assert await owner.fetchval("SELECT count(*) FROM events") == 0
    assert await take(ingest, purchase(name="refund"), purchase(name="other")) == [Outcome.ACCEPTED] * 2

    await owner.execute(
        "UPDATE derived_events SET predicate = $1::text::jsonb"
        " WHERE base_no = (SELECT name_no FROM event_names WHERE name = 'purchase')",
        orjson.dumps(json_of(source)).decode(),
    )
    assert await take(ingest, purchase()) == [Outcome.ACCEPTED]
    await assert_counted(owner)
