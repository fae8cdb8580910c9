"""What is asked twice happens once; what was refused by a person is not sent."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from temporalio.client import Client

from orchestrator.application import preferences
from orchestrator.application.enrollment import enroll
from orchestrator.application.sending import Reserved, Sending
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.devstack.stack import Stack
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.temporal.contract import Question
from tests.integration.journey_world import World
from tests.soak import in_soak_alone
from tests.workflows.world import Running, Switchboard

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SEND_ONLY = [
    {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"},
    {"id": "bye", "exit": {"reason": "finished"}},
]


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_sixty_four_equal_calls_have_one_effect(running_stack: Stack, owner: Connection[Record]) -> None:
    keys, calls = 50, 64
    async with httpx.AsyncClient(
        base_url=running_stack.addresses.http,
        headers={"X-Api-Key": running_stack.keys.owner},
        timeout=60,
        limits=httpx.Limits(max_connections=128),
    ) as http:
        steps = [{"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}, SEND_ONLY[1]]
        await http.post(
            "/v1/journeys", json={"id": "j", "name": "J", "reentry": {"policy": "entry_key"}, "steps": steps}
        )
        await http.post("/v1/journeys/j:publish", json={})

        async def call(n: int) -> str:
            """One of many equal calls; one in four loses patience before it is answered, and asks again."""
            while True:
                try:
                    answer = await http.post(
                        "/v1/journeys/j:enroll",
                        json={"subjectIds": [f"s{n}"]},
                        headers={"Idempotency-Key": f"enroll-{n}"},
                        timeout=random.uniform(0.001, 0.02) if random.random() < 0.25 else 60,
                    )
                except httpx.HTTPError:
                    continue
                if answer.status_code == 200:
                    return answer.text
                assert answer.status_code in (409, 429, 503), answer.text

        for n in range(keys):
            answers = await asyncio.gather(*(call(n) for _ in range(calls)))
            assert len(set(answers)) == 1

    assert await owner.fetchval("SELECT count(*) FROM enrollments") == keys
    assert await owner.fetchval("SELECT count(DISTINCT subject_no) FROM executions") == keys


@pytest.mark.faults
@pytest.mark.timeout(600)
@in_soak_alone
async def test_sixty_four_equal_events_and_publications_have_one_effect_and_no_key_says_two_things(
    running_stack: Stack, owner: Connection[Record]
) -> None:
    keys, calls = 50, 64
    async with httpx.AsyncClient(
        base_url=running_stack.addresses.http,
        headers={"X-Api-Key": running_stack.keys.owner},
        timeout=60,
        limits=httpx.Limits(max_connections=128),
    ) as http:
        await http.post("/v1/journeys", json={"id": "j", "name": "J", "steps": SEND_ONLY[1:]})

        async def call(path: str, body: Any, key: str) -> Any:
            """As above: one in four asks again before it is answered."""
            while True:
                patience = random.uniform(0.001, 0.02) if random.random() < 0.25 else 60
                try:
                    answer = await http.post(path, json=body, headers={"Idempotency-Key": key}, timeout=patience)
                except httpx.HTTPError:
                    continue
                if answer.status_code not in (409, 429, 503):
                    return answer.status_code, answer.text

        for n in range(keys):
            (await http.patch("/v1/journeys/j", json={"maxDurationDays": 10 + n})).raise_for_status()
            told = await asyncio.gather(*(call("/v1/journeys/j:publish", {}, f"publish-{n}") for _ in range(calls)))
            assert {status for status, _ in told} == {200}, told[0]
            assert len({text for _, text in told}) == 1
            status, text = await call("/v1/journeys/j:publish", {"fromVersion": 1}, f"publish-{n}")
            assert (status, "REQUEST_ID_REUSED" in text) == (400, True), text

            event = {"events": [{"eventId": f"e{n}", "name": "seen", "subjectId": f"s{n}"}]}
            told = await asyncio.gather(*(call("/v1/events", event, f"event-{n}") for _ in range(calls)))
            assert {status for status, _ in told} == {200}, told[0]
            counted = [json.loads(text) for _, text in told]
            assert sum(one.get("acceptedCount", 0) for one in counted) <= 1
            assert {one.get("acceptedCount", 0) + one.get("duplicateCount", 0) for one in counted} == {1}

    assert await owner.fetchval("SELECT count(*) FROM journey_versions") == keys
    assert await owner.fetchval("SELECT count(*) FROM events") == keys
    assert await owner.fetchval("SELECT sum(total) FROM subject_event_days") == keys


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_no_send_begins_after_an_opt_out_was_acknowledged(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record], temporal: Client
) -> None:
    world = await World.make(owner, api_pool)
    await world.furnish()
    running = Running(world, temporal, worker_pool, Switchboard())
    await running.publish(*SEND_ONLY)
    transactions, versions = Transactions(worker_pool), Versions()
    sending = Sending(transactions, versions)
    rounds, begun, stopped = 1000, 0, 0

    async def race(n: int) -> None:
        nonlocal begun, stopped
        async with transactions.write(None) as conn:
            (entry,) = (await enroll(conn, world.scope, versions, "welcome", [f"s{n}"])).told
        question = Question(
            project_no=entry.key.project_no,
            bucket=entry.key.bucket,
            subject_no=entry.key.subject_no,
            execution_id=str(entry.execution_id),
            seq=0,
            now=0.0,
        )
        answered: list[str] = []

        async def opt_out() -> None:
            await asyncio.sleep(random.uniform(0, 0.003))
            async with Transactions(api_pool).write(world.scope.project_no) as conn:
                change = PreferenceChange(channel="log", category="marketing", opted_out=True)
                await preferences.update(conn, world.scope.project_no, f"s{n}", [change])
            answered.append("opted out")

        async def reserve() -> None:
            await asyncio.sleep(random.uniform(0, 0.003))
            late = bool(answered)  # the opt-out was acknowledged before this began
            reserved = await sending.reserve(question)
            if isinstance(reserved, Reserved):
                nonlocal begun
                begun += 1
                assert not late, "a send began after the opt-out was acknowledged"
            else:
                nonlocal stopped
                stopped += 1

        await asyncio.gather(opt_out(), reserve())

    for at in range(0, rounds, 4):
        await asyncio.gather(*(race(n) for n in range(at, at + 4)))

    # Which was first, by the database's own order: a reservation that committed later than the opt-out would show here.
    late = await owner.fetchval(
        "SELECT count(*) FROM sends JOIN opt_outs USING (project_no, bucket, subject_no) "
        "WHERE reserved_at > opted_out_at AND state = 'dispatching'"
    )
    assert late == 0
    assert begun + stopped == rounds
    assert min(begun, stopped) > rounds / 20, "one side always won: nothing was raced"
