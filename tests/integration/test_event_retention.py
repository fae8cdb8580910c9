"""Events that have had their time go, and no answer changes; what would be cut off is refused."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest

from orchestrator.application import (
    audiences,
    journeys,
    lifecycle,
    projects,
    publishing,
    segments,
    trigger_contracts,
)
from orchestrator.application.derived_events import Backfill
from orchestrator.application.ingest import Ingest
from orchestrator.application.journeys import Changes
from orchestrator.application.transactions import Transactions
from orchestrator.application.upkeep import Upkeep
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.event import Event
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import needs
from orchestrator.predicates.instants import write_instant
from orchestrator.predicates.parse import parse
from orchestrator.predicates.sql import query as sql
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import clock, doctor, facts
from orchestrator.storage.doctor_checks import CHECKS
from orchestrator.storage.event_names import numbers_of
from tests.integration.journey_world import ANY_STATE, World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Write = Callable[[World, str, dict[str, Any]], Awaitable[None]]

DAY = timedelta(days=1)
DEAR = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 100}

_numbers = itertools.count()


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    return await World.make(owner, api_pool)


@pytest.fixture
def upkeep(worker_pool: Pool[Record]) -> Upkeep:
    return Upkeep(Transactions(worker_pool))


@pytest.fixture
async def now(owner: Connection[Record]) -> datetime:
    instant: datetime = await owner.fetchval("SELECT clock_timestamp()")
    return instant


def last(days: float) -> dict[str, Any]:
    return {"type": "last", "duration": f"{round(days * 86_400)}s"}


def since(instant: datetime) -> dict[str, Any]:
    return {"type": "since", "time": write_instant(instant)}


def counting(window: dict[str, Any], at_least: int = 2, name: str = "purchase", **more: Any) -> dict[str, Any]:
    return {"kind": "event_fired", "eventName": name, "window": window, "atLeast": at_least, **more}


async def save(world: World, audience_id: str, predicate: dict[str, Any]) -> None:
    audience = Audience(name="A", description="", subject_type=END_USER, predicate=predicate)
    await world.do(audiences.create, audience_id, audience)


async def keep(world: World, days: float | None) -> None:
    retention = None if days is None else days * DAY
    await world.do(projects.update, world.scope.project_id, {"event_retention": retention}, Expected())


async def buy(
    world: World, ats: Sequence[datetime], subject_id: str = "anna", *, amount: float = 200, name: str = "purchase"
) -> None:
    events = [
        Event(
            event_id=f"event-{next(_numbers)}",
            name=name,
            subject_id=subject_id,
            occurred_at=at,
            properties=orjson.dumps({"amount": amount}),
        )
        for at in ats
    ]
    await Ingest(world.transactions).take(world.scope.project_no, events, backfill=True)


def tree(document: dict[str, Any]) -> Predicate:
    predicate, faults = parse(document)
    assert predicate is not None, faults
    return predicate


async def answers(
    world: World, pool: Pool[Record], asked: Sequence[Predicate], as_of: datetime
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Of each subject the numbers of the predicates that hold, according to each engine."""
    project_no = world.scope.project_no
    questions = dict(enumerate(asked))
    async with Transactions(pool).write(None) as conn:
        keys = [
            SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"])
            for row in await conn.fetch("SELECT bucket, subject_no FROM subjects WHERE project_no = $1", project_no)
        ]
        known = await facts.load(conn, project_no, keys, needs(asked))
        wanted = needs(asked).events
        name_nos = dict.fromkeys(wanted) | await numbers_of(conn, project_no, wanted)
        query = sql.compile(questions, name_nos=name_nos, cohort_nos={}, as_of=as_of)
        for name, value in query.settings.items():
            await conn.execute(f"SET LOCAL {name} = '{value}'")
        rows = await conn.fetch(query.text, project_no, 0, 255, *query.arguments)
    one_by_one = {
        key.subject_no: [number for number, predicate in questions.items() if evaluate(predicate, found.facts, as_of)]
        for key, found in known.items()
    }
    return one_by_one, {row["subject_no"]: row["segment_nos"] for row in rows}


async def count(world: World, name: str = "purchase") -> int:
    found: int = await world.owner.fetchval(
        "SELECT count(*) FROM events JOIN event_names USING (project_no, name_no) WHERE project_no = $1 AND name = $2",
        world.scope.project_no,
        name,
    )
    return found


async def miscounted(pool: Pool[Record]) -> int:
    (check,) = (check for check in CHECKS if check.name == "events_miscounted")
    async with Transactions(pool).read(None) as conn:
        return (await doctor.check(conn, check, await clock.now(conn))).total


async def a_day_later(world: World) -> None:
    """What was to go yesterday is gone; today the horizon is another one."""
    await world.owner.execute("UPDATE event_horizons SET cleared_to = cleared_to - interval '1 day'")


async def test_a_count_over_longer_than_events_are_kept_is_refused_when_it_is_saved(
    world: World, now: datetime
) -> None:
    await keep(world, 30)
    long_ago = now - 400 * DAY
    clauses = [
        counting(last(30)),
        {"kind": "not", "clause": counting(last(30.5))},
        counting(last(400), at_least=1),
        counting({"type": "ever"}, at_least=50),
        {"kind": "any_event", "window": last(400)},
        {**counting(last(31), where=DEAR), "kind": "event_not_fired"},
        # Nothing has been removed yet, and nothing that this counts ever will be.
        counting(since(long_ago)),
    ]

    with pytest.raises(InvalidArgument) as refused:
        await save(world, "many", {"kind": "and", "clauses": clauses})

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("predicate.clauses[1].clause.window", "INVALID_WINDOW"),
        ("predicate.clauses[5].window", "INVALID_WINDOW"),
    ]
    assert await world.owner.fetchval("SELECT count(*) FROM derived_events") == 0
    fitting = [clause for number, clause in enumerate(clauses) if number not in (1, 5)]
    await save(world, "fitting", {"kind": "and", "clauses": fitting})
    with pytest.raises(InvalidArgument):
        await world.do(audiences.update, "fitting", {"predicate": clauses[1]}, Expected())
    # The others are as they were: they are not looked at.
    await world.do(audiences.update, "fitting", {"name": "B"}, Expected())


def branching(*predicates: dict[str, Any]) -> dict[str, Any]:
    arms = [{"id": f"arm-{number}", "when": when, "next": "end"} for number, when in enumerate(predicates)]
    branch = {"id": "check", "branch": {"arms": arms, "otherwise": "end"}}
    return {"steps": [branch, {"id": "end", "exit": {"reason": "finished"}}]}


async def test_a_draft_is_refused_like_an_audience_and_its_events_are_counted_from_then_on(world: World) -> None:
    await keep(world, 7)

    for name, definition, at in (
        ("J", branching(counting(last(1)), counting(last(8))), "steps[0].branch.arms[1].when.window"),
        ("", branching(counting(last(8))), "steps[0].branch.arms[0].when.window"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await world.do(journeys.create, name=name, definition=definition)
        assert [fault.path for fault in refused.value.faults if fault.reason == "INVALID_WINDOW"] == [at]
        assert len(refused.value.faults) == (1 if name else 2)
    await world.draft("fine", branching(counting(last(7), where=DEAR)))
    with pytest.raises(InvalidArgument):
        changes = Changes(definition=branching(counting(last(8))))
        await world.do(journeys.update, "fine", changes, ANY_STATE)
    await world.do(publishing.publish, "fine", ANY_STATE)

    assert await world.owner.fetchval("SELECT count(*) FROM derived_events") == 1


async def test_what_is_kept_is_asked_once_however_many_predicates_a_draft_has(world: World) -> None:
    await keep(world, 7)

    async def asked(*predicates: dict[str, Any]) -> tuple[int, int]:
        """Statements, and faults."""
        statements: list[str] = []
        async with world.transactions.write(world.scope.project_no) as conn:
            with conn.query_logger(lambda record: statements.append(record.query)):
                faults = await journeys.definition_faults(conn, world.scope.project_no, branching(*predicates))
        return len(statements), len(faults)

    one, many = await asked(counting(last(8))), await asked(*[counting(last(8))] * 9)

    assert (one[1], many[1]) == (1, 9)
    assert one[0] == many[0]


async def test_events_are_not_kept_shorter_than_somebody_counts(world: World) -> None:
    await save(world, "weekly", counting(last(7)))
    await save(world, "ever", counting({"type": "ever"}, at_least=9))
    await save(world, "once", counting(last(90), at_least=1))
    await world.draft("drafted", branching(counting(last(20))))
    await world.draft("running", branching(counting(last(14))))
    await world.do(publishing.publish, "running", ANY_STATE)
    await world.draft("over", branching(counting(last(60))))
    await world.do(lifecycle.archive, "over", OnArchive.FINISH, ANY_STATE)

    with pytest.raises(FailedPrecondition) as refused:
        await keep(world, 6)
    named = [fault.message.split(" ")[0] for fault in refused.value.faults]
    assert (refused.value.reason, named) == (
        "EVENT_RETENTION_TOO_SHORT",
        ["audience/weekly", "journey/drafted", "journey_version/running/1"],
    )
    assert {fault.path for fault in refused.value.faults} == {"settings.eventRetention"}
    with pytest.raises(FailedPrecondition):
        await keep(world, 19.9)
    await keep(world, 20)
    await keep(world, 400)
    await keep(world, None)


async def of_segment(world: World, contract_id: str, predicate: dict[str, Any]) -> None:
    """A trigger contract that asks this of everybody who comes into a list."""
    if not await world.owner.fetchval("SELECT EXISTS (SELECT FROM segments WHERE segment_id = 'vip')"):
        await world.do(segments.create, "vip", Segment(kind=STATIC, name="VIP", description="", predicate=None))
    contract = Contract(name="C", event_name=None, predicate=predicate, entry_key_path=None, segment_id="vip")
    await world.do(trigger_contracts.create, contract_id, contract)


END = {"id": "end", "exit": {"reason": "finished"}}


async def waiting(world: World, journey_id: str, predicate: dict[str, Any]) -> None:
    step = {"id": "await", "waitFor": {"when": predicate}, "next": "end"}
    await world.draft(journey_id, {"steps": [step, END]})


async def leaving(world: World, journey_id: str, predicate: dict[str, Any]) -> None:
    pause = {"id": "pause", "wait": {"duration": "3d"}, "next": "end"}
    await world.draft(journey_id, {"exitRules": [{"id": "rule", "when": predicate}], "steps": [pause, END]})


async def published(world: World, write: Write, predicate: dict[str, Any]) -> None:
    """As a version that new executions take, and no draft."""
    await write(world, "mine", predicate)
    await world.do(publishing.publish, "mine", ANY_STATE)


async def under_way(world: World, write: Write, predicate: dict[str, Any]) -> None:
    """As a version that somebody is still on; the newest asks nothing any more."""
    await published(world, write, predicate)
    await world.lay_execution("anna", journey_id="mine", step_id="pause")
    await world.do(journeys.update, "mine", Changes(definition={"exitRules": None, "steps": [END]}), ANY_STATE)
    await world.do(publishing.publish, "mine", ANY_STATE)


ASKING: dict[str, tuple[str, Write]] = {
    "contract": ("trigger_contract/mine", lambda world, _, predicate: of_segment(world, "mine", predicate)),
    "waitFor-draft": ("journey/mine", waiting),
    "waitFor-version": ("journey_version/mine/1", lambda world, _, asked: published(world, waiting, asked)),
    "waitFor-old-version": ("journey_version/mine/1", lambda world, _, asked: under_way(world, waiting, asked)),
    "exitRule-draft": ("journey/mine", leaving),
    "exitRule-version": ("journey_version/mine/1", lambda world, _, asked: published(world, leaving, asked)),
    "exitRule-old-version": ("journey_version/mine/1", lambda world, _, asked: under_way(world, leaving, asked)),
}


@pytest.mark.parametrize(("user", "write"), ASKING.values(), ids=ASKING)
async def test_whatever_counts_events_keeps_them(
    world: World, upkeep: Upkeep, worker_pool: Pool[Record], now: datetime, user: str, write: Write
) -> None:
    kinds = counting(since(now - 60 * DAY), where=DEAR)
    clauses = [counting(last(20)), {"kind": "not", "clause": kinds}]
    await buy(world, [now - 90 * DAY, now - 50 * DAY, now])

    await write(world, "mine", {"kind": "and", "clauses": clauses})

    with pytest.raises(FailedPrecondition) as refused:
        await keep(world, 19)
    named = [fault.message.split(" ")[0] for fault in refused.value.faults]
    assert (refused.value.reason, named) == ("EVENT_RETENTION_TOO_SHORT", [user])
    await Backfill(Transactions(worker_pool)).run()  # its events are counted: it has become a kind
    await keep(world, 20)
    await upkeep.run()
    rows = await world.owner.fetch("SELECT occurred_at FROM events JOIN derived_events USING (project_no, name_no)")
    assert sorted(row["occurred_at"] for row in rows) == [now - 50 * DAY, now]


async def test_a_window_and_a_retention_that_meet_do_not_both_win(world: World) -> None:
    outcomes = set()
    for number in range(20):
        await keep(world, None)
        results = await asyncio.gather(
            save(world, f"a-{number}", counting(last(30))), keep(world, 7), return_exceptions=True
        )
        assert sum(result is None for result in results) == 1, results
        outcomes.add(results[0] is None)
        if results[0] is None:
            await world.do(audiences.delete, f"a-{number}", Expected())

    assert outcomes  # whichever came first


LONG = 400


async def test_events_go_and_no_answer_changes(
    world: World, worker_pool: Pool[Record], upkeep: Upkeep, now: datetime
) -> None:
    randomness = random.Random(20260310)
    beginning = now - 60 * DAY
    documents = [
        counting(window, at_least, name, **more)
        for name in ("purchase", "look")
        for more in ({}, {"where": DEAR})
        for window, most in (
            ({"type": "ever"}, 9),
            (last(30), 9),
            (last(7), 9),
            (last(350), 1),
            (since(now - 20 * DAY), 9),
            (since(beginning), 9 if name == "purchase" else 1),
        )
        for at_least in (1, 2, 5)
        if at_least <= most
    ]
    documents += [{"kind": "any_event", "window": window} for window in (last(30), last(350), {"type": "ever"})]
    asked = [tree(document) for document in documents]
    for number in range(40):
        for name in ("purchase", "look"):
            edges = [now - days * DAY for days in (7, 30, 31, 33, 60, 350)]
            ats = [randomness.choice(edges) + timedelta(hours=randomness.randint(-30, 30)) for _ in range(6)]
            ats += [now - randomness.uniform(0, LONG) * DAY for _ in range(6)]
            past = [min(at, now) for at in ats]
            await buy(world, past, f"user-{number}", amount=randomness.choice([50, 150]), name=name)
    await keep(world, 30)
    await save(world, "all", {"kind": "or", "clauses": documents})
    await Backfill(Transactions(worker_pool)).run()
    as_of: datetime = await world.owner.fetchval("SELECT clock_timestamp()")
    before = await answers(world, worker_pool, asked, as_of)
    kept_before = await count(world), await count(world, "look")
    state_before = await world.owner.fetch("SELECT * FROM subject_event_state ORDER BY 5, 7, 1, 6")

    removed = await upkeep.run()

    after = await answers(world, worker_pool, asked, as_of)
    assert before[0] == before[1]
    assert after == before
    assert {len(holding) for holding in before[0].values()} != {0}
    assert removed > 200
    # Purchases are counted since sixty days ago, by several audiences; looks are not.
    horizon = await world.owner.fetchval("SELECT kept_from FROM event_horizons")
    rows = await world.owner.fetch(
        "SELECT name, min(occurred_at) AS at FROM events JOIN event_names USING (project_no, name_no) GROUP BY name"
    )
    oldest = {row["name"]: row["at"] for row in rows}
    assert now - 33 * DAY < horizon < now - 31 * DAY
    assert beginning <= oldest["purchase"] < horizon <= oldest["look"]
    assert await count(world) < kept_before[0]
    assert await count(world, "look") < kept_before[1]
    assert await world.owner.fetch("SELECT * FROM subject_event_state ORDER BY 5, 7, 1, 6") == state_before
    assert await world.owner.fetchval("SELECT count(*) FROM subject_event_days WHERE day < $1", beginning.date()) == 0
    assert await miscounted(worker_pool) == 0
    assert await upkeep.run() == 0


async def months(owner: Connection[Record]) -> set[str]:
    rows = await owner.fetch(
        "SELECT inhrelid::regclass::text AS part FROM pg_inherits WHERE inhparent = 'events'::regclass"
    )
    return {row["part"] for row in rows}


async def test_months_that_hold_nothing_are_dropped_and_made_again_for_who_comes_late(
    world: World, upkeep: Upkeep, worker_pool: Pool[Record], now: datetime
) -> None:
    old = datetime(2019, 7, 15, 12, tzinfo=UTC)
    other = await World.make(world.owner, worker_pool, "other")
    remembers = Ingest(world.transactions)
    await buy(world, [old, old + 90 * DAY, datetime(2012, 1, 1, tzinfo=UTC), now])
    await buy(other, [old + 90 * DAY])
    event = Event(event_id="late-1", name="purchase", subject_id="anna", occurred_at=old, properties=b"{}")
    await remembers.take(world.scope.project_no, [event], backfill=False)
    await keep(world, 30)

    await upkeep.run()

    assert await count(world) == 1
    assert await count(other) == 1
    assert "events_2019_07" not in await months(world.owner)
    assert await months(world.owner) >= {"events_before_2015", "events_2019_10", f"events_{now:%Y_%m}"}
    again = [
        Event(event_id="late-2", name="purchase", subject_id="anna", occurred_at=at, properties=b"{}")
        for at in (old + DAY, now)
    ]
    outcomes = await remembers.take(world.scope.project_no, again[:1], backfill=False)
    assert [outcome.value for outcome in outcomes] == ["accepted"]
    assert "events_2019_07" in await months(world.owner)
    assert await world.owner.fetchval(
        "SELECT total FROM subject_event_state WHERE project_no = $1 AND name_no = 0", world.scope.project_no
    ) == 6  # fmt: skip
    assert await miscounted(worker_pool) == 0
    # A day later the late one goes, too, and its month with it.
    await a_day_later(world)
    assert await upkeep.run() == 2
    assert "events_2019_07" not in await months(world.owner)


async def test_months_are_dropped_another_time_when_somebody_is_in_the_way(
    world: World, upkeep: Upkeep, database: str
) -> None:
    await buy(world, [datetime(2019, 7, 15, tzinfo=UTC)])
    await keep(world, 30)
    reader = await asyncpg.connect(database)
    try:
        async with reader.transaction():
            await reader.execute("SELECT count(*) FROM events")
            await upkeep.run()
            assert "events_2019_07" in await months(world.owner)
    finally:
        await reader.close()

    await upkeep.run()

    assert "events_2019_07" not in await months(world.owner)


async def test_one_transaction_drops_one_month(world: World, worker_pool: Pool[Record], upkeep: Upkeep) -> None:
    for month in (5, 6, 7):
        await world.owner.execute("SELECT ensure_events_month($1)", date(2019, month, 1))

    async with Transactions(worker_pool).write(None) as conn:
        dropped = await conn.fetchval("SELECT drop_empty_events_months($1)", date(2020, 1, 1))
    left = await months(world.owner)
    await upkeep.run()

    assert dropped == 1
    assert {f"events_2019_{month:02}" for month in (5, 6, 7)} - left == {"events_2019_05"}
    assert "events_2019_07" not in await months(world.owner)


async def test_a_month_that_was_emptied_just_now_is_not_searched_while_everybody_waits(
    world: World, upkeep: Upkeep
) -> None:
    """Until vacuum has given its pages back, it is full of what is gone."""
    await world.owner.execute("SELECT ensure_events_month($1)", date(2019, 7, 1))
    await world.owner.execute("ALTER TABLE events_2019_07 SET (autovacuum_enabled = false)")
    await world.owner.execute(
        "INSERT INTO events (occurred_at, project_no, name_no, subject_no, bucket, received_at, event_id, properties)"
        " SELECT '2019-07-15', 1, 1, n, 0, now(), repeat('x', 400), '{}' FROM generate_series(1, 20000) AS n"
    )
    await world.owner.execute("DELETE FROM events")

    await upkeep.run()
    before = await months(world.owner)
    await world.owner.execute("VACUUM events_2019_07")
    await upkeep.run()

    assert "events_2019_07" in before
    assert "events_2019_07" not in await months(world.owner)


async def test_nothing_goes_while_the_past_of_a_kind_is_being_counted(
    world: World, upkeep: Upkeep, worker_pool: Pool[Record], now: datetime
) -> None:
    await buy(world, [now - 90 * DAY, now])
    await keep(world, 30)
    await save(world, "dear", counting({"type": "ever"}, where=DEAR))

    before = await upkeep.run()
    await Backfill(Transactions(worker_pool)).run()
    after = await upkeep.run()

    # The event, its copy, and their days.
    assert (before, after) == (0, 4)
    ever = [tree(counting({"type": "ever"}, where=DEAR))]
    (engines,) = {tuple(map(str, await answers(world, worker_pool, ever, now)))}
    assert engines[0] == engines[1]
    assert "[0]" in engines[0]


async def test_what_was_removed_cannot_be_counted_again_by_whoever_comes_later(
    world: World, upkeep: Upkeep, now: datetime
) -> None:
    await save(world, "since-may", counting(since(now - 90 * DAY)))
    await keep(world, 30)
    await upkeep.run()
    await keep(world, None)

    for window in (since(now - 60 * DAY), last(60)):
        with pytest.raises(InvalidArgument, match="have been removed"):
            await save(world, "looks", counting(window, name="look"))
    # Purchases are all there since then, and kinds of them can be counted from them.
    await save(world, "same", counting(since(now - 60 * DAY)))
    await save(world, "kind", counting(last(60), where=DEAR))
    with pytest.raises(InvalidArgument, match="have been removed"):
        await save(world, "earlier", counting(since(now - 91 * DAY)))
    await save(world, "looks", counting(last(20), name="look"))


async def test_what_is_counted_since_an_instant_goes_when_nobody_counts_it_any_more(
    world: World, upkeep: Upkeep, now: datetime
) -> None:
    await buy(world, [now - 100 * DAY, now - 80 * DAY, now])
    await save(world, "since", {"kind": "not", "clause": counting(since(now - 90 * DAY))})
    await keep(world, 30)

    await upkeep.run()
    counted = await count(world)
    await world.do(audiences.delete, "since", Expected())
    await a_day_later(world)
    await upkeep.run()

    assert (counted, await count(world)) == (2, 1)


async def test_clearing_that_is_killed_or_told_to_stop_goes_on_the_next_time(
    world: World, worker_pool: Pool[Record], now: datetime
) -> None:
    for number in range(60):
        await buy(world, [now - days * DAY for days in (40, 80, 120, 400)], f"user-{number}")
    await buy(world, [now])
    await keep(world, 30)
    randomness = random.Random(5)
    stopped = 0
    while stopped < 100 and await world.owner.fetchval("SELECT cleared_to IS NULL FROM event_horizons") is not False:
        left = randomness.randrange(7, 40)

        def go_on() -> bool:
            nonlocal left
            left -= 1
            return left > 0

        task = asyncio.create_task(Upkeep(Transactions(worker_pool)).run(go_on))
        if randomness.random() < 0.3:
            await asyncio.wait([task], timeout=randomness.uniform(0, 0.3))
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        stopped += 1

    assert 2 < stopped < 100
    assert await count(world) == 1
    assert await world.owner.fetchval("SELECT count(*) FROM subject_event_days WHERE day < $1", now.date()) == 0
    assert await miscounted(worker_pool) == 0


async def test_who_saves_a_count_while_events_go_is_refused_or_finds_all_of_its_events(
    world: World, worker_pool: Pool[Record], now: datetime
) -> None:
    randomness = random.Random(13)
    outcomes = []
    pause = 0.01
    for number in range(60):
        other = await World.make(world.owner, worker_pool, f"project-{number}")
        other.transactions = world.transactions
        await buy(other, [now - days * DAY for days in (40, 41, 80)])
        await keep(other, 30)

        async def is_saved(other: World = other, pause: float = pause) -> bool:
            await asyncio.sleep(pause)
            try:
                await save(other, "since", counting(since(now - 60 * DAY)))
            except InvalidArgument:
                return False
            return True

        saved, _ = await asyncio.gather(is_saved(), Upkeep(Transactions(worker_pool)).run())

        assert await count(other) == (2 if saved else 0)
        outcomes.append(saved)
        # As near to the instant that decides as can be, however long this machine takes to it.
        pause *= randomness.uniform(1.0, 1.6) if saved else randomness.uniform(0.6, 1.0)
        if number > 4 and len(set(outcomes)) == 2:
            break

    assert set(outcomes) == {True, False}


async def test_days_are_cut_at_midnight_in_utc(world: World, upkeep: Upkeep, now: datetime) -> None:
    first_kept: date = (now - 30 * DAY).astimezone(UTC).date() - DAY
    midnight = datetime.combine(first_kept, datetime.min.time(), UTC)
    await buy(world, [midnight - timedelta(microseconds=1), midnight])
    await keep(world, 30)

    assert await upkeep.run() == 2

    assert await world.owner.fetchval("SELECT occurred_at FROM events") == midnight
    assert await world.owner.fetchval("SELECT day FROM subject_event_days") == first_kept
