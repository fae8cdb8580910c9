"""IngestEvents over gRPC: each event stands for itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr

from orchestrator.server import Listening, running
from orchestrator.settings import Settings
from orchestrator.storage import inbox_entries
from orchestrator.v1 import event_pb2
from orchestrator.v1 import event_service_pb2 as pb
from orchestrator.v1.event_service_pb2_grpc import EventServiceStub

if TYPE_CHECKING:
    from asyncpg import Connection, Record

ACCEPTED = event_pb2.EventResult.STATUS_ACCEPTED
DUPLICATE = event_pb2.EventResult.STATUS_DUPLICATE
REJECTED = event_pb2.EventResult.STATUS_REJECTED


KEY = "owner-key-of-an-ingest-test"

Send = Callable[..., Awaitable[pb.IngestEventsResponse]]


@pytest.fixture
async def server(database: str) -> AsyncIterator[Listening]:
    settings = Settings(database_url=database, api_key=SecretStr(KEY), grpc_port=0, http_port=0)
    async with running(settings) as listening:
        yield listening


@pytest.fixture
async def ingest(server: Listening) -> AsyncIterator[Send]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub: Any = EventServiceStub(channel)

        async def send(*events: event_pb2.Event, backfill: bool = False) -> pb.IngestEventsResponse:
            request = pb.IngestEventsRequest(events=events, backfill=backfill)
            response: pb.IngestEventsResponse = await stub.IngestEvents(
                request, metadata=(("authorization", f"Bearer {KEY}"),)
            )
            return response

        yield send


def event(event_id: str = "e1", **fields: Any) -> event_pb2.Event:
    return event_pb2.Event(**{"event_id": event_id, "name": "purchase", "subject_id": "user-1", **fields})


def properties(members: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(members)
    return struct


async def test_an_event_arrives_as_it_was_sent(ingest: Send, owner: Connection[Record]) -> None:
    members = {"amount": 12.5, "quantity": 3, "gift": True, "note": None, "tags": ["a", {"b": "ü"}], "": -0.25}
    at = datetime(2024, 2, 29, 12, 0, 0, 123_456, tzinfo=UTC)
    time = Timestamp()
    time.FromDatetime(at)
    time.nanos += 789

    response = await ingest(event(occur_time=time, properties=properties(members)))

    assert (response.accepted_count, response.duplicate_count, response.rejected_count) == (1, 0, 0)
    row = await owner.fetchrow(
        "SELECT event_id, name, subject_id, occurred_at, properties = $1::text::jsonb AS same FROM events"
        " JOIN subjects USING (bucket, subject_no) JOIN event_names USING (name_no)",
        '{"amount": 12.5, "quantity": 3, "gift": true, "note": null, "tags": ["a", {"b": "ü"}], "": -0.25}',
    )
    assert row is not None
    assert tuple(row) == ("e1", "purchase", "user-1", at, True)


async def test_a_bad_event_is_rejected_with_its_faults_and_the_others_are_taken(
    ingest: Send, owner: Connection[Record]
) -> None:
    deep: dict[str, Any] = {}
    for _ in range(24):
        deep = {"a": deep}
    bad = [
        (event("", name=""), {("events[0].eventId", "REQUIRED"), ("events[0].name", "REQUIRED")}),
        (event("e1", subject_id="not an id"), {("events[1].subjectId", "INVALID_ID")}),
        (event("e" * 129), {("events[2].eventId", "TOO_LONG")}),
        (event("e3", name="a\x00b"), {("events[3].name", "INVALID_VALUE")}),
        (event("e4", name="two\nlines"), {("events[4].name", "INVALID_VALUE")}),
        (event("e5", name=" padded"), {("events[5].name", "INVALID_VALUE")}),
        (event("e6", properties=properties({"a": "\x00"})), {("events[6].properties.a", "INVALID_VALUE")}),
        (event("e7", properties=properties({"a": math.nan})), {("events[7].properties.a", "INVALID_VALUE")}),
        (event("e8", properties=properties({"a": "x" * 70_000})), {("events[8].properties", "TOO_LARGE")}),
        (event("e9", properties=properties({str(n): n for n in range(501)})), {("events[9].properties", "TOO_LARGE")}),
        (event("e10", occur_time=Timestamp(seconds=10**11)), {("events[10].occurTime", "OUT_OF_RANGE")}),
        (event("e11", occur_time=Timestamp(nanos=-1)), {("events[11].occurTime", "INVALID_VALUE")}),
    ]
    too_deep = event("e12", properties=properties(deep))

    response = await ingest(*(message for message, _ in bad), too_deep, event("fine"), event("fine"))

    assert [result.index for result in response.results] == list(range(len(bad) + 3))
    assert [result.status for result in response.results] == [REJECTED] * (len(bad) + 1) + [ACCEPTED, DUPLICATE]
    for result, (_, faults) in zip(response.results, bad, strict=False):
        assert {(violation.path, violation.reason) for violation in result.violations} == faults
    assert [violation.reason for violation in response.results[len(bad)].violations] == ["TOO_DEEP"]
    assert (response.accepted_count, response.duplicate_count, response.rejected_count) == (1, 1, len(bad) + 1)
    assert [row[0] for row in await owner.fetch("SELECT event_id FROM events")] == ["fine"]


async def test_the_first_good_event_of_an_id_counts(ingest: Send, owner: Connection[Record]) -> None:
    response = await ingest(event("e1", name=""), event("e1"), event("e1", subject_id="user-2"))

    assert [result.status for result in response.results] == [REJECTED, ACCEPTED, DUPLICATE]
    assert [row[0] for row in await owner.fetch("SELECT subject_id FROM subjects")] == ["user-1"]


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_request_of_no_size_is_refused_as_a_whole(ingest: Send, owner: Connection[Record], count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ingest(*(event(f"e{n}") for n in range(count)))

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await owner.fetchval("SELECT count(*) FROM events") == 0


async def test_the_longest_texts_fit(ingest: Send) -> None:
    response = await ingest(event("é" * 128, name="ü" * 128, subject_id="x" * 128))

    assert response.results[0].status == ACCEPTED


async def test_many_faults_of_one_event_are_told_in_part(ingest: Send) -> None:
    response = await ingest(event(properties=properties({str(n): math.inf for n in range(100)})))

    assert len(response.results[0].violations) == 10


async def test_the_bell_rings_for_what_is_new_and_for_nothing_else(ingest: Send, owner: Connection[Record]) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await owner.add_listener(inbox_entries.CHANNEL, lambda *_: heard.put_nowait("ring"))

    await ingest(event("e1"))
    await asyncio.wait_for(heard.get(), 5)
    await ingest(event("e1"))
    await ingest(event("e2"), backfill=True)
    await asyncio.wait_for(heard.get(), 5)

    assert heard.empty()


async def test_64_equal_calls_have_the_effect_of_one(ingest: Send, owner: Connection[Record]) -> None:
    events = [event(f"e{n}", subject_id=f"user-{n % 7}") for n in range(50)]

    responses = await asyncio.gather(*(ingest(*events) for _ in range(64)))

    assert sum(response.accepted_count for response in responses) == 50
    assert sum(response.duplicate_count for response in responses) == 63 * 50
    assert await owner.fetchval("SELECT sum(total) FROM subject_event_state WHERE name_no > 0") == 50
    assert await owner.fetchval("SELECT sum(cardinality(event_nos)) FROM inbox") == 50


async def test_the_same_over_http(server: Listening, owner: Connection[Record]) -> None:
    events = [
        {"eventId": "e1", "name": "purchase", "subjectId": "user-1", "occurTime": "2024-02-29T12:00:00+02:00",
         "properties": {"amount": 5}},
        {"eventId": "e2", "name": "purchase", "subjectId": 5},
        {"eventId": "e1", "name": "purchase", "subjectId": "user-1"},
    ]  # fmt: skip
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}", headers={"X-Api-Key": KEY}) as http:
        response = await http.post("/v1/events", json={"events": events})

    assert response.status_code == 200
    answer = response.json()
    assert (answer["acceptedCount"], answer["duplicateCount"], answer["rejectedCount"]) == (1, 1, 1)
    assert [result["status"] for result in answer["results"]] == ["accepted", "rejected", "duplicate"]
    assert [(v["path"], v["reason"]) for v in answer["results"][1]["violations"]] == [
        ("events[1].subjectId", "INVALID_TYPE")
    ]
    assert await owner.fetchval("SELECT occurred_at FROM events") == datetime(2024, 2, 29, 10, tzinfo=UTC)
