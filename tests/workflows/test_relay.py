"""What was decided reaches Temporal: at once, or by a sweeper, and not by both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from orchestrator.application import lifecycle, publishing, relay, subjects, trigger_contracts
from orchestrator.application.advance import Advance
from orchestrator.application.closings import Closings
from orchestrator.application.enrollment import enroll
from orchestrator.application.entering_by_hand import admit
from orchestrator.application.ingest import Ingest
from orchestrator.application.relay import SLOWEST_AWAY, Relay
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.tree import Everyone
from orchestrator.storage import catalog, clock
from orchestrator.storage import subjects as stored_subjects
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.client import CALL_TIMEOUT, Target, connect
from orchestrator.temporal.contract import BEHIND_QUEUE, Question
from orchestrator.temporal.executions import Executions, Told
from tests.integration.journey_world import ANY_STATE, World
from tests.own_temporal import temporal_with
from tests.workflows.world import Running, Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Pool, Record

BYE = {"id": "bye", "exit": {"reason": "done"}}
PAUSE = {"id": "pause", "wait": {"duration": "1s"}, "next": "bye"}
LONG = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}


class Postman:
    """Somebody who delivers when told to, in a world in which no worker runs."""

    def __init__(self, world: World, client: Client, pool: Pool[Record]) -> None:
        self.world = world
        self.client = client
        self.transactions = Transactions(pool)
        self.relay = self.of(client)

    def of(self, client: Client, *, searchable: bool = False, patience: timedelta = CALL_TIMEOUT) -> Relay:
        executions = Executions(client, eager=False, searchable=searchable, patience=patience)
        return Relay(self.transactions, executions)

    async def enroll(self, *subject_ids: str) -> Sequence[Notice]:
        """Into a journey that waits; nothing is delivered."""
        await self.world.draft("welcome", {"steps": [LONG, BYE]})
        await self.world.do(publishing.publish, "welcome", ANY_STATE)
        async with self.transactions.write(None) as conn:
            return (await enroll(conn, self.world.scope, Versions(), "welcome", subject_ids)).told

    async def end(self) -> None:
        """End the journey: whoever is in it is to be poked."""
        await self.world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)
        await Closings(self.transactions).step()

    async def leases_run_out(self) -> None:
        await self.world.owner.execute("UPDATE outbox SET leased_until = now()")

    async def waiting(self) -> list[tuple[str, str | None]]:
        """What has still to be told, and what came of the last try."""
        rows = await self.world.owner.fetch("SELECT kind, last_error FROM outbox ORDER BY outbox_no")
        return [(row["kind"], row["last_error"]) for row in rows]

    async def history(self, workflow_id: str) -> list[str]:
        found = await self.client.get_workflow_handle(workflow_id).fetch_history()
        return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in found.events]


@pytest.fixture
def postman(furnished: World, temporal: Client, worker_pool: Pool[Record]) -> Postman:
    return Postman(furnished, temporal, worker_pool)


async def test_what_cannot_be_told_within_its_lease_is_left_to_a_sweeper(at_work: Running) -> None:
    await at_work.publish(PAUSE, BYE)
    relay = Relay(at_work.transactions, Executions(at_work.client, eager=False, searchable=False))
    async with at_work.transactions.write(None) as conn:
        enrolled = await enroll(conn, at_work.world.scope, Versions(), "welcome", ["ann", "bob"])

    await relay.tell(enrolled.told, lease=timedelta(0))

    rows = await at_work.owner.fetch("SELECT execution_id, attempts FROM outbox ORDER BY outbox_no")
    assert [(row["execution_id"], row["attempts"]) for row in rows] == [(e.execution_id, 0) for e in enrolled.told]

    await at_work.owner.execute("UPDATE outbox SET leased_until = now()")  # the lease runs out
    await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 2")
    await at_work.until("NOT EXISTS (SELECT FROM outbox)")


async def test_whom_a_job_lets_in_runs_behind_all_else_whoever_tells_of_it(
    at_work: Running,
) -> None:
    # Whatever an execution does, it does there.
    await at_work.publish(
        {**PAUSE, "next": "mark"},
        {"id": "mark", "updateSubject": {"attributes": {"seen": True}}, "next": "tell"},
        {"id": "tell", "emitEvent": {"eventName": "seen", "properties": {}}, "next": "bye"},
        BYE,
    )
    async with at_work.transactions.write(None) as conn:
        journey = await catalog.entered_by_hand(conn, 1, "welcome")
        assert journey is not None
        keys, _ = await stored_subjects.ensure_locked(conn, 1, {"ann"}, await clock.now(conn))
        let_in = await admit(
            conn, Versions(), project_no=1, project_id="default", journey_id="welcome", journey=journey,
            keys=list(keys.values()), entry_key="job:one", now=await clock.now(conn), crowd=Everyone(),
        )  # fmt: skip
    (entry,) = let_in.told

    await at_work.owner.execute("UPDATE outbox SET leased_until = now()")  # whoever let her in does not tell of it
    await at_work.until("EXISTS (SELECT FROM executions WHERE outcome = 'completed')")

    described = await at_work.client.get_workflow_handle(entry.workflow_id).describe()
    assert entry.behind
    assert described.task_queue == BEHIND_QUEUE
    assert described.raw_description.workflow_execution_info.priority.priority_key == 5


async def test_a_poke_that_overtakes_its_start_waits_for_it(postman: Postman) -> None:
    (start,) = await postman.enroll("ann")
    await postman.end()

    await postman.relay.sweep()  # the start is leased to who decided it
    overtaken = await postman.waiting()
    await postman.relay.tell([start])
    await postman.leases_run_out()
    await postman.relay.sweep()

    assert overtaken == [("start", None), ("poke", "NOT_STARTED")]
    assert await postman.waiting() == []
    assert (await postman.history(start.workflow_id))[0] == "WORKFLOW_EXECUTION_STARTED"
    assert "WORKFLOW_EXECUTION_SIGNALED" in await postman.history(start.workflow_id)


async def test_who_is_started_and_poked_at_once_is_started_first_and_poked_once(postman: Postman) -> None:
    told = await postman.enroll(*(f"s{n}" for n in range(20)))
    await postman.end()
    await postman.world.owner.execute(
        "INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)"
        " SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, now(), now() FROM executions"
    )
    await postman.leases_run_out()

    await postman.relay.sweep()

    assert await postman.waiting() == []
    for entry in told:
        history = await postman.history(entry.workflow_id)
        assert history.count("WORKFLOW_EXECUTION_SIGNALED") == 1


async def test_an_execution_that_was_ended_before_anybody_started_it_ends(at_work: Running) -> None:
    await at_work.publish(LONG, BYE)
    async with at_work.transactions.write(None) as conn:
        await enroll(conn, at_work.world.scope, Versions(), "welcome", ["ann"])

    await at_work.world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)
    await at_work.until("(SELECT outcome = 'canceled' FROM executions)")
    await at_work.until("NOT EXISTS (SELECT FROM outbox)")


async def test_a_poke_of_one_who_has_ended_is_done_with(postman: Postman) -> None:
    await postman.enroll("ann")
    await postman.end()
    await postman.world.owner.execute(
        "UPDATE executions SET outcome = 'canceled', reason = 'journey_archived', ended_at = now()"
    )

    await postman.relay.sweep()

    assert await postman.waiting() == [("start", None)]


async def test_a_namespace_that_is_not_there_takes_nothing(postman: Postman, temporal_address: str) -> None:
    (start,) = await postman.enroll("ann")
    await postman.relay.tell([start])
    await postman.end()

    await postman.of(await connect(Target(address=temporal_address, namespace="nowhere"))).sweep()
    lost = await postman.waiting()
    await postman.leases_run_out()
    await postman.relay.sweep()

    assert lost == [("poke", "NOT_FOUND")]
    assert await postman.waiting() == []
    assert "WORKFLOW_EXECUTION_SIGNALED" in await postman.history(start.workflow_id)


async def test_an_entry_that_cannot_be_told_holds_up_no_other(postman: Postman) -> None:
    told = await postman.enroll("ann", "bob", "cleo")
    await postman.world.owner.execute(
        "UPDATE executions SET effect = effect - 'seq' WHERE execution_id = $1", told[1].execution_id
    )
    await postman.leases_run_out()

    await postman.relay.sweep()

    assert await postman.waiting() == [("start", "TypeError")]
    assert [(await postman.history(told[n].workflow_id))[0] for n in (0, 2)] == ["WORKFLOW_EXECUTION_STARTED"] * 2


async def test_what_a_newer_release_adds_to_an_effect_is_left_out(postman: Postman) -> None:
    (start,) = await postman.enroll("ann")
    await postman.world.owner.execute("""UPDATE executions SET effect = effect || '{"newer": "thing"}'""")
    await postman.leases_run_out()

    await postman.relay.sweep()
    answer = await Advance(postman.transactions, Versions())(
        Question(
            project_no=start.key.project_no,
            bucket=start.key.bucket,
            subject_no=start.key.subject_no,
            execution_id=str(start.execution_id),
            seq=-1,
            now=0.0,
        )
    )

    assert await postman.waiting() == []
    assert (answer.kind, answer.step_id) == ("sleep", "pause")


async def test_a_subject_that_was_deleted_and_returns_comes_in_by_the_same_entry_again(at_work: Running) -> None:
    world = at_work.world
    contract = Contract(name="Plan", event_name="upgraded", predicate=None, entry_key_path="plan")
    await world.do(trigger_contracts.create, "upgraded", contract)
    await at_work.publish(BYE, triggerContractId="upgraded")
    ingest = Ingest(world.transactions)

    async def upgrade(event_id: str) -> None:
        event = Event(
            event_id=event_id, name="upgraded", subject_id="ann", occurred_at=None, properties=b'{"plan":"gold"}'
        )
        await ingest.take(world.scope.project_no, [event], backfill=False)

    await upgrade("e-1")
    await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 1")
    await at_work.until("NOT EXISTS (SELECT FROM outbox)")
    workflow = at_work.client.get_workflow_handle("disp:welcome__v1__ann__gold")
    await workflow.result()
    first = await workflow.describe()
    await world.do(subjects.delete, b"s" * 32, "ann", ANY_STATE)
    await upgrade("e-2")
    await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 2")
    await at_work.until("NOT EXISTS (SELECT FROM outbox)")
    await workflow.result()

    second = await workflow.describe()
    assert second.run_id != first.run_id
    assert await second.memo_value("enrollment_id") != await first.memo_value("enrollment_id")
    assert await at_work.owner.fetchval("SELECT count(*) FROM outbox_dead") == 0


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_workflow_id_that_another_database_uses_is_set_aside(postman: Postman, is_over: bool) -> None:
    (start,) = await postman.enroll("ann")
    workflow = await postman.client.start_workflow("Stranger", id=start.workflow_id, task_queue="elsewhere")
    if is_over:
        await workflow.terminate()

    await postman.relay.tell([start])

    assert await postman.waiting() == []
    assert await postman.world.owner.fetchval("SELECT last_error FROM outbox_dead") == "ID_TAKEN"
    assert (await workflow.describe()).workflow_type == "Stranger"


async def test_a_namespace_that_turns_out_to_lack_search_attributes_runs_without_them(
    furnished: World, bare_namespace: Client, worker_pool: Pool[Record]
) -> None:
    postman = Postman(furnished, bare_namespace, worker_pool)
    told = await postman.enroll("ann", "bob")
    relay = postman.of(bare_namespace, searchable=True)

    for entry in told:
        await relay.tell([entry])

    assert await postman.waiting() == []
    for entry in told:
        history = await bare_namespace.get_workflow_handle(entry.workflow_id).fetch_history()
        started = history.events[0].workflow_execution_started_event_attributes
        assert b'"searchable":false' in started.input.payloads[0].data
        assert not started.search_attributes.indexed_fields


async def test_what_temporal_refuses_for_another_reason_is_set_aside(postman: Postman) -> None:
    (start,) = await postman.enroll("ann")

    await postman.of(postman.client, searchable=True).tell([replace(start, workflow_id="x" * 2000)])

    assert await postman.waiting() == []
    assert await postman.world.owner.fetchval("SELECT last_error FROM outbox_dead") == "INVALID_ARGUMENT"


async def test_a_poke_of_one_that_cannot_run_and_takes_no_more_of_them_is_done_with(
    furnished: World,
    session_directory: Path,
    database: str,
    worker_pool: Pool[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 10,000, where it is not set.
    async with temporal_with(session_directory, monkeypatch, history__maximumSignalsPerExecution=3) as address:
        client = await connect(Target(address=address))
        postman = Postman(furnished, client, worker_pool)
        (start,) = await postman.enroll("ann")
        await postman.relay.tell([start])
        executions = Executions(client, eager=False, searchable=False)
        before = [await executions.poke(start.workflow_id) for _ in range(3)]
        await postman.end()

        await postman.relay.sweep()
        waiting = await postman.waiting()

        signals = (await postman.history(start.workflow_id)).count("WORKFLOW_EXECUTION_SIGNALED")
        async with worker(client, database, worker_pool, Switchboard()):
            assert await client.get_workflow_handle(start.workflow_id).result() == "canceled"

    assert before == [Told.DONE] * 3
    assert signals == 3
    assert waiting == []
    assert await furnished.owner.fetchval("SELECT count(*) FROM outbox_dead") == 0


class Wire:
    """A way to Temporal that can be made to stall: what is sent arrives nowhere, and nothing is closed."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._passes = asyncio.Event()
        self._passes.set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *raised: object) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._server.close()
        await self._server.wait_closed()

    def stall(self) -> None:
        self._passes.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, calls = await asyncio.open_connection(self._host, int(self._port))
        for source, sink in ((reader, calls), (answers, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._passes.wait()
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()


async def test_a_temporal_that_does_not_answer_is_not_waited_for_for_ever(
    postman: Postman, temporal_address: str
) -> None:
    told = await postman.enroll("ann", "bob")
    async with Wire(temporal_address) as wire:
        client = await connect(Target(address=wire.address, namespace=postman.client.namespace))
        wire.stall()

        await asyncio.wait_for(postman.of(client, patience=timedelta(seconds=1)).tell(told), 5)

    assert [kind for kind, error in await postman.waiting() if error is not None] == ["start", "start"]


async def test_a_call_and_its_repeats_take_no_longer_than_is_said(
    postman: Postman, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "CALL_TIMEOUT", timedelta(seconds=1))
    (start,) = await postman.enroll("ann")
    async with Wire(temporal_address) as wire:
        client = await connect(Target(address=wire.address, namespace=postman.client.namespace))
        wire.stall()

        # The SDK would repeat a call for ten seconds, each of so many.
        await asyncio.wait_for(postman.of(client, patience=timedelta(seconds=30)).tell([start]), 5)

    assert await postman.waiting() == [("start", "TimeoutError")]


async def test_however_long_temporal_is_away_what_is_to_be_told_is_told_soon_after_its_return(
    postman: Postman, temporal_address: str
) -> None:
    await postman.enroll(*(f"s{n}" for n in range(40)))
    async with Wire(temporal_address) as wire:
        client = await connect(Target(address=wire.address, namespace=postman.client.namespace))
        wire.stall()
        cut_off = postman.of(client, patience=timedelta(seconds=0.2))
        for _ in range(8):
            await postman.leases_run_out()
            swept = await cut_off.sweep()

    latest = await postman.world.owner.fetchval("SELECT max(leased_until - now()) FROM outbox")
    assert (swept.taken, swept.told) == (40, 0)
    assert timedelta(seconds=1) < latest <= SLOWEST_AWAY

    await postman.leases_run_out()
    swept = await postman.relay.sweep()

    assert (swept.taken, swept.told) == (40, 40)
    assert await postman.waiting() == []
