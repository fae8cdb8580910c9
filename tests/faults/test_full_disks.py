"""Disks are full: that of Postgres' tables, that of its log, that of Temporal. What was acknowledged is there
afterwards, what can be answered without room is answered, and all goes on by itself as soon as there is room.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import asyncpg
import httpx
import pytest

from orchestrator.devstack.postgres import OWNER, SUPERUSER, EmbeddedPostgres
from orchestrator.devstack.stack import POSTGRES, Stack
from tests.eventually import eventually
from tests.faults.field import RECOVERY, Field, field_on
from tests.faults.own_stack import own_stack
from tests.faults.small_disk import SmallDisk, small_disk
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300), in_soak_alone]

MIB = 2**20
#: Seconds: in which a call is told that there is no room, and in which all are served again once there is.
TOLD, SERVED = 1.0, 10.0
#: People who are on their way when the disk is full.
BEFORE = 40
#: For how long it is full, in seconds.
FULL = 5.0


class Signups:
    """People who come all the time; `arrived`: those whom the server has acknowledged."""

    def __init__(self, field: Field) -> None:
        self.arrived: list[str] = []
        self._field = field
        self._over = False
        self._numbers = count()

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """As long as the block lasts, and until all who have come have been answered."""
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self._come())
            await eventually(lambda: len(self.arrived) >= BEFORE, within=RECOVERY)
            yield
            self._over = True

    async def _come(self) -> None:
        while not self._over:
            number = 2 * next(self._numbers)
            two = [f"p-{number}", f"p-{number + 1}"]
            await self._field.sign_up(two)
            self.arrived += two


async def test_the_disk_of_the_tables_is_full(session_directory: Path, tmp_path: Path) -> None:
    data = session_directory / "tables"
    with small_disk(session_directory / "disk-of-tables", 512 * MIB) as disk:
        await cluster_in_part_on(data / POSTGRES, "base", disk)
        async with Stack(own_stack(data)) as stack, field_on(stack, tmp_path) as field:
            await field.furnish()
            signups = Signups(field)
            async with signups.coming():
                session = await field.owner()
                disk.fill()
                answer, took = await until_refused(field)
                read = await field.http.get("/v1/journeys/welcome")
                still = await session.fetchval("SELECT 1")
                await asyncio.sleep(FULL)
                disk.make_room()
                again = await served_again(field)
                await session.close()
            print(f"tables: {answer.status_code} after {took:.2f} s, served again after {again:.2f} s")  # noqa: T201

            assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")
            assert read.status_code == 200
            assert still == 1, "Postgres has ended a session for want of room"
            await all_went_through(field, signups)
            assert took <= TOLD
            assert again <= SERVED
    shutil.rmtree(data)


async def test_the_disk_of_the_log_is_full(session_directory: Path, tmp_path: Path) -> None:
    data = session_directory / "log"
    with small_disk(session_directory / "disk-of-log", 192 * MIB) as disk:
        await cluster_in_part_on(data / POSTGRES, "pg_wal", disk)
        async with Stack(own_stack(data)) as stack, field_on(stack, tmp_path) as field:
            await field.furnish()
            signups = Signups(field)
            async with signups.coming():
                disk.fill()
                said = stack.part(POSTGRES).process.log
                async with asyncio.timeout(RECOVERY):
                    while b"PANIC" not in said.read_bytes():
                        await begin_another_file_of_the_log(stack)
                await asyncio.sleep(FULL)
                disk.make_room()
                again = await served_again(field)
            print(f"log: served again after {again:.2f} s")  # noqa: T201

            await all_went_through(field, signups)
            assert again <= SERVED
    shutil.rmtree(data)


async def test_the_disk_of_temporal_is_full(session_directory: Path, tmp_path: Path) -> None:
    data = session_directory / "temporal"
    with small_disk(session_directory / "disk-of-temporal", 128 * MIB) as disk:
        data.mkdir(mode=0o700)
        (data / "temporal.db").symlink_to(disk.path / "temporal.db")
        async with Stack(own_stack(data)) as stack, field_on(stack, tmp_path) as field:
            await field.furnish()
            signups = Signups(field)
            async with signups.coming():
                disk.fill()
                before = len(signups.arrived)
                # The server takes in what it cannot tell Temporal yet.
                await eventually(lambda: len(signups.arrived) >= before + BEFORE, within=RECOVERY)
                await asyncio.sleep(FULL)
                untold = await not_told_yet(field)
                disk.make_room()
            print(f"temporal: {untold} had not been told when there was room again")  # noqa: T201

            assert untold > 0, "Temporal has had room: nothing was tried"
            await all_went_through(field, signups)
    shutil.rmtree(data)


async def cluster_in_part_on(directory: Path, part: str, disk: SmallDisk) -> None:
    """A cluster of Postgres in `directory`, with one of its directories on this disk."""
    postgres = EmbeddedPostgres(directory, log=directory.with_name("first.log"))
    process = await postgres.start()
    await process.stop(grace=20)
    await asyncio.to_thread(_move, directory / part, disk.path / part)


def _move(source: Path, target: Path) -> None:
    # With whose they are: Postgres does not run as root.
    subprocess.run(["cp", "-a", source, target], check=True)
    shutil.rmtree(source)
    source.symlink_to(target)


async def write(field: Field) -> httpx.Response:
    """What a call is told that has much to write."""
    filler = base64.b64encode(os.urandom(40_000)).decode()
    return await field.http.put("/v1/subjects/filler", json={"attributes": {"filler": filler}})


async def until_refused(field: Field) -> tuple[httpx.Response, float]:
    """The first answer that says no, and how many seconds it took."""
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(RECOVERY):
        while True:
            began = clock()
            answer = await write(field)
            if answer.status_code != 200:
                return answer, clock() - began


async def served_again(field: Field) -> float:
    """Seconds until a call that writes is answered."""
    clock = asyncio.get_running_loop().time
    began = clock()

    async def is_written() -> bool:
        try:
            return (await write(field)).status_code == 200
        except httpx.HTTPError:
            return False

    await eventually(is_written, within=RECOVERY)
    return clock() - began


async def all_went_through(field: Field, signups: Signups) -> None:
    await field.ended(len(signups.arrived))
    await field.check(signups.arrived)


async def begin_another_file_of_the_log(stack: Stack) -> None:
    """Has Postgres do so, for which there may be no room; nothing, where it is away."""
    dsn = stack.addresses.database_url.replace(f"//{OWNER}@/{OWNER}", f"//{SUPERUSER}@/{OWNER}")
    try:
        conn = await asyncpg.connect(dsn)
    except (OSError, asyncpg.PostgresError):
        await asyncio.sleep(0.1)
        return
    try:
        await conn.execute("SELECT pg_logical_emit_message(false, 'filler', 'x'); SELECT pg_switch_wal()")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await asyncio.sleep(0.1)
    finally:
        conn.terminate()


async def not_told_yet(field: Field) -> int:
    conn = await field.owner()
    try:
        found: int = await conn.fetchval("SELECT count(*) FROM outbox WHERE kind = 'start'")
        return found
    finally:
        await conn.close()
