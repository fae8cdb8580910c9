from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.postgres import EmbeddedPostgres, binaries
from orchestrator.devstack.processes import run_to_end

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def server_in(directory: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory / "pg", log=directory / "log")


@asynccontextmanager
async def connection(server: EmbeddedPostgres) -> AsyncIterator[Connection[Record]]:
    conn = await asyncpg.connect(server.dsn())
    try:
        yield conn
    finally:
        await conn.close()


async def test_what_is_committed_is_there_at_the_next_start(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    process = await server.start()
    async with connection(server) as conn:
        await conn.execute("CREATE TABLE kept AS SELECT 7 AS x")
    assert await process.stop(grace=20) == 0

    process = await server_in(tmp_path).start()
    async with connection(server) as conn:
        assert await conn.fetchval("SELECT x FROM kept") == 7
    await process.stop(grace=20)


async def test_it_is_durable_orders_texts_by_code_point_and_its_user_is_no_superuser(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    process = await server.start()

    async with connection(server) as conn:
        assert await conn.fetchval("SHOW fsync") == "on"
        assert await conn.fetchval("SELECT 'Z' < 'a' AND 'z' < 'ä'")
        assert not await conn.fetchval("SELECT usesuper FROM pg_user WHERE usename = current_user")

    await process.stop(grace=20)


async def test_nobody_else_can_reach_it(tmp_path: Path) -> None:
    process = await server_in(tmp_path).start()

    sockets = tmp_path / "pg.socket"
    postmaster = psutil.Process(process.pid)
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not [found for found in postmaster.net_connections("inet") if found.status == psutil.CONN_LISTEN]
    assert postmaster.uids().effective != 0

    await process.stop(grace=20)


async def test_a_directory_closed_to_others_is_left_closed(tmp_path: Path) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)

    process = await server_in(private).start()

    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    await process.stop(grace=20)


async def test_binaries_in_a_directory_closed_to_others_find_each_other(tmp_path: Path) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    package = binaries().parents[1]
    for part in package.parent.glob(f"{package.name}*"):  # the libraries of a wheel stand beside it
        shutil.copytree(part, private / part.name)
    copied = private / binaries().relative_to(package.parent)
    data = tmp_path / "data"
    data.mkdir()
    account = (65534, 65534) if os.geteuid() == 0 else None
    if account is not None:
        os.chown(data, *account)

    code, output = await run_to_end(
        "initdb",
        [copied / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"],
        log=tmp_path / "log",
        timeout=60,
        account=account,
    )

    assert code == 0, output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run it as another user")
async def test_root_runs_it_as_whoever_owns_the_data(tmp_path: Path) -> None:
    process = await server_in(tmp_path).start()
    await process.stop(grace=20)
    for path in (tmp_path / "pg", *(tmp_path / "pg").rglob("*")):
        os.chown(path, 12345, 12345)

    process = await server_in(tmp_path).start()

    assert psutil.Process(process.pid).uids().effective == 12345
    await process.stop(grace=20)


async def test_a_path_too_long_for_a_socket_is_no_obstacle(
    tmp_path: Path, session_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(session_directory))
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    server = server_in(deep)

    process = await server.start()

    async with connection(server) as conn:
        assert await conn.fetchval("SELECT 1") == 1
    await process.stop(grace=20)


async def test_a_cluster_half_made_by_a_killed_run_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "pg.new").mkdir()
    (tmp_path / "pg.new" / "PG_VERSION").write_text("18\n")

    process = await server_in(tmp_path).start()

    assert process.returncode is None
    await process.stop(grace=20)


async def test_a_lock_of_a_dead_server_whose_number_another_process_has_now_is_no_obstacle(tmp_path: Path) -> None:
    process = await server_in(tmp_path).start()
    await process.stop(grace=20)
    (tmp_path / "pg" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path / 'pg'}\n0\n5432\n")

    process = await server_in(tmp_path).start()

    assert process.returncode is None
    await process.stop(grace=20)


async def test_data_of_another_major_version_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "PG_VERSION").write_text("14\n")

    with pytest.raises(StackFailure, match="was made by PostgreSQL 14"):
        await server_in(tmp_path).start()


async def test_a_server_that_cannot_start_says_why_and_is_gone(tmp_path: Path) -> None:
    process = await server_in(tmp_path).start()
    await process.stop(grace=20)
    (tmp_path / "pg" / "postgresql.conf").write_text("no_such_setting = 1\n")
    before = set(psutil.Process().children())  # of the session

    with pytest.raises(StackFailure, match=r"PostgreSQL did not start: .*(no_such_setting|configuration file)"):
        await server_in(tmp_path).start()

    assert set(psutil.Process().children()) <= before


PARENT = """
import asyncio, sys
from pathlib import Path
from orchestrator.devstack.postgres import EmbeddedPostgres, binaries
from orchestrator.devstack.processes import run_to_end
import asyncpg
async def main():
    directory = Path(sys.argv[1])
    server = EmbeddedPostgres(directory / "pg", log=directory / "log")
    process = await server.start()
    conn = await asyncpg.connect(server.dsn())
    await conn.execute("CREATE TABLE kept AS SELECT 7 AS x")
    print(process.pid, flush=True)
    await process.wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("also_the_server", [False, True])
async def test_after_its_parent_was_killed_it_starts_again_with_what_was_committed(
    tmp_path: Path, also_the_server: bool
) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, tmp_path, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())

    parent.kill()
    if also_the_server:
        os.kill(pid, signal.SIGKILL)
    server = server_in(tmp_path)
    process = await server.start()
    await parent.communicate()

    async with connection(server) as conn:
        assert await conn.fetchval("SELECT x FROM kept") == 7
    await process.stop(grace=20)
