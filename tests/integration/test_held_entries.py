"""Entries that are triggered and not decided at once: their journey is paused, or data is late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.application import audiences, journeys, lifecycle, preferences, publishing, subjects
from orchestrator.application.enrollment import enroll
from orchestrator.application.entry_explanations import SHOWN, explain_entry
from orchestrator.application.held_entries import HeldEntries
from orchestrator.application.holding import AT_MOST
from orchestrator.application.journeys import Changes
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import AlreadyExists, FailedPrecondition
from orchestrator.storage import clock, doctor
from orchestrator.storage.doctor_checks import CHECKS
from tests.integration.journey_world import ANY_STATE
from tests.integration.lost_commits import fail_first_commit
from tests.integration.road import BYE, Road

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SECRET = b"s" * 48
HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
HOLD: dict[str, Any] = {"whilePaused": "hold"}
ONCE: dict[str, Any] = {"reentry": {"policy": "once"}}


class Door:
    """A journey `welcome`, the subjects who come to it, and the sweeper's side of what is held."""

    def __init__(self, road: Road, pool: Pool[Record]) -> None:
        self.road, self.crowd, self.world, self.owner = road, road.crowd, road.crowd.world, road.owner
        self.held = HeldEntries(Transactions(pool), page=2)

    async def open(self, *, entry_key_path: str | None = None, **definition: Any) -> None:
        contract_id = await self.road.starts_on("purchase", entry_key_path=entry_key_path)
        await self.road.publish(HELLO, BYE, triggerContractId=contract_id, **definition)

    async def pause(self) -> None:
        await self.world.do(lifecycle.pause, "welcome", ANY_STATE)

    async def resume(self) -> None:
        await self.world.do(lifecycle.resume, "welcome", ANY_STATE)

    async def purchase(self, *subject_ids: str, at: datetime | None = None, **properties: Any) -> None:
        await self.crowd.happened(*((subject_id, "purchase", at) for subject_id in subject_ids), **properties)
        await self.crowd.settle()

    async def known(self, **attributes: Any) -> None:
        await self.crowd.known(**attributes)
        await self.crowd.settle()

    async def release(self) -> None:
        """As sweepers and consumers do, in turns."""
        while await self.held.step():
            await self.crowd.settle()

    async def pass_grace(self) -> None:
        """As if the entries had come an hour earlier than they did."""
        await self.owner.execute(
            "UPDATE held_entries"
            " SET grace_until = grace_until - interval '1 hour', look_at = look_at - interval '1 hour'"
        )
        await self.crowd.settle()

    async def entered(self) -> list[str]:
        """Who was let in, in order of numbers of subjects."""
        rows = await self.owner.fetch(
            "SELECT s.subject_id FROM enrollments AS n JOIN executions AS e ON e.execution_id = n.enrollment_id"
            " JOIN subjects AS s ON s.subject_no = n.subject_no ORDER BY 1"
        )
        return [row[0] for row in rows]

    async def refused(self) -> dict[str, int]:
        rows = await self.owner.fetch("SELECT reason, sum(total)::int AS total FROM refusal_counts GROUP BY reason")
        return {row["reason"]: row["total"] for row in rows}

    async def waiting(self) -> int:
        return (await self.world.look(journeys.view, "welcome")).held

    async def everyone_is_accounted_for(self, entrants: int) -> None:
        count = len(await self.entered()) + sum((await self.refused()).values())
        assert count + await self.owner.fetchval("SELECT count(*) FROM held_entries") == entrants


@pytest.fixture
async def door(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Door:
    road = await Road.make(owner, api_pool, worker_pool)
    pros = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
    await road.crowd.world.do(audiences.create, "pros", pros)
    return Door(road, worker_pool)


class TestPause:
    async def test_whoever_comes_meanwhile_is_refused_and_counted(self, door: Door) -> None:
        await door.open()
        await door.pause()

        await door.purchase("ann", "bob")
        await door.purchase("cleo", at=datetime.now(UTC) - timedelta(days=2))
        with pytest.raises(FailedPrecondition, match="paused"):
            async with door.world.transactions.write(door.world.scope.project_no) as conn:
                await enroll(conn, door.world.scope, Versions(), "welcome", ["dora"])
        await door.resume()
        await door.release()

        assert await door.entered() == []
        assert await door.refused() == {"journey_paused": 2, "too_old": 1}

    async def test_whoever_is_held_comes_in_afterwards_by_the_trigger_of_then(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        await door.purchase("ann", "bob", "cleo", "dora", "eve", at=at, color="red")
        held = await door.waiting()
        deaf = Changes(definition={"triggerContractId": None})
        await door.world.do(journeys.update, "welcome", deaf, ANY_STATE)
        await door.world.do(publishing.publish, "welcome", ANY_STATE)

        assert not await door.held.step()
        await door.resume()
        await door.release()

        assert (held, await door.waiting()) == (5, 0)
        assert await door.entered() == ["ann", "bob", "cleo", "dora", "eve"]
        rows = await door.owner.fetch(
            "SELECT DISTINCT version, entry_kind, triggered_at, entry ->> 'color' FROM enrollments"
        )
        assert [tuple(row) for row in rows] == [(2, "event", at, "red")]
        assert await door.refused() == {}

    async def test_whoever_was_held_runs_behind_those_who_come_now(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.purchase("ann", "bob")
        await door.resume()

        await door.release()
        await door.purchase("cleo")

        told = await door.owner.fetch(
            "SELECT subject_id, behind FROM outbox JOIN subjects USING (project_no, bucket, subject_no)"
        )
        assert {row["subject_id"]: row["behind"] for row in told} == {"ann": True, "bob": True, "cleo": False}

    async def test_one_entry_is_held_once_and_policies_are_asked_when_it_comes_in(self, door: Door) -> None:
        await door.open(entry_key_path="order", **HOLD, reentry={"policy": "interval", "interval": "1h"})
        await door.purchase("ann", order="first", at=datetime.now(UTC) - timedelta(minutes=90))
        await door.pause()
        for order in ("first", "second", "second", "third"):
            await door.purchase("ann", order=order)

        assert await door.refused() == {"re_entry": 1}
        await door.resume()
        await door.release()

        keys = await door.owner.fetchval("SELECT array_agg(entry_key ORDER BY triggered_at) FROM enrollments")
        assert keys == ["first", "second"]
        assert await door.refused() == {"re_entry": 3}

    async def test_a_subject_that_is_let_in_by_something_newer_does_not_overtake_itself(self, door: Door) -> None:
        await door.open(**HOLD, **ONCE)
        await door.pause()
        await door.purchase("ann", n=1)
        await door.resume()

        await door.purchase("ann", n=2)  # before anybody has released the first

        assert await door.owner.fetchval("SELECT entry ->> 'n' FROM enrollments") == "1"
        assert (await door.refused(), await door.waiting()) == ({"re_entry": 1}, 0)

    async def test_the_gates_are_asked_when_it_is_over(self, door: Door) -> None:
        await door.open(audienceId="pros", **HOLD)
        await door.known(ann={"tier": "pro"}, bob={"tier": "pro"}, cleo={"tier": "free"})
        await door.pause()
        await door.purchase("ann", "bob", "cleo", "dora")
        await door.known(bob={"tier": "free"}, cleo={"tier": "pro"})
        async with door.world.transactions.write(door.world.scope.project_no) as conn:
            change = PreferenceChange(channel="*", category="marketing", opted_out=True)
            await preferences.update(conn, door.world.scope.project_no, "ann", [change])
        await door.crowd.settle()
        assert await door.waiting() == 4

        await door.resume()
        await door.release()

        assert await door.entered() == ["cleo"]
        assert await door.refused() == {"audience": 2, "opted_out": 1}

    async def test_a_pause_after_the_pause_holds_on(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.purchase("ann", "bob", "cleo")
        await door.resume()
        assert await door.held.step()  # two of them may be looked at
        await door.pause()

        await door.crowd.settle()
        assert (await door.entered(), await door.waiting()) == ([], 3)
        await door.world.do(journeys.update, "welcome", Changes(definition={"whilePaused": None}), ANY_STATE)
        await door.world.do(publishing.publish, "welcome", ANY_STATE)
        await door.known(ann={"n": 1})  # whoever waits waits on, looked at or not
        await door.purchase("dora")
        assert (await door.refused(), await door.waiting()) == ({"journey_paused": 1}, 3)
        await door.resume()
        await door.release()

        assert await door.entered() == ["ann", "bob", "cleo"]

    async def test_an_entry_about_which_nothing_can_be_decided_is_no_secret(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.purchase("ann")
        await door.resume()
        assert await door.held.step()

        await door.crowd.inbox.failed(await door.world.subject("ann"), "ValueError")

        (late,) = [check for check in CHECKS if check.name == "held_entries_late"]
        async with door.crowd.transactions.read(None) as conn:
            assert (await doctor.check(conn, late, await clock.now(conn))).total == 1

    async def test_an_event_that_waits_is_said_to_however_many_others_do(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.purchase("ann")
        await door.purchase(*["ann"] * SHOWN, at=datetime.now(UTC) - timedelta(hours=1))
        await door.resume()

        told = await door.world.look(explain_entry, Versions(), "welcome", "ann")

        assert [event.refusal for event in told.events] == ["held"] * SHOWN
        assert len(told.held) == SHOWN

    async def test_a_start_in_the_future_is_asked_about_when_the_pause_is_over(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.purchase("ann", "bob")
        starts_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        await door.world.do(journeys.update, "welcome", Changes(definition={"startsAt": starts_at}), ANY_STATE)
        await door.world.do(publishing.publish, "welcome", ANY_STATE)

        await door.known(ann={"n": 1})
        assert (await door.refused(), await door.waiting()) == ({}, 2)
        await door.resume()
        await door.release()

        assert await door.refused() == {"not_started": 2}

    @pytest.mark.parametrize("table", ["held_entries", "enrollments", "refusal_counts"])
    async def test_whatever_commit_fails_everybody_is_decided_about_once(self, door: Door, table: str) -> None:
        await door.open(audienceId="pros", **HOLD)
        await door.known(ann={"tier": "pro"}, bob={})
        await door.pause()
        await fail_first_commit(door.owner, table)
        failed = 0
        for turn in (door.purchase("ann", "bob"), door.crowd.settle(), door.resume()):
            try:
                await turn
            except asyncpg.RaiseError:
                failed += 1
        for _ in range(3):
            try:
                await door.release()
                await door.crowd.settle()
            except asyncpg.RaiseError:
                failed += 1

        assert failed == 1
        assert (await door.entered(), await door.refused()) == (["ann"], {"audience": 1})
        assert await door.waiting() == 0

    async def test_those_who_wait_for_a_journey_that_is_over_are_counted(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.purchase("ann", "bob", "cleo")
        await door.world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)
        assert await door.held.step()
        await door.known(**{name: {"n": 1} for name in ("ann", "bob", "cleo")})  # one that the sweeper has not dropped
        await door.release()

        assert await door.refused() == {"journey_archived": 3}
        assert (await door.waiting(), await door.entered()) == (0, [])

    async def test_nobody_who_waited_comes_into_another_journey_of_the_id(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.purchase("ann", "bob", "cleo")
        await door.world.do(lifecycle.delete, "welcome", ANY_STATE)

        with pytest.raises(AlreadyExists):
            await door.world.draft("welcome", {"steps": [BYE]})
        await door.known(ann={"n": 1})
        await door.release()

        assert await door.refused() == {"journey_archived": 3}

    async def test_the_end_of_a_journey_ends_the_wait(self, door: Door) -> None:
        ends_at = datetime.now(UTC) + timedelta(days=1)
        await door.open(**HOLD, endsAt=ends_at.isoformat())
        await door.pause()
        await door.purchase("ann", "bob", "cleo")
        await door.owner.execute(
            "UPDATE journey_versions SET definition = jsonb_set(definition, '{endsAt}', '\"2026-01-01T00:00:00Z\"')"
        )

        await door.release()

        assert await door.refused() == {"ended": 3}

    async def test_no_more_is_held_of_one_subject_than_can_be_looked_at(self, door: Door) -> None:
        await door.open(**HOLD)
        await door.pause()
        await door.crowd.happened(*(("ann", "purchase", None) for _ in range(AT_MOST + 2)))
        await door.crowd.settle()

        assert (await door.waiting(), await door.refused()) == (AT_MOST, {"journey_paused": 2})

    async def test_ways_into_segments_are_held_too(self, door: Door) -> None:
        await door.crowd.segment("pros", PRO)
        await door.crowd.run("build")
        contract = {
            "segmentId": "pros",
            "predicate": {"kind": "attribute", "fieldPath": "country", "operator": "exists"},
        }
        await door.road.publish(BYE, entryCondition=contract, **HOLD)
        await door.pause()
        await door.known(ann={"tier": "pro"}, bob={"tier": "pro"}, cleo={"tier": "free"})
        await door.known(ann={"country": "de"})
        await door.resume()
        await door.release()

        assert await door.entered() == ["ann"]
        assert await door.refused() == {"trigger_predicate": 1}

    async def test_a_merge_gives_what_is_held_and_a_deletion_takes_it(self, door: Door) -> None:
        await door.open(entry_key_path="order", **HOLD)
        await door.pause()
        await door.purchase("ann", "bob", "cleo", order="one")
        await door.purchase("ann", order="two")
        await door.world.do(merge, SECRET, RuleBook(), "ann", into="bob")
        await door.world.do(subjects.delete, SECRET, "cleo", ANY_STATE)
        await door.crowd.settle()
        assert (await door.waiting(), await door.refused()) == (2, {"re_entry": 1})

        await door.resume()
        await door.release()

        assert await door.entered() == ["bob", "bob"]


class TestGrace:
    async def test_data_that_comes_after_the_event_still_counts(self, door: Door) -> None:
        await door.open(audienceId="pros", entryGrace="30m")

        await door.purchase("ann", "bob", color="red")
        assert (await door.entered(), await door.refused(), await door.waiting()) == ([], {}, 2)
        await door.known(ann={"tier": "pro"}, bob={"tier": "free"})

        assert await door.entered() == ["ann"]
        assert await door.owner.fetchval("SELECT entry ->> 'color' FROM enrollments") == "red"
        await door.pass_grace()
        assert (await door.entered(), await door.refused(), await door.waiting()) == (["ann"], {"audience": 1}, 0)
        await door.known(bob={"tier": "pro"})  # too late
        assert await door.entered() == ["ann"]

    async def test_what_time_alone_makes_true_is_seen_at_the_end(self, door: Door) -> None:
        quiet = {"kind": "event_not_fired", "eventName": "refund", "window": {"type": "last", "duration": "20m"}}
        audience = Audience(name="Quiet", description="", subject_type=END_USER, predicate=quiet)
        await door.world.do(audiences.create, "quiet", audience)
        await door.open(audienceId="quiet", entryGrace="30m")
        await door.crowd.happened(("ann", "refund", datetime.now(UTC) - timedelta(minutes=19)))
        await door.purchase("ann")
        assert await door.waiting() == 1

        for table in ("events", "subject_event_state"):
            column = "occurred_at" if table == "events" else "last_at"
            await door.owner.execute(f"UPDATE {table} SET {column} = {column} - interval '30 minutes'")
        await door.pass_grace()

        assert (await door.entered(), await door.refused()) == (["ann"], {})

    async def test_one_entry_waits_once_and_the_first_that_may_comes_in(self, door: Door) -> None:
        await door.open(entry_key_path="order", audienceId="pros", entryGrace="1h", **ONCE)
        for order in ("one", "one", "two"):
            await door.purchase("ann", order=order)
        assert (await door.waiting(), await door.refused()) == (2, {"re_entry": 1})

        await door.known(ann={"tier": "pro"})

        assert await door.owner.fetchval("SELECT array_agg(entry_key) FROM enrollments") == ["one"]
        assert (await door.waiting(), await door.refused()) == (0, {"re_entry": 2})

    async def test_a_pause_within_it_refuses_or_holds(self, door: Door) -> None:
        await door.open(audienceId="pros", entryGrace="30m")
        await door.purchase("ann")
        await door.pause()
        await door.known(ann={"tier": "pro"})
        assert await door.refused() == {"journey_paused": 1}

        await door.world.do(journeys.update, "welcome", Changes(definition=HOLD), ANY_STATE)
        await door.world.do(publishing.publish, "welcome", ANY_STATE)
        await door.purchase("bob")
        await door.pass_grace()
        assert await door.waiting() == 1
        await door.resume()
        await door.release()

        assert (await door.entered(), await door.refused()) == ([], {"journey_paused": 1, "audience": 1})

    async def test_an_archived_journey_keeps_nobody_waiting(self, door: Door) -> None:
        await door.open(audienceId="pros", entryGrace="30m")
        await door.purchase("ann", "bob")
        await door.world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)
        await door.known(ann={"tier": "pro"})
        await door.pass_grace()

        assert (await door.entered(), await door.refused()) == ([], {"journey_archived": 2})

    async def test_whoever_asks_is_told_what_waits(self, door: Door) -> None:
        await door.open(audienceId="pros", entryGrace="30m", **HOLD)
        await door.purchase("ann")

        async def ask(subject_id: str) -> Any:
            return await door.world.look(explain_entry, Versions(), "welcome", subject_id)

        told = await ask("ann")
        await door.pause()
        await door.purchase("bob")
        paused = await ask("bob")

        assert [(one.entry_key, one.look_at == one.grace_until) for one in told.held] == [("e0", True)]
        assert [event.refusal for event in told.events] == ["held"]
        assert [(way.kind, way.refusal) for way in told.ways] == [("event", "audience"), ("enroll", "audience")]
        assert [(one.entry_key, one.look_at) for one in paused.held] == [("e1", None)]
        assert [(way.kind, way.refusal) for way in paused.ways] == [("event", "held"), ("enroll", "journey_not_active")]
