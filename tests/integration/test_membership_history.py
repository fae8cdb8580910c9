"""Who came to a segment and left it is forgotten in time, and what is kept still folds to the membership."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import segments
from orchestrator.application.upkeep import CHUNK, Upkeep
from orchestrator.domain.etag import Expected
from orchestrator.storage import clock, membership_history
from orchestrator.storage.membership_history import STAYS_KEPT
from tests.integration.crowd import Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
DAY = timedelta(days=1)

READ = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'segment_transitions'"


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    await crowd.segment("pros", PRO)
    await crowd.segment("friends", None)
    return crowd


@pytest.fixture
def upkeep(crowd: Crowd) -> Upkeep:
    return Upkeep(crowd.transactions)


async def tiers(crowd: Crowd, **tiers: str) -> None:
    await crowd.known(**{name: {"tier": tier} for name, tier in tiers.items()})
    await crowd.settle()


async def age(crowd: Crowd, by: timedelta = STAYS_KEPT) -> None:
    """Let so much time pass for all transitions that there are."""
    await crowd.owner.execute("UPDATE segment_transitions SET as_of = as_of - $1::interval", by)


async def of_pros(crowd: Crowd) -> list[tuple[str, bool]]:
    return [(name, entered) for name, entered, _ in await crowd.transitions("pros")]


async def test_stays_are_forgotten_90_days_after_their_end_and_members_keep_their_entry(
    crowd: Crowd, upkeep: Upkeep
) -> None:
    await tiers(crowd, ann="pro", bob="pro", cleo="pro", dora="pro")
    await tiers(crowd, bob="free", dora="free")
    await crowd.world.do(segments.add_members, "friends", ["ann", "bob"])
    await crowd.world.do(segments.remove_members, "friends", ["bob"])
    await crowd.settle()
    await age(crowd)
    await tiers(crowd, bob="pro", cleo="free")  # the one comes again, the other leaves
    since = await crowd.owner.fetchval("SELECT as_of FROM segment_transitions ORDER BY transition_no LIMIT 1")
    at_first = await of_pros(crowd)

    removed = await upkeep.run()

    assert sorted(at_first) == [
        ("ann", True), ("bob", False), ("bob", True), ("bob", True), ("cleo", False), ("cleo", True),
        ("dora", False), ("dora", True),
    ]  # fmt: skip
    # Of who has left meanwhile the entry is as old as that of who left long ago: it goes with its end.
    assert await of_pros(crowd) == [("ann", True), ("cleo", True), ("bob", True), ("cleo", False)]
    assert await crowd.transitions("friends") == [("ann", True, "data")]
    assert removed == 3, "two stays of bob's and one of dora's"
    assert await crowd.wrong() == []
    page = await crowd.world.look(segments.members, "pros", after=segments.FIRST, limit=9)
    assert {member.subject_id: member.since for member in page.members}["ann"] == since


async def test_a_day_before_nothing_goes(crowd: Crowd, upkeep: Upkeep) -> None:
    await tiers(crowd, ann="pro")
    await tiers(crowd, ann="free")
    await age(crowd, STAYS_KEPT - DAY)

    assert await upkeep.run() == 0

    assert await of_pros(crowd) == [("ann", True), ("ann", False)]


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "set aside"])
async def test_what_an_inbox_entry_names_stays(crowd: Crowd, upkeep: Upkeep, waits: bool) -> None:
    await tiers(crowd, ann="pro", bob="pro")
    await tiers(crowd, ann="free", bob="free")
    await age(crowd)
    await crowd.owner.execute(
        "INSERT INTO inbox (project_no, bucket, subject_no, kind, transition_nos, received_at)"
        " SELECT project_no, bucket, subject_no, 'transitions', array_agg(transition_no), now()"
        "   FROM segment_transitions JOIN subjects USING (project_no, bucket, subject_no)"
        "  WHERE subject_id = 'ann' AND NOT entered GROUP BY 1, 2, 3"
    )
    if not waits:
        await crowd.owner.execute(
            "WITH gone AS (DELETE FROM inbox RETURNING *) INSERT INTO inbox_dead"
            " (inbox_no, project_no, bucket, subject_no, kind, attempts, transition_nos, received_at, error, died_at)"
            " SELECT inbox_no, project_no, bucket, subject_no, kind, 11, transition_nos, received_at, 'x', now()"
            "   FROM gone"
        )

    await upkeep.run()
    kept = await of_pros(crowd)
    await crowd.owner.execute("TRUNCATE inbox, inbox_dead")
    await upkeep.run()

    assert kept == [("ann", True), ("ann", False)]
    assert await of_pros(crowd) == []
    assert await crowd.wrong() == []


async def test_more_than_fits_into_one_transaction_goes_all_the_same(crowd: Crowd, upkeep: Upkeep) -> None:
    """Some of it of one who came and went again and again."""
    for subject_nos, stays in ((range(1, CHUNK), 2), (range(CHUNK, CHUNK + 1), 300)):
        await lay(crowd, subject_nos, stays)

    removed = await upkeep.run()

    assert removed == 2 * (CHUNK - 1) + 300
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_transitions") == 0


async def test_whoever_is_told_to_stop_stops(crowd: Crowd, upkeep: Upkeep) -> None:
    await lay(crowd, range(1, 10), 1)
    await crowd.world.do(segments.delete, "friends", Expected(), force=False)

    assert await upkeep.run(lambda: False) == 0


async def test_what_is_kept_is_not_read_again_each_time(crowd: Crowd) -> None:
    await lay(crowd, range(1, 20_000), 0)  # members
    await lay(crowd, range(20_000, 20_010), 1)

    # With statistics and without.
    for statement in ("SELECT 1", "ANALYZE segment_transitions"):
        await crowd.owner.execute(statement)
        async with crowd.transactions.write(None) as conn:
            undone = conn.transaction()
            await undone.start()
            forgotten = await membership_history.forget_stays(conn, await clock.now(conn), CHUNK)
            read = await conn.fetchrow(READ)
            await undone.rollback()
        assert forgotten == 10
        assert read is not None
        assert (read["seq_tup_read"], read["idx_tup_fetch"] < 1000) == (0, True)


async def lay(crowd: Crowd, subject_nos: range, stays: int) -> None:
    """Old transitions of subjects that nobody knows: so many stays of each, or an entry that has no end."""
    await crowd.owner.execute(
        "INSERT INTO segment_transitions (project_no, bucket, subject_no, segment_no, entered, cause, as_of)"
        " SELECT $1, subject_no % 256, subject_no, $2, way % 2 = 0, 'data',"
        "        now() - interval '91 days' + way * interval '1 minute'"
        "   FROM generate_series($3::int, $4::int) AS subject_no, generate_series(0, $5::int) AS way"
        "  ORDER BY way",
        crowd.project_no, await crowd.number("friends"), subject_nos.start, subject_nos.stop - 1,
        2 * stays - 1 if stays else 0,
    )  # fmt: skip


async def test_of_a_segment_that_is_gone_nothing_is_kept(
    crowd: Crowd, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crowd.segment("odd", PRO)
    await tiers(crowd, ann="pro", bob="pro", cleo="free")
    odd, friends = await crowd.number("odd"), await crowd.number("friends")
    await crowd.world.do(segments.add_members, "friends", ["ann", "cleo"])
    await crowd.settle()
    await crowd.world.do(segments.delete, "odd", Expected(), force=False)
    await crowd.world.do(segments.delete, "friends", Expected(), force=False)
    await crowd.run("sweep")
    # Who has still to be told of it is waited for.
    await crowd.owner.execute(
        "INSERT INTO inbox (project_no, bucket, subject_no, kind, transition_nos, received_at)"
        " SELECT project_no, bucket, subject_no, 'transitions', ARRAY[transition_no], now()"
        "   FROM segment_transitions JOIN subjects USING (project_no, bucket, subject_no)"
        "  WHERE subject_id = 'bob' AND segment_no = $1",
        odd,
    )
    monkeypatch.setattr("orchestrator.application.upkeep.HISTORY_AT_ONCE", 3)

    async def left() -> list[tuple[int, int]]:
        rows = await crowd.owner.fetch(
            "SELECT (SELECT count(*) FROM segment_transitions AS t WHERE t.segment_no = s.segment_no),"
            "       (SELECT count(*) FROM segment_sizes AS z WHERE z.segment_no = s.segment_no AND delta <> 0)"
            "  FROM unnest($1::int[]) WITH ORDINALITY AS s (segment_no, place) ORDER BY place",
            [odd, friends, await crowd.number("pros")],
        )
        return [(row[0], bool(row[1])) for row in rows]

    before = await left()
    first = await upkeep.run()
    meanwhile = await left()
    await crowd.settle()
    second = await upkeep.run()

    assert before == [(2, True), (2, True), (2, True)]
    # Of "friends" its two members as well.
    assert (first, meanwhile) == (3 + 2, [(1, True), (0, True), (2, True)])
    assert (second, await left()) == (1, [(0, False), (0, False), (2, True)])
    assert await upkeep.run() == 0
    assert await crowd.wrong() == []
