"""Scenarios of executions: coming in, being told of, sending, waiting for turns, and having effects."""

from __future__ import annotations

from orchestrator.devstack.stack import SERVER
from tests.faults.crashes.ground import BYE, LONG, NAP, Ground, crowd
from tests.faults.field import kill

#: How many messages of a channel go out in a second, and at once; it is a channel that no other scenario uses.
RATE = {"channel": "log", "ratePerSecond": 10, "burst": 4}


async def furnish(ground: Ground) -> None:
    """What several scenarios stand on."""
    field = ground.field
    await field.furnish(wait="1s")
    logged = {"id": "logged", "name": "Logged", "channel": "log", "category": "marketing", "subject": "A", "body": "B"}
    await field.call("POST", "/v1/communications", logged)
    await field.call("PATCH", "/v1/projects/default", {"settings": {"channelRates": [RATE]}})
    await ground.journey("plain", NAP, BYE)
    await ground.journey("lasting", LONG, BYE)


async def ingesting(ground: Ground) -> None:
    async def turn(number: int) -> None:
        await ground.happen(f"seen-{number}", crowd("seer", 5))

    await ground.turn_after_turn("ingesting", turn)


async def entering(ground: Ground) -> None:
    async def turn(number: int) -> None:
        await ground.field.sign_up(crowd(f"comer-{number}", 6))

    await ground.turn_after_turn("entering", turn)


async def enrolling(ground: Ground) -> None:
    async def turn(number: int) -> None:
        await ground.enroll("plain", crowd(f"guest-{number}", 5))

    await ground.turn_after_turn("enrolling", turn)


async def telling(ground: Ground) -> None:
    """From the second turn on, whoever was about to tell Temporal is killed, so that others come to it."""

    async def turn(number: int) -> None:
        await ground.enroll("plain", crowd(f"told-{number}", 20))
        if number and ground.revival is not None:
            ground.revival.killed += 1
            await kill(ground.field.stack.part(SERVER))

    await ground.turn_after_turn("telling", turn, pause=8)


async def sending(ground: Ground) -> None:
    async def turn(number: int) -> None:
        await ground.field.sign_up(crowd(f"buyer-{number}", 12))

    await ground.turn_after_turn("sending", turn)


async def crowding(ground: Ground) -> None:
    await ground.journey("crowded", {"id": "say", "send": {"communicationId": "logged"}, "next": "bye"}, BYE)

    async def turn(number: int) -> None:
        await ground.enroll("crowded", crowd(f"waiter-{number}", 24))

    await ground.turn_after_turn("crowding", turn)


async def effects(ground: Ground) -> None:
    """A journey that calls, changes its subject, lets something happen, and goes by an arm that learns."""
    arms = [{"id": "a", "next": "bye"}, {"id": "b", "next": "bye"}]
    called = {"$path": "$steps.call.id"}
    body = {"who": "{{ subject.id }}"}
    await ground.journey(
        "acting",
        {"id": "call", "webhook": {"url": ground.field.provider.step_url, "body": body}, "next": "mark"},
        {"id": "mark", "updateSubject": {"attributes": {"called": called}}, "next": "tell"},
        {"id": "tell", "emitEvent": {"eventName": "acted", "properties": {"called": called}}, "next": "choose"},
        {"id": "choose", "adaptiveBranch": {"arms": arms}},
        BYE,
        entryCondition={"eventName": "act"},
        goal={"eventName": "paid", "window": "7d"},
    )

    async def turn(number: int) -> None:
        await ground.happen("act", crowd(f"actor-{number}", 8), enters="acting")

    await ground.turn_after_turn("effects", turn)

    async def done_once() -> None:
        told = await ground.rows.fetch(
            "SELECT s.revision, s.attributes ->> 'called' = e.properties ->> 'called' AS same,"
            "       count(*) OVER whose AS events"
            "  FROM events AS e JOIN event_names AS n USING (project_no, name_no)"
            "  JOIN subjects AS s USING (project_no, bucket, subject_no) WHERE n.name = 'acted'"
            " WINDOW whose AS (PARTITION BY e.subject_no)"
        )
        assert {(row["revision"], row["same"], row["events"]) for row in told} == {(2, True, 1)}

    ground.checks.append(done_once)
