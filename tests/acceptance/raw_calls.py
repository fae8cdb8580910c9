"""Calls of both transports with whatever bytes a test likes, and one way to tell how they ended."""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from google.protobuf.descriptor import MethodDescriptor

from orchestrator.v1.delivery_service_pb2 import ReportDeliveriesResponse
from orchestrator.v1.event_pb2 import EventResult
from orchestrator.v1.event_service_pb2 import IngestEventsResponse
from tests.integration.api.callers import GrpcCaller, Refused, refused_by

OK = "OK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended. `faults` are (path, reason); of items that stand for themselves, theirs.

    `told` is everything that the caller was told, as text.
    """

    code: str
    reason: str = ""
    faults: tuple[tuple[str, str], ...] = ()
    told: str = ""
    response: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """`path` is percent-encoded and has the query. `withheld`: so many bytes of a body are announced and not sent."""

    verb: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    withheld: int = 0


class RawHttp:
    """Connections to one server that are kept, and send paths and bodies as they are."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._places = asyncio.Semaphore(size)
        self._idle: list[tuple[StreamReader, StreamWriter]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()

    async def document(self, key: str, verb: str, path: str, body: Any = None) -> Any:
        """The JSON answer of a call that succeeds."""
        text = None if body is None else json.dumps(body).encode()
        status, _, answer = await self.send(HttpRequest(verb=verb, path=path, body=text), key)
        assert status == 200, (verb, path, answer)
        return json.loads(answer)

    async def call(self, rpc: str, request: HttpRequest, key: str | None) -> Outcome:
        status, headers, body = await self.send(request, key)
        if status == 200:
            document = json.loads(body)
            return _item_outcome(document) if rpc in _WITH_ITEMS else Outcome(code=OK, response=document)
        assert headers["content-type"] == "application/json", body[:200]
        return outcome_of(refused_by(httpx.Response(status, content=body)))

    async def send(self, request: HttpRequest, key: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body."""
        body = request.body or b""
        lines = [
            f"{request.verb} {request.path} HTTP/1.1",
            "Host: test",
            f"Content-Length: {len(body) + request.withheld}",
        ]
        lines += [f"{name}: {value}" for name, value in request.headers]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        head = "\r\n".join(lines).encode("latin-1")
        async with self._places, self._connection() as (reader, writer):
            writer.write(head + b"\r\n\r\n" + body)
            status, headers, answer = await _answer(reader)
            if headers.get("connection") == "close":
                writer.close()
            return status, headers, answer

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        reader, writer = self._kept() or await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield reader, writer
        except BaseException:
            writer.close()
            raise
        if not writer.is_closing():
            self._idle.append((reader, writer))

    def _kept(self) -> tuple[StreamReader, StreamWriter] | None:
        """One that the server has not closed because nobody used it for a while."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None


async def _answer(reader: StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(status.split(" ")[1]), headers, body


#: Answers that say of each item what became of it.
_WITH_ITEMS: dict[str, type[IngestEventsResponse] | type[ReportDeliveriesResponse]] = {
    "IngestEvents": IngestEventsResponse,
    "ReportDeliveries": ReportDeliveriesResponse,
}


async def call_grpc(caller: GrpcCaller, rpc: MethodDescriptor, message: bytes, key: str | None) -> Outcome:
    """Send these bytes as the request."""
    try:
        response = await caller.raw(rpc, message, key=key)
    except Refused as refused:
        return outcome_of(refused)
    if rpc.name in _WITH_ITEMS:
        return _item_outcome_of_message(_WITH_ITEMS[rpc.name].FromString(response))
    return Outcome(code=OK, response=response)


def outcome_of(refused: Refused) -> Outcome:
    told = f"{refused.message} {refused.metadata} {refused.resource}"
    return Outcome(code=refused.code, reason=refused.reason, faults=tuple(refused.violations), told=told)


def _item_outcome(document: dict[str, Any]) -> Outcome:
    faults = [
        (violation["path"], violation["reason"])
        for result in document.get("results", [])
        for violation in result.get("violations", [])
    ]
    return _rejected(faults, document)


def _item_outcome_of_message(response: IngestEventsResponse | ReportDeliveriesResponse) -> Outcome:
    faults = [(v.path, v.reason) for result in response.results for v in result.violations]
    statuses = {result.status for result in response.results}
    # The same number in both enums.
    assert (EventResult.STATUS_REJECTED in statuses) == bool(faults), "rejected is what has violations"
    return _rejected(faults, response)


def _rejected(faults: list[tuple[str, str]], response: Any) -> Outcome:
    if not faults:
        return Outcome(code=OK, response=response)
    return Outcome(code="INVALID_ARGUMENT", reason=faults[0][1], faults=tuple(faults), response=response)
