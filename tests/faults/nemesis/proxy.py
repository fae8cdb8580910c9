"""A TCP proxy between two parts of a run: what lies between can be cut, silenced, delayed and narrowed at any time.

async with Proxy(upstream) as proxy:
    proxy.set(Link(delay=0.2))   # from the next piece on, of connections that there are and of those to come
    proxy.set(Link(cut=True))    # all are reset, and so is whoever comes
    proxy.set(Link())            # as if there were no proxy
"""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from orchestrator.devstack.ports import LOOPBACK

#: Where connections lead: host and port, or the path of a socket.
Upstream = tuple[str, int] | Path

_READ = 64 * 1024
#: Closed with this, a socket sends RST, and drops what it has not sent.
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What lies between. `cut`: whoever is connected is reset, and whoever comes. `silent`: nothing arrives, also no
    connection and no end of one, until it is so no more; then all arrives. `delay` and `linger`: seconds later that
    what was said arrives, and the end of a connection. `rate`: bytes a second, each way; with it, `piece`: bytes that
    arrive at once, at most. `limit`: a connection is reset as soon as so many bytes have passed, both ways together.
    """

    cut: bool = False
    silent: bool = False
    delay: float = 0.0
    linger: float = 0.0
    rate: float | None = None
    piece: int | None = None
    limit: int | None = None


class _TooMuch(ConnectionError):
    """More than the link's limit has passed."""


@dataclass(slots=True, eq=False)
class _Talk:
    """A connection, with both of its ends."""

    task: asyncio.Task[None]
    writers: list[StreamWriter] = field(default_factory=list)
    passed: int = 0

    def reset(self) -> None:
        for writer in self.writers:
            sock: Any = writer.get_extra_info("socket")
            if sock.family != socket.AF_UNIX and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()


class Proxy:
    """Listens on the loopback address, on `port`, as long as the block lasts. `tried`: connections that were asked for
    so far, whether there came to be one or not.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.port = 0
        self.tried = 0
        self._link = Link()
        self._audible = asyncio.Event()
        self._audible.set()
        self._talks: set[_Talk] = set()

    @property
    def link(self) -> Link:
        return self._link

    def set(self, link: Link) -> None:
        """So it is from now on."""
        self._link = link
        if link.silent:
            self._audible.clear()
        else:
            self._audible.set()
        if link.cut:
            for talk in self._talks:
                talk.task.cancel()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = [talk.task for talk in self._talks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.tried += 1
        task = asyncio.current_task()
        assert task is not None
        talk = _Talk(task, [writer])
        self._talks.add(talk)
        try:
            if self._link.cut:
                raise ConnectionResetError
            await self._audible.wait()
            there, back = await self._open()
            talk.writers.append(back)
            both = (self._carry(reader, back, talk), self._carry(there, writer, talk))
            await _both([asyncio.ensure_future(one) for one in both])
        except (OSError, asyncio.CancelledError):
            # Whoever cancels is the one who cuts, or the end of the proxy.
            talk.reset()
        finally:
            self._talks.discard(talk)
            for one in talk.writers:
                one.close()

    async def _open(self) -> tuple[StreamReader, StreamWriter]:
        if isinstance(self.upstream, Path):
            return await asyncio.open_unix_connection(self.upstream)
        return await asyncio.open_connection(*self.upstream)

    async def _carry(self, reader: StreamReader, writer: StreamWriter, talk: _Talk) -> None:
        """What one end says reaches the other, and its end behind it."""
        while data := await reader.read(_READ):
            await self._audible.wait()
            await asyncio.sleep(self._link.delay)
            for piece in _pieces(data, self._link.piece):
                await self._audible.wait()
                link = self._link
                if link.rate is not None:
                    await asyncio.sleep(len(piece) / link.rate)
                talk.passed += len(piece)
                writer.write(piece)
                if link.limit is not None and talk.passed >= link.limit:
                    raise _TooMuch
                await writer.drain()
        await self._audible.wait()
        await asyncio.sleep(self._link.linger)
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()


async def _both(ways: list[asyncio.Future[None]]) -> None:
    """Until both have come to their end, or one has failed, with which the other one ends. Raises its error."""
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        for way in done:
            way.result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


def _pieces(data: bytes, size: int | None) -> Iterator[bytes]:
    if size is None:
        yield data
        return
    for at in range(0, len(data), size):
        yield data[at : at + size]
