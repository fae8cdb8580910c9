"""What the pipeline does around a handler, seen by handlers of the test's own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from prometheus_client import CollectorRegistry

from orchestrator.api.admission_control import Admission, Bounds
from orchestrator.api.auth import Authentication
from orchestrator.api.call import Call, own_transactions
from orchestrator.api.client_certificates import AllowedClients
from orchestrator.api.errors import Failure, MalformedRequest
from orchestrator.api.message_check import check_message
from orchestrator.api.methods import Method, services, table
from orchestrator.api.metrics import CallMetrics
from orchestrator.api.pipeline import LARGE, Arrival, Pipeline, Read
from orchestrator.api.policy import POLICY
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Role
from orchestrator.v1 import event_service_pb2, trigger_contract_pb2
from orchestrator.v1 import trigger_contract_service_pb2 as pb
from tests.eventually import eventually
from tests.integration.api.conftest import Keys

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Work = Callable[[Call], Awaitable[None]]

INSERT = "INSERT INTO event_names (project_no, name) VALUES ($1, 'bought')"


class Handlers:
    """Does what the test says in whatever RPC is called."""

    def __init__(self) -> None:
        self.work: Work | None = None

    async def _do(self, call: Call) -> None:
        assert self.work is not None
        await self.work(call)

    async def ListTriggerContracts(self, request: Message, call: Call) -> Message:  # noqa: N802
        await self._do(call)
        return pb.ListTriggerContractsResponse()

    async def GetTriggerContract(self, request: Message, call: Call) -> Message:  # noqa: N802
        await self._do(call)
        return pb.GetTriggerContractResponse()

    async def CreateTriggerContract(self, request: Message, call: Call) -> Message:  # noqa: N802
        await self._do(call)
        return pb.CreateTriggerContractResponse()

    async def UpdateTriggerContract(self, request: Message, call: Call) -> Message:  # noqa: N802
        await self._do(call)
        return pb.UpdateTriggerContractResponse()

    async def DeleteTriggerContract(self, request: Message, call: Call) -> Message:  # noqa: N802
        await self._do(call)
        return pb.DeleteTriggerContractResponse()

    @own_transactions
    async def IngestEvents(self, request: Message, call: Call) -> Message:  # noqa: N802
        await self._do(call)
        return event_service_pb2.IngestEventsResponse()


class Bench:
    """A pipeline, its handlers, and a key."""

    def __init__(self, keys: Keys, key: str) -> None:
        self.handlers = Handlers()
        declared = [s for s in services() if s.name in ("TriggerContractService", "EventService")]
        names = {f"{service.full_name}/{rpc.name}" for service in declared for rpc in service.methods}
        methods = table(declared, {name: POLICY[name] for name in names}, [self.handlers])
        self.methods: dict[str, Method] = {method.rpc: method for method in methods.values()}
        self.pipeline = Pipeline(
            authentication=Authentication(keys.transactions, keys.secret),
            transactions=keys.transactions,
            metrics=CallMetrics(CollectorRegistry(), methods.values()),
            admission=Admission(Bounds(calls=10, calls_of_key=10, heavy=10)),
            clients=AllowedClients(()),
        )
        self._key = key

    async def call(self, request: Message, work: Work, *, time_left: float | None = None) -> bytes | Failure:
        self.handlers.work = work

        async def read() -> Read:
            return Read(request, check_message(request))

        return await self.pipeline.serve(
            Arrival(
                method=self.methods[request.DESCRIPTOR.name.removesuffix("Request")],
                transport="test",
                peer="",
                key=self._key,
                as_bearer=True,
                call_id="call-1",
                time_left=time_left,
                read=read,
            )
        )


@pytest.fixture
async def bench(keys: Keys) -> Bench:
    await keys.project("default")
    return Bench(keys, await keys.admit(Role.OWNER))


def creation(**further: str | bool) -> pb.CreateTriggerContractRequest:
    contract = trigger_contract_pb2.TriggerContract(name="Bought", event_name="bought")
    return pb.CreateTriggerContractRequest(trigger_contract=contract, **further)  # type: ignore[arg-type]


async def insert(call: Call) -> None:
    await call.conn.execute(INSERT, call.scope.project_no)


async def inserted(owner: Connection[Record]) -> int:
    count: int = await owner.fetchval("SELECT count(*) FROM event_names")
    return count


async def test_a_large_request_is_read_beside_everybody_else_and_after_those_before_it(bench: Bench) -> None:
    others_went_on = threading.Event()
    reading = most = 0

    def make(body: bytes) -> int:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        assert others_went_on.wait(timeout=20), "whoever reads it keeps the loop"
        reading -= 1
        return len(body)

    large = bytes(LARGE + 1)
    readings = [asyncio.create_task(bench.pipeline.made(make, large)) for _ in range(5)]
    await eventually(lambda: reading > 0)
    small = await bench.pipeline.made(len, bytes(LARGE))
    served = await bench.call(creation(), insert)
    others_went_on.set()

    assert await asyncio.gather(*readings) == [LARGE + 1] * 5
    assert (small, most) == (LARGE, 1)
    assert not isinstance(served, Failure)


async def test_what_is_wrong_with_a_large_request_is_told_like_that_of_any_other(bench: Bench) -> None:
    def make(body: bytes) -> None:
        raise MalformedRequest("no such thing")

    for size in (LARGE, LARGE + 1):
        with pytest.raises(MalformedRequest):
            await bench.pipeline.made(make, bytes(size))


async def test_an_error_nobody_foresaw_is_logged_and_tells_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, owner: Connection[Record]
) -> None:
    async def work(call: Call) -> None:
        await insert(call)
        raise KeyError("ann@example.com")

    with caplog.at_level(logging.INFO):
        answer = await bench.call(creation(), work)

    assert isinstance(answer, Failure)
    assert (answer.code, answer.reason, answer.message) == (
        StatusCode.INTERNAL,
        "INTERNAL",
        "an internal error occurred",
    )
    assert await inserted(owner) == 0
    logged = {record.getMessage(): vars(record) for record in caplog.records}
    assert logged["unexpected error"]["call_id"] == logged["call"]["call_id"] == "call-1"
    assert logged["call"]["code"] == "INTERNAL"


async def test_callbacks_run_after_the_commit_beside_the_answer(bench: Bench, owner: Connection[Record]) -> None:
    seen: list[int] = []
    go_on = asyncio.Event()

    async def callback() -> None:
        await go_on.wait()
        seen.append(await inserted(owner))

    async def fail() -> None:
        raise RuntimeError("nobody is told")

    async def work(call: Call) -> None:
        call.after_commit(fail)
        call.after_commit(callback)
        await insert(call)

    assert isinstance(await bench.call(creation(), work), bytes)
    assert seen == []
    go_on.set()
    await bench.pipeline.close()
    assert seen == [1]


@pytest.mark.parametrize("request_id", ["", "r-1"])
async def test_callbacks_of_what_was_undone_never_run(bench: Bench, request_id: str) -> None:
    ran: list[bool] = []

    async def callback() -> None:
        ran.append(True)

    async def refuse(call: Call) -> None:
        call.after_commit(callback)
        raise NotFound("THING_NOT_FOUND", "no such thing")

    async def rehearse(call: Call) -> None:
        assert call.validate_only
        call.after_commit(callback)

    refused = await bench.call(creation(request_id=request_id), refuse)
    rehearsed = await bench.call(creation(request_id=request_id, validate_only=True), rehearse)
    await bench.pipeline.close()

    assert isinstance(refused, Failure)
    assert isinstance(rehearsed, bytes)
    assert ran == []


async def test_a_repeat_does_not_reach_the_handler(bench: Bench) -> None:
    calls: list[str] = []

    async def work(call: Call) -> None:
        calls.append(call.request_id)

    for _ in range(3):
        await bench.call(creation(request_id="r-1"), work)

    assert calls == ["r-1"]


async def test_reading_calls_have_a_connection_and_no_transaction(bench: Bench) -> None:
    async def work(call: Call) -> None:
        assert not call.conn.is_in_transaction()
        assert await call.conn.fetchval("SELECT current_setting('app.project_no')") == "1"

    assert isinstance(await bench.call(pb.ListTriggerContractsRequest(), work), bytes)


async def test_changing_calls_are_inside_their_transaction(bench: Bench) -> None:
    async def work(call: Call) -> None:
        assert call.conn.is_in_transaction()

    assert isinstance(await bench.call(creation(), work), bytes)


async def test_a_handler_with_transactions_of_its_own_has_no_connection(
    bench: Bench, owner: Connection[Record]
) -> None:
    rang: list[int] = []

    async def ring() -> None:
        rang.append(await inserted(owner))

    async def work(call: Call) -> None:
        with pytest.raises(RuntimeError, match="owns its transactions"):
            _ = call.conn
        async with call.transactions.write(call.scope.project_no) as conn:
            await conn.execute(INSERT, call.scope.project_no)
        call.after_commit(ring)

    request = event_service_pb2.IngestEventsRequest()
    request.events.add(event_id="e-1", name="bought", subject_id="ann")
    assert isinstance(await bench.call(request, work), bytes)
    await bench.pipeline.close()
    assert rang == [1]


async def test_faults_of_single_items_reach_the_handler_and_others_do_not(bench: Bench) -> None:
    seen: list[list[int]] = []

    async def work(call: Call) -> None:
        seen.append(sorted(call.item_faults))

    request = event_service_pb2.IngestEventsRequest()
    for subject_id in ("ann", "not an id", "bob"):
        request.events.add(event_id="e-1", name="bought", subject_id=subject_id)

    assert isinstance(await bench.call(request, work), bytes)
    empty = await bench.call(event_service_pb2.IngestEventsRequest(), work)

    assert seen == [[1]]
    assert isinstance(empty, Failure)
    assert [(fault.path, fault.reason) for fault in empty.faults] == [("events", "REQUIRED")]


async def test_a_call_that_is_out_of_time_is_stopped(bench: Bench, owner: Connection[Record]) -> None:
    async def work(call: Call) -> None:
        await insert(call)
        await asyncio.Event().wait()

    answer = await bench.call(creation(), work, time_left=0.1)

    assert isinstance(answer, Failure)
    assert (answer.code, answer.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert await inserted(owner) == 0


async def test_a_timeout_of_the_handlers_own_is_not_the_callers_deadline(bench: Bench) -> None:
    async def work(call: Call) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    answer = await bench.call(creation(), work, time_left=5)

    assert isinstance(answer, Failure)
    assert answer.code is StatusCode.UNAVAILABLE
