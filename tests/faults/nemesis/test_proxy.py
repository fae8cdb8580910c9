"""The proxy does what it is told to: what is shown with it rests on that."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.nemesis.proxy import Link, Proxy

#: Within this something arrives that is not held up, in seconds; and so long it is watched that nothing does.
SOON, WHILE = 5.0, 0.3


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of one who says everything back."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[:2]) as between:
        yield between
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def said_back(reader: StreamReader, writer: StreamWriter, text: bytes) -> float:
    """How long it took, in seconds."""
    began = asyncio.get_running_loop().time()
    writer.write(text)
    async with asyncio.timeout(SOON):
        assert await reader.readexactly(len(text)) == text
    return asyncio.get_running_loop().time() - began


async def hears_nothing(reader: StreamReader) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), WHILE)


async def test_it_says_what_it_is_told_in_both_directions_and_each_end_of_a_connection(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await said_back(reader, writer, b"a" * 300_000)
        writer.write_eof()

        assert await asyncio.wait_for(reader.read(), SOON) == b""
    assert proxy.tried == 1


async def test_a_cut_resets_who_is_connected_and_who_comes_until_it_is_mended(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await said_back(reader, writer, b"hello")
        proxy.set(Link(cut=True))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), SOON)
    async with connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), SOON)
    proxy.set(Link())
    async with connected(proxy) as (reader, writer):
        await said_back(reader, writer, b"again")
    assert proxy.tried == 3


async def test_in_silence_nothing_arrives_and_afterwards_everything(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer), connected(proxy) as (other, ending):
        await said_back(reader, writer, b"before")
        await said_back(other, ending, b"before")
        proxy.set(Link(silent=True))
        writer.write(b"meanwhile")
        ending.write_eof()
        async with connected(proxy) as (late, asking):
            asking.write(b"late")
            await asyncio.gather(*(hears_nothing(one) for one in (reader, other, late)))
            proxy.set(Link())

            assert await asyncio.wait_for(reader.readexactly(9), SOON) == b"meanwhile"
            assert await asyncio.wait_for(late.readexactly(4), SOON) == b"late"
            assert await asyncio.wait_for(other.read(), SOON) == b""


async def test_who_was_silenced_can_be_cut_off(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await said_back(reader, writer, b"before")
        proxy.set(Link(silent=True))
        writer.write(b"meanwhile")
        proxy.set(Link(cut=True))

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), SOON)


async def test_a_delay_is_there_both_ways_and_goes_with_the_link(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.set(Link(delay=0.1))
        assert await said_back(reader, writer, b"hello") >= 0.2
        proxy.set(Link())
        assert await said_back(reader, writer, b"hello") < 0.2


async def test_a_narrow_link_takes_its_time(proxy: Proxy) -> None:
    proxy.set(Link(rate=100_000, piece=1_000))
    async with connected(proxy) as (reader, writer):
        assert await said_back(reader, writer, b"a" * 20_000) >= 0.2


async def test_a_link_of_pieces_says_no_more_at_once(proxy: Proxy) -> None:
    proxy.set(Link(piece=3, rate=1_000))
    async with connected(proxy) as (reader, writer):
        writer.write(b"a" * 30)
        first = await asyncio.wait_for(reader.read(1_000), SOON)

        assert 0 < len(first) < 30
        assert first + await asyncio.wait_for(reader.readexactly(30 - len(first)), SOON) == b"a" * 30


async def test_a_limit_ends_a_connection_in_the_middle_of_what_is_said(proxy: Proxy) -> None:
    proxy.set(Link(limit=100_000))
    async with connected(proxy) as (reader, writer):
        writer.write(b"a" * 200_000)
        heard = bytearray()
        with pytest.raises(ConnectionResetError):
            while piece := await asyncio.wait_for(reader.read(1_000), SOON):
                heard += piece

    assert len(heard) < 100_000


async def test_the_end_of_a_connection_can_linger(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await said_back(reader, writer, b"hello")
        proxy.set(Link(linger=WHILE))
        began = asyncio.get_running_loop().time()
        writer.write_eof()

        assert await asyncio.wait_for(reader.read(), SOON) == b""
        assert asyncio.get_running_loop().time() - began >= WHILE


async def test_whoever_is_not_there_behind_it_resets(tmp_path: Path) -> None:
    async with Proxy(tmp_path / "nobody") as proxy, connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), SOON)


async def test_a_socket_with_a_path_lies_behind_it_as_well(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(echo, tmp_path / "s")
    async with Proxy(tmp_path / "s") as proxy, connected(proxy) as (reader, writer):
        await said_back(reader, writer, b"hello")
    server.close()
    await server.wait_closed()
