"""Exporting a person: everything that any table has about them, nothing about anybody else, in pages of any size."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from orchestrator.application import forgetting, preferences, subject_exports, subjects
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.subject_exports import GOES_ON_FOR, MAX_PAGE_BYTES, Begun
from orchestrator.domain.audit import SUBJECT_EXPORTED
from orchestrator.domain.event import Event, Outcome
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.domain.scope import Scope
from orchestrator.domain.subject import SubjectPatch, subject_hash
from orchestrator.storage import audit, erasing
from orchestrator.storage.exporting import LEFT_OUT, PARTS, TABLES_LEFT_OUT, Kept
from tests.eventually import eventually
from tests.integration.crowd import Crowd
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.test_erasure import CANARY, WHO, live, tables
from tests.integration.test_merging import count_reds

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SECRET = b"s" * 48
EXPORTED = {part.table for part in PARTS}
#: Nothing that is told by one record for each row of its table.
OTHERWISE = {"segment_membership", "template", "waiting_send", "audit_entry"}


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    return made


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    return await Crowd.make(owner, api_pool, worker_pool)


async def known(world: World, subject_id: str, attributes: dict[str, Any]) -> None:
    async with world.transactions.write(world.scope.project_no) as conn:
        await subjects.upsert(
            conn, world.scope.project_no, [SubjectPatch(subject_id=subject_id, attributes=attributes)]
        )


async def read(
    world: World, subject_id: str, *, size: int = 1000, after: Begun | None = None, scope: Scope | None = None
) -> subject_exports.ExportPage:
    return await subject_exports.page(world.transactions, scope or world.scope, SECRET, subject_id, after, size)


async def export(world: World, subject_id: str, *, size: int = 1000, after: Begun | None = None) -> list[Kept]:
    found: list[Kept] = []
    while True:
        page = await read(world, subject_id, size=size, after=after)
        assert len(page.records) <= size
        found += page.records
        if page.end is None:
            return found
        after = page.end


def of_kind(found: list[Kept], kind: str) -> list[Any]:
    return [record.values for record in found if record.place.kind == kind]


def text_of(value: object) -> str:
    return orjson.dumps(value, default=str).decode()


def is_refused(error: InvalidArgument) -> bool:
    return [(fault.path, fault.reason) for fault in error.faults] == [("pageToken", "PAGE_TOKEN_INVALID")]


async def columns(owner: Connection[Record]) -> dict[str, set[str]]:
    """By table, without the partitions of any."""
    rows = await owner.fetch(
        """
        SELECT c.relname, array_agg(a.attname::text) FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
           AND a.attnum > 0 AND NOT a.attisdropped
         GROUP BY c.relname
        """
    )
    return {row[0]: set(row[1]) for row in rows}


async def test_every_table_that_knows_subjects_is_exported_or_left_out(owner: Connection[Record]) -> None:
    of_people = {"subject_no", "execution_id", "enrollment_id"}
    known = {table for table, names in (await columns(owner)).items() if names & of_people}
    erased = {
        *erasing.AT_ONCE_GONE, *erasing.WITH_MEMBERSHIP, *erasing.LATER_GONE, *erasing.ANONYMIZED, *erasing.KEPT,
        *erasing.OWN,
    }  # fmt: skip

    assert (EXPORTED - {"audit_log"}) | TABLES_LEFT_OUT == known
    assert EXPORTED.isdisjoint(TABLES_LEFT_OUT)
    assert erased <= known


async def test_every_column_of_an_exported_table_is_told_or_left_out(owner: Connection[Record]) -> None:
    there = await columns(owner)
    told: dict[str, set[str]] = {table: set() for table in EXPORTED}
    for part in PARTS:
        told[part.table] |= set(re.findall(r"\bx\.(\w+)", part.text()))

    for table in EXPORTED:
        left_out = LEFT_OUT.get(table, set())
        assert told[table] & left_out == set(), table
        assert (told[table] | left_out) - LEFT_OUT["*"] == there[table] - LEFT_OUT["*"], table
    assert LEFT_OUT.keys() - {"*"} <= EXPORTED


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_all_that_is_kept_of_a_person_is_exported_and_nothing_of_others(
    world: World, api_pool: Pool[Record], worker_pool: Pool[Record], size: int
) -> None:
    owner = world.owner
    await live(world, worker_pool)
    await known(world, "visitor", {})
    await world.do(merge, SECRET, RuleBook(), "visitor", into=WHO)
    await world.do(preferences.suppress, SECRET, WHO, channel="sms", reason="bounced")
    await owner.execute(
        "INSERT INTO waiting_sends (project_no, channel, rank, execution_id, since)"
        " SELECT project_no, 'log', 1, execution_id, now() FROM executions WHERE journey_id = 'long'"
    )
    key = await world.subject(WHO)
    rows = {
        part.kind: await owner.fetchval(f"SELECT count(*) FROM {part.table} WHERE subject_no = $1", key.subject_no)
        for part in PARTS
        if part.kind not in OTHERWISE
    }
    segments = await owner.fetchval("SELECT cardinality(segment_nos) FROM subject_segments")
    with_canary = await tables(owner, f"a_row::text LIKE '%{CANARY}%'")
    for other in (world, await World.make(owner, api_pool, "elsewhere")):
        same_id = WHO if other is not world else "bob"
        await known(other, same_id, {"name": "bystander"})

    found = await export(world, WHO, size=size)

    assert min(rows.values()) > 0, "there was something of every kind"
    others = {"segment_membership": segments, "template": 1, "waiting_send": 1, "audit_entry": 3}
    assert Counter(record.place.kind for record in found) == Counter(rows | others)
    assert len({record.place for record in found}) == len(found)
    order = [part.kind for part in PARTS]
    assert [record.place.kind for record in found] == sorted(
        (record.place.kind for record in found), key=lambda kind: order.index(kind)
    )
    for table in with_canary - TABLES_LEFT_OUT:
        kinds = {part.kind for part in PARTS if part.table == table}
        assert CANARY in text_of([record.values for record in found if record.place.kind in kinds]), table
    assert "bystander" not in text_of([record.values for record in found])


async def test_records_say_what_happened_by_names_and_not_by_numbers(world: World, worker_pool: Pool[Record]) -> None:
    await live(world, worker_pool)

    found = await export(world, WHO)

    (subject,), (event,) = of_kind(found, "subject"), of_kind(found, "event")
    assert (subject["subjectId"], subject["attributes"]) == (WHO, {"name": f"A {CANARY}"})
    assert "timeZone" not in subject
    assert (event["name"], event["properties"]) == ("order", {"email": f"{CANARY}@example.com"})
    assert [count["eventName"] for count in of_kind(found, "event_count")] == ["*", "order"]
    (listed,) = of_kind(found, "list_membership")
    assert (listed["segmentId"], listed["segmentName"]) == ("vip", "VIP")
    assert all(segment["since"] <= segment["asOf"] for segment in of_kind(found, "segment_membership"))
    entered = [(moved["segmentId"], moved["transition"]) for moved in of_kind(found, "segment_transition")]
    assert ("vip", "entered") in entered
    assert {enrollment["journeyId"] for enrollment in of_kind(found, "enrollment")} == {"short", "long"}
    (send,), (template,) = of_kind(found, "send"), of_kind(found, "template")
    assert (send["communicationId"], send["state"], len(send["idempotencyKey"])) == ("welcome", "sent", 64)
    assert template == {
        "communicationId": "welcome", "contentRevision": 1, "name": "welcome", "subject": "Hello", "body": "There",
    }  # fmt: skip
    (choice,) = of_kind(found, "arm_choice")
    assert (choice["armId"], choice["propensity"], choice["context"]) == ("a", 0.5, {"name": CANARY})
    (refused,), (test,) = of_kind(found, "refused_entry"), of_kind(found, "test_send")
    assert (refused["reason"], refused["journeyId"], refused["eventName"]) == ("audience", "short", "order")
    assert (test["body"], test["results"]) == (CANARY, [])


async def test_what_is_counted_of_a_kind_of_events_says_which(crowd: Crowd) -> None:
    await count_reds(crowd)
    await crowd.happened(("ann", "purchase", None), color="red")

    found = await export(crowd.world, "ann")

    counts = of_kind(found, "event_count")
    kind = {"kind": "attribute", "fieldPath": "color", "operator": "equals", "value": "red"}
    assert sorted((count["eventName"], count.get("where") == kind, count["count"]) for count in counts) == [
        ("*", False, 1), ("purchase", False, 1), ("purchase", True, 1),
    ]  # fmt: skip


async def test_a_person_is_exported_by_any_of_their_ids_with_what_was_merged_into_them(crowd: Crowd) -> None:
    await crowd.known(ann={"name": "Ann"}, visitor={"seen": "before"})
    await crowd.happened(("visitor", "looked", None), ("ann", "bought", None))
    await crowd.world.do(merge, SECRET, RuleBook(), "visitor", into="ann")

    page = await read(crowd.world, "visitor")

    assert page.subject_id == "ann"
    assert [alias["subjectId"] for alias in of_kind(page.records, "alias")] == ["visitor"]
    assert {event["name"] for event in of_kind(page.records, "event")} == {"looked", "bought"}
    said = [entry["action"] for entry in of_kind(page.records, "audit_entry")]
    assert said == ["subject_merged", "subject_exported"]


async def test_the_audit_log_is_exported_where_it_is_about_the_person(crowd: Crowd) -> None:
    world = crowd.world
    theirs = await world.lay_execution("ann")
    others = await world.lay_execution("bob")
    ref = subject_hash(SECRET, "default", "ann")
    rows = [
        ("subject_suppressed", "subject", ref, {"channel": "log"}),
        ("subject_suppressed", "subject", subject_hash(SECRET, "default", "bob"), {"channel": "sms"}),
        ("execution_canceled", "journey", "welcome", {"executionId": str(theirs), "reason": "ours"}),
        ("execution_canceled", "journey", "welcome", {"executionId": str(others), "reason": "not ours"}),
        ("workflow_poked", "execution", str(theirs), {}),
        ("communication_test_sent", "communication", "welcome", {"subjectRef": ref}),
        ("communication_test_sent", "communication", "welcome", {"addresses": 1}),
    ]
    for action, kind, resource_id, metadata in rows:
        await crowd.owner.execute(
            "INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id, metadata)"
            " VALUES ($1, now(), 'key:x', $2, $3, $4, $5)",
            crowd.project_no, action, kind, resource_id, json.dumps(metadata),
        )  # fmt: skip

    found = of_kind(await export(world, "ann"), "audit_entry")

    told = [(entry["action"], entry["resourceKind"]) for entry in found]
    assert told == [
        ("subject_suppressed", "subject"), ("execution_canceled", "journey"), ("workflow_poked", "execution"),
        ("communication_test_sent", "communication"), ("subject_exported", "subject"),
    ]  # fmt: skip
    assert found[1]["metadata"]["reason"] == "ours"


async def test_an_export_is_written_down_once_and_before_anything_is_read(crowd: Crowd) -> None:
    await crowd.happened(*(("ann", "looked", None) for _ in range(5)))

    await export(crowd.world, "ann", size=2)

    entries = await audit.newest(crowd.owner, crowd.project_no, None, None, before=None, limit=10)
    ref = subject_hash(SECRET, "default", "ann")
    assert [(entry.action, entry.resource_id, entry.actor) for entry in entries] == [
        ("subject_exported", ref, "key:test")
    ]


async def test_events_that_come_after_an_export_began_are_not_in_it(crowd: Crowd) -> None:
    await crowd.happened(*(("ann", name, None) for name in ("looked", "bought", "looked")))
    first = await read(crowd.world, "ann", size=2)
    await crowd.happened(("ann", "looked", None), ("ann", "new", None))

    rest = await export(crowd.world, "ann", after=first.end)

    events = of_kind([*first.records, *rest], "event")
    assert sorted(event["name"] for event in events) == ["bought", "looked", "looked"]
    later = of_kind(await export(crowd.world, "ann"), "event")
    assert len(later) == 5


async def test_what_is_acknowledged_before_an_export_is_in_it_once_whatever_comes_meanwhile(crowd: Crowd) -> None:
    numbers = count()
    acknowledged: list[str] = []

    async def happen() -> None:
        while True:
            event_id = f"n{next(numbers)}"
            event = Event(
                event_id=event_id, name=f"name-{len(acknowledged) % 3}", subject_id="ann", occurred_at=None,
                properties=b"{}",
            )  # fmt: skip
            assert await crowd.ingest.take(crowd.project_no, [event], backfill=False) == [Outcome.ACCEPTED]
            acknowledged.append(event_id)

    happening = [asyncio.create_task(happen()) for _ in range(3)]
    try:
        await eventually(lambda: len(acknowledged) >= 30)
        for _ in range(3):
            before = set(acknowledged)
            found = await export(crowd.world, "ann", size=5)
            told = [event["eventId"] for event in of_kind(found, "event")]
            assert len(told) == len(set(told))
            assert before <= set(told)
    finally:
        for task in happening:
            task.cancel()
        ended = await asyncio.gather(*happening, return_exceptions=True)

    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def test_what_was_recorded_by_a_clock_that_is_ahead_is_in_it(crowd: Crowd) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    execution_id = await crowd.world.lay_execution(
        "ann", started_at=ahead, outcome="completed", visits=((1, "hello", "send", "executed"),)
    )
    await crowd.world.lay_send("ann", execution_id, seq=1)
    await crowd.owner.execute("UPDATE sends SET reserved_at = $1", ahead)

    found = await export(crowd.world, "ann")

    kinds = [record.place.kind for record in found]
    assert [kinds.count(kind) for kind in ("enrollment", "execution", "visit", "send")] == [1, 1, 1, 1]


async def test_an_export_goes_on_for_whoever_began_it_and_for_a_day(crowd: Crowd) -> None:
    world = crowd.world
    await crowd.happened(("ann", "looked", None))
    await crowd.owner.execute("UPDATE subjects SET created_at = now() - interval '2 days'")
    first = await read(world, "ann", size=1)
    assert first.end is not None
    now: datetime = await crowd.owner.fetchval("SELECT clock_timestamp()")
    nearly, over = now - GOES_ON_FOR + timedelta(minutes=5), now - GOES_ON_FOR - timedelta(seconds=1)
    ref = subject_hash(SECRET, "default", "ann")
    async with world.transactions.write(crowd.project_no) as conn:
        for began in (nearly, over):
            await audit.append(
                conn, project_no=crowd.project_no, at=began, actor="key:test", action=SUBJECT_EXPORTED, resource_id=ref
            )

    assert (await read(world, "ann", after=replace(first.end, at=nearly))).records
    tries = [
        (replace(first.end, at=over), world.scope),
        (replace(first.end, at=now), world.scope),
        (first.end, replace(world.scope, actor="key:other")),
    ]
    for after, scope in tries:
        with pytest.raises(InvalidArgument) as refused:
            await read(world, "ann", after=after, scope=scope)
        assert is_refused(refused.value)


@pytest.mark.parametrize("what", ["merged into another", "given another", "deleted and made anew"])
async def test_an_export_does_not_go_on_where_the_person_is_another_one(crowd: Crowd, what: str) -> None:
    world = crowd.world
    await crowd.known(ann={"name": "Ann"}, bob={"name": "Bob"})
    first = await read(world, "ann", size=1)
    assert first.end is not None
    match what:
        case "merged into another":
            await world.do(merge, SECRET, RuleBook(), "ann", into="bob")
        case "given another":
            await world.do(merge, SECRET, RuleBook(), "bob", into="ann")
        case _:
            await world.do(subjects.delete, SECRET, "ann", ANY_STATE)
            await crowd.known(ann={"name": "Ann"})

    with pytest.raises(InvalidArgument) as refused:
        await read(world, "ann", after=first.end)

    assert is_refused(refused.value)


async def test_who_is_not_there_or_was_forgotten_is_not_exported_and_nothing_is_written_down(crowd: Crowd) -> None:
    world = crowd.world
    await crowd.happened(("ann", "looked", None))
    first = await read(world, "ann", size=1)
    await world.do(forgetting.forget, SECRET, "ann")
    before = await crowd.owner.fetchval("SELECT count(*) FROM audit_log")

    for subject_id, after in (("ann", first.end), ("ann", None), ("nobody", None)):
        with pytest.raises(NotFound) as refused:
            await read(world, subject_id, after=after)
        assert refused.value.reason == "SUBJECT_NOT_FOUND"

    assert await crowd.owner.fetchval("SELECT count(*) FROM audit_log") == before


async def test_a_page_ends_once_it_is_large(crowd: Crowd) -> None:
    text = "x" * 60_000
    for _ in range(4):
        await crowd.happened(*(("ann", "looked", None) for _ in range(10)), text=text)

    first = await read(crowd.world, "ann")
    rest = await export(crowd.world, "ann", after=first.end)

    size = sum(len(text_of(record.values)) for record in first.records)
    assert MAX_PAGE_BYTES <= size < MAX_PAGE_BYTES + 2 * len(text)
    assert len(of_kind([*first.records, *rest], "event")) == 40


async def test_a_page_of_a_long_life_reads_little_more_than_it_shows(crowd: Crowd) -> None:
    """However far on in the events it is: else a hundred thousand of them would be read a hundred times."""
    await crowd.happened(("ann", "looked", None), ("ann", "bought", None))
    key = await crowd.world.subject("ann")
    for month in range(4):
        await crowd.owner.execute("SELECT ensure_events_month((now() - $1 * interval '1 month')::date)", month)
    await crowd.owner.execute(
        """
        INSERT INTO events (occurred_at, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
        SELECT occurred_at, project_no, name_no, subject_no, bucket, received_at, 'many-' || n, '{"a": 1}'
          FROM events CROSS JOIN generate_series(1, 10000) AS n
        """
    )
    await crowd.owner.execute("UPDATE events SET occurred_at = occurred_at - event_no % 90 * interval '1 day'")
    await crowd.owner.execute("ANALYZE events")
    (part,) = (part for part in PARTS if part.kind == "event")
    now: datetime = await crowd.owner.fetchval("SELECT clock_timestamp()")
    middle = await crowd.owner.fetchrow(
        "SELECT name_no, occurred_at, event_no FROM events ORDER BY 1, 2, 3 OFFSET 9000 LIMIT 1"
    )
    assert middle is not None
    values = {"project": key.project_no, "bucket": key.bucket, "subject": key.subject_no, "at": now, "limit": 101}

    statement, arguments = part.statement(values, tuple(middle))
    plan = json.loads(await crowd.owner.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments))

    read_rows = 0

    def walk(node: dict[str, Any]) -> None:
        nonlocal read_rows
        if node.get("Relation Name", "").startswith("events") or node.get("Alias", "").startswith("x"):
            assert "Seq Scan" not in node["Node Type"], node
            read_rows += node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        for child in node.get("Plans", []):
            walk(child)

    walk(plan[0]["Plan"])
    assert 101 <= read_rows < 1000
    assert len(of_kind(await export(crowd.world, "ann"), "event")) == 20_002
