"""Postgres, Temporal or the provider is away for a minute in which a thousand waits come due: it is asked hardly more
often than there is something to ask, all that was due is done within a minute of its return, and nobody rushes in at
once.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.devstack.stack import POSTGRES, TEMPORAL
from tests.eventually import eventually
from tests.faults.checker.evidence import Outage
from tests.faults.field import Field
from tests.faults.nemesis.proxied_stack import EDGES, PROVIDER, ProxiedStack
from tests.faults.nemesis.proxy import Link
from tests.faults.nemesis.run import doors_of
from tests.faults.own_stack import own_stack
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600), in_soak_alone]

CROWD = 1_000
#: Who sign up while Temporal is away.
NEWCOMERS = 200
#: Seconds: in which all of them have come, before the instant for which all wait; how long before that something goes
#: away, and for how long; and in how many all is done that was due.
COMING, BEFORE, AWAY, DRAINED = 150.0, 10.0, 60.0, 60.0
#: Seconds until the server says that Postgres is away, or there again; and until Temporal has been told everything.
NOTICED, TOLD = 5.0, 15.0
#: Seconds until a call is answered: its own ten and six more, as docs/operations.md has it, and one for this process.
ANSWERED = 17.0
#: Seconds for which it is waited, so that it is known what it took where it took too long.
MEASURED = 150.0
#: Messages in a second after its return, beside the most before.
RUSH = 2.0
#: Tries to reach it, for each time that somebody wants something of it; of Temporal, in a second of each of the four
#: processes, whose pollers, which are the SDK's, want something of it all the time (ADR 49).
TRIES, POLLS = 1.3, 20


BOUGHT = {"kind": "event_fired", "eventName": "purchase"}
#: As `Field.furnish` has them, and a wait for an instant.
STEPS: list[dict[str, Any]] = [
    {"id": "one", "send": {"communicationId": "first"}, "next": "due"},
    {"id": "due", "wait": {"date": {"fieldPath": "due"}}, "next": "pause"},
    {"id": "pause", "wait": {"duration": "1s"}, "next": "check"},
    {"id": "check", "branch": {"arms": [{"id": "bought", "when": BOUGHT, "next": "two"}], "otherwise": "bye"}},
    {"id": "two", "send": {"communicationId": "second"}, "next": "bye"},
    {"id": "bye", "exit": {"reason": "finished"}},
]


@dataclass
class Watch:
    """What the server says of itself, at each instant."""

    http: httpx.AsyncClient
    seen: list[tuple[float, int, int, str]] = field(default_factory=list)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Watch]:
        task = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            at = time.monotonic()
            alive, ready = await self.http.get("/healthz"), await self.http.get("/readyz")
            self.seen.append((at, alive.status_code, ready.status_code, ready.json()["status"]))
            await asyncio.sleep(0.1)

    def first(self, since: float, ready: int) -> float:
        """Seconds after that instant until it first said so."""
        return next(at for at, _, status, _ in self.seen if at >= since and status == ready) - since


@pytest.mark.parametrize("how", [Link(cut=True), Link(silent=True)], ids=["refuses", "says nothing"])
@pytest.mark.parametrize("away", [POSTGRES, TEMPORAL, PROVIDER])
async def test_what_is_away_for_a_minute_is_not_overrun_and_what_was_due_is_done_within_another(
    away: str, how: Link, session_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = own_stack(session_directory / uuid.uuid4().hex[:8])
    everybody = [f"p-{n}" for n in range(CROWD)]
    async with ProxiedStack(options) as stack, doors_of(stack, tmp_path) as (provider, doors):
        ground = doors[0]
        await ground.furnish(steps=STEPS)
        due = datetime.now(UTC) + timedelta(seconds=COMING)
        await know(ground, everybody, due)
        halves = everybody[: CROWD // 2], everybody[CROWD // 2 :]
        await asyncio.gather(*(door.sign_up(half) for door, half in zip(doors, halves, strict=True)))
        await eventually(lambda: all_wait(ground), within=COMING)
        assert datetime.now(UTC) < due - timedelta(seconds=BEFORE), "they took too long to come"
        await asyncio.sleep((due - datetime.now(UTC)).total_seconds() - BEFORE)
        before = most_in_a_second([receipt.at for receipt in provider.accepted()])
        async with (
            httpx.AsyncClient(
                base_url=stack.addresses.http, headers={"X-Api-Key": stack.keys.owner}, timeout=60
            ) as http,
            Watch(http).watching() as watch,
        ):
            ways = [stack.edges[way] for way in EDGES if way.endswith(away)]
            tried, cut_at, began = sum(way.tried for way in ways), time.monotonic(), datetime.now(UTC)
            for way in ways:
                way.set(how)
            newcomers = [f"p-{CROWD + n}" for n in range(NEWCOMERS if away == TEMPORAL else 0)]
            _, answers = await asyncio.gather(ground.sign_up(newcomers), asked_all_the_time(http, AWAY))
            tried = sum(way.tried for way in ways) - tried
            # Whoever has bought something is sent a second message; calls ask Postgres alone.
            wanted = CROWD // 2 if away == PROVIDER else CROWD + len(answers)
            for way in ways:
                way.set(Link())
            back, ground.outages = time.monotonic(), [Outage(what=away, began=began, ended=datetime.now(UTC))]
            told = 0.0
            if away == TEMPORAL:
                assert not await nothing_to_tell(ground), "Temporal was there"
                await eventually(lambda: nothing_to_tell(ground), within=MEASURED)
                told = time.monotonic() - back
            await ground.ended(CROWD + len(newcomers), within=MEASURED)
            drained = time.monotonic() - back
            after = most_in_a_second([receipt.at for receipt in provider.accepted()[CROWD:]])
            await asyncio.sleep(NOTICED)

        with capsys.disabled():
            print(  # noqa: T201
                f"\n{away} away {AWAY:.0f} s: {Counter(answer.status for answer in answers)}, the slowest after"
                f" {max(answer.seconds for answer in answers):.1f} s; {tried} tries to connect, {wanted} wanted;"
                f" drained in {drained:.1f} s; at most {after} messages a second, {before} before"
                + (f"; Temporal told after {told:.1f} s" if away == TEMPORAL else "")
            )
        await ground.check(everybody + newcomers, besides={"due"})
        assert {answer.status for answer in answers} <= {200, 429, 503, 504}
        assert max(answer.seconds for answer in answers) <= ANSWERED
        assert {alive for _, alive, _, _ in watch.seen} == {200}
        if away == POSTGRES:
            assert watch.first(cut_at, 503) <= NOTICED
            assert watch.first(back, 200) <= NOTICED
        else:
            assert {ready for _, _, ready, _ in watch.seen} == {200}
        assert tried <= (4 * POLLS * AWAY if away == TEMPORAL else TRIES * wanted)
        assert told <= TOLD
        assert drained <= DRAINED
        assert after <= RUSH * before
    shutil.rmtree(options.data_dir)


def most_in_a_second(instants: list[float]) -> int:
    return max(Counter(int(at) for at in instants).values(), default=0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call was told, and after how many seconds."""

    status: int
    seconds: float


async def asked_all_the_time(http: httpx.AsyncClient, seconds: float) -> list[Answer]:
    """Ten calls a second, whatever becomes of those before."""

    async def ask() -> Answer:
        began = time.monotonic()
        answer = await http.get("/v1/journeys/welcome")
        return Answer(answer.status_code, time.monotonic() - began)

    calls = []
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        while time.monotonic() < until:
            calls.append(group.create_task(ask()))
            await asyncio.sleep(0.1)
    return [call.result() for call in calls]


async def nothing_to_tell(ground: Field) -> bool:
    return await count_of(ground, "SELECT count(*) FROM outbox") == 0


async def all_wait(ground: Field) -> bool:
    await asyncio.sleep(0.2)
    question = "SELECT count(*) FROM executions WHERE step_id = 'due' AND effect ->> 'kind' = 'sleep'"
    return await count_of(ground, question) == CROWD


async def know(ground: Field, subject_ids: list[str], due: datetime) -> None:
    """All of them at one instant."""
    for at in range(0, len(subject_ids), 500):
        subjects = [{"id": one, "attributes": {"due": due.isoformat()}} for one in subject_ids[at : at + 500]]
        await ground.call("POST", "/v1/subjects:batchUpsert", {"subjects": subjects})


async def count_of(ground: Field, question: str) -> int:
    conn = await ground.owner()
    try:
        found: int = await conn.fetchval(question)
        return found
    finally:
        await conn.close()
