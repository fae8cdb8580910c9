"""Entries that were held, or came while their journey was paused, and were refused: they are decided on again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, entry_replays, journeys, lifecycle, publishing
from orchestrator.application.entry_replay_pages import EntryReplayPages
from orchestrator.application.journeys import Changes
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.entry import MAX_HOPS
from orchestrator.domain.entry_replay import EntryReplay
from orchestrator.domain.refusals import FailedPrecondition
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, Road
from tests.integration.test_held_entries import HOLD, PRO, Door
from tests.integration.test_held_hops import Loop

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

ENDED: dict[str, Any] = {"endsAt": "2020-01-01T00:00:00Z"}


class Gatehouse(Door):
    """A door, and whoever decides again on those it kept out."""

    def __init__(self, road: Road, pool: Pool[Record]) -> None:
        super().__init__(road, pool)
        self.replays = EntryReplayPages(Transactions(pool), Versions(), page=2)

    async def replayed(self, reason: str) -> EntryReplay:
        asked = await self.world.do(entry_replays.ask, "welcome", reason, None, None, 1000)
        while await self.replays.step() is not None:
            pass
        replay: EntryReplay = await self.world.look(entry_replays.get, asked.replay_id)
        return replay

    async def change(self, **definition: Any) -> None:
        await self.world.do(journeys.update, "welcome", Changes(definition=definition), ANY_STATE)
        await self.world.do(publishing.publish, "welcome", ANY_STATE)

    async def kept(self) -> dict[str, int]:
        rows = await self.owner.fetch("SELECT reason, count(*)::int AS total FROM refused_entries GROUP BY reason")
        return {row["reason"]: row["total"] for row in rows}


@pytest.fixture
async def gate(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Gatehouse:
    road = await Road.make(owner, api_pool, worker_pool)
    pros = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
    await road.crowd.world.do(audiences.create, "pros", pros)
    return Gatehouse(road, worker_pool)


async def test_whoever_came_while_the_journey_was_paused_can_be_let_in_once_it_is_resumed(gate: Gatehouse) -> None:
    await gate.open()
    await gate.pause()
    await gate.purchase("ann", "bob", "cleo", color="red")
    with pytest.raises(FailedPrecondition, match="paused"):
        await gate.replayed("journey_paused")
    await gate.resume()

    replay = await gate.replayed("journey_paused")

    assert (replay.matched, replay.enrolled, replay.refused) == (3, 3, {})
    assert await gate.entered() == ["ann", "bob", "cleo"]
    assert await gate.owner.fetchval("SELECT bool_and(entry ->> 'color' = 'red') FROM enrollments")
    # For a start of which nobody waits to hear.
    assert await gate.owner.fetchval("SELECT bool_and(behind) FROM outbox WHERE kind = 'start'")


async def test_a_pause_in_the_middle_of_a_replay_lets_nobody_in_and_loses_nobody(gate: Gatehouse) -> None:
    await gate.open()
    await gate.pause()
    await gate.purchase("ann", "bob", "cleo")
    await gate.resume()
    asked = await gate.world.do(entry_replays.ask, "welcome", "journey_paused", None, None, 1000)
    await gate.replays.step()
    await gate.pause()

    while await gate.replays.step() is not None:
        pass
    ended = await gate.world.look(entry_replays.get, asked.replay_id)
    await gate.resume()
    rest = await gate.replayed("journey_paused")

    assert (ended.looked_at, ended.end_reason) == (2, "journey_not_active")
    assert (rest.enrolled, len(await gate.entered())) == (1, 3)


async def test_a_journey_that_is_deleted_in_the_middle_of_a_replay_ends_it(gate: Gatehouse) -> None:
    await gate.open()
    await gate.pause()
    await gate.purchase("ann", "bob", "cleo")
    await gate.resume()
    asked = await gate.world.do(entry_replays.ask, "welcome", "journey_paused", None, None, 1000)
    await gate.replays.step()
    await gate.world.do(lifecycle.delete, "welcome", ANY_STATE, force=True)

    assert await gate.replays.step() == []
    assert await gate.replays.step() is None
    ended = await gate.world.look(entry_replays.get, asked.replay_id)
    assert (ended.enrolled, ended.looked_at, ended.end_reason) == (2, 2, "journey_not_active")


async def test_whoever_was_held_and_is_refused_in_the_end_can_be_decided_on_again(gate: Gatehouse) -> None:
    await gate.open(audienceId="pros", **HOLD)
    await gate.pause()
    await gate.purchase("ann", "bob")
    await gate.resume()
    await gate.release()
    kept = await gate.kept()
    await gate.known(ann={"tier": "pro"})

    replay = await gate.replayed("audience")

    assert (kept, await gate.refused()) == ({"audience": 2}, {"audience": 2})
    assert (replay.enrolled, replay.refused) == (1, {"audience": 1})
    assert (await gate.entered(), await gate.kept()) == (["ann"], {"audience": 1})


async def test_so_can_whoever_was_held_for_a_way_into_a_segment_and_their_journey_ended(gate: Gatehouse) -> None:
    await gate.crowd.segment("pros", PRO)
    await gate.crowd.run("build")
    await gate.road.publish(BYE, entryCondition={"segmentId": "pros"}, **HOLD)
    await gate.pause()
    await gate.known(ann={"tier": "pro"})
    assert await gate.waiting() == 1
    await gate.change(**ENDED)
    await gate.release()
    assert (await gate.waiting(), await gate.kept()) == (0, {"ended": 1})
    await gate.change(endsAt=None)
    await gate.resume()

    replay = await gate.replayed("ended")

    assert replay.enrolled == 1
    assert await gate.owner.fetchval("SELECT entry_kind FROM enrollments") == "segment"


async def test_a_replay_grants_no_grace_and_passes_over_an_entry_that_waits(gate: Gatehouse) -> None:
    await gate.open(entry_key_path="order", audienceId="pros", entryGrace="30m")
    await gate.purchase("ann", order="first")
    await gate.pass_grace()
    assert (await gate.refused(), await gate.waiting()) == ({"audience": 1}, 0)

    lacking = await gate.replayed("audience")
    waiting = await gate.waiting()
    await gate.purchase("ann", order="first")  # the same entry, once more: it waits
    twice = await gate.replayed("audience")
    await gate.known(ann={"tier": "pro"})
    entered = await gate.replayed("audience")

    assert (lacking.refused, waiting) == ({"audience": 1}, 0)
    assert twice.refused == {"re_entry": 1}
    assert (entered.refused, await gate.entered()) == ({"re_entry": 1}, ["ann"])


async def test_who_is_let_in_by_a_replay_comes_from_no_less_far_away_than_they_did(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    road = await Road.make(owner, api_pool, worker_pool)
    loop, gate = Loop(road, worker_pool), Gatehouse(road, worker_pool)
    await loop.start()
    await owner.execute("UPDATE enrollments SET hops = $1", MAX_HOPS - 1)
    await loop.pause()
    await loop.go_round()
    await loop.resume()

    replay = await gate.replayed("journey_paused")
    hops = await loop.hops()
    await loop.go_round()

    assert (replay.enrolled, hops) == (1, [MAX_HOPS - 1, MAX_HOPS])
    # A loop stays one: it is counted, and not kept.
    assert (await loop.refused(), await gate.kept()) == ({"journey_paused": 1, "loop": 1}, {})
