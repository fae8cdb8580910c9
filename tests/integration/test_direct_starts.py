"""Starting an execution at somebody's word: an entry like any other, once under its key."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import lifecycle, merging, preferences, publishing, trigger_contracts
from orchestrator.application.direct_starts import Happening, Started, start
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.event import Event
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import FailedPrecondition, NotFound
from orchestrator.domain.trigger_contract import Contract
from tests.integration.journey_world import ANY_STATE, World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SEND = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}
BIG = {"kind": "attribute", "fieldPath": "amount", "operator": "gte", "value": 50}


class Gate:
    """A journey, and the machinery that starts executions of it."""

    def __init__(self, world: World, pool: Pool[Record]) -> None:
        self.world = world
        self.owner = world.owner
        self.inbox = Inbox(Transactions(pool), Versions())

    async def open(self, journey_id: str = "welcome", *steps: Any, **definition: Any) -> None:
        await self.world.draft(journey_id, {"steps": [*(steps or (BYE,))], **definition})
        await self.world.do(publishing.publish, journey_id, ANY_STATE)

    async def listen(self, **contract: Any) -> None:
        """A contract that `welcome` starts through."""
        said = {"name": "Bought", "event_name": "buy", "predicate": None, "entry_key_path": None, **contract}
        await self.world.do(trigger_contracts.create, "buying", Contract(**said))

    async def start(
        self, subject_id: str = "ann", key: str = "order-7", journey_id: str = "welcome", **event: Any
    ) -> Started:
        return await self.world.do(
            start,
            Versions(),
            journey_id=journey_id,
            subject_id=subject_id,
            entry_key=key,
            happening=Happening(**event),
        )

    async def refused(self) -> dict[str, int]:
        rows = await self.owner.fetch("SELECT reason, sum(total)::int AS total FROM refusal_counts GROUP BY reason")
        return {row["reason"]: row["total"] for row in rows}

    async def entered(self) -> list[tuple[Any, ...]]:
        rows = await self.owner.fetch("SELECT entry_kind, entry_key, entry FROM enrollments ORDER BY enrolled_at")
        return [(row["entry_kind"], row["entry_key"], json.loads(row["entry"])) for row in rows]


@pytest.fixture
async def gate(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Gate:
    world = await World.make(owner, api_pool)
    await world.furnish()
    return Gate(world, worker_pool)


async def test_whoever_is_let_in_has_an_execution_and_the_events_properties(gate: Gate) -> None:
    await gate.open()

    started = await gate.start(name="order_placed", properties={"amount": 12.5})

    assert (started.refused, started.held_out, started.already, started.version) == (None, False, False, 1)
    assert started.workflow_id == "disp:welcome__v1__ann__order-7"
    assert [one.execution_id for one in started.told] == [started.enrollment_id]
    assert await gate.entered() == [("event", "order-7", {"amount": 12.5})]


async def test_the_same_key_again_starts_nothing_and_is_told_of_the_first(gate: Gate) -> None:
    await gate.open(reentry={"policy": "once"})
    first = await gate.start()
    await gate.world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)

    again = await gate.start(properties={"amount": 1})

    # Whatever has become of the journey since.
    assert again.already
    assert (again.enrollment_id, again.workflow_id) == (first.enrollment_id, first.workflow_id)
    assert list(again.told) == []
    assert len(await gate.entered()) == 1


async def test_many_at_once_under_one_key_are_one_execution(gate: Gate) -> None:
    await gate.open()

    answers = await asyncio.gather(*(gate.start() for _ in range(64)))

    assert len({one.enrollment_id for one in answers}) == 1
    assert sorted(one.already for one in answers) == [False] + [True] * 63
    assert sum(len(one.told) for one in answers) == 1
    assert await gate.owner.fetchval("SELECT count(*) FROM outbox") == 1


async def test_keys_tell_entries_apart_as_far_as_the_journey_lets_them(gate: Gate) -> None:
    await gate.open()
    await gate.open("once", reentry={"policy": "once"})

    by_key = [await gate.start(key=key) for key in ("a", "b")]
    once = [await gate.start(key=key, journey_id="once") for key in ("a", "b")]

    assert [one.refused for one in by_key] == [None, None]
    assert [one.refused for one in once] == [None, EntryRefusal.REENTRY]
    assert await gate.refused() == {"re_entry": 1}


async def test_an_event_that_came_in_under_the_same_key_is_the_same_entry(gate: Gate) -> None:
    await gate.listen()
    await gate.open(triggerContractId="buying")
    event = Event(event_id="e-1", name="buy", subject_id="ann", occurred_at=None, properties=b"{}")
    await Ingest(gate.world.transactions).take(gate.world.scope.project_no, [event], backfill=False)

    first = await gate.start(key="e-1", name="buy")
    while keys := await gate.inbox.waiting():
        await gate.inbox.work(keys)
    again = await gate.start(key="e-1", name="buy")

    assert (first.already, again.already) == (False, True)
    assert len(await gate.entered()) == 1
    assert await gate.refused() == {"re_entry": 1}


async def test_whoever_is_held_out_is_let_in_and_goes_nowhere(gate: Gate) -> None:
    await gate.open(holdout={"percent": 99})
    tried = [await gate.start(f"p-{number}") for number in range(3)]
    # As good as all of them.
    held_out = next(number for number, one in enumerate(tried) if one.held_out)
    first, again = tried[held_out], await gate.start(f"p-{held_out}")

    assert (first.held_out, first.enrollment_id, first.workflow_id, list(first.told)) == (True, None, "", [])
    assert (again.held_out, again.already) == (True, True)
    assert await gate.owner.fetchval("SELECT count(*) FROM executions") == sum(not one.held_out for one in tried)


async def test_an_unknown_subject_comes_to_be_and_consumers_hear_of_it(gate: Gate) -> None:
    await gate.open()

    new, known = await gate.start("newcomer"), await gate.start("newcomer", "order-8")

    assert (new.created, known.created) == (True, False)
    assert await gate.owner.fetchval("SELECT array_agg(kind) FROM inbox") == ["attributes"]


@pytest.mark.parametrize(
    ("definition", "event", "reason"),
    [
        ({"audienceId": "buyers"}, {}, "audience"),
        ({"startsAt": "2126-01-01T00:00:00Z"}, {}, "not_started"),
        ({"endsAt": "2026-01-01T00:00:00Z"}, {}, "ended"),
        ({"triggerContractId": "buying"}, {"properties": {"amount": 49}}, "trigger_predicate"),
        ({"triggerContractId": "buying"}, {"properties": {"amount": 50}, "occurred_at": "long ago"}, "too_old"),
    ],
)
async def test_the_checks_are_those_of_an_entry(
    gate: Gate, definition: dict[str, Any], event: dict[str, Any], reason: str
) -> None:
    await gate.listen(predicate=BIG, entry_key_path="order.id")
    await gate.open(**definition)
    if "occurred_at" in event:
        event = {**event, "occurred_at": datetime.now(UTC) - timedelta(hours=25)}

    refused = await gate.start(**event)

    assert refused.refused is EntryRefusal(reason)
    assert (refused.enrollment_id, list(refused.told)) == (None, [])
    assert await gate.entered() == []
    assert await gate.refused() == {reason: 1}


async def test_grace_does_not_hold_what_is_decided_at_once(gate: Gate) -> None:
    await gate.open(audienceId="buyers", entryGrace="5m")

    refused = await gate.start()

    assert refused.refused is EntryRefusal.AUDIENCE
    assert await gate.owner.fetchval("SELECT count(*) FROM held_entries") == 0


async def test_a_pause_refuses_even_where_it_holds_others_and_the_key_is_free_afterwards(gate: Gate) -> None:
    await gate.open(whilePaused="hold")
    await gate.world.do(lifecycle.pause, "welcome", ANY_STATE)
    paused = await gate.start()
    await gate.world.do(lifecycle.resume, "welcome", ANY_STATE)
    resumed = await gate.start()

    assert paused.refused is EntryRefusal.JOURNEY_PAUSED
    assert (resumed.refused, resumed.already) == (None, False)


async def test_opt_outs_count(gate: Gate) -> None:
    await gate.open("welcome", SEND, BYE)
    change = PreferenceChange(channel="*", category="marketing", opted_out=True)
    async with gate.world.transactions.write(gate.world.scope.project_no) as conn:
        await preferences.update(conn, gate.world.scope.project_no, "ann", [change])

    assert (await gate.start()).refused is EntryRefusal.OPTED_OUT


async def test_another_event_than_the_journeys_own_does_not_start_it(gate: Gate) -> None:
    await gate.listen()
    await gate.open(triggerContractId="buying")

    with pytest.raises(FailedPrecondition) as refusal:
        await gate.start(name="sell")
    unsaid = await gate.start()

    assert (refusal.value.reason, refusal.value.metadata["eventName"]) == ("EVENT_NOT_HEARD", "buy")
    assert [fault.path for fault in refusal.value.faults] == ["event.name"]
    assert unsaid.refused is None


async def test_a_journey_that_takes_nobody_in_says_so(gate: Gate) -> None:
    await gate.world.draft("unborn", {"steps": [BYE]})
    await gate.open("over")
    await gate.world.do(lifecycle.archive, "over", OnArchive.FINISH, ANY_STATE)

    with pytest.raises(NotFound, match="there is no journey nowhere"):
        await gate.start(journey_id="nowhere")
    for journey_id, status in (("unborn", "draft"), ("over", "archived")):
        with pytest.raises(FailedPrecondition) as refusal:
            await gate.start("stranger", journey_id=journey_id)
        assert (refusal.value.reason, refusal.value.metadata["status"]) == ("JOURNEY_NOT_ACTIVE", status)

    assert await gate.owner.fetchval("SELECT count(*) FROM subjects") == 0


async def test_who_became_somebody_else_enters_as_the_one_he_is_now(gate: Gate) -> None:
    await gate.open()
    for subject_id in ("visitor", "ann"):
        await gate.world.subject(subject_id)
    await gate.world.do(merging.merge, b"secret", Versions().rule_book, "visitor", into="ann")

    first, again = await gate.start("visitor"), await gate.start("ann")

    assert first.workflow_id == "disp:welcome__v1__ann__order-7"
    assert (again.already, again.enrollment_id) == (True, first.enrollment_id)


async def test_an_event_of_tomorrow_happens_now(gate: Gate) -> None:
    await gate.open()

    await gate.start(occurred_at=datetime.now(UTC) + timedelta(days=1))

    assert await gate.owner.fetchval("SELECT triggered_at <= clock_timestamp() FROM enrollments")
