"""What is known of a subject in the database is what happened to it, whichever way it had to be found out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from orchestrator.application import publishing, trigger_contracts
from orchestrator.application import subjects as subject_use_cases
from orchestrator.application.advance import Advance
from orchestrator.application.derived_events import Backfill
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.subject import SubjectPatch
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import Facts, needs
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import AnyOf, Predicate
from orchestrator.storage import clock, derived_events, facts, subjects
from orchestrator.temporal.contract import Question
from tests.conformance.worlds import Happened, World, facts_for
from tests.integration import journey_world

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record
    from asyncpg.connection import LoggedQuery

    from orchestrator.domain.scope import SubjectKey

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
STEP = timedelta(microseconds=1)

_numbers = itertools.count()

WINDOWS: Sequence[dict[str, Any]] = (
    {"type": "ever"},
    {"type": "last_n_days", "days": 7},
    {"type": "last", "duration": "36h"},
    {"type": "since", "time": "2026-03-08T00:00:00Z"},
)
DEAR = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 100}
EUROS = {"kind": "attribute", "fieldPath": "money.currency", "operator": "in", "value": "EUR, 5"}
OTHER = {"kind": "or", "clauses": [DEAR, {"kind": "not", "clause": EUROS}]}


def counting(name: str, where: dict[str, Any] | None, window: dict[str, Any], at_least: int) -> dict[str, Any]:
    leaf = {"kind": "event_fired", "eventName": name, "window": window, "atLeast": at_least}
    return leaf if where is None else {**leaf, "where": where}


LEAVES: Sequence[dict[str, Any]] = (
    *(
        counting(name, where, window, at_least)
        for name in ("buy", "look", "never")
        for where in (None, DEAR, EUROS, OTHER)
        for window in WINDOWS
        for at_least in (1, 2, 4)
    ),
    *({"kind": "any_event", "window": window} for window in WINDOWS),
    {"kind": "attribute", "fieldPath": "$subject.last_event_at", "operator": "within", "value": {"days": 3}},
)


def tree(document: dict[str, Any]) -> Predicate:
    predicate, faults = parse(document)
    assert predicate is not None, faults
    return predicate


TREES = [tree(leaf) for leaf in LEAVES]


@pytest.fixture
def transactions(api_pool: Pool[Record]) -> Transactions:
    return Transactions(api_pool)


def some_histories(randomness: random.Random, subject_ids: Iterable[str]) -> dict[str, World]:
    """Events around the edges of the windows, several at one instant; one subject has none."""
    edges = [NOON - timedelta(days=days) for days in (1.5, 2.5, 7, 400)] + [NOON]
    instants = [edge + step for edge in edges for step in (-STEP, timedelta(0), STEP) if edge + step <= NOON]
    properties: list[dict[str, Any]] = [
        {},
        {"amount": 100},
        {"amount": 100.5, "money": {"currency": "EUR"}},
        {"amount": "200", "money": {"currency": 5.0}},
        {"money": {"currency": None}},
    ]
    return {
        subject_id: World(
            events={
                name: [
                    Happened(randomness.choice(instants), randomness.choice(properties))
                    for _ in range(randomness.randrange(9))
                ]
                for name in ("buy", "look", "leave")
            }
        )
        for subject_id in subject_ids
    } | {"quiet": World()}


async def live(transactions: Transactions, worlds: dict[str, World]) -> dict[str, SubjectKey]:
    """Let all of it happen, in any order; subjects to whom nothing happens are created."""
    async with transactions.write(1) as conn:
        await subjects.ensure(conn, 1, worlds, await clock.now(conn))
    ingest = Ingest(transactions)
    events = [
        Event(
            event_id=f"e{next(_numbers)}",
            name=name,
            subject_id=subject_id,
            occurred_at=event.at,
            properties=orjson.dumps(event.properties),
        )
        for subject_id, world in worlds.items()
        for name, happened in world.events.items()
        for event in happened
    ]
    random.Random(1).shuffle(events)
    for start in range(0, len(events), 50):
        await ingest.take(1, events[start : start + 50], backfill=start % 100 == 0)
    async with transactions.read(1) as conn:
        return await subjects.find_keys(conn, 1, worlds)


async def known(
    transactions: Transactions, keys: dict[str, SubjectKey], asked: Sequence[Predicate]
) -> dict[str, Facts]:
    async with transactions.read(1) as conn:
        loaded = await facts.load(conn, 1, list(keys.values()), needs(asked))
        for subject_id, key in keys.items():
            assert await facts.find(conn, 1, subject_id, needs(asked)) == loaded[key]
        assert await facts.find(conn, 1, "nobody", needs(asked)) is None
    return {subject_id: loaded[key].facts for subject_id, key in keys.items()}


def assert_same(found: dict[str, Facts], worlds: dict[str, World]) -> None:
    """As deep as anybody asked, and every answer at the edges of every window."""
    for subject_id, world in worlds.items():
        everything = facts_for(AnyOf(clauses=tuple(TREES)), world)
        assert found[subject_id].events == everything.events
        for predicate, step in itertools.product(TREES, (-STEP, timedelta(0), STEP)):
            as_of = NOON + step
            assert evaluate(predicate, found[subject_id], as_of) == evaluate(predicate, everything, as_of)


async def test_facts_are_what_happened_before_while_and_after_kinds_are_counted(
    transactions: Transactions, worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    worlds = some_histories(random.Random(20260310), [f"user-{number}" for number in range(25)])
    keys = await live(transactions, worlds)

    assert_same(await known(transactions, keys, TREES), worlds)
    async with transactions.write(1) as conn:
        await derived_events.ensure(conn, 1, needs(TREES).events)
    assert_same(await known(transactions, keys, TREES), worlds)
    backfill = Backfill(Transactions(worker_pool), subjects_at_once=4)
    for _ in range(3):
        await backfill.step()
    assert_same(await known(transactions, keys, TREES), worlds)
    await backfill.run()
    # What is not there any more cannot have been read: only copies answer now.
    await owner.execute("UPDATE events SET properties = '{}'")
    assert_same(await known(transactions, keys, TREES), worlds)
    assert await owner.fetchval("SELECT count(*) FROM derived_events WHERE ready_at IS NOT NULL") == 9


async def test_facts_are_what_happened_when_every_event_was_counted_as_it_came(
    transactions: Transactions, worker_pool: Pool[Record]
) -> None:
    worlds = some_histories(random.Random(7), [f"user-{number}" for number in range(25)])
    async with transactions.write(1) as conn:
        await derived_events.ensure(conn, 1, needs(TREES).events)
    await Backfill(Transactions(worker_pool)).run()

    keys = await live(transactions, worlds)

    assert_same(await known(transactions, keys, TREES), worlds)


async def test_everything_is_read_at_once(transactions: Transactions) -> None:
    worlds = some_histories(random.Random(3), ["user-1"])
    keys = await live(transactions, worlds)
    statements: list[str] = []

    def note(query: LoggedQuery) -> None:
        statements.append(query.query)

    async with transactions.read(1) as conn:
        # The first time, the driver asks what the types are.
        await facts.load(conn, 1, list(keys.values()), needs(TREES))
        conn.add_query_logger(note)
        await facts.load(conn, 1, list(keys.values()), needs(TREES))
        conn.remove_query_logger(note)

    assert len(statements) == 1


async def test_what_is_known_of_every_subject_can_be_asked(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    keys = await live(transactions, {"anna": World(events={"buy": [Happened(NOON)]}), "bert": World()})
    await owner.execute("UPDATE subjects SET time_zone = 'Europe/Berlin' WHERE subject_id = 'anna'")

    def asks(field: str, operator: str, value: Any = None) -> Predicate:
        return tree({"kind": "attribute", "fieldPath": f"$subject.{field}", "operator": operator, "value": value})

    asked = [
        asks("time_zone", "equals", "Europe/Berlin"),
        asks("time_zone", "not_exists"),
        asks("last_event_at", "gte", "2026-03-10T12:00:00Z"),
        asks("last_event_at", "gt", "2026-03-10T12:00:00Z"),
        asks("created_at", "within", "1h"),
    ]
    found = await known(transactions, keys, asked)
    async with transactions.read(1) as conn:
        now = await clock.now(conn)

    assert [evaluate(predicate, found["anna"], now) for predicate in asked] == [True, False, True, False, True]
    assert [evaluate(predicate, found["bert"], now) for predicate in asked] == [False, True, False, False, True]


async def test_an_execution_asks_what_is_known_of_every_subject_as_it_stands_then(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    world = await journey_world.World.make(owner, api_pool)
    project_no = world.scope.project_no
    contract = Contract(name="Bought", event_name="purchase", predicate=None, entry_key_path=None)
    await world.do(trigger_contracts.create, "bought", contract)
    in_berlin = {"kind": "attribute", "fieldPath": "$subject.time_zone", "operator": "eq", "value": "Europe/Berlin"}
    branch = {"arms": [{"id": "berlin", "when": in_berlin, "next": "near"}], "otherwise": "far"}
    await world.draft(
        "welcome",
        {
            "triggerContractId": "bought",
            "steps": [
                {"id": "pause", "wait": {"duration": "1h"}, "next": "where"},
                {"id": "where", "branch": branch},
                {"id": "near", "exit": {"reason": "near"}},
                {"id": "far", "exit": {"reason": "far"}},
            ],
        },
    )
    await world.do(publishing.publish, "welcome", journey_world.ANY_STATE)
    event = Event(event_id="e1", name="purchase", subject_id="anna", occurred_at=None, properties=b"{}")
    await Ingest(world.transactions).take(project_no, [event], backfill=False)
    inbox = Inbox(Transactions(worker_pool), Versions())
    await inbox.work(await inbox.waiting())
    async with world.transactions.write(project_no) as conn:
        patch = SubjectPatch(subject_id="anna", attributes={}, time_zone="Europe/Berlin")
        await subject_use_cases.upsert(conn, project_no, [patch])

    row = await owner.fetchrow("SELECT bucket, subject_no, execution_id::text, seq FROM executions")
    assert row is not None
    later = (datetime.now(UTC) + timedelta(hours=2)).timestamp()
    effect = await Advance(Transactions(worker_pool), Versions())(Question(project_no=project_no, now=later, **row))

    assert effect.kind == "end"
    assert await owner.fetchval("SELECT reason FROM executions") == "near"


async def test_however_many_events_there_are_of_a_kind_that_is_being_counted_they_are_looked_at_in_parts(
    transactions: Transactions,
) -> None:
    where = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 100}
    leaf = {"kind": "event_fired", "eventName": "buy", "where": where}
    often = {**leaf, "atLeast": 7, "window": {"type": "last_n_days", "days": 30}}
    asked = [tree for document in (leaf, often) if (tree := parse(document)[0]) is not None]
    # Many at one instant, so that no instant divides them.
    made = [NOON + timedelta(seconds=n // 400) for n in range(2 * facts.RAW_AT_ONCE + 1)]
    batch = [
        Event(
            event_id=f"e{n}", name="buy", subject_id="busy", occurred_at=at,
            properties=orjson.dumps({"amount": 200 if n % 3 else 1}),
        )
        for n, at in enumerate(made)
    ]  # fmt: skip
    await Ingest(transactions).take(1, batch, backfill=True)
    dear = [at for n, at in enumerate(made) if n % 3]
    async with transactions.write(1) as conn:
        await derived_events.ensure(conn, 1, needs(asked).events)
        known = await facts.find(conn, 1, "busy", needs(asked))

    assert known is not None
    (counted,) = known.facts.events.values()
    assert (counted.total, counted.first_at, counted.last_at) == (len(dear), dear[0], dear[-1])
    assert counted.recent == tuple(reversed(dear[-7:]))
