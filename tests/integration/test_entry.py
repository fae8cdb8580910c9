"""Who comes in and who does not: events through the inbox, on Postgres, with every policy of re-entry."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.application import audiences, journeys, lifecycle, preferences, publishing, trigger_contracts
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.journeys import Changes
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.event import Event
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage.inbox import MAX_ATTEMPTS
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.lost_commits import fail_first_commit

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SEND = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}
NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=12)


class Door:
    """A journey that starts on `purchase`, and the way in."""

    def __init__(self, world: World, pool: Pool[Record]) -> None:
        self.world = world
        self.owner = world.owner
        self.inbox = Inbox(Transactions(pool), Versions())
        self.ingest = Ingest(world.transactions)
        self._sent = 0

    async def open(
        self, *, contract: Contract | None = None, steps: list[Any] | None = None, **definition: Any
    ) -> None:
        found = contract or Contract(name="Bought", event_name="purchase", predicate=None, entry_key_path=None)
        await self.world.do(trigger_contracts.create, "purchase-made", found)
        document = {"triggerContractId": "purchase-made", "steps": steps or [SEND, BYE], **definition}
        await self.world.draft("welcome", document)
        await self.world.do(publishing.publish, "welcome", ANY_STATE)

    async def purchase(
        self, subject_id: str, *, at: datetime | None = None, event_id: str = "", **properties: Any
    ) -> None:
        await self.happen("purchase", subject_id, at=at, event_id=event_id, **properties)

    async def happen(
        self, name: str, subject_id: str, *, at: datetime | None = None, event_id: str = "", **properties: Any
    ) -> None:
        self._sent += 1
        event = Event(
            event_id=event_id or f"e{self._sent}",
            name=name,
            subject_id=subject_id,
            occurred_at=at,
            properties=json.dumps(properties).encode(),
        )
        await self.ingest.take(self.world.scope.project_no, [event], backfill=False)

    async def work(self) -> int:
        """Work through the inbox; returns how many came in."""
        came_in = 0
        while keys := await self.inbox.waiting():
            came_in += len((await self.inbox.work(keys)).told)
        return came_in

    async def refused(self) -> dict[str, int]:
        rows = await self.owner.fetch("SELECT reason, sum(total)::int AS total FROM refusal_counts GROUP BY reason")
        return {row["reason"]: row["total"] for row in rows}

    async def keys(self) -> list[str]:
        rows = await self.owner.fetch("SELECT entry_key FROM enrollments ORDER BY entry_key")
        return [row["entry_key"] for row in rows]


@pytest.fixture
async def door(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Door:
    world = await World.make(owner, api_pool)
    await world.furnish()
    return Door(world, worker_pool)


async def test_an_event_starts_an_execution_once_however_often_it_is_sent(door: Door) -> None:
    await door.open()

    await door.purchase("ann", event_id="e-1")
    first = await door.work()
    await door.purchase("ann", event_id="e-1")
    again = await door.work()

    assert (first, again) == (1, 0)
    assert await door.owner.fetchval("SELECT workflow_id FROM executions") == "disp:welcome__v1__ann__e-1"


async def test_the_contracts_predicate_reads_the_events_properties(door: Door) -> None:
    over = {"kind": "attribute", "fieldPath": "cart.amount", "operator": "gte", "value": 50}
    await door.open(
        contract=Contract(name="Big", event_name="purchase", predicate=over, entry_key_path=None), steps=[BYE]
    )

    await door.purchase("ann", cart={"amount": 50})
    await door.purchase("bob", cart={"amount": 49.99})
    await door.purchase("cleo", amount=99)

    assert await door.work() == 1
    assert await door.refused() == {"trigger_predicate": 2}


async def test_what_does_not_read_refuses_its_own_entries_by_name_and_no_others(door: Door) -> None:
    buyers = Audience(name="Buyers", description="", subject_type=END_USER, predicate={"kind": "everyone"})
    everything = Contract(name="All", event_name="purchase", predicate={"kind": "everyone"}, entry_key_path=None)
    await door.world.do(audiences.create, "all-buyers", buyers)
    await door.open(contract=everything, steps=[BYE])
    sound = Contract(name="Bought", event_name="purchase", predicate=None, entry_key_path=None)
    await door.world.do(trigger_contracts.create, "sound", sound)
    for journey_id, definition in {"for-buyers": {"audienceId": "all-buyers"}, "beside": {}}.items():
        await door.world.draft(journey_id, {"triggerContractId": "sound", "steps": [BYE], **definition})
        await door.world.do(publishing.publish, journey_id, ANY_STATE)
    for table in ("audiences", "trigger_contracts"):
        await door.owner.execute(f'UPDATE {table} SET predicate = \'{{"kind": "odd"}}\' WHERE predicate IS NOT NULL')

    await door.purchase("ann")

    assert await door.work() == 1
    assert await door.refused() == {"trigger_predicate": 1, "audience_not_found": 1}
    assert await door.owner.fetchval("SELECT journey_id FROM executions") == "beside"


async def test_an_event_that_is_too_old_changes_facts_and_starts_nothing(door: Door) -> None:
    await door.open()

    await door.purchase("ann", at=datetime.now(UTC) - timedelta(hours=25))

    assert await door.work() == 0
    assert await door.refused() == {"too_old": 1}
    assert await door.owner.fetchval("SELECT sum(total) FROM subject_event_state WHERE name_no > 0") == 1


async def test_entries_are_told_apart_by_the_key_the_contract_reads(door: Door) -> None:
    await door.open(
        contract=Contract(name="Order", event_name="purchase", predicate=None, entry_key_path="order.id"), steps=[BYE]
    )

    for order in ("o-1", "o-1", "o-2", 7, True):
        await door.purchase("ann", order={"id": order})
    await door.purchase("ann", order={})
    await door.purchase("ann", order={"id": None})

    assert await door.work() == 4
    assert await door.keys() == ["7", "o-1", "o-2", "true"]
    assert await door.refused() == {"re_entry": 1, "entry_key_missing": 2}


async def test_once_means_once_for_ever_whatever_the_batches(door: Door) -> None:
    await door.open(reentry={"policy": "once"})

    await door.purchase("ann")
    await door.purchase("ann")
    together = await door.work()
    await door.purchase("ann")
    later = await door.work()

    assert (together, later) == (1, 0)
    assert await door.refused() == {"re_entry": 2}


async def test_an_interval_counts_between_triggers_in_whatever_order_they_come(door: Door) -> None:
    await door.open(reentry={"policy": "interval", "interval": "2h"})
    for hours in (0, 1, 2, 4.5, 3):  # 3 comes late: too near to 2 and to 4.5
        await door.purchase("ann", at=NOON + timedelta(hours=hours))
        await door.work()

    assert await door.owner.fetchval("SELECT array_agg(triggered_at ORDER BY triggered_at) FROM enrollments") == [
        NOON,
        NOON + timedelta(hours=2),
        NOON + timedelta(hours=4.5),
    ]


async def test_the_audience_is_asked_at_the_instant_of_the_decision(door: Door) -> None:
    twice = {"kind": "event_fired", "eventName": "purchase", "window": {"type": "last_n_days", "days": 1}, "atLeast": 2}
    audience = Audience(name="Twice", description="", subject_type=END_USER, predicate=twice)
    await door.world.do(audiences.create, "twice", audience)
    await door.open(audienceId="twice")

    await door.purchase("ann")
    once = await door.work()
    await door.purchase("ann")
    second = await door.work()

    assert (once, second) == (0, 1)
    assert await door.refused() == {"audience": 1}


async def test_a_deleted_audience_refuses_by_name_and_says_so_once_an_hour(door: Door) -> None:
    everyone = Audience(name="All", description="", subject_type=END_USER, predicate={"kind": "everyone"})
    await door.world.do(audiences.create, "all", everyone)
    await door.open(audienceId="all")
    await door.world.do(audiences.delete, "all", ANY_STATE)

    for name in ("ann", "bob", "cleo"):
        await door.purchase(name)
        await door.work()

    assert await door.refused() == {"audience_not_found": 3}
    assert (await door.world.actions()).count("entry_refused_audience_not_found") == 1


async def test_consent_refuses_an_entry_only_where_every_send_is_blocked(door: Door) -> None:
    await door.open(steps=[SEND, BYE])
    change = PreferenceChange(channel="*", category="marketing", opted_out=True)
    async with door.world.transactions.write(door.world.scope.project_no) as conn:
        await preferences.update(conn, door.world.scope.project_no, "ann", [change])

    await door.purchase("ann")
    await door.purchase("bob")

    assert await door.work() == 1
    assert await door.refused() == {"opted_out": 1}


async def test_a_paused_journey_takes_nobody_in(door: Door) -> None:
    await door.open()
    await door.purchase("ann")
    await door.work()

    await door.world.do(lifecycle.pause, "welcome", ANY_STATE)
    await door.purchase("bob")
    paused = await door.work()
    await door.world.do(lifecycle.resume, "welcome", ANY_STATE)
    await door.purchase("cleo")
    resumed = await door.work()

    assert (paused, resumed) == (0, 1)


async def test_who_listens_is_found_out_anew_when_the_look_at_it_was_rolled_back(door: Door) -> None:
    await door.open()
    await door.happen("browse", "ann")
    await fail_first_commit(door.owner, "event_names")  # `purchase` gets its number when listeners are looked for

    with pytest.raises(asyncpg.RaiseError):
        await door.work()
    await door.work()
    await door.purchase("ann")

    assert await door.work() == 1


async def test_new_executions_take_the_newest_version(door: Door) -> None:
    await door.open()
    await door.purchase("ann")
    await door.work()
    await door.world.do(journeys.update, "welcome", Changes(definition={"maxDurationDays": 9}), ANY_STATE)
    await door.world.do(publishing.publish, "welcome", ANY_STATE)
    await door.purchase("bob")
    await door.work()

    versions = await door.owner.fetch("SELECT version FROM executions ORDER BY version")
    assert [row["version"] for row in versions] == [1, 2]


async def test_entries_that_cannot_be_worked_through_are_set_aside_and_hold_nobody_up(door: Door) -> None:
    await door.open()
    await door.purchase("ann")
    await door.purchase("bob")
    # What no writer of ours writes: parallel arrays that are not.
    await door.owner.execute(
        "UPDATE inbox AS i SET event_nos = '{}' FROM subjects AS s "
        "WHERE s.subject_no = i.subject_no AND s.subject_id = 'ann'"
    )
    ann, bob = [
        key
        for name in ("ann", "bob")
        for key in await door.inbox.waiting()
        if await door.owner.fetchval("SELECT subject_id FROM subjects WHERE subject_no = $1", key.subject_no) == name
    ]

    with pytest.raises(ValueError, match="zip"):
        await door.inbox.work([ann, bob])
    others = await door.inbox.work([bob])
    for _ in range(MAX_ATTEMPTS + 1):
        await door.inbox.failed(ann, "ValueError")

    assert len(others.told) == 1
    assert (await door.inbox.waiting(), await door.inbox.failing()) == ([], [])
    assert await door.owner.fetchval("SELECT error FROM inbox_dead") == "ValueError"


async def test_a_contract_that_a_journey_listens_through_cannot_be_deleted(door: Door) -> None:
    await door.open()

    with pytest.raises(FailedPrecondition) as refused:
        await door.world.do(trigger_contracts.delete, "purchase-made", ANY_STATE)
    await door.world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)
    await door.world.do(trigger_contracts.delete, "purchase-made", ANY_STATE)

    assert (refused.value.reason, refused.value.metadata["users"]) == ("TRIGGER_CONTRACT_IN_USE", "welcome")
