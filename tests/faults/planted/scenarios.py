"""What is gone through with a planted bug: short runs with the fault in them under which such a bug does harm.

Each returns the fields of the evidence that nobody but it knows. Without a bug, each leaves a sound world.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

import httpx
import psutil

from orchestrator.devstack.stack import SERVER, worker_name
from orchestrator.temporal.client import Target, connect
from tests.acceptance.canaries import Canary
from tests.acceptance.forgotten_person import dump
from tests.eventually import eventually
from tests.faults.checker import Effect, at_rest
from tests.faults.checker.evidence import Forgotten
from tests.faults.checker.op_log import ENROLLMENT, EVENT, FORGOTTEN
from tests.faults.checker.stack_evidence import owner_of
from tests.faults.field import Field, kill
from tests.provider.provider import Mode

Known = dict[str, Any]
Scenario = Callable[[Field], Awaitable[Known]]

#: How late somebody may be who is told to go on, where nothing is away. Who is late by more was not told.
PATIENCE = timedelta(seconds=20)

#: Seconds in which a worker would have heard from the provider, which is more than Temporal waits to hear of him.
ANSWERED = 13.0

ONE = {"id": "one", "send": {"communicationId": "first"}, "next": "hear"}
HEAR = {"id": "hear", "waitFor": {"event": {"eventName": "go"}, "timeout": "10m", "otherwise": "bye"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


def people(count: int) -> list[str]:
    return [f"p-{n}" for n in range(count)]


async def repeated(field: Field) -> Known:
    """A client that got no answer says everything again."""
    await field.furnish(wait="1s")
    await field.sign_up(people(20))
    await field.sign_up(people(20))
    await _end(field, 20)
    return {}


async def signed_up(field: Field) -> Known:
    """Nothing happens but what is usual."""
    await field.furnish(wait="1s")
    await field.sign_up(people(20))
    await _end(field, 20)
    return {}


async def server_killed_when_it_has_answered(field: Field) -> Known:
    for batch in range(3):
        await field.ingest({"eventId": f"e-{batch}-{n}", "name": "seen", "subjectId": f"p-{n}"} for n in range(10))
        await kill(field.stack.part(SERVER))
        await field.serving()
    await _rests(field)
    return {}


async def server_killed_when_it_has_enrolled(field: Field) -> Known:
    """It was about to tell Temporal."""
    await _publish(field, {"id": "nap", "wait": {"duration": "1s"}, "next": "bye"}, BYE)
    await field.serving()
    entered = [Effect(ENROLLMENT, f"welcome/{s}") for s in people(100)]
    await field.call("POST", "/v1/journeys/welcome:enroll", {"subjectIds": people(100)}, effects=entered)
    await kill(field.stack.part(SERVER))
    await field.serving()
    await _end(field, 100)
    return {}


async def worker_killed_in_mid_send(field: Field) -> Known:
    """The provider has taken what the worker never heard of."""
    await field.furnish(wait="1s")
    await field.provider.set_mode(Mode(delay=1.0))
    await field.sign_up(people(10))
    await eventually(lambda: len(field.provider.accepted()) >= 5, within=20)
    await asyncio.gather(*(kill(field.stack.part(worker_name(number))) for number in (1, 2)))
    await field.provider.set_mode(Mode())
    await field.ended(10)
    await _rests(field)
    return {}


async def told_as_they_begin_to_wait(field: Field) -> Known:
    """What they wait for comes in while their workflows are being told that they wait."""
    await _publish(field, ONE, HEAR, BYE)
    everybody = people(120)
    await field.sign_up(everybody)
    await _tell_who_waits(field, everybody)
    return await _gone_on(field, len(everybody))


async def told_while_it_is_decided_that_they_wait(field: Field) -> Known:
    """The database is slow to write down where they stand, and meanwhile what they wait for comes in."""
    await _publish(field, ONE, HEAR, BYE)
    async with owner_of(field.stack) as conn:
        await conn.execute(
            """
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.15); RETURN NEW; END $$;
            CREATE TRIGGER slow BEFORE UPDATE ON executions FOR EACH ROW EXECUTE FUNCTION slow()
            """
        )
        everybody = people(40)
        signing_up = asyncio.create_task(field.sign_up(everybody))
        told: set[str] = set()
        async with asyncio.timeout(60):
            while len(told) < len(everybody):
                taken = {receipt.subject_id for receipt in field.provider.accepted()} - told
                if taken:
                    await asyncio.sleep(0.03)  # until it is being decided what comes after the send
                    await _tell(field, taken)
                    told |= taken
                await asyncio.sleep(0.005)
        await signing_up
        await conn.execute("DROP TRIGGER slow ON executions")
    return await _gone_on(field, len(everybody))


async def worker_frozen_in_mid_send(field: Field) -> Known:
    """The provider says no to one worker, who is frozen before he hears of it, and yes to the one who takes over."""
    await field.furnish(wait="1s")
    for number in range(1, 9):
        await _frozen(field, f"p-{2 * number}")
        await field.ended(number, within=90)
        # Who thaws is soon told to leave it; not always before he has written down what he was answered.
        async with owner_of(field.stack) as conn:
            if await conn.fetchval("SELECT count(*) FROM sends WHERE state = 'failed' AND attempt > 1"):
                break
    await _rests(field)
    return {}


async def _frozen(field: Field, subject_id: str) -> None:
    """Freeze whoever sends to this subject until another one has taken over; if Temporal gives it to the frozen one
    again, for as long as he would wait for his answer.
    """
    before = len(field.provider.receipts())
    await field.provider.set_mode(Mode(kind="fail", status=422, delay=2.0, times=1))
    await field.sign_up([subject_id])
    await eventually(lambda: len(field.provider.receipts()) == before + 1, within=30)
    frozen = await _who_sends_to(field, subject_id)
    frozen.send_signal(signal.SIGSTOP)
    try:
        await field.provider.set_mode(Mode(delay=3.0, times=1))
        with contextlib.suppress(AssertionError):
            await eventually(lambda: len(field.provider.receipts()) == before + 2, within=ANSWERED)
    finally:
        frozen.send_signal(signal.SIGCONT)


async def two_projects(field: Field) -> Known:
    """Each looks at what it has."""
    operator = httpx.AsyncClient(
        base_url=field.stack.addresses.http, headers={"X-Api-Key": field.stack.keys.operator}, timeout=10
    )
    async with operator:
        answer = await operator.post("/v1/projects", json={"id": "other", "name": "Other"})
        answer.raise_for_status()
        key = answer.json()["secret"]
    await field.furnish(wait="1s")
    async with httpx.AsyncClient(base_url=field.stack.addresses.http, headers={"X-Api-Key": key}, timeout=10) as http:
        theirs = Field(stack=field.stack, provider=field.provider, http=http, log=field.log, project="other")
        await field.sign_up(people(4))
        await _end(field, 4)
        await theirs.call("PUT", "/v1/subjects/somebody-else", {})
        for of in (field, theirs):
            await of.call("GET", "/v1/subjects", {})
    await _rests(field)
    return {"marks": {"default": [f'"{subject_id}"' for subject_id in people(4)], "other": ["somebody-else"]}}


async def somebody_forgotten(field: Field) -> Known:
    """Somebody who has told something of themselves is forgotten."""
    await field.furnish(wait="1s")
    await field.sign_up(people(4))
    canaries = [Canary("diary", "Kanari/01 höchst persönlich"), Canary("id", "Kanari.Ann-4711")]
    diary, who = (canary.value for canary in canaries)
    event = {"eventId": "told-1", "name": "told", "subjectId": who, "properties": {"diary": diary}}
    await field.call("POST", "/v1/events", {"events": [event]}, effects=[Effect(EVENT, "told-1", subject=who)])
    await field.ended(4)
    known = await dump(field.stack.addresses.database_url)
    assert diary.encode() in known, "what is looked for was there"
    await field.call("POST", f"/v1/subjects/{who}:forget", {}, effects=[Effect(FORGOTTEN, who)])
    await _rests(field)
    places = {"database": await dump(field.stack.addresses.database_url)}
    places |= {part.name: part.process.log.read_bytes() for part in field.stack.parts}
    return {"forgotten": [Forgotten(subject_id=who, canaries=canaries)], "places": places}


async def _publish(field: Field, *steps: dict[str, Any]) -> None:
    """The journey of the field, of these steps."""
    await field.furnish(steps=steps)


async def _tell_who_waits(field: Field, everybody: list[str]) -> None:
    """As soon as the database says that somebody waits, what they wait for comes in."""
    told: set[str] = set()
    async with asyncio.timeout(60), owner_of(field.stack) as conn:
        while len(told) < len(everybody):
            rows = await conn.fetch(
                "SELECT s.subject_id FROM executions JOIN subjects AS s USING (project_no, bucket, subject_no) "
                "WHERE step_id = 'hear' AND outcome IS NULL AND s.subject_id <> ALL ($1)",
                list(told),
            )
            waiting = {row["subject_id"] for row in rows}
            if waiting:
                await _tell(field, waiting)
                told |= waiting
            await asyncio.sleep(0.002)


async def _tell(field: Field, subject_ids: Iterable[str]) -> None:
    await field.ingest({"eventId": f"go-{s}", "name": "go", "subjectId": s} for s in subject_ids)


async def _gone_on(field: Field, count: int) -> Known:
    """All have gone on, or those who can have had the time for it."""
    with contextlib.suppress(TimeoutError):
        await field.ended(count, within=PATIENCE.total_seconds() + 5)
    await _rests(field)
    return {"patience": PATIENCE}


async def _end(field: Field, count: int) -> None:
    """So many have come to their end, and all is at rest; or some of them never will."""
    with contextlib.suppress(TimeoutError):
        await field.ended(count, within=20)
    await _rests(field)


async def _rests(field: Field) -> None:
    """Nothing is left to do, or some of it never will be done."""
    with contextlib.suppress(AssertionError):
        await at_rest(field.stack, within=15)


async def _who_sends_to(field: Field, subject_id: str) -> psutil.Process:
    """The worker that Temporal has given the send to: others have connections to the provider, too."""
    addresses = field.stack.addresses
    async with owner_of(field.stack) as conn:
        workflow_id = await conn.fetchval(
            "SELECT workflow_id FROM executions JOIN subjects AS s USING (project_no, bucket, subject_no)"
            " WHERE s.subject_id = $1",
            subject_id,
        )
    client = await connect(Target(address=addresses.temporal, namespace=addresses.temporal_namespace))
    described = await client.get_workflow_handle(workflow_id).describe()
    (pending,) = described.raw_description.pending_activities
    return psutil.Process(int(pending.last_worker_identity.partition("@")[0]))


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        repeated,
        signed_up,
        server_killed_when_it_has_answered,
        server_killed_when_it_has_enrolled,
        worker_killed_in_mid_send,
        told_as_they_begin_to_wait,
        told_while_it_is_decided_that_they_wait,
        worker_frozen_in_mid_send,
        two_projects,
        somebody_forgotten,
    )
}
