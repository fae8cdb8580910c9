"""Events are taken in once, counted exactly and told in order, whatever arrives twice, late or at the same time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.ingest import Ingest
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.postgres import SUPERUSER
from orchestrator.domain.event import Event, Outcome
from orchestrator.domain.subject import bucket_of
from orchestrator.storage import inbox_entries
from tests.integration.lost_commits import fail_first_commit
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    from orchestrator.devstack.postgres import EmbeddedPostgres

ACCEPTED, DUPLICATE = Outcome.ACCEPTED, Outcome.DUPLICATE
PAST = datetime(2024, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)

_numbers = itertools.count()


@pytest.fixture
def transactions(api_pool: Pool[Record]) -> Transactions:
    return Transactions(api_pool)


@pytest.fixture
def ingest(transactions: Transactions) -> Ingest:
    return Ingest(transactions)


def event(
    subject_id: str = "user-1",
    *,
    event_id: str | None = None,
    name: str = "purchase",
    at: datetime | None = None,
    properties: dict[str, Any] | None = None,
) -> Event:
    return Event(
        event_id=event_id or f"event-{next(_numbers)}",
        name=name,
        subject_id=subject_id,
        occurred_at=at,
        properties=orjson.dumps(properties or {}),
    )


async def take(ingest: Ingest, *events: Event, backfill: bool = False) -> list[Outcome]:
    return await ingest.take(1, events, backfill=backfill)


Counts = dict[tuple[Any, ...], tuple[int, datetime, datetime]]


async def kept_counts(owner: Connection[Record], table: str, project_no: int = 1) -> Counts:
    """(subject, name[, day]) → (total, first, last), as kept."""
    day = ", kept.day" if table == "subject_event_days" else ""
    rows = await owner.fetch(
        f"SELECT subject_id, name, total, first_at, last_at{day} FROM {table} AS kept"
        " JOIN subjects USING (project_no, bucket, subject_no) JOIN event_names USING (project_no, name_no)"
        " WHERE kept.project_no = $1",
        project_no,
    )
    return {(*row[:2], *row[5:]): (row[2], row[3], row[4]) for row in rows}


def recounted(events: Iterable[tuple[str, str, datetime]], *, by_day: bool) -> Counts:
    """The same from (subject, name, instant), in plain Python."""
    groups: dict[tuple[Any, ...], list[datetime]] = {}
    for subject_id, name, at in events:
        groups.setdefault((subject_id, name, at.date()) if by_day else (subject_id, name), []).append(at)
    return {key: (len(times), min(times), max(times)) for key, times in groups.items()}


async def stored(owner: Connection[Record], project_no: int = 1) -> list[tuple[str, str, datetime]]:
    rows = await owner.fetch(
        "SELECT subject_id, name, occurred_at FROM events AS e JOIN subjects USING (project_no, bucket, subject_no)"
        " JOIN event_names USING (project_no, name_no) WHERE e.project_no = $1 ORDER BY event_no",
        project_no,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def assert_consistent(owner: Connection[Record], project_no: int = 1) -> None:
    """Aggregates and inbox say exactly what the events say."""
    events = await stored(owner, project_no)
    assert await kept_counts(owner, "subject_event_state", project_no) == recounted(events, by_day=False)
    assert await kept_counts(owner, "subject_event_days", project_no) == recounted(events, by_day=True)
    told = await owner.fetch(
        "SELECT e.event_no, i.bucket = s.bucket AND i.subject_no = e.subject_no AND t.name_no = e.name_no"
        " AND t.at = e.occurred_at AS same FROM inbox AS i"
        " CROSS JOIN unnest(name_nos, event_nos, occurred_ats) AS t (name_no, event_no, at)"
        " JOIN events AS e ON e.event_no = t.event_no JOIN subjects AS s ON s.subject_no = e.subject_no"
        " WHERE i.project_no = $1 AND kind = 'events'",
        project_no,
    )
    assert all(row["same"] for row in told)
    assert len(told) == len({row["event_no"] for row in told})


async def test_an_event_is_stored_counted_and_told(ingest: Ingest, owner: Connection[Record]) -> None:
    assert await take(ingest, event(event_id="e1", at=PAST, properties={"amount": 5, "tags": ["ä", None]})) == [
        ACCEPTED
    ]

    row = await owner.fetchrow("SELECT event_id, occurred_at, bucket, properties::text, received_at FROM events")
    assert row is not None
    assert tuple(row)[:4] == ("e1", PAST, bucket_of("user-1"), '{"tags": ["ä", null], "amount": 5}')
    assert abs(datetime.now(UTC) - row["received_at"]) < timedelta(minutes=1)
    assert await kept_counts(owner, "subject_event_state") == {("user-1", "purchase"): (1, PAST, PAST)}
    assert await kept_counts(owner, "subject_event_days") == {("user-1", "purchase", PAST.date()): (1, PAST, PAST)}
    assert await owner.fetchval("SELECT count(*) FROM inbox") == 1
    await assert_consistent(owner)


async def test_one_inbox_row_holds_a_subjects_events_in_order_of_arrival(
    ingest: Ingest, owner: Connection[Record]
) -> None:
    times = [PAST + timedelta(hours=hours) for hours in (5, 1, 3)]

    await take(
        ingest,
        event("a", name="x", at=times[0]),
        event("b", name="x", at=times[0]),
        event("a", name="y", at=times[1]),
        event("a", name="x", at=times[2]),
    )

    rows = await owner.fetch(
        "SELECT subject_id, name_nos, event_nos, occurred_ats FROM inbox JOIN subjects USING (bucket, subject_no)"
        " ORDER BY subject_id"
    )
    names = {row[1]: row[0] for row in await owner.fetch("SELECT name, name_no FROM event_names")}
    assert [(row[0], [names[n] for n in row[1]], row[3]) for row in rows] == [
        ("a", ["x", "y", "x"], times),
        ("b", ["x"], times[:1]),
    ]
    assert all(row["event_nos"] == sorted(row["event_nos"]) for row in rows)


async def test_of_one_id_the_first_counts_in_a_batch_and_across_batches(
    ingest: Ingest, owner: Connection[Record]
) -> None:
    first = await take(
        ingest,
        event("a", event_id="e1"),
        event("b", event_id="e1"),
        event("a", event_id="e2"),
        event("a", event_id="e1"),
    )
    second = await take(ingest, event("b", event_id="e2"), event("b", event_id="e3"))

    assert first == [ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE]
    assert second == [DUPLICATE, ACCEPTED]
    assert [subject_id for subject_id, _, _ in await stored(owner)] == ["a", "a", "b"]
    await assert_consistent(owner)


async def test_a_batch_of_duplicates_creates_nobody(ingest: Ingest, owner: Connection[Record]) -> None:
    await take(ingest, event("a", event_id="e1"))

    assert await take(ingest, event("stranger", event_id="e1")) == [DUPLICATE]

    assert await owner.fetchval("SELECT count(*) FROM subjects") == 1


async def test_the_same_id_in_another_project_is_another_event(ingest: Ingest, owner: Connection[Record]) -> None:
    assert await ingest.take(1, [event(event_id="e1")], backfill=False) == [ACCEPTED]
    assert await ingest.take(2, [event(event_id="e1")], backfill=False) == [ACCEPTED]

    for project_no in (1, 2):
        assert len(await stored(owner, project_no)) == 1
        await assert_consistent(owner, project_no)


async def test_an_empty_batch_does_nothing(ingest: Ingest) -> None:
    assert await take(ingest) == []


async def test_the_future_and_no_time_at_all_are_the_moment_of_arrival(
    ingest: Ingest, owner: Connection[Record]
) -> None:
    before = await owner.fetchval("SELECT clock_timestamp()")
    await take(
        ingest,
        event(at=datetime(2200, 1, 1, tzinfo=UTC)),
        event(at=None),
        event(at=before + timedelta(hours=1)),
        event(at=datetime(9999, 12, 31, tzinfo=UTC)),
    )
    after = await owner.fetchval("SELECT clock_timestamp()")

    rows = await owner.fetch("SELECT occurred_at, received_at FROM events")
    assert all(before <= row["occurred_at"] == row["received_at"] <= after for row in rows)
    await assert_consistent(owner)


async def test_late_and_out_of_order_events_move_first_and_last(ingest: Ingest, owner: Connection[Record]) -> None:
    days = [PAST + timedelta(days=days) for days in (0, 3, -3, 1, -1)]
    for at in days:
        await take(ingest, event(at=at))

    assert await kept_counts(owner, "subject_event_state") == {("user-1", "purchase"): (5, min(days), max(days))}
    await assert_consistent(owner)


@pytest.mark.parametrize("year", [1, 1900, 1969, 2014])
async def test_times_before_the_first_month_have_their_place(
    ingest: Ingest, owner: Connection[Record], year: int
) -> None:
    at = datetime(year, 6, 1, 12, 0, 0, 7, tzinfo=UTC)

    await take(ingest, event(at=at))

    assert await owner.fetchval("SELECT tableoid::regclass::text FROM events") == "events_before_2015"
    assert await kept_counts(owner, "subject_event_state") == {("user-1", "purchase"): (1, at, at)}


async def test_months_are_made_when_they_are_needed_by_many_at_once(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    months = [datetime(2015 + n // 12, 1 + n % 12, 1, tzinfo=UTC) for n in range(30)]
    # Each its own process, as far as memory goes.
    takers = [Ingest(transactions) for _ in range(6)]

    async def run(taker: Ingest, seed: int) -> None:
        shuffled = random.Random(seed).sample(months, len(months))
        for at in shuffled:
            # Both sides of a border.
            await take(taker, event(at=at), event(at=at - timedelta(microseconds=1)))

    await asyncio.gather(*(run(taker, seed) for seed, taker in enumerate(takers)))

    assert len(await stored(owner)) == 6 * 60
    await assert_consistent(owner)
    parts = await owner.fetch("SELECT DISTINCT tableoid::regclass::text AS part, occurred_at FROM events")
    for row in parts:
        at = row["occurred_at"]
        assert row["part"] == ("events_before_2015" if at.year < 2015 else f"events_{at:%Y_%m}")


async def test_backfill_counts_and_does_not_happen(ingest: Ingest, owner: Connection[Record]) -> None:
    assert await take(ingest, event("a", at=PAST), event("a"), event("b"), backfill=True) == [ACCEPTED] * 3

    await assert_consistent(owner)
    assert len(await stored(owner)) == 3
    rows = await owner.fetch(
        "SELECT subject_id, kind, name_nos, event_nos, occurred_ats FROM inbox JOIN subjects USING (bucket, subject_no)"
        " ORDER BY subject_id"
    )
    assert [tuple(row) for row in rows] == [("a", "backfill", None, None, None), ("b", "backfill", None, None, None)]


async def test_names_are_numbered_once_whoever_meets_them(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    names = [f"name-{n}" for n in range(20)]

    async def run(seed: int) -> None:
        shuffled = random.Random(seed).sample(names, len(names))
        for name in shuffled:
            await take(Ingest(transactions), event(name=name))

    await asyncio.gather(*(run(seed) for seed in range(6)))

    assert await owner.fetchval("SELECT count(*) FROM event_names") == 20
    await assert_consistent(owner)


async def test_a_name_whose_number_was_rolled_back_is_numbered_again(ingest: Ingest, owner: Connection[Record]) -> None:
    await fail_first_commit(owner, "event_names")

    with pytest.raises(asyncpg.RaiseError):
        await take(ingest, event(name="purchase"))
    await take(ingest, event(name="purchase"))

    assert [name for _, name, _ in await stored(owner)] == ["purchase"]
    await assert_consistent(owner)


async def test_concurrent_writers_with_shuffled_overlap_count_everything_once(
    transactions: Transactions, owner: Connection[Record], caplog: pytest.LogCaptureFixture
) -> None:
    randomness = random.Random(20240229)
    distinct = [
        event(
            f"user-{randomness.randrange(200)}",
            name=f"name-{randomness.randrange(8)}",
            at=PAST + timedelta(seconds=randomness.randrange(-40 * 86_400, 40 * 86_400)),
        )
        for _ in range(7_000)
    ]
    sent = distinct + randomness.sample(distinct, 3_000)
    randomness.shuffle(sent)
    batches = [sent[start : start + 250] for start in range(0, len(sent), 250)]
    # Every batch goes out twice: the second time as a retry whose first answer was lost.
    work = iter(randomness.sample(batches + batches, 2 * len(batches)))
    outcomes: Counter[Outcome] = Counter()

    async def write(ingest: Ingest) -> None:
        for batch in work:
            outcomes.update(await ingest.take(1, batch, backfill=False))

    await asyncio.gather(*(write(Ingest(transactions)) for _ in range(8)))

    expected = [(e.subject_id, e.name, e.occurred_at) for e in distinct if e.occurred_at is not None]
    assert Counter(await stored(owner)) == Counter(expected)
    assert await kept_counts(owner, "subject_event_state") == recounted(expected, by_day=False)
    assert await kept_counts(owner, "subject_event_days") == recounted(expected, by_day=True)
    assert await owner.fetchval("SELECT sum(cardinality(event_nos)) FROM inbox") == 7_000
    assert outcomes == {ACCEPTED: 7_000, DUPLICATE: 13_000}
    assert await owner.fetchval("SELECT count(*) FROM subjects") == len({e.subject_id for e in distinct})
    # Nobody had to give way.
    assert caplog.records == []
    await assert_consistent(owner)


async def test_a_writer_cut_off_in_the_middle_leaves_nothing_or_everything(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    batches = [[event(f"user-{n % 20}") for n in range(200)] for _ in range(30)]
    ingest = Ingest(transactions)
    await take(ingest, event())
    cut = 0

    async def write(batch: Sequence[Event], delay: float) -> None:
        nonlocal cut
        attempt = asyncio.create_task(ingest.take(1, batch, backfill=False))
        await asyncio.wait([attempt], timeout=delay)
        if attempt.cancel():
            cut += 1
        await asyncio.wait([attempt])
        # The outcome is unknown: the caller sends it again.
        await ingest.take(1, batch, backfill=False)

    randomness = random.Random(3)
    for pair in zip(batches[::2], batches[1::2], strict=True):
        await asyncio.gather(*(write(batch, randomness.uniform(0.0, 0.02)) for batch in pair))

    assert cut > 0
    assert len(await stored(owner)) == 1 + 30 * 200
    await assert_consistent(owner)


async def test_whoever_waits_is_told_of_what_is_new_even_when_cut_off(
    ingest: Ingest, owner: Connection[Record]
) -> None:
    told: list[int] = []

    async def write(batch: Sequence[Event], delay: float) -> None:
        attempt = asyncio.create_task(ingest.take(1, batch, backfill=False, committed=lambda: told.append(len(batch))))
        await asyncio.wait([attempt], timeout=delay)
        attempt.cancel()
        await asyncio.wait([attempt])

    await take(ingest, event())
    randomness = random.Random(5)
    for _ in range(60):
        await write([event(f"user-{n % 20}") for n in range(50)], randomness.uniform(0.0, 0.03))
    known = event()
    await ingest.take(1, [known], backfill=False, committed=lambda: told.append(1))
    await ingest.take(1, [known], backfill=False, committed=lambda: told.append(1))

    assert sum(told) == len(await stored(owner)) - 1


async def test_a_writer_whose_connection_dies_can_send_again(
    database: str, transactions: Transactions, owner: Connection[Record]
) -> None:
    batch = [event(f"user-{n}") for n in range(100)]
    ingest = Ingest(transactions)
    await take(ingest, event())
    holder = await asyncpg.connect(database)
    try:
        await holder.execute("BEGIN")
        await holder.execute("LOCK TABLE subject_event_days IN ACCESS EXCLUSIVE MODE")
        attempt = asyncio.create_task(ingest.take(1, batch, backfill=False))
        await waits_for_a_lock(attempt, owner)
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> $1",
            holder.get_server_pid(),
        )
        with pytest.raises(asyncpg.PostgresConnectionError):
            await attempt
    finally:
        await holder.close()

    assert await ingest.take(1, batch, backfill=False) == [ACCEPTED] * 100
    assert len(await stored(owner)) == 101
    await assert_consistent(owner)


async def test_who_loses_a_deadlock_to_a_stranger_tries_again(
    postgres: EmbeddedPostgres, ingest: Ingest, owner: Connection[Record], caplog: pytest.LogCaptureFixture
) -> None:
    await take(ingest, event("user-1"), event("user-2"))
    touch = "UPDATE subject_event_state SET total = total WHERE subject_no = $1"
    # The order in which ingest takes them.
    first, second = [row[0] for row in await owner.fetch("SELECT subject_no FROM subjects ORDER BY bucket")]
    name = await owner.fetchval("SELECT current_database()")
    stranger = await asyncpg.connect(postgres.dsn(name, user=SUPERUSER), server_settings={"deadlock_timeout": "1min"})
    try:
        await stranger.execute("BEGIN")
        await stranger.execute(touch, second)
        attempt = asyncio.create_task(take(ingest, event("user-1"), event("user-2")))
        await waits_for_a_lock(attempt, owner)
        # Ingest looks for deadlocks first, and gives way.
        await stranger.execute(touch, first)
        await stranger.execute("COMMIT")
    finally:
        await stranger.close()

    assert await attempt == [ACCEPTED, ACCEPTED]
    assert [record.message for record in caplog.records] == ["ingest is tried again"]
    assert len(await stored(owner)) == 4
    await assert_consistent(owner)


SENT = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 12),  # event
            st.integers(0, 3),  # subject
            st.integers(0, 2),  # name
            st.none() | st.integers(-3_000_000_000, 3_000_000_000),  # milliseconds from PAST; far into the future, too
        ),
        max_size=6,
    ),
    max_size=5,
)
_projects = itertools.count(100)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SENT)
async def test_aggregates_are_a_recount_of_the_events(
    ingest: Ingest, owner: Connection[Record], sent: list[list[tuple[int, int, int, int | None]]]
) -> None:
    project_no = next(_projects)
    batches = [
        [
            event(
                f"user-{subject}",
                event_id=f"e-{number}",
                name=f"name-{name}",
                at=None if offset is None else PAST + timedelta(milliseconds=offset),
            )
            for number, subject, name, offset in batch
        ]
        for batch in sent
    ]

    outcomes = await asyncio.gather(*(ingest.take(project_no, batch, backfill=False) for batch in batches))

    accepted = sum(outcome is ACCEPTED for batch in outcomes for outcome in batch)
    assert accepted == len({number for batch in sent for number, *_ in batch})
    assert len(await stored(owner, project_no)) == accepted
    await assert_consistent(owner, project_no)


async def test_many_rings_are_few_notifications_and_none_is_lost(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await owner.add_listener(inbox_entries.CHANNEL, lambda *_: heard.put_nowait("ring"))
    bell = InboxBell(transactions)

    await asyncio.gather(*(bell.ring() for _ in range(100)))
    await asyncio.wait_for(heard.get(), 5)
    await owner.execute("SELECT 1")
    assert heard.qsize() <= 1
    while not heard.empty():
        heard.get_nowait()

    await bell.ring()
    await asyncio.wait_for(heard.get(), 5)
