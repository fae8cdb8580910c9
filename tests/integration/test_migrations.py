from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from orchestrator.storage.migrations import (
    Migration,
    SchemaRefused,
    known_migrations,
    migrate,
    migrations_directory,
    missing_migrations,
)

FIRST = Migration(version=1, name="first", sql="CREATE TABLE first (x int);")
SECOND = Migration(version=2, name="second", sql="CREATE TABLE second (x int);")


async def tables(dsn: str) -> set[str]:
    conn = await asyncpg.connect(dsn)
    try:
        rows = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await conn.close()
    return {row["tablename"] for row in rows}


async def test_the_files_of_this_release_apply_to_an_empty_database_once(empty_database: str) -> None:
    first = await migrate(empty_database)
    second = await migrate(empty_database)

    assert first == known_migrations()
    assert second == ()


async def test_of_eight_at_once_one_applies_and_the_rest_find_nothing_to_do(empty_database: str) -> None:
    results = await asyncio.gather(*(migrate(empty_database) for _ in range(8)))

    assert sorted(results, key=len) == [()] * 7 + [known_migrations()]


async def test_only_what_is_missing_is_applied(empty_database: str) -> None:
    await migrate(empty_database, known=[FIRST])

    assert await migrate(empty_database, known=[FIRST, SECOND]) == (SECOND,)


async def test_what_is_missing_can_be_asked_without_applying_it(empty_database: str) -> None:
    conn = await asyncpg.connect(empty_database)
    try:
        before = await missing_migrations(conn, [FIRST, SECOND])
        await migrate(empty_database, known=[FIRST])
        after = await missing_migrations(conn, [FIRST, SECOND])
    finally:
        await conn.close()

    assert (before, after) == ((FIRST, SECOND), (SECOND,))


async def test_a_changed_file_is_refused_by_name(empty_database: str) -> None:
    await migrate(empty_database, known=[FIRST])
    changed = Migration(version=1, name="first", sql="CREATE TABLE first (y int);")

    with pytest.raises(SchemaRefused, match=r"0001_first\.sql"):
        await migrate(empty_database, known=[changed, SECOND])

    assert "second" not in await tables(empty_database)


async def test_a_file_that_was_given_more_time_since_is_the_same_file(empty_database: str) -> None:
    await migrate(empty_database, known=[FIRST])
    patient = "SET LOCAL statement_timeout = '30min'; -- The table may be large.\n"
    given_time = Migration(version=1, name="first", sql=patient + FIRST.sql)
    changed = Migration(version=1, name="first", sql=patient + "CREATE TABLE first (y int);")

    assert await migrate(empty_database, known=[given_time, SECOND]) == (SECOND,)
    with pytest.raises(SchemaRefused, match=r"0001_first\.sql"):
        await migrate(empty_database, known=[changed, SECOND])


async def test_a_schema_newer_than_this_release_is_refused_by_name(empty_database: str) -> None:
    await migrate(empty_database, known=[FIRST, SECOND])

    with pytest.raises(SchemaRefused, match="0002_second"):
        await migrate(empty_database, known=[FIRST])


async def test_a_file_that_fails_leaves_nothing_and_those_before_it_stay(empty_database: str) -> None:
    broken = Migration(version=2, name="broken", sql="CREATE TABLE half (x int); SELECT 1 / 0;")

    with pytest.raises(SchemaRefused, match=r"0002_broken\.sql failed and was undone: division by zero"):
        await migrate(empty_database, known=[FIRST, broken])

    assert await tables(empty_database) == {"schema_migrations", "first"}
    assert await migrate(empty_database, known=[FIRST, SECOND]) == (SECOND,)


async def test_a_migration_gives_up_rather_than_wait_long_for_a_lock(empty_database: str) -> None:
    await migrate(empty_database, known=[FIRST])
    alter = Migration(version=2, name="alter", sql="ALTER TABLE first ADD COLUMN y int;")
    reader = await asyncpg.connect(empty_database)
    try:
        async with reader.transaction():
            await reader.execute("SELECT * FROM first")
            with pytest.raises(SchemaRefused, match="waited 4 s for a lock"):
                await migrate(empty_database, known=[FIRST, alter])
    finally:
        await reader.close()

    assert await migrate(empty_database, known=[FIRST, alter]) == (alter,)


KILLED = """
import asyncio, sys
from orchestrator.storage.migrations import Migration, migrate
first = Migration(version=1, name="first", sql="CREATE TABLE first (x int);")
slow = Migration(version=2, name="second", sql="CREATE TABLE half (x int); SELECT pg_sleep(50);")
asyncio.run(migrate(sys.argv[1], known=[first, slow], applied=lambda migration: print(migration.name, flush=True)))
"""


async def test_a_migrator_killed_in_mid_file_leaves_the_rest_to_the_next(empty_database: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, empty_database, stdout=subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"first\n"
    watcher = await asyncpg.connect(empty_database)
    try:
        while not await watcher.fetchval("SELECT true FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            pass
    finally:
        await watcher.close()

    process.send_signal(signal.SIGKILL)
    await process.communicate()
    applied = await asyncio.wait_for(migrate(empty_database, known=[FIRST, SECOND]), 10)

    assert applied == (SECOND,)
    assert await tables(empty_database) == {"schema_migrations", "first", "second"}


async def test_the_owner_may_become_the_roles_of_server_and_workers(database: str) -> None:
    for role in ("orchestrator_api", "orchestrator_worker"):
        conn = await asyncpg.connect(database, server_settings={"role": role})
        try:
            assert await conn.fetchval("SELECT current_user") == role
        finally:
            await conn.close()


@pytest.mark.parametrize(
    "names", [["0001_a.sql", "0003_c.sql"], ["0001_a.sql", "0001_b.sql"], ["0002_a.sql"], ["0001_a.sql", "notes.sql"]]
)
def test_a_gap_a_number_used_twice_or_a_stray_file_is_an_error(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")

    with pytest.raises(ValueError, match=r"migrations must be numbered|is not named like"):
        known_migrations(tmp_path)


def test_every_file_opens_with_what_it_does_and_whether_it_is_safe_under_load() -> None:
    for path in sorted(migrations_directory().glob("*.sql")):
        first, second, *_ = path.read_text().splitlines()
        assert first.startswith("-- "), path.name
        assert second.startswith("-- Safe under load: "), path.name


async def command(*arguments: str, dsn: str) -> tuple[int | None, list[str], str]:
    """`orchestrator migrate`: its exit code, the lines on stdout, and what it said on stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "orchestrator.cli", "migrate", *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"DATABASE_URL": dsn},
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode().split(), err.decode()


async def test_the_command_lists_what_it_applies_and_check_what_it_would(empty_database: str) -> None:
    files = [migration.file_name for migration in known_migrations()]

    assert (await command("--check", dsn=empty_database))[:2] == (1, files)
    assert (await command(dsn=empty_database))[:2] == (0, files)
    assert (await command("--check", dsn=empty_database))[:2] == (0, [])
    assert await command(dsn=empty_database) == (0, [], "0 applied; the schema is up to date.\n")


async def test_the_command_says_in_a_sentence_why_it_cannot() -> None:
    assert await command(dsn="postgresql://me:secret@127.0.0.1:1/mine") == (
        5,
        [],
        "orchestrator: PostgreSQL at 127.0.0.1:1 cannot be reached (connection refused): "
        "start it, or mend DATABASE_URL.\n",
    )
