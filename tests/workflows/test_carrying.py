"""Executions that go over to another version while they run, on real servers and under load."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from orchestrator.application import carry_previews, lifecycle, publishing
from orchestrator.application.ingest import Ingest
from orchestrator.application.journeys import Changes, update
from orchestrator.application.publishing import Confirmed
from orchestrator.application.versions import Versions
from orchestrator.domain.carrying import CarryMode
from orchestrator.domain.event import Event
from tests.integration.channels.receiver import answering, receiving
from tests.integration.journey_world import ANY_STATE
from tests.workflows.test_effects import SORRY, call
from tests.workflows.world import Running
from workers.channels.channel import ChannelUnavailable

PINGED = {"kind": "event_fired", "eventName": "ping", "window": {"type": "ever"}, "atLeast": 2}
AWAIT = {"id": "await", "waitFor": {"when": PINGED}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "first"}}
SECOND = [
    {**AWAIT, "next": "again"},
    {"id": "again", "send": {"communicationId": "welcome"}, "next": "bye"},
    {**BYE, "exit": {"reason": "second"}},
]
ALL_ENDED = "NOT EXISTS (SELECT FROM executions WHERE outcome IS NULL)"


async def carry(running: Running, *steps: object) -> None:
    """Publish these steps, and carry over whoever can go over."""
    world = running.world
    await world.do(update, "welcome", Changes(definition={"steps": list(steps)}), ANY_STATE)
    shown = await world.look(carry_previews.preview, Versions(), "welcome", CarryMode.COMPATIBLE, ())
    confirmed = Confirmed(mode=CarryMode.COMPATIBLE, pairs=(), token=shown.token)
    await world.do(publishing.publish, "welcome", ANY_STATE, carry=confirmed)


async def ping(running: Running, subject_ids: Iterable[str], number: int) -> None:
    """Something happens to each, so that it looks."""
    events = [
        Event(event_id=f"{number}-{who}", name="ping", subject_id=who, occurred_at=None, properties=b"{}")
        for who in subject_ids
    ]
    await Ingest(running.world.transactions).take(running.world.scope.project_no, events, backfill=False)


async def test_two_hundred_go_over_under_a_load_of_events_and_nobody_is_lost_or_doubled(at_work: Running) -> None:
    people = [f"s{n}" for n in range(200)]
    await at_work.publish(AWAIT, BYE)
    await at_work.enroll(*people)

    await asyncio.gather(
        carry(at_work, *SECOND),
        *(ping(at_work, people[start::4], 1) for start in range(4)),
        at_work.world.do(lifecycle.pause, "welcome", ANY_STATE),
    )
    await at_work.until("NOT EXISTS (SELECT FROM executions WHERE version = 1)", within=60)
    await ping(at_work, people, 2)
    await at_work.until(ALL_ENDED, within=60)

    ended = await at_work.owner.fetch("SELECT outcome, reason, version, count(*) FROM executions GROUP BY 1, 2, 3")
    assert [tuple(row) for row in ended] == [("completed", "second", 2, 200)]
    passed = await at_work.owner.fetch("SELECT step_id, version, count(*) FROM visits GROUP BY 1, 2 ORDER BY 1")
    assert [tuple(row) for row in passed] == [("again", 2, 200), ("await", 2, 200), ("bye", 2, 200)]
    assert (len(at_work.channel.asked), set(at_work.channel.asked.values())) == (200, {1})
    carried = await at_work.owner.fetchrow("SELECT told, stayed::text, ended_at IS NOT NULL FROM carries")
    assert tuple(carried or ()) == (200, "{}", True)


async def test_a_send_in_back_off_is_made_once_by_the_old_version_and_followed_by_the_new(at_work: Running) -> None:
    hello = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
    at_work.channel.answers = [ChannelUnavailable("timeout", in_doubt=True) for _ in range(3)]
    await at_work.publish(hello, BYE)
    await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM sends)")

    await carry(at_work, {**hello, "next": "again"}, *SECOND[1:])
    await at_work.until(ALL_ENDED)

    rows = await at_work.owner.fetch("SELECT step_id, version, result FROM visits ORDER BY seq, place")
    passed = [("hello", 1, "executed"), ("again", 2, "executed"), ("bye", 2, "executed")]
    assert [tuple(row) for row in rows] == passed
    sends = await at_work.owner.fetch("SELECT step_id, version, state, attempt FROM sends ORDER BY seq")
    assert [tuple(row) for row in sends] == [("hello", 1, "sent", 4), ("again", 2, "sent", 1)]
    assert list(at_work.channel.asked.values()) == [4, 1]


async def test_a_call_in_back_off_that_was_not_taken_is_made_by_the_new_version_at_once(at_work: Running) -> None:
    async with receiving(answering(429, retry_after="3000")) as busy, receiving(answering(200, b"{}")) as ready:
        await at_work.publish(call(busy), BYE, SORRY)
        await at_work.enroll("ann")
        await at_work.until("EXISTS (SELECT FROM webhook_calls WHERE NOT in_doubt)")

        await carry(at_work, call(ready), BYE, SORRY)
        await at_work.until(ALL_ENDED)

    rows = await at_work.owner.fetch("SELECT version, state, reason FROM webhook_calls ORDER BY seq")
    assert [tuple(row) for row in rows] == [(1, "failed", "withdrawn"), (2, "answered", None)]
