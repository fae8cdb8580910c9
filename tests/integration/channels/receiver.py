"""A receiver of webhooks on a real socket of 127.0.0.1, which keeps what it got."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.provider.wire import Request, read_request, response

#: Given a request and the connection to answer on.
Answer = Callable[[Request, StreamWriter], Awaitable[None]]


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Always this answer; `retry_after` stands for `retry-after`."""
    answer = response(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    async def write(_: Request, writer: StreamWriter) -> None:
        writer.write(answer)

    return write


def one_after_the_other(*answers: bytes) -> Answer:
    """These whole answers, the last one for ever."""
    left = list(answers)

    async def write(_: Request, writer: StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return write


@dataclass(slots=True, kw_only=True)
class Receiver:
    """`answer` may be replaced while it runs. `connections` counts those that were made."""

    port: int
    answer: Answer
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    # Host names that TLS clients asked for
    names: list[str | None] = field(default_factory=list)


@asynccontextmanager
async def receiving(
    answer: Answer | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Receiver]:
    """A receiver until the end of the block; without `answer` it accepts everything."""
    receiver = Receiver(port=0, answer=answer or answering(204))

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        receiver.connections += 1
        try:
            while (request := await read_request(reader)) is not None:
                receiver.requests.append(request)
                await receiver.answer(request, writer)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.names.append(name)
    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
