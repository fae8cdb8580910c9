"""One trace from a call to a provider, on the real parts: spans come to a receiver over real sockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from orchestrator import otlp, traces
from orchestrator.client import messages
from orchestrator.server import running
from tests.eventually import eventually
from tests.integration.api.callers import GrpcCaller, Refused
from tests.integration.api.conftest import OWNER_KEY, settings_of
from tests.otlp import PROMPTLY, Received, ancestry, named, receiving_traces
from tests.workflows.world import Switchboard, worker
from workers.channels.channel import ChannelUnavailable
from workers.traced_executions import TracingInterceptor
from workers.workflows.journey_execution import JourneyExecution

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Json = dict[str, Any]

#: As a caller who traces his own work sends it.
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER_TRACE = "0bf7651916cd43dd8448eb211c80319d"
INGEST = "orchestrator.v1.EventService/IngestEvents"
GET = "orchestrator.v1.SubjectService/GetSubject"


class Place:
    """A server that is traced, and who authors a journey there."""

    def __init__(self, http: httpx.AsyncClient, grpc_caller: GrpcCaller, received: Received) -> None:
        self.http = http
        self.grpc = grpc_caller
        self.received = received

    async def put(self, path: str, document: Json, **headers: str) -> None:
        answer = await self.http.post(path, json=document, headers=headers)
        assert answer.is_success, answer.text

    async def author(self, *steps: Json) -> None:
        """A journey with these steps, for whoever signs up; `said` is what it says."""
        said = {"id": "said", "name": "Said", "channel": "log", "category": "marketing"}
        await self.put("/v1/communications", said | {"subject": "hello", "body": "hello"})
        await self.put("/v1/triggerContracts", {"id": "in", "name": "In", "eventName": "signed_up"})
        journey = {"id": "hello", "name": "Hello", "triggerContractId": "in", "steps": list(steps)}
        await self.put("/v1/journeys", journey)
        await self.put("/v1/journeys/hello:publish", {})

    async def happens(self, name: str, *subject_ids: str, trace: str | None = TRACE, sampled: bool = True) -> None:
        """By HTTP, in the caller's trace."""
        events = [{"eventId": f"{name}-{one}", "name": name, "subjectId": one} for one in subject_ids]
        headers = {} if trace is None else {"traceparent": f"00-{trace}-{CALLER}-0{int(sampled)}"}
        await self.put("/v1/events", {"events": events}, **headers)


@asynccontextmanager
async def traced(database: str, client: Client) -> AsyncIterator[Place]:
    with receiving_traces() as received:
        settings = settings_of(
            database,
            temporal_address=client.service_client.config.target_host,
            temporal_namespace=client.namespace,
            otlp_endpoint=received.endpoint,
        )
        async with (
            running(settings) as server,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{server.http_port}", headers={"x-api-key": OWNER_KEY}, timeout=30
            ) as http,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        ):
            yield Place(http, GrpcCaller(channel, OWNER_KEY), received)


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in PROMPTLY.items():
        monkeypatch.setenv(name, value)


SEND: Json = {"id": "greet", "send": {"communicationId": "said"}}
BYE: Json = {"id": "bye", "exit": {}}


async def test_one_trace_leads_from_a_call_through_inbox_outbox_workflow_and_activity_to_the_provider(
    database: str, temporal: Client, worker_pool: Pool[Record]
) -> None:
    async with traced(database, temporal) as place, worker(temporal, database, worker_pool, Switchboard()):
        await place.author(SEND | {"next": "bye"}, BYE)
        await place.happens("signed_up", "ann")

        spans = await place.received.until(lambda spans: bool(named("execution", spans)), TRACE)

    (provider,) = named("provider", spans)
    assert ancestry(provider, spans) == ["provider", "send", "execution", "start", "inbox", "transaction", INGEST]
    (call,) = named(INGEST, spans)
    assert (call.parent_id, call.kind, call.failed) == (CALLER, "server", False)
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert call.attributes["orchestrator.project_id"] == "default"
    (execution,) = named("execution", spans)
    (send,) = named("send", spans)
    assert execution.attributes["orchestrator.woken_by"] == "start"
    assert send.attributes["orchestrator.step_id"] == "greet"
    assert send.attributes["orchestrator.execution_id"] == execution.attributes["orchestrator.execution_id"]
    assert call.since <= send.since <= provider.since <= provider.until <= send.until
    # To reserve and to settle.
    assert [ancestry(one, spans)[1] for one in named("transaction", spans)].count("send") == 2
    assert not [span.name for span in spans if span.failed]


@pytest.mark.parametrize("in_several_runs", [False, True])
async def test_who_is_woken_goes_on_in_the_trace_of_who_did_it_or_begins_one_and_has_a_link_to_the_start(
    in_several_runs: bool,
    database: str,
    temporal: Client,
    worker_pool: Pool[Record],
    owner: Connection[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A new run after each answer.
    monkeypatch.setattr(workflow.Info, "is_continue_as_new_suggested", lambda _: in_several_runs)
    wait = {"id": "hear", "waitFor": {"event": {"eventName": "paid"}, "timeout": "30d", "otherwise": "bye"}}
    pause = {"id": "pause", "wait": {"duration": "1s"}, "next": "greet"}
    async with traced(database, temporal) as place, worker(temporal, database, worker_pool, Switchboard()):
        await place.author(wait | {"next": "pause"}, pause, SEND | {"next": "bye"}, BYE)
        await place.happens("signed_up", "ann")
        await place.received.until(lambda spans: bool(named("execution", spans)), TRACE)
        await place.happens("paid", "ann", trace=OTHER_TRACE)

        looks = 4 if in_several_runs else 3
        spans = await place.received.until(lambda spans: len(named("execution", spans)) == looks)
        workflow_id = await owner.fetchval("SELECT workflow_id FROM executions")
        await temporal.get_workflow_handle(workflow_id).result()

    first, poked, timed, *further = named("execution", spans)
    (start,), (poke,), (provider,) = named("start", spans), named("poke", spans), named("provider", spans)
    assert [look.attributes["orchestrator.woken_by"] for look in (first, poked, timed)] == ["start", "poke", "time"]
    assert len({look.attributes["orchestrator.execution_id"] for look in (first, poked, timed)}) == 1
    assert (start.trace_id, first.links) == (TRACE, ())
    assert ancestry(poked, spans) == ["execution", "poke", "inbox", "transaction", INGEST]
    assert (poke.trace_id, poked.links) == (OTHER_TRACE, ((TRACE, start.span_id),))
    assert ancestry(provider, spans) == ["provider", "send", "execution"]
    assert provider.trace_id == (further[0] if further else timed).trace_id
    assert [look.attributes["orchestrator.woken_by"] for look in further] == ["history"] * in_several_runs
    for look in (timed, *further):
        assert (look.parent_id, look.links) == ("", ((TRACE, start.span_id),))
        assert look.trace_id not in (TRACE, OTHER_TRACE)
    # Each has asked what comes next.
    assert sorted(one.trace_id for one in named("advance", spans)) == sorted([OTHER_TRACE, timed.trace_id])
    assert poked.until < timed.since
    await _replay(temporal, workflow_id, runs=1 + 3 * in_several_runs)


async def _replay(client: Client, workflow_id: str, *, runs: int) -> None:
    """All runs are what they were, for who is traced and for who is not, and nothing is told of them again."""
    listed: set[str] = set()

    async def all_are_listed() -> bool:
        listed.update([run.run_id async for run in client.list_workflows(f"WorkflowId = '{workflow_id}'")])
        return len(listed) == runs

    await eventually(all_are_listed)
    histories = [await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history() for run_id in listed]
    with receiving_traces() as again, otlp.recording(again.endpoint, "grpc", service="replay"):
        recorder = traces.recorder()
        assert recorder is not None
        for interceptors in ([], [TracingInterceptor(recorder)]):
            replayer = Replayer(
                workflows=[JourneyExecution],
                interceptors=interceptors,
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
            for history in histories:
                await replayer.replay_workflow(history)
    assert again.messages == []


async def test_subjects_of_one_transaction_go_on_each_in_a_trace_of_its_own(
    database: str, temporal: Client, worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    async with traced(database, temporal) as place:
        await place.author(SEND | {"next": "bye"}, BYE)
        await place.happens("signed_up", "ann", "bob")
        await place.happens("signed_up", "cat", trace=OTHER_TRACE)
        await place.happens("signed_up", "dan", sampled=False)
        carried = await owner.fetch("SELECT trace FROM inbox ORDER BY inbox_no")
        async with worker(temporal, database, worker_pool, Switchboard()):
            spans = await place.received.until(lambda spans: len(named("provider", spans)) == 3)

            async def all_done() -> bool:
                return bool(await owner.fetchval("SELECT count(*) = 4 FROM executions WHERE outcome IS NOT NULL"))

            await eventually(all_done)
            spans = await place.received.until(lambda spans: len(named("execution", spans)) == 3)

    assert [row["trace"][:35] if row["trace"] else None for row in carried] == [
        f"00-{TRACE}", f"00-{TRACE}", f"00-{OTHER_TRACE}", None,
    ]  # fmt: skip
    assert [span.trace_id for span in named("provider", spans)].count(TRACE) == 2
    inboxes = named("inbox", spans)
    assert sorted(span.trace_id for span in inboxes) == [TRACE, OTHER_TRACE]
    assert len({(span.since, span.service) for span in inboxes}) == 1, "it was one transaction"


async def test_a_look_that_two_workers_have_seen_is_told_once(
    database: str, temporal: Client, worker_pool: Pool[Record]
) -> None:
    away, back = Switchboard(), Switchboard()
    away.answers = [ChannelUnavailable("http_503", in_doubt=False)] * 100
    async with traced(database, temporal) as place:
        await place.author(SEND | {"next": "bye"}, BYE)
        async with worker(temporal, database, worker_pool, away):
            await place.happens("signed_up", "ann")
            await place.received.until(lambda spans: bool(named("send", spans)), TRACE)
        async with worker(temporal, database, worker_pool, back):
            spans = await place.received.until(lambda spans: bool(named("execution", spans)), TRACE)

    (execution,), sends = named("execution", spans), named("send", spans)
    (failed, *_, _) = sends
    assert {send.parent_id for send in sends} == {execution.span_id}
    assert execution.until > sends[-1].since
    assert failed.failed
    assert failed.attributes["error.type"] == "ChannelUnavailable"
    assert failed.attributes["orchestrator.reason"] == "http_503"
    assert [send.attributes["orchestrator.attempt"] for send in sends] == list(range(1, len(sends) + 1))


async def test_what_is_refused_says_why_and_is_no_failure_of_ours_and_who_is_unknown_leaves_nothing(
    database: str, temporal: Client
) -> None:
    async with traced(database, temporal) as place:
        with pytest.raises(Refused, match="UNAUTHENTICATED"):
            await place.grpc.call(messages.GetSubjectRequest(subject_id="nobody"), key="orc_wrong")
        with pytest.raises(Refused, match="there is no subject"):
            await place.grpc.call(messages.GetSubjectRequest(subject_id="nobody"))

        spans = await place.received.until(lambda spans: bool(named(GET, spans)))

    (call,) = named(GET, spans)
    assert call.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert call.attributes["orchestrator.reason"] == "SUBJECT_NOT_FOUND"
    assert call.attributes["orchestrator.transport"] == "grpc"
    assert not call.failed
