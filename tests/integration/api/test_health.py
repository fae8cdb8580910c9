"""Readiness follows Postgres through every way in which a connection can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.api.health import Health
from orchestrator.api.health_service import HealthService
from tests.eventually import eventually


class Relay:
    """Stands between a client and Postgres, and can speak in Postgres' name."""

    def __init__(self, database: str) -> None:
        self._database = urlsplit(database)
        self._clients: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.dsn = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.dsn = f"postgresql://{self._database.username}@127.0.0.1:{port}{self._database.path}?sslmode=disable"
        async with server:
            yield self
            for client in self._clients:
                client.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def last_words(self) -> None:
        """Tell the clients that their session is over, and keep the line open."""
        fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
        for client in self._clients:
            client.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
            await client.drain()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = parse_qs(self._database.query)
        if "host" in query:
            port = query.get("port", [self._database.port or 5432])[0]
            there = await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{port}")
        else:
            there = await asyncio.open_connection(self._database.hostname, self._database.port)
        self._clients.append(writer)
        for source, sink in ((reader, there[1]), (there[0], writer)):
            self._tasks.add(asyncio.create_task(_pass_on(source, sink)))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with closing(sink):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()


async def test_a_connection_that_has_spoken_its_last_words_is_left_for_a_new_one(database: str) -> None:
    async with Relay(database).open() as relay:
        health = Health(relay.dsn, [], temporal_answers=None)
        with closing(health):
            await health.look()
            assert health.state.ready

            async def looks_ready() -> bool:
                await health.look()
                return health.state.ready

            async def looks_away() -> bool:
                return not await looks_ready()

            await relay.last_words()
            await eventually(looks_away)
            await eventually(looks_ready)


async def test_a_probe_that_fails_as_nobody_foresaw_is_loud_and_the_watch_goes_on(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def answers() -> bool:
        nonlocal asked
        asked += 1
        raise LookupError("nobody foresaw this")

    health = Health(database, [], temporal_answers=answers)
    watch = asyncio.create_task(health.watch())
    with closing(health):
        await eventually(lambda: health.state.ready and health.state.degraded and asked >= 2)
        watch.cancel()
        await asyncio.wait([watch])

    assert "temporal was asked in vain" in caplog.messages


class Stumbling(HealthService):
    """Fails the first time it is told something."""

    told = 0

    def tell(self, status: int) -> None:
        self.told += 1
        if self.told == 1:
            raise RuntimeError("not now")
        super().tell(status)


async def test_what_fails_after_a_probe_is_loud_and_the_watch_goes_on(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health(database, [], temporal_answers=None)
    health.servicer = servicer = Stumbling([])
    watch = asyncio.create_task(health.watch())
    with closing(health):
        await eventually(lambda: servicer.told >= 2)
        watch.cancel()
        await asyncio.wait([watch])

    assert "a probe failed, the next one tries again" in caplog.messages
