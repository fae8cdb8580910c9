"""Subjects: created, merged, read, deleted; under concurrency."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.application import subjects as use_cases
from orchestrator.application.ingest import Ingest
from orchestrator.application.subjects import Upserted
from orchestrator.application.transactions import Transactions
from orchestrator.domain.etag import Expected, etag_of
from orchestrator.domain.event import Event
from orchestrator.domain.refusals import Conflict, FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.scope import Role, Scope, SubjectKey
from orchestrator.domain.subject import Subject, SubjectPatch, subject_hash
from orchestrator.storage import clock, subjects
from orchestrator.storage.subjects import Held
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SCOPE = Scope(project_no=1, project_id="default", actor="key:k1", role=Role.ADMIN)
SECRET = b"s" * 48


@pytest.fixture
def transactions(api_pool: Pool[Record]) -> Transactions:
    return Transactions(api_pool)


async def upsert(transactions: Transactions, *patches: SubjectPatch, project_no: int = 1) -> Upserted:
    async with transactions.write(project_no) as conn:
        return await use_cases.upsert(conn, project_no, patches)


async def put(transactions: Transactions, subject_id: str, attributes: dict[str, Any], **more: Any) -> Subject:
    return (await upsert(transactions, SubjectPatch(subject_id=subject_id, attributes=attributes, **more))).subjects[0]


async def get(transactions: Transactions, subject_id: str, project_no: int = 1) -> Subject:
    async with transactions.read(project_no) as conn:
        return await use_cases.get(conn, project_no, subject_id)


async def delete(transactions: Transactions, subject_id: str, expected: Expected | None = None) -> None:
    async with transactions.write(1) as conn:
        await use_cases.delete(conn, SCOPE, SECRET, subject_id, expected or Expected())


async def inbox(owner: Connection[Record]) -> list[tuple[str, str]]:
    rows = await owner.fetch(
        "SELECT subject_id, kind FROM inbox JOIN subjects USING (project_no, bucket, subject_no) ORDER BY inbox_no"
    )
    return [(row[0], row[1]) for row in rows]


async def test_a_new_subject_is_stored_as_sent(transactions: Transactions, owner: Connection[Record]) -> None:
    attributes = {"plan": "pro", "n": 5, "x": 1.5, "seen_at": "2024-02-29T12:00:00+02:00", "deep": {"list": [1, None]}}

    stored = await put(transactions, "user-1", attributes, time_zone="Europe/Berlin")

    assert stored == await get(transactions, "user-1")
    assert (stored.attributes, stored.time_zone, stored.revision) == (attributes, "Europe/Berlin", 1)
    assert stored.created_at == stored.updated_at
    assert await owner.fetchval("SELECT attribute_times ->> 'seen_at' FROM subjects") == "1709200800000000"
    assert await inbox(owner) == [("user-1", "attributes")]


async def test_a_patch_merges_and_raises_the_revision(transactions: Transactions) -> None:
    first = await put(transactions, "user-1", {"a": {"b": 1, "c": 2}, "d": 3}, time_zone="UTC")

    second = await put(transactions, "user-1", {"a": {"c": None, "e": 4}, "d": None})

    assert second.attributes == {"a": {"b": 1, "e": 4}}
    assert (second.revision, second.time_zone) == (2, "UTC")
    assert second.updated_at - first.updated_at >= timedelta(milliseconds=1)
    assert second.created_at == first.created_at


async def test_what_changes_nothing_is_not_told(transactions: Transactions, owner: Connection[Record]) -> None:
    first = await put(transactions, "user-1", {"a": 1})
    await owner.execute("TRUNCATE inbox")

    second = await put(transactions, "user-1", {"a": 1.0, "b": None})

    assert second == first
    assert await inbox(owner) == []


async def test_true_is_not_one(transactions: Transactions) -> None:
    await put(transactions, "user-1", {"a": 1})

    assert (await put(transactions, "user-1", {"a": True})).attributes["a"] is True


async def test_an_empty_time_zone_goes_away(transactions: Transactions) -> None:
    await put(transactions, "user-1", {}, time_zone="Europe/Berlin")

    assert (await put(transactions, "user-1", {}, time_zone="")).time_zone is None


async def test_a_passed_state_is_refused_and_nothing_is_written(transactions: Transactions) -> None:
    first = await put(transactions, "user-1", {"a": 1})
    seen = Expected(etag=etag_of(first.revision, first.updated_at))
    await put(transactions, "user-1", {"a": 2}, expected=seen)

    with pytest.raises(Conflict, match="changed") as refused:
        await put(transactions, "user-1", {"a": 3}, expected=seen)

    assert refused.value.reason == "ETAG_MISMATCH"
    assert (await get(transactions, "user-1")).attributes == {"a": 2}


async def test_all_faults_of_a_batch_are_named_and_nothing_is_written(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await upsert(
            transactions,
            SubjectPatch(subject_id="fine", attributes={"a": 1}, path="subjects[0]"),
            SubjectPatch(subject_id="not fine", attributes={}, path="subjects[1]"),
            SubjectPatch(subject_id="fine", attributes={}, path="subjects[2]"),
            SubjectPatch(subject_id="b", attributes={"x": "y" * 70_000}, path="subjects[3]"),
            SubjectPatch(subject_id="c", attributes={}, time_zone="Mars/Olympus", path="subjects[4]"),
        )

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("subjects[1].id", "INVALID_ID"),
        ("subjects[2].id", "DUPLICATE_ID"),
        ("subjects[3].attributes", "TOO_LARGE"),
        ("subjects[4].timeZone", "INVALID_VALUE"),
    ]
    assert await owner.fetchval("SELECT count(*) FROM subjects") == 0


async def test_a_patch_that_makes_a_subject_too_large_is_refused(transactions: Transactions) -> None:
    await put(transactions, "user-1", {"a": "x" * 40_000})

    with pytest.raises(InvalidArgument) as refused:
        await put(transactions, "user-1", {"b": "x" * 40_000})

    assert refused.value.reason == "TOO_LARGE"
    assert "b" not in (await get(transactions, "user-1")).attributes


async def test_a_batch_tells_created_from_updated(transactions: Transactions, owner: Connection[Record]) -> None:
    await put(transactions, "user-1", {"a": 1})
    await put(transactions, "user-2", {"a": 1})
    await owner.execute("TRUNCATE inbox")

    done = await upsert(
        transactions, *(SubjectPatch(subject_id=f"user-{n}", attributes={"a": 1 + n // 2}) for n in (3, 1, 2))
    )

    assert [subject.subject_id for subject in done.subjects] == ["user-3", "user-1", "user-2"]
    assert (done.created, done.changed) == (1, 2)
    assert sorted(await inbox(owner)) == [("user-2", "attributes"), ("user-3", "attributes")]


async def test_overlapping_batches_in_any_order_lose_nothing(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    ids = [f"user-{n}" for n in range(60)]
    randomness = random.Random(7)

    async def write(writer: int) -> None:
        for turn in range(5):
            chosen = randomness.sample(ids, 40)
            await upsert(transactions, *(SubjectPatch(subject_id=i, attributes={f"w{writer}": turn}) for i in chosen))

    await asyncio.gather(*(write(writer) for writer in range(8)))

    rows = await owner.fetch("SELECT attributes, revision FROM subjects")
    assert len(rows) == 60
    # Each batch raised the revision of each of its subjects by one; creation is the first.
    assert sum(row["revision"] for row in rows) == 8 * 5 * 40


async def test_ensure_creates_only_who_is_missing_and_agrees_under_concurrency(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    async def ensure(seed: int) -> dict[str, SubjectKey]:
        ids = [f"user-{n}" for n in range(50)]
        random.Random(seed).shuffle(ids)
        async with transactions.write(1) as conn:
            keys = await subjects.ensure(conn, 1, ids, await clock.now(conn))
            await subjects.lock(conn, keys.values())
            return keys

    answers = await asyncio.gather(*(ensure(seed) for seed in range(8)))

    assert all(answer == answers[0] for answer in answers)
    assert await owner.fetchval("SELECT count(*) FROM subjects") == 50


async def test_lock_waits_its_turn_and_leaves_out_who_is_gone(transactions: Transactions) -> None:
    await put(transactions, "user-1", {})
    await put(transactions, "user-2", {})
    async with transactions.read(1) as conn:
        keys = await subjects.find_keys(conn, 1, ["user-1", "user-2", "user-3"])
    assert sorted(keys) == ["user-1", "user-2"]
    order: list[str] = []

    async def second() -> list[SubjectKey]:
        async with transactions.write(1) as conn:
            locked = await subjects.lock(conn, keys.values())
            order.append("second")
            return locked

    async with transactions.write(1) as conn:
        assert await subjects.lock(conn, keys.values()) == sorted(keys.values())
        waiting = asyncio.create_task(second())
        await asyncio.wait([waiting], timeout=0.1)
        order.append("first")
        await conn.execute("DELETE FROM subjects WHERE subject_id = 'user-1'")

    assert await waiting == [keys["user-2"]]
    assert order == ["first", "second"]


async def test_hold_says_what_was_written_while_it_waited(transactions: Transactions) -> None:
    await put(transactions, "user-1", {"plan": "free"})
    async with transactions.read(1) as conn:
        key = (await subjects.find_keys(conn, 1, ["user-1"]))["user-1"]

    async def second() -> Held | None:
        async with transactions.write(1) as conn:
            return await subjects.hold(conn, key)

    async with transactions.write(1) as conn:
        assert await subjects.hold(conn, key) == Held(subject_id="user-1", attributes={"plan": "free"}, time_zone=None)
        waiting = asyncio.create_task(second())
        await asyncio.wait([waiting], timeout=0.1)
        await use_cases.upsert(conn, 1, [SubjectPatch(subject_id="user-1", attributes={"plan": "pro"})])

    assert await waiting == Held(subject_id="user-1", attributes={"plan": "pro"}, time_zone=None)


async def test_hold_finds_nobody_where_the_subject_was_deleted_while_it_waited(transactions: Transactions) -> None:
    await put(transactions, "user-1", {})
    async with transactions.read(1) as conn:
        key = (await subjects.find_keys(conn, 1, ["user-1"]))["user-1"]

    async def second() -> Held | None:
        async with transactions.write(1) as conn:
            return await subjects.hold(conn, key)

    async with transactions.write(1) as conn:
        await subjects.hold(conn, key)
        waiting = asyncio.create_task(second())
        await asyncio.wait([waiting], timeout=0.1)
        await conn.execute("DELETE FROM subjects WHERE subject_id = 'user-1'")

    assert await waiting is None


async def test_pages_go_from_the_newest_to_the_oldest(transactions: Transactions) -> None:
    for number in range(5):
        await put(transactions, f"user-{number}", {})

    async with transactions.read(1) as conn:
        first = await subjects.page(conn, 1, before=None, limit=3)
        second = await subjects.page(conn, 1, before=first[-1][0].subject_no, limit=3)

    assert [subject.subject_id for _, subject in first + second] == [f"user-{number}" for number in (4, 3, 2, 1, 0)]


async def test_another_projects_subjects_are_not_there(transactions: Transactions) -> None:
    await put(transactions, "user-1", {"a": 1})
    await upsert(transactions, SubjectPatch(subject_id="user-1", attributes={"a": 2}), project_no=2)

    assert (await get(transactions, "user-1", 1)).attributes == {"a": 1}
    assert (await get(transactions, "user-1", 2)).attributes == {"a": 2}
    async with transactions.read(2) as conn:
        assert await subjects.find(conn, 1, "user-1") is None


OWNED = ("subjects", "events", "subject_event_state", "subject_event_days", "inbox", "opt_outs", "suppressions",
         "static_members")  # fmt: skip


async def test_deleting_removes_all_that_is_known_and_says_so_by_ref(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    for subject_id in ("user-1", "user-2"):
        await put(transactions, subject_id, {"a": 1})
        await Ingest(transactions).take(1, [purchase(f"e-{subject_id}", subject_id)], backfill=False)
    now = datetime.now(UTC)
    for project_no, bucket, subject_no in await owner.fetch("SELECT project_no, bucket, subject_no FROM subjects"):
        key = (project_no, bucket, subject_no)
        await owner.execute("INSERT INTO opt_outs VALUES ($1, $2, $3, 'log', '*', $4)", *key, now)
        await owner.execute("INSERT INTO suppressions VALUES ($1, $2, $3, '*', 'asked', $4)", *key, now)
        await owner.execute("INSERT INTO static_members VALUES ($1, $2, $3, 1, $4)", *key, now)
    before = {table: await owner.fetchval(f"SELECT count(*) FROM {table}") for table in OWNED}

    await delete(transactions, "user-1")

    after = {table: await owner.fetchval(f"SELECT count(*) FROM {table}") for table in OWNED}
    assert after == {table: count // 2 for table, count in before.items()}
    assert (await get(transactions, "user-2")).attributes == {"a": 1}
    with pytest.raises(NotFound):
        await get(transactions, "user-1")
    entry = await owner.fetchrow("SELECT actor, action, resource_id FROM audit_log")
    assert entry is not None
    assert tuple(entry) == ("key:k1", "subject_deleted", subject_hash(SECRET, "default", "user-1"))


async def test_a_subject_in_a_running_execution_is_not_deleted(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    await put(transactions, "user-1", {})
    await owner.execute(
        "INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq,"
        " step_id, since, effect, started_at) SELECT project_no, bucket, subject_no, gen_random_uuid(), 'j', 1, 'w', 0,"
        " 's', now(), '{}', now() FROM subjects"
    )

    with pytest.raises(FailedPrecondition) as refused:
        await delete(transactions, "user-1")

    assert (refused.value.reason, refused.value.metadata["runningExecutions"]) == (
        "SUBJECT_HAS_RUNNING_EXECUTIONS",
        "1",
    )
    await owner.execute("UPDATE executions SET outcome = 'completed', ended_at = now()")
    await delete(transactions, "user-1")
    # What journeys recorded stays.
    assert await owner.fetchval("SELECT count(*) FROM executions") == 1


async def test_who_is_not_there_cannot_be_deleted(transactions: Transactions) -> None:
    with pytest.raises(NotFound) as refused:
        await delete(transactions, "user-1")

    assert refused.value.reason == "SUBJECT_NOT_FOUND"


async def test_deletion_asks_for_the_state_that_was_seen(transactions: Transactions) -> None:
    first = await put(transactions, "user-1", {"a": 1})
    second = await put(transactions, "user-1", {"a": 2})

    with pytest.raises(Conflict):
        await delete(transactions, "user-1", Expected(etag=etag_of(first.revision, first.updated_at)))
    await delete(transactions, "user-1", Expected(etag=etag_of(second.revision, second.updated_at)))


def purchase(event_id: str, subject_id: str) -> Event:
    return Event(event_id=event_id, name="purchase", subject_id=subject_id, occurred_at=None, properties=b"{}")


async def assert_no_orphans(owner: Connection[Record]) -> None:
    for table in OWNED[1:5]:
        orphans = await owner.fetchval(
            f"SELECT count(*) FROM {table} AS t WHERE NOT EXISTS (SELECT FROM subjects AS s WHERE s.project_no ="
            " t.project_no AND s.bucket = t.bucket AND s.subject_no = t.subject_no)"
        )
        assert (table, orphans) == (table, 0)


async def test_a_deletion_waits_for_events_under_way(
    database: str, transactions: Transactions, owner: Connection[Record]
) -> None:
    ingest = Ingest(transactions)
    await ingest.take(1, [purchase("e1", "user-1"), purchase("e2", "user-2")], backfill=False)
    holder = await asyncpg.connect(database)
    await holder.execute("BEGIN")
    await holder.execute(
        "SELECT FROM subject_event_state JOIN subjects USING (bucket, subject_no)"
        " WHERE subject_id = 'user-2' FOR UPDATE"
    )
    # Has written for user-1, and waits for user-2.
    feeding = asyncio.create_task(ingest.take(1, [purchase("e3", "user-1"), purchase("e4", "user-2")], backfill=False))
    await waits_for_a_lock(feeding, owner)

    deleting = asyncio.create_task(delete(transactions, "user-1"))
    while not await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"):
        assert not deleting.done()
    await holder.close()
    await asyncio.gather(feeding, deleting)

    assert await owner.fetchval("SELECT count(*) FROM events") == 2
    await assert_no_orphans(owner)


async def test_events_that_race_deletions_belong_to_somebody(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    ingest = Ingest(transactions)

    async def feed(writer: int) -> None:
        for turn in range(15):
            batch = [purchase(f"e-{writer}-{turn}-{n}", f"user-{n}") for n in range(10)]
            await ingest.take(1, batch, backfill=False)

    async def delete_all() -> None:
        for turn in range(30):
            try:
                await delete(transactions, f"user-{turn % 10}")
            except NotFound:
                continue

    await asyncio.gather(*(feed(writer) for writer in range(3)), delete_all())

    await assert_no_orphans(owner)
