"""Entries that were refused are decided on again, once what kept them out is mended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, entry_replays, lifecycle, subjects
from orchestrator.application.entry_replay_pages import EntryReplayPages
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.transactions import Transactions
from orchestrator.application.upkeep import Upkeep
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.entry_replay import EntryReplay
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import clock, refused_entries
from orchestrator.storage import entry_replays as stored_replays
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.test_entry import BYE, Door
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

EVERYONE = {"kind": "everyone"}
SECRET = b"s" * 32


class Gatehouse(Door):
    """A door through which entries are refused, and whoever decides on them again."""

    def __init__(self, world: World, pool: Pool[Record]) -> None:
        super().__init__(world, pool)
        self.transactions = Transactions(pool)
        self.versions = Versions()

    async def ask(self, reason: str = "audience_not_found", *, at_most: int = 1000, **span: datetime) -> EntryReplay:
        after, before = span.get("after"), span.get("before")
        return await self.world.do(entry_replays.ask, "welcome", reason, after, before, at_most)

    async def work_off(self, *, page: int = 2) -> int:
        """Until there is nothing to do; returns how many were told of."""
        replays = EntryReplayPages(self.transactions, self.versions, page=page)
        told = 0
        while (page_told := await replays.step()) is not None:
            told += len(page_told)
        return told

    async def replayed(self, reason: str = "audience_not_found") -> EntryReplay:
        asked = await self.ask(reason)
        await self.work_off()
        return await self.world.look(entry_replays.get, asked.replay_id)

    async def audience(self, predicate: dict[str, Any] | None) -> None:
        """The journey's audience is this; None: it is gone."""
        if predicate is None:
            await self.world.do(audiences.delete, "lost", ANY_STATE)
        else:
            audience = Audience(name="Lost", description="", subject_type=END_USER, predicate=predicate)
            await self.world.do(audiences.create, "lost", audience)

    async def entered(self) -> list[str]:
        rows = await self.owner.fetch(
            "SELECT subject_id FROM enrollments JOIN subjects USING (project_no, bucket, subject_no) ORDER BY 1"
        )
        return [row[0] for row in rows]


@pytest.fixture
async def gate(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Gatehouse:
    """The audience is gone: whoever comes is refused."""
    world = await World.make(owner, api_pool)
    await world.furnish()
    gate = Gatehouse(world, worker_pool)
    await gate.audience(EVERYONE)
    await gate.open(steps=[BYE], audienceId="lost")
    await gate.audience(None)
    return gate


async def test_all_that_a_lost_audience_kept_out_come_in_once_it_is_there_again(gate: Gatehouse) -> None:
    for name in ("ann", "bob", "cleo"):
        await gate.purchase(name, at=datetime.now(UTC) - timedelta(hours=1))
    await gate.work()
    await gate.audience(EVERYONE)
    shown = await gate.world.look(entry_replays.refused, "welcome", None, None)

    replay = await gate.replayed()

    assert [(one.reason, one.total, one.kept.total) for one in shown if one.kept] == [("audience_not_found", 3, 3)]
    assert (replay.matched, replay.looked_at, replay.enrolled, replay.refused) == (3, 3, 3, {})
    assert replay.ended_at is not None
    assert await gate.entered() == ["ann", "bob", "cleo"]
    assert await gate.owner.fetchval("SELECT count(*) FROM outbox WHERE kind = 'start'") == 3
    assert await gate.owner.fetchval("SELECT count(*) FROM refused_entries") == 0
    assert await gate.refused() == {"audience_not_found": 3}
    assert (await gate.world.actions())[-2:] == ["entry_replay_requested", "entries_replayed"]
    # By the instant at which it happened, as if it had come in then.
    assert await gate.owner.fetchval("SELECT bool_and(triggered_at < now() - interval '59 minutes') FROM enrollments")


async def test_replayed_twice_at_once_and_by_an_event_that_came_in_otherwise_nobody_enters_twice(
    gate: Gatehouse,
) -> None:
    await gate.purchase("ann", event_id="e-1")
    await gate.work()
    await gate.audience(EVERYONE)
    row = await gate.owner.fetchrow("SELECT * FROM refused_entries")
    assert row is not None
    first = await gate.ask()
    second = await gate.ask()

    assert await gate.work_off() == 1
    ends = [await gate.world.look(entry_replays.get, one.replay_id) for one in (first, second)]
    # As if its row had outlived the entry.
    await gate.owner.execute("INSERT INTO refused_entries OVERRIDING SYSTEM VALUE SELECT ($1::refused_entries).*", row)
    third = await gate.replayed()

    assert [end.enrolled for end in ends] == [1, 0]
    assert (third.enrolled, third.refused) == (0, {"re_entry": 1})
    assert await gate.entered() == ["ann"]


async def test_who_is_still_refused_stays_and_can_be_replayed_again(gate: Gatehouse) -> None:
    await gate.purchase("ann")
    await gate.purchase("bob")
    await gate.work()
    await gate.audience({"kind": "event_fired", "eventName": "never"})

    first = await gate.replayed()
    await gate.audience(None)
    await gate.audience(EVERYONE)
    second = await gate.replayed()

    assert (first.enrolled, first.refused) == (0, {"audience": 2})
    assert second.enrolled == 2
    # What a replay refuses is not counted as refused anew.
    assert await gate.refused() == {"audience_not_found": 2}


async def test_events_may_be_as_old_as_they_are_and_are_let_in_by_the_contract_of_today(gate: Gatehouse) -> None:
    await gate.audience(EVERYONE)
    await gate.purchase("ann", at=datetime.now(UTC) - timedelta(days=3))
    await gate.work()

    replay = await gate.replayed("too_old")

    assert replay.enrolled == 1


async def test_what_a_contract_does_not_take_is_only_counted(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    world = await World.make(owner, api_pool)
    await world.furnish()
    gate = Gatehouse(world, worker_pool)
    big = {"kind": "attribute", "fieldPath": "amount", "operator": "gte", "value": 50}
    await gate.open(
        contract=Contract(name="Big", event_name="purchase", predicate=big, entry_key_path="order"), steps=[BYE]
    )
    await gate.purchase("ann", amount=1, order="o-1")
    await gate.purchase("ann", amount=99)
    await gate.work()

    assert await gate.refused() == {"trigger_predicate": 1, "entry_key_missing": 1}
    assert await owner.fetchval("SELECT count(*) FROM refused_entries") == 0


async def test_no_more_are_kept_of_an_hour_than_the_limit(gate: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_entries, "KEPT", 2)
    for _ in range(2):
        for _ in range(2):
            await gate.purchase("ann")
        await gate.work()

    assert await gate.refused() == {"audience_not_found": 4}
    assert await gate.owner.fetchval("SELECT count(*) FROM refused_entries") == 2


async def test_a_dry_run_says_how_many_and_what_would_become_of_them_and_changes_nothing(gate: Gatehouse) -> None:
    for name in ("ann", "bob"):
        await gate.purchase(name)
    await gate.work()
    await gate.audience(EVERYONE)
    world = gate.world

    async with world.transactions.read(world.scope.project_no) as conn:
        transaction = conn.transaction()
        await transaction.start()
        tried = await entry_replays.rehearse(conn, world.scope, Versions(), "welcome", "audience_not_found", None, None)
        await transaction.rollback()

    assert (tried.count, tried.looked_at, tried.enrolled, tried.refused) == (2, 2, 2, {})
    assert await gate.entered() == []


async def test_a_replay_is_refused_where_it_says_fewer_or_names_nothing_that_is(gate: Gatehouse) -> None:
    await gate.purchase("ann")
    await gate.work()
    now = datetime.now(UTC)

    with pytest.raises(FailedPrecondition) as more:
        await gate.ask(at_most=0)
    with pytest.raises(InvalidArgument) as wrong:
        await gate.ask("whim", after=now, before=now - timedelta(hours=1))
    await gate.world.do(lifecycle.pause, "welcome", ANY_STATE)
    with pytest.raises(FailedPrecondition) as paused:
        await gate.ask()

    assert (more.value.reason, more.value.metadata["count"]) == ("MORE_ENTRIES_MATCH", "1")
    assert [fault.path for fault in wrong.value.faults] == ["reason", "refusedBefore"]
    assert paused.value.reason == "JOURNEY_NOT_ACTIVE"


async def test_only_the_span_that_is_asked_for_is_replayed(gate: Gatehouse) -> None:
    await gate.purchase("ann")
    await gate.work()
    between = await gate.owner.fetchval("SELECT clock_timestamp()")
    await gate.purchase("bob")
    await gate.work()
    await gate.audience(EVERYONE)

    await gate.ask(before=between)
    await gate.work_off()

    assert await gate.entered() == ["ann"]


async def test_a_journey_that_is_paused_meanwhile_ends_the_replay_and_loses_nothing(gate: Gatehouse) -> None:
    for name in ("ann", "bob", "cleo"):
        await gate.purchase(name)
    await gate.work()
    await gate.audience(EVERYONE)
    asked = await gate.ask()
    await EntryReplayPages(gate.transactions, gate.versions, page=2).step()
    await gate.world.do(lifecycle.pause, "welcome", ANY_STATE)

    await gate.work_off()
    ended = await gate.world.look(entry_replays.get, asked.replay_id)
    await gate.world.do(lifecycle.resume, "welcome", ANY_STATE)
    rest = await gate.replayed()

    assert (ended.looked_at, ended.end_reason) == (2, "journey_not_active")
    assert rest.enrolled == 1
    assert await gate.entered() == ["ann", "bob", "cleo"]


async def test_an_entry_that_cannot_be_worked_on_is_counted_and_the_others_go_on(
    gate: Gatehouse,
) -> None:
    for name in ("ann", "bob", "cleo"):
        await gate.purchase(name, event_id=f"of-{name}")
    await gate.work()
    await gate.audience(EVERYONE)
    await gate.owner.execute("ALTER TABLE enrollments ADD CHECK (entry_key <> 'of-bob') NOT VALID")

    replay = await gate.replayed()

    assert (replay.looked_at, replay.enrolled, replay.errors) == (3, 2, 1)
    assert await gate.entered() == ["ann", "cleo"]
    assert await gate.owner.fetchval("SELECT count(*) FROM refused_entries") == 1


async def test_an_entry_that_takes_too_long_is_counted_and_the_others_go_on(
    gate: Gatehouse, hurried_pool: Pool[Record]
) -> None:
    for name in ("ann", "bob", "cleo"):
        await gate.purchase(name, event_id=f"of-{name}")
    await gate.work()
    await gate.audience(EVERYONE)
    await gate.owner.execute(
        """
        CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(30);
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow_down BEFORE INSERT ON enrollments FOR EACH ROW
          WHEN (NEW.entry_key = 'of-bob') EXECUTE FUNCTION slow_down();
        """
    )
    gate.transactions = Transactions(hurried_pool)

    replay = await gate.replayed()

    assert (replay.looked_at, replay.enrolled, replay.errors) == (3, 2, 1)
    assert await gate.entered() == ["ann", "cleo"]


async def test_entries_of_who_was_merged_are_the_survivors_and_of_who_was_deleted_nobodys(gate: Gatehouse) -> None:
    for name in ("ann", "bob", "cleo"):
        await gate.purchase(name)
    await gate.work()
    await gate.audience(EVERYONE)
    world = gate.world
    async with world.transactions.write(world.scope.project_no) as conn:
        await merge(conn, world.scope, SECRET, RuleBook(), "ann", into="bob")
    await world.do(subjects.delete, SECRET, "cleo", ANY_STATE)

    replay = await gate.replayed()

    assert (replay.matched, replay.enrolled) == (2, 2)
    assert await gate.entered() == ["bob", "bob"]


async def test_after_a_change_of_what_is_listened_to_or_of_what_is_kept_there_is_nothing_to_decide(
    gate: Gatehouse,
) -> None:
    await gate.purchase("ann")
    await gate.purchase("bob", event_id="dropped")
    await gate.work()
    await gate.audience(EVERYONE)
    await gate.owner.execute("DELETE FROM events WHERE event_id = 'dropped'")

    gone = await gate.ask()
    await EntryReplayPages(gate.transactions, gate.versions, page=9).step()
    await gate.owner.execute("UPDATE trigger_contracts SET event_name = 'visit'")
    await gate.owner.execute("UPDATE projects SET definitions_version = definitions_version + 1")
    await gate.purchase("dan")
    unheard = await gate.replayed()

    first = await gate.world.look(entry_replays.get, gone.replay_id)
    assert (first.enrolled, first.refused) == (1, {"event_gone": 1})
    assert (unheard.enrolled, unheard.refused) == (0, {"not_heard": 1})


async def test_refused_entries_go_after_seven_days(gate: Gatehouse) -> None:
    await gate.purchase("ann")
    await gate.purchase("bob")
    await gate.work()
    await gate.owner.execute(
        "UPDATE refused_entries SET refused_at = now() - interval '7 days 1 minute' WHERE refused_no ="
        " (SELECT min(refused_no) FROM refused_entries)"
    )

    assert await Upkeep(gate.transactions).run() == 1
    assert await gate.owner.fetchval("SELECT count(*) FROM refused_entries") == 1


async def test_a_canceled_replay_ends_where_it_stands_and_what_it_did_not_come_to_can_be_replayed(
    gate: Gatehouse,
) -> None:
    for name in ("ann", "bob", "cleo"):
        await gate.purchase(name)
    await gate.work()
    await gate.audience(EVERYONE)
    asked = await gate.ask()
    replays = EntryReplayPages(gate.transactions, gate.versions, page=2)
    assert len(await replays.step() or ()) == 2

    canceled = await gate.world.do(entry_replays.cancel, asked.replay_id)

    assert await replays.step() is None
    assert await gate.world.do(entry_replays.cancel, asked.replay_id) == canceled
    assert (canceled.looked_at, canceled.enrolled, canceled.end_reason) == (2, 2, "canceled")
    assert canceled.ended_at is not None
    assert await gate.entered() == ["ann", "bob"]
    assert (await gate.world.actions())[-2:] == ["entry_replay_requested", "entries_replayed"]
    rest = await gate.replayed()
    assert (rest.matched, rest.enrolled, rest.end_reason) == (1, 1, None)
    with pytest.raises(FailedPrecondition) as ended:
        await gate.world.do(entry_replays.cancel, rest.replay_id)
    assert ended.value.reason == "ENTRY_REPLAY_ENDED"


async def test_whoever_cancels_waits_for_the_page_that_is_under_way(gate: Gatehouse) -> None:
    await gate.purchase("ann")
    await gate.work()
    await gate.audience(EVERYONE)
    asked = await gate.ask()
    async with gate.transactions.write(None) as conn:
        page = await stored_replays.take(conn)
        assert page is not None
        cancel = asyncio.create_task(gate.world.do(entry_replays.cancel, asked.replay_id))
        await waits_for_a_lock(cancel, gate.owner)
        now = await clock.now(conn)
        await stored_replays.record(conn, page.project_no, replace(page.replay, looked_at=1), page.place, now)

    assert (await cancel).looked_at == 1
