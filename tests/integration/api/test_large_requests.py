"""Megabytes in one request: whoever else calls waits no longer for it than for any other."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import orjson
import pytest
from google.protobuf.message import Message

from orchestrator.api.field_limits import MAX_BATCH_BYTES
from orchestrator.api.json_decode import decode
from orchestrator.server import Listening
from orchestrator.v1 import bundle_service_pb2, event_service_pb2, pinpoint_service_pb2, subject_service_pb2
from tests.integration.api.conftest import OWNER_KEY, Serve

Json = dict[str, Any]

#: Seconds of the loop's own, between two turns of somebody else.
BAR = 0.05
SIZE = MAX_BATCH_BYTES // 4


def members(count: int) -> Json:
    return {f"p{number}": {"text": "x" * 60, "number": number, "list": [1, "2", None]} for number in range(count)}


def event(number: int) -> Json:
    return {"eventId": f"e-{number}", "name": "bought", "subjectId": f"s-{number % 300}", "properties": members(30)}


def subject(number: int) -> Json:
    return {"id": f"s-{number}", "attributes": members(30)}


def journey(number: int) -> Json:
    leaf = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "x" * 20}
    steps: list[Json] = []
    for place in range(0, 40, 2):
        following = f"wait-{place + 2}" if place < 38 else "end"
        arm = {"id": "arm", "when": {"kind": "and", "clauses": [leaf] * 4}, "next": following}
        steps.append({"id": f"wait-{place}", "wait": {"duration": "1d"}, "next": f"ask-{place}"})
        steps.append({"id": f"ask-{place}", "branch": {"arms": [arm], "otherwise": "end"}})
    end = {"id": "end", "exit": {"reason": "done"}}
    return {"id": f"j-{number}", "name": f"J {number}", "status": "draft", "steps": [*steps, end]}


def export(number: int) -> Json:
    activities: Json = {
        f"a{place}": {"Wait": {"WaitTime": {"WaitFor": "PT1H"}, "NextActivity": f"a{place + 1}"}} for place in range(60)
    }
    activities["a60"] = {"Wait": {"WaitTime": {"WaitFor": "PT1H"}}, "Description": "y" * 200}
    shown = {"Id": f"j{number}", "Name": f"J {number}", "State": "ACTIVE", "StartActivity": "a0"}
    return {"JourneyResponse": {**shown, "Activities": activities}}


def filled(one: Callable[[int], Json]) -> list[Json]:
    """As many as make a request of SIZE."""
    count = SIZE // len(orjson.dumps(one(0)))
    return [one(number) for number in range(min(count, 1000))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """A call by HTTP, whose body is all of the request or its `member`, and by gRPC."""

    path: str
    service: str
    request: type[Message]
    body: Callable[[], Json]
    member: str = ""

    def message(self) -> Message:
        document = {self.member: self.body()} if self.member else self.body()
        message, faults = decode(self.request, document)
        assert not faults
        return message

    @property
    def rpc(self) -> str:
        return f"/orchestrator.v1.{self.service}/{self.request.DESCRIPTOR.name.removesuffix('Request')}"


LARGE = {
    "events": Large(
        path="/v1/events",
        service="EventService",
        request=event_service_pb2.IngestEventsRequest,
        body=lambda: {"events": filled(event)},
    ),
    "subjects": Large(
        path="/v1/subjects:batchUpsert",
        service="SubjectService",
        request=subject_service_pb2.BatchUpsertSubjectsRequest,
        body=lambda: {"subjects": filled(subject)},
    ),
    "bundle": Large(
        path="/v1/bundle:import",
        service="BundleService",
        request=bundle_service_pb2.ImportBundleRequest,
        body=lambda: {"formatVersion": 1, "journeys": filled(journey)[:60]},
        member="bundle",
    ),
    "exports": Large(
        path="/v1/pinpoint:translate",
        service="PinpointService",
        request=pinpoint_service_pb2.TranslatePinpointRequest,
        body=lambda: {"exports": filled(export)[:60]},
    ),
}


@contextmanager
def without_older_garbage() -> Iterator[None]:
    """What tests before this one have left is not gone through in the middle of it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@asynccontextmanager
async def longest_turn() -> AsyncIterator[list[float]]:
    """The most that this thread has computed without letting anybody else in, in seconds. Not what passed by the
    clock: others want this machine's cores, too.
    """
    most = [0.0]

    async def watch() -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            most[0] = max(most[0], time.thread_time() - began)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    yield most
    watching.cancel()


def by_http(large: Large, listening: Listening) -> int:
    """Returns how large it was, in bytes."""
    content = orjson.dumps(large.body())
    url = f"http://127.0.0.1:{listening.http_port}{large.path}"
    answer = httpx.post(url, content=content, headers={"X-Api-Key": OWNER_KEY, "X-Timeout-Ms": "60000"}, timeout=60)
    assert answer.is_success, answer.text[:500]
    return len(content)


def by_grpc(large: Large, listening: Listening) -> int:
    content = large.message().SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{listening.grpc_port}") as channel:
        unary: Any = channel.unary_unary(large.rpc)
        unary(content, metadata=(("x-api-key", OWNER_KEY),), timeout=60)
    return len(content)


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("call", [by_http, by_grpc])
async def test_a_large_request_holds_up_nobody(
    serve: Serve, what: str, call: Callable[[Large, Listening], int]
) -> None:
    async with serve() as served:
        with without_older_garbage():
            async with longest_turn() as most:
                size = await asyncio.to_thread(call, LARGE[what], served.listening)

    assert size > 2**17
    assert most[0] < BAR, f"{most[0] * 1000:.0f} ms"
