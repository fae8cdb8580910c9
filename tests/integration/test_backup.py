"""A backup as docs/operations.md has it: dumped, restored on another server, served from there."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from orchestrator.devstack.postgres import EmbeddedPostgres, binaries
from orchestrator.server import running
from orchestrator.storage.rights import RightsMissing
from tests.integration.api.conftest import settings_of

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


@asynccontextmanager
async def another_server(directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory / "pg", log=directory / "log", durable=False)
    process = await server.start()
    try:
        yield server
    finally:
        await process.stop(grace=20)


async def shell(command: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, stdout=PIPE, stderr=STDOUT, env={"PATH": f"{binaries()}:/usr/bin:/bin", **environment}
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def line_with(word: str) -> str:
    """The one line of the page that begins with this."""
    (line,) = re.findall(rf"^{word}.*$", OPERATIONS, re.MULTILINE)
    return str(line)


async def test_a_dump_is_restored_on_another_server_and_served_from_there(database: str, tmp_path: Path) -> None:
    async with running(settings_of(database)):
        pass  # which makes the first key
    dumped = await shell(f"cd {tmp_path}; {line_with('pg_dump')}", DATABASE_URL=database)

    async with another_server(tmp_path) as server:
        conn = await asyncpg.connect(server.dsn())
        await conn.execute(re.findall(r"^CREATE ROLE.*$", OPERATIONS, re.MULTILINE)[0])
        await conn.close()
        restored = await shell(f"cd {tmp_path}; {line_with('pg_restore')}", DATABASE_URL=server.dsn())
        async with running(settings_of(server.dsn())):
            conn = await asyncpg.connect(server.dsn())
            keys = await conn.fetchval("SELECT count(*) FROM api_keys")
            await conn.close()

    assert dumped == (0, "")
    assert restored == (0, "")
    assert keys == 1, "the key is known by what came with the dump"


async def test_a_server_to_which_it_was_restored_without_the_roles_says_so(database: str, tmp_path: Path) -> None:
    await shell(f"cd {tmp_path}; {line_with('pg_dump')}", DATABASE_URL=database)

    async with another_server(tmp_path) as server:
        code, _ = await shell(f"cd {tmp_path}; {line_with('pg_restore')}", DATABASE_URL=server.dsn())
        with pytest.raises(RightsMissing, match="CREATE ROLE orchestrator_api NOLOGIN"):
            async with running(settings_of(server.dsn())):
                pass

    assert code != 0
