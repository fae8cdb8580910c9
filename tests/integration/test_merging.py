"""Merging two subjects: nothing of the one is left, the other has all of it, and both ids name it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.application import audiences, merging, preferences, segments, subjects
from orchestrator.application.audience_book import AudienceBook
from orchestrator.application.derived_events import Backfill, count_missing
from orchestrator.application.enrollment import enroll
from orchestrator.application.merging import merge
from orchestrator.application.publishing import publish
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import Subject, subject_hash
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import EventFired
from orchestrator.storage import derived_events, executions_read, log_messages, outbox
from orchestrator.storage import subjects as stored
from orchestrator.storage.merging import FOLDED, MOVED
from tests.integration.crowd import Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SECRET = b"s" * 48
DAY = timedelta(days=1)
PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
NOBODY_BOUGHT = {"kind": "not", "clause": {"kind": "event_fired", "eventName": "purchase"}}
BOUGHT_TWICE = {"kind": "event_fired", "eventName": "purchase", "atLeast": 2}
BOUGHT_RED = {
    "kind": "event_fired",
    "eventName": "purchase",
    "atLeast": 2,
    "where": {"kind": "attribute", "fieldPath": "color", "operator": "equals", "value": "red"},
}
SEND = [
    {"id": "hello", "send": {"communicationId": "welcome"}, "next": "end"},
    {"id": "end", "exit": {"reason": "finished"}},
]


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    return await Crowd.make(owner, api_pool, worker_pool)


async def merged(crowd: Crowd, subject_id: str, into: str) -> Subject:
    return await crowd.world.do(merge, SECRET, RuleBook(), subject_id, into=into)


async def get(crowd: Crowd, subject_id: str) -> Subject:
    async with crowd.world.transactions.read(crowd.project_no) as conn:
        return await subjects.get(conn, crowd.project_no, subject_id)


async def key_of(crowd: Crowd, subject_id: str) -> SubjectKey:
    async with crowd.world.transactions.read(crowd.project_no) as conn:
        return (await stored.find_keys(conn, crowd.project_no, [subject_id]))[subject_id]


async def refuse(crowd: Crowd, subject_id: str, channel: str) -> None:
    async with crowd.world.transactions.write(crowd.project_no) as conn:
        change = PreferenceChange(channel=channel, category="*", opted_out=True)
        await preferences.update(conn, crowd.project_no, subject_id, [change])


async def count_reds(crowd: Crowd) -> None:
    """Have purchases of something red counted as a kind of their own, from now on."""
    predicate, _ = parse(BOUGHT_RED)
    assert isinstance(predicate, EventFired)
    async with crowd.world.transactions.write(crowd.project_no) as conn:
        await derived_events.ensure(conn, crowd.project_no, [predicate.source])


async def tables_about_subjects(owner: Connection[Record]) -> set[str]:
    rows = await owner.fetch(
        """
        SELECT DISTINCT table_name FROM information_schema.columns
          JOIN pg_class ON oid = format('%I.%I', table_schema, table_name)::regclass AND NOT relispartition
         WHERE table_schema = 'public' AND column_name = 'subject_no'
        """
    )
    return {row[0] for row in rows}


async def rows_of(owner: Connection[Record], key: SubjectKey) -> dict[str, int]:
    """By table: how many rows are about this subject."""
    return {
        table: await owner.fetchval(
            f"SELECT count(*) FROM {table} WHERE project_no = $1 AND bucket = $2 AND subject_no = $3",
            key.project_no, key.bucket, key.subject_no,
        )
        for table in sorted({*MOVED, *FOLDED})
    }  # fmt: skip


Counts = Counter[tuple[Any, ...]]


async def counts(owner: Connection[Record]) -> tuple[Counts, Counts]:
    """What the aggregates say, and what a recount of the events says: (subject, name, day or nothing, …)."""
    kept = await owner.fetch(
        """
        SELECT subject_no, name_no, NULL::date AS day, total, first_at, last_at FROM subject_event_state
        UNION ALL SELECT subject_no, name_no, day, total, first_at, last_at FROM subject_event_days
        """
    )
    recounted = await owner.fetch(
        """
        SELECT subject_no, name_no, NULL::date AS day, count(*), min(occurred_at), max(occurred_at)
          FROM events GROUP BY 1, 2
        UNION ALL
        SELECT subject_no, name_no, (occurred_at AT TIME ZONE 'UTC')::date, count(*), min(occurred_at), max(occurred_at)
          FROM events GROUP BY 1, 2, 3
        UNION ALL
        SELECT subject_no, 0, NULL, count(*), min(occurred_at), max(occurred_at)
          FROM events JOIN event_names USING (project_no, name_no) GROUP BY 1
        """
    )
    return Counter(tuple(row) for row in kept), Counter(tuple(row) for row in recounted)


async def test_no_table_that_knows_subjects_is_forgotten(owner: Connection[Record]) -> None:
    # How far the counting of a kind of events, the closing of a journey, the pokes for a project, an enrollment job, an
    # erasure or a deletion has come is no subject's that could be merged.
    places = {"derived_events", "journey_closings", "topic_pokes", "enrollment_jobs", "erasures", "deleted_subjects"}
    assert await tables_about_subjects(owner) - places == {*MOVED, *FOLDED}
    assert not {*MOVED} & {*FOLDED}


async def test_nothing_of_the_merged_subject_is_left_in_any_table(crowd: Crowd) -> None:
    owner = crowd.owner
    await crowd.segment("pros", PRO)
    await crowd.segment("friends", None)
    await crowd.run("build")
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"}, older={})
    await merged(crowd, "older", "ann")
    await crowd.happened(("ann", "visit", None), ("ann", "purchase", datetime(2024, 1, 1, tzinfo=UTC)))
    await crowd.world.do(segments.add_members, "friends", ["ann"])
    await refuse(crowd, "ann", "email")
    await crowd.world.do(preferences.suppress, SECRET, "ann", channel="sms", reason="bounced")
    await crowd.settle()
    execution_id = await crowd.world.lay_execution("ann", visits=((1, "hello", "send", "executed"),))
    await crowd.world.lay_send("ann", execution_id, seq=1)
    await crowd.world.lay_call("ann", execution_id, seq=2)
    await crowd.world.lay_choice("ann", execution_id, seq=3)
    ann, bob = await key_of(crowd, "ann"), await key_of(crowd, "bob")
    whose = (ann.project_no, ann.bucket, ann.subject_no)
    async with crowd.transactions.write(None) as conn:
        await outbox.insert(conn, "poke", [(ann, execution_id, "w")], datetime.now(UTC))
        (dead,) = await outbox.insert(conn, "poke", [(ann, execution_id, "w")], datetime.now(UTC))
        await outbox.bury(conn, dead, error="x", now=datetime.now(UTC))
        await log_messages.insert_once(conn, ann, "key", "Hello", "there")
        await conn.execute(
            "INSERT INTO inbox_dead (inbox_no, project_no, bucket, subject_no, kind, attempts, received_at, error,"
            " died_at) VALUES (-1, $1, $2, $3, 'attributes', 11, now(), 'x', now())",
            *whose,
        )
        await conn.execute(
            "INSERT INTO held_entries (project_no, bucket, subject_no, journey_id, entry_key, entry_kind, triggered_at,"
            " held_at, event_no, name_no) VALUES ($1, $2, $3, 'j', 'e', 'event', now(), now(), 1, 1)",
            *whose,
        )
        await conn.execute(
            "INSERT INTO conversions (project_no, bucket, subject_no, enrollment_id, step_id, seq, journey_id,"
            " occurred_at, received_at) VALUES ($1, $2, $3, $4, '', 0, 'welcome', now(), now())",
            *whose,
            execution_id,
        )
        await conn.execute(
            "INSERT INTO refused_entries (project_no, bucket, subject_no, journey_id, reason, refused_at, occurred_at,"
            " event_no, name_no) VALUES ($1, $2, $3, 'welcome', 'audience', now(), now(), 1, 1)",
            *whose,
        )
    await owner.execute(
        "INSERT INTO test_sends (project_no, bucket, subject_no, test_send_id, communication_id, content_revision,"
        " channel, category, results, requested_at)"
        " VALUES ($1, $2, $3, 't', 'welcome', 1, 'log', 'marketing', '[]', now())",
        *whose,
    )
    await crowd.happened(("ann", "visit", None))
    before = await rows_of(owner, ann)
    assert [table for table, rows in before.items() if rows == 0] == []

    kept = await merged(crowd, "ann", "bob")

    assert sum((await rows_of(owner, ann)).values()) == 0
    after = await rows_of(owner, bob)
    moved = {table: before[table] for table in MOVED} | {"enrollments": 1, "static_members": 1, "subjects": 1}
    moved |= {"subject_aliases": 2, "inbox": before["inbox"] + 2, "opt_outs": 1, "suppressions": 1}
    moved |= {"outbox": before["outbox"] + 1}  # its execution looks again
    assert {table: after[table] for table in moved} == moved
    assert kept.alias_ids == ("ann", "older")
    aggregates, recount = await counts(owner)
    assert aggregates == recount
    await crowd.settle()
    assert await crowd.wrong() == []
    assert await owner.fetchval(
        "SELECT sum(delta) FROM segment_sizes WHERE segment_no = $1", await crowd.number("friends")
    ) == len(await crowd.members("friends"))


async def test_what_both_have_counted_is_added_up(crowd: Crowd) -> None:
    await crowd.segment("twice", BOUGHT_TWICE)
    await crowd.run("build")
    first, last = datetime(2024, 1, 1, 3, tzinfo=UTC), datetime(2024, 1, 1, 4, tzinfo=UTC)
    await crowd.happened(("ann", "purchase", first), ("bob", "purchase", last), ("bob", "visit", None))
    await crowd.settle()
    assert await crowd.members("twice") == set()

    await merged(crowd, "ann", "bob")
    await crowd.settle()

    aggregates, recount = await counts(crowd.owner)
    assert aggregates == recount
    assert await crowd.owner.fetchval("SELECT (first_at, last_at)::text FROM subject_event_days WHERE total = 2")
    assert await crowd.members("twice") == {"bob"}
    assert await crowd.transitions("twice") == [("bob", True, "data")]
    assert await crowd.wrong() == []


async def test_the_survivor_knows_what_either_knew_and_its_own_word_counts(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro", "at": {"city": "Bonn", "seen": "2024-02-29T12:00:00Z"}, "only": [1]})
    await crowd.known(bob={"tier": "free", "at": {"city": "Rome"}})
    ann, bob = await get(crowd, "ann"), await get(crowd, "bob")

    kept = await merged(crowd, "ann", "bob")

    assert kept.attributes == {"tier": "free", "at": {"city": "Rome", "seen": "2024-02-29T12:00:00Z"}, "only": [1]}
    assert (kept.subject_id, kept.created_at, kept.revision) == ("bob", ann.created_at, bob.revision + 1)
    assert kept.updated_at > bob.updated_at
    assert kept == await get(crowd, "bob") == await get(crowd, "ann")
    times = await crowd.owner.fetchval("SELECT attribute_times FROM subjects WHERE subject_id = 'bob'")
    assert orjson.loads(times) == {"at.seen": 1709208000000000}


async def test_a_refusal_of_either_is_one_of_both(crowd: Crowd) -> None:
    await refuse(crowd, "ann", "email")
    await refuse(crowd, "ann", "sms")
    await refuse(crowd, "bob", "sms")
    since = await crowd.owner.fetchval("SELECT min(opted_out_at) FROM opt_outs WHERE channel = 'sms'")
    await crowd.world.do(preferences.suppress, SECRET, "ann", channel="*", reason="complained")
    await crowd.world.do(preferences.suppress, SECRET, "bob", channel="*", reason="bounced")

    await merged(crowd, "ann", "bob")

    async with crowd.world.transactions.read(crowd.project_no) as conn:
        opt_outs = await preferences.opt_outs(conn, crowd.project_no, "bob")
        suppressed = await preferences.suppressions(conn, crowd.project_no, "ann", after_channel="", limit=9)
    assert {o.channel: o.opted_out_at for o in opt_outs}.keys() == {"email", "sms"}
    assert {o.channel: o.opted_out_at for o in opt_outs}["sms"] == since
    assert [(s.channel, s.reason) for s in suppressed] == [("*", "bounced")]


async def test_whatever_is_done_to_the_merged_id_is_done_to_the_survivor(crowd: Crowd) -> None:
    world = crowd.world
    await world.furnish()
    await world.draft("hello", {"steps": SEND})
    await world.do(publish, "hello", Expected())
    await crowd.known(ann={}, bob={})
    await merged(crowd, "ann", "bob")

    await crowd.happened(
        ("ann", "visit", None),
        (
            "ann",
            "visit",
            None,
        ),
        ("bob", "visit", None),
        ("new", "visit", None),
    )
    await crowd.known(ann={"tier": "pro"})
    await refuse(crowd, "ann", "sms")
    await world.do(preferences.suppress, SECRET, "ann", channel="push", reason="x")
    await world.do(preferences.unsuppress, SECRET, "ann", channel="push")
    await world.do(segments.add_members, "vip", ["ann", "bob"])
    enrolled = await world.do(enroll, Versions(), "hello", ["ann", "bob"])

    assert await crowd.owner.fetchval("SELECT array_agg(subject_id ORDER BY subject_id) FROM subjects") == [
        "bob",
        "new",
    ]
    assert (await get(crowd, "bob")).attributes == {"tier": "pro"}
    assert (await get(crowd, "bob")).alias_ids == ("ann",)
    await world.do(audiences.create, "pros", Audience(name="P", description="", subject_type=END_USER, predicate=PRO))
    assert (await world.look(audiences.check, AudienceBook(RuleBook()), "pros", "ann")).matches
    assert await crowd.members("vip") == {"bob"}
    assert (enrolled.enrolled, enrolled.skipped, enrolled.total) == (1, 1, 2)
    async with world.transactions.read(crowd.project_no) as conn:
        theirs = await executions_read.page(
            conn, crowd.project_no, journey_id=None, subject_id="ann", after=None, limit=9
        )
    assert [execution.subject_id for execution in theirs] == ["bob"]
    aggregates, recount = await counts(crowd.owner)
    assert aggregates == recount
    removed = await world.do(segments.remove_members, "vip", ["ann"])
    assert (removed.changed, await crowd.members("vip")) == (1, set())


async def test_a_batch_may_name_one_subject_by_two_ids(crowd: Crowd) -> None:
    await crowd.known(ann={}, bob={})
    await merged(crowd, "ann", "bob")

    await crowd.known(bob={"a": 1, "b": 1}, ann={"b": 2, "c": 2}, new={})

    assert (await get(crowd, "bob")).attributes == {"a": 1, "b": 2, "c": 2}


async def test_those_merged_into_one_who_is_merged_follow(crowd: Crowd) -> None:
    await crowd.known(a={"a": 1}, b={"b": 1}, c={"c": 1}, d={"d": 1})
    await merged(crowd, "a", "b")
    await merged(crowd, "b", "c")
    # An id names whom it was merged into here, too.
    kept = await merged(crowd, "a", "d")

    assert (kept.subject_id, kept.alias_ids) == ("d", ("a", "b", "c"))
    for subject_id in "abcd":
        assert await get(crowd, subject_id) == kept
    assert kept.attributes == {"a": 1, "b": 1, "c": 1, "d": 1}


async def test_a_subject_with_more_events_than_can_be_moved_is_refused_and_takes_the_other_one_in(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "AT_MOST", 2)
    await crowd.known(ann={}, bob={})
    await crowd.happened(*[("ann", "purchase", None)] * 3)

    with pytest.raises(FailedPrecondition) as refused:
        await merged(crowd, "ann", "bob")
    kept = await merged(crowd, "bob", "ann")

    assert refused.value.reason == "SUBJECT_TOO_LARGE"
    assert kept.alias_ids == ("bob",)


async def test_merging_again_or_back_or_into_itself_is_refused(crowd: Crowd) -> None:
    await crowd.known(ann={}, bob={})
    await merged(crowd, "ann", "bob")

    for one, other in (("ann", "bob"), ("bob", "ann")):
        with pytest.raises(FailedPrecondition) as refused:
            await merged(crowd, one, other)
        assert refused.value.reason == "SUBJECT_ALREADY_MERGED"
    with pytest.raises(InvalidArgument) as itself:
        await merged(crowd, "bob", "bob")
    assert itself.value.faults[0].path == "intoSubjectId"


@pytest.mark.parametrize(("one", "other"), [("ann", "nobody"), ("nobody", "ann")])
async def test_both_have_to_be_there(crowd: Crowd, one: str, other: str) -> None:
    await crowd.known(ann={})

    with pytest.raises(NotFound, match="nobody"):
        await merged(crowd, one, other)


async def test_what_would_be_too_large_together_stays_apart(crowd: Crowd) -> None:
    await crowd.known(ann={"a": "x" * 40_000}, bob={"b": "x" * 40_000})

    with pytest.raises(FailedPrecondition) as refused:
        await merged(crowd, "ann", "bob")

    assert (refused.value.reason, refused.value.faults[0].reason) == ("SUBJECT_TOO_LARGE", "TOO_LARGE")
    assert (await get(crowd, "ann")).subject_id == "ann"


async def test_a_merge_is_in_the_audit_log_without_an_id(crowd: Crowd) -> None:
    await crowd.known(ann={}, bob={})

    await merged(crowd, "ann", "bob")

    row = await crowd.owner.fetchrow("SELECT * FROM audit_log WHERE action = 'subject_merged'")
    assert row is not None
    assert row["resource_id"] == subject_hash(SECRET, "default", "ann")
    assert orjson.loads(row["metadata"]) == {"into": subject_hash(SECRET, "default", "bob")}


async def test_with_a_deleted_survivor_its_other_ids_are_free_again(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"}, bob={})
    await merged(crowd, "ann", "bob")

    await crowd.world.do(subjects.delete, SECRET, "ann", Expected())

    for subject_id in ("ann", "bob"):
        with pytest.raises(NotFound):
            await get(crowd, subject_id)
    await crowd.happened(("ann", "visit", None))
    again = await get(crowd, "ann")
    assert (again.subject_id, again.attributes, again.alias_ids) == ("ann", {}, ())
    assert await crowd.owner.fetchval("SELECT count(*) FROM subject_aliases") == 0
    await crowd.settle()
    assert await crowd.wrong() == []


async def test_entries_of_both_count_even_under_one_key(crowd: Crowd) -> None:
    world = crowd.world
    await world.furnish()
    await world.draft("hello", {"steps": SEND, "reentry": {"policy": "once"}})
    await world.do(publish, "hello", Expected())
    # One call gives all its entries one key.
    enrolled = await world.do(enroll, Versions(), "hello", ["ann", "bob", "cleo"])
    assert enrolled.enrolled == 3

    await merged(crowd, "ann", "bob")
    await merged(crowd, "bob", "cleo")

    again = await world.do(enroll, Versions(), "hello", ["ann"])
    assert (again.enrolled, again.skipped) == (0, 1)
    keys = await crowd.owner.fetch("SELECT entry_key, enrollment_id::text FROM enrollments ORDER BY entry_key")
    assert [row[0].startswith("enroll:") for row in keys] == [True, False, False]
    assert [row[0] for row in keys[1:]] == sorted(f"merged:{row[1]}" for row in keys[1:])


async def test_who_was_in_a_segment_already_does_not_come_anew(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.segment("nothing_bought", NOBODY_BOUGHT)
    await crowd.run("build")
    await crowd.known(ann={"tier": "pro"}, bob={})
    await crowd.happened(("bob", "purchase", None))
    await crowd.settle()

    await merged(crowd, "ann", "bob")

    # At once, and nobody is told of it; that something no longer holds is no news about one who never was there.
    assert (await crowd.members("pros"), await crowd.members("nothing_bought")) == ({"bob"}, set())
    assert await crowd.wrong() == []
    await crowd.settle()
    assert await crowd.wrong() == []
    assert await crowd.transitions("pros") == [("bob", True, "merge")]
    assert [t for t in await crowd.transitions("nothing_bought") if t[0] == "bob"] == []


async def test_lists_of_the_merged_subject_say_since_when_the_survivor_is_on_them(crowd: Crowd) -> None:
    for name in ("hers", "both"):
        await crowd.segment(name, None)
    await crowd.world.do(segments.add_members, "hers", ["ann"])
    await crowd.world.do(segments.add_members, "both", ["ann", "bob"])
    await crowd.settle()

    await merged(crowd, "ann", "bob")
    await crowd.settle()

    assert await crowd.transitions("hers") == [("bob", True, "merge")]
    assert await crowd.transitions("both") == [("bob", True, "data")]
    assert await crowd.wrong() == []
    await crowd.world.do(segments.remove_members, "hers", ["bob"])
    assert await crowd.transitions("hers") == [("bob", True, "merge"), ("bob", False, "data")]


async def test_who_leaves_by_what_the_other_did_leaves(crowd: Crowd) -> None:
    await crowd.segment("nothing_bought", NOBODY_BOUGHT)
    await crowd.run("build")
    await crowd.known(bob={})
    await crowd.happened(("ann", "purchase", None))
    await crowd.settle()

    await merged(crowd, "ann", "bob")
    await crowd.settle()

    assert await crowd.transitions("nothing_bought") == [("bob", True, "data"), ("bob", False, "data")]
    assert await crowd.wrong() == []


async def test_kinds_of_events_are_counted_for_both_while_the_past_is_being_counted(
    crowd: Crowd, worker_pool: Pool[Record]
) -> None:
    for subject_id in ("ann", "bob"):
        await crowd.happened((subject_id, "purchase", None), color="red")
        await crowd.happened((subject_id, "purchase", None), color="blue")
    await count_reds(crowd)
    await crowd.segment("reds", BOUGHT_RED)
    low, high = sorted([await key_of(crowd, "ann"), await key_of(crowd, "bob")])
    ids = {await key_of(crowd, subject_id): subject_id for subject_id in ("ann", "bob")}
    # The backfill has passed the one and is to meet the other.
    async with crowd.transactions.write(None) as conn:
        (kind,) = await derived_events.building(conn, crowd.project_no)
        assert await count_missing(conn, kind, await stored.lock(conn, [low])) == [low]
        await derived_events.advance(conn, kind, low.bucket, low.subject_no)

    await merged(crowd, ids[high], ids[low])
    assert await Backfill(crowd.transactions).run() == 1
    await crowd.run("build")
    await crowd.settle()

    assert await crowd.members("reds") == {ids[low]}
    assert await crowd.owner.fetchval("SELECT total FROM subject_event_state WHERE name_no = $1", kind.name_no) == 2
    aggregates, recount = await counts(crowd.owner)
    assert aggregates == recount


async def test_an_event_of_both_ids_is_known_as_before(crowd: Crowd) -> None:
    await crowd.happened(("ann", "visit", None), ("bob", "visit", None))
    crowd_again = Crowd(crowd.world, crowd.world.transactions._pool)

    await merged(crowd, "ann", "bob")
    await crowd_again.happened(("ann", "visit", None), ("bob", "visit", None))  # the same event ids

    assert await crowd.owner.fetchval("SELECT sum(total) FROM subject_event_state WHERE name_no = 0") == 2


async def test_a_start_that_is_to_be_told_is_told_with_the_survivor(crowd: Crowd) -> None:
    await crowd.known(bob={})
    execution_id = await crowd.world.lay_execution("ann")
    now = datetime.now(UTC)
    async with crowd.transactions.write(None) as conn:
        (row,) = await outbox.insert(conn, "start", [(await key_of(crowd, "ann"), execution_id, "w")], now)

    await merged(crowd, "ann", "bob")

    async with crowd.transactions.write(None) as conn:
        entries, orphans = await outbox.claim(conn, now=now + DAY, lease=DAY, limit=9)
        assert [(e.kind, e.key, e.subject_id) for e in entries] == [
            ("start", await key_of(crowd, "bob"), "bob"),
            ("poke", await key_of(crowd, "bob"), "bob"),
        ]
        # One that only seemed to be gone stays.
        await outbox.delete_orphans(conn, [row])
        assert orphans == []
        assert await conn.fetchval("SELECT count(*) FROM outbox") == 2
        await outbox.insert(conn, "poke", [(await key_of(crowd, "bob"), new_uuid(), "gone")], now)
        _, orphans = await outbox.claim(conn, now=now + DAY, lease=DAY, limit=9)
        await outbox.delete_orphans(conn, orphans)
        assert await conn.fetchval("SELECT count(*) FROM outbox") == 2


async def test_a_message_logged_after_the_merge_is_the_survivors_and_is_logged_once(crowd: Crowd) -> None:
    await crowd.known(ann={}, bob={}, cleo={})
    ann, bob = await key_of(crowd, "ann"), await key_of(crowd, "bob")
    async with crowd.transactions.write(None) as conn:
        assert await log_messages.insert_once(conn, ann, "k1", "Hello", "there")
    await merged(crowd, "ann", "bob")
    await merged(crowd, "bob", "cleo")

    async with crowd.transactions.write(None) as conn:
        assert not await log_messages.insert_once(conn, ann, "k1", "Hello", "there")
        assert await log_messages.insert_once(conn, bob, "k2", "Hello", "there")
        assert not await log_messages.insert_once(conn, ann, "k2", "Hello", "there")

    assert (await rows_of(crowd.owner, await key_of(crowd, "cleo")))["log_messages"] == 2


#: Who did it, what, how many hours ago; attributes that somebody got; a list that somebody was put on.
_ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.booleans(), st.sampled_from(["visit", "purchase"]), st.integers(0, 24 * 40)),
        st.tuples(st.just("refusal"), st.booleans(), st.sampled_from(["email", "sms", "*"]), st.just(0)),
        st.tuples(st.just("list"), st.booleans(), st.sampled_from(["friends", "foes"]), st.just(0)),
        st.tuples(st.just("attribute"), st.booleans(), st.sampled_from(["tier", "city"]), st.integers(0, 1)),
        st.tuples(st.just("settle"), st.booleans(), st.just(""), st.just(0)),
    ),
    max_size=14,
)
Act = tuple[str, bool, str, int]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=_ACTS, after=_ACTS)
async def test_two_histories_merged_are_the_history_of_one_subject(
    crowd: Crowd, before: Sequence[Act], after: Sequence[Act]
) -> None:
    run = new_uuid().hex
    now = datetime.now(UTC) - timedelta(minutes=1)
    if not await crowd.owner.fetchval("SELECT EXISTS (SELECT FROM segments WHERE segment_id = 'friends')"):
        for segment_id in ("friends", "foes"):
            await crowd.segment(segment_id, None)
        await crowd.segment("twice", BOUGHT_TWICE | {"window": {"type": "last_n_days", "days": 30}})
        await crowd.segment("nothing_bought", NOBODY_BOUGHT)
        await crowd.segment("pros", PRO)
        await crowd.run("build")

    async def act(of_first: bool, what: str, name: str, number: int, given: str, kept: str) -> None:
        subject_id = given if of_first else kept
        match what:
            case "event":
                await crowd.happened((subject_id, name, now - timedelta(hours=number)))
            case "refusal":
                await refuse(crowd, subject_id, name)
            case "list":
                await crowd.world.do(segments.add_members, name, [subject_id])
            case "attribute":
                await crowd.known(**{subject_id: {name: ["pro", "free"][number]}})
            case "settle":
                await crowd.settle()

    given_id, kept_id, one_id = f"given-{run}", f"kept-{run}", f"one-{run}"
    await crowd.known(**{given_id: {}, kept_id: {}, one_id: {}})
    for what, of_first, name, number in before:
        await act(of_first, what, name, number, given_id, kept_id)
    await merged(crowd, given_id, kept_id)
    for what, of_first, name, number in after:
        await act(of_first, what, name, number, given_id, kept_id)
    # The same without a second subject; of attributes the survivor's own came last.
    for what, of_first, name, number in sorted(before, key=lambda a: a[0] == "attribute" and not a[1]):
        await act(of_first, what, name, number, one_id, one_id)
    for what, of_first, name, number in after:
        await act(of_first, what, name, number, one_id, one_id)
    await crowd.settle()

    assert await _portrait(crowd, kept_id) == await _portrait(crowd, one_id)
    aggregates, recount = await counts(crowd.owner)
    assert aggregates == recount
    assert await crowd.wrong() == []


async def _portrait(crowd: Crowd, subject_id: str) -> dict[str, Any]:
    key = await key_of(crowd, subject_id)
    whose = (key.project_no, key.bucket, key.subject_no)
    of = "WHERE project_no = $1 AND bucket = $2 AND subject_no = $3"
    asked = {
        "state": f"SELECT name_no, total, first_at, last_at FROM subject_event_state {of} ORDER BY 1",
        "days": f"SELECT name_no, day, total, first_at, last_at FROM subject_event_days {of} ORDER BY 1, 2",
        "events": f"SELECT name_no, occurred_at FROM events {of} ORDER BY 1, 2",
        "refusals": f"SELECT channel, category FROM opt_outs {of} ORDER BY 1, 2",
        "lists": f"SELECT segment_no FROM static_members {of} ORDER BY 1",
        "segments": f"SELECT segment_nos FROM subject_segments {of}",
        "attributes": f"SELECT attributes, attribute_times FROM subjects {of}",
    }
    return {name: [tuple(row) for row in await crowd.owner.fetch(query, *whose)] for name, query in asked.items()}
