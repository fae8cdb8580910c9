"""The real parts, for every test: one Postgres and one Temporal a session, a database for each test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from orchestrator.devstack.postgres import DATABASE, OWNER, SUPERUSER, EmbeddedPostgres
from orchestrator.storage.migrations import migrate
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server of this session, without fsync."""
    directory = tmp_path_factory.mktemp("pg")
    server = EmbeddedPostgres(directory / "data", log=directory / "postgres.log", durable=False)
    process = await server.start()
    yield server
    await process.stop(grace=20)


@pytest.fixture(scope="session")
async def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database nobody is connected to."""
    await migrate(postgres.dsn())
    return DATABASE


@pytest.fixture
async def empty_database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The DSN of a database of this test without a schema; its user owns it and is no superuser."""
    name = await _create_database(postgres, "template0")
    yield postgres.dsn(name)
    await _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """The DSN of a migrated database of this test; its user owns it and is no superuser."""
    name = await _create_database(postgres, template)
    yield postgres.dsn(name)
    await _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def api_pool(database: str) -> AsyncIterator[Pool[Record]]:
    """Connections as the server has them: under row-level security."""
    pool = await open_pool(database, role=API_ROLE, size=8, application_name="test-api")
    yield pool
    await pool.close()


@pytest.fixture
async def worker_pool(database: str) -> AsyncIterator[Pool[Record]]:
    """Connections as the workers have them: all projects."""
    pool = await open_pool(database, role=WORKER_ROLE, size=8, application_name="test-worker")
    yield pool
    await pool.close()


@pytest.fixture
async def owner(database: str) -> AsyncIterator[Connection[Record]]:
    """A connection that may look at and change everything: to arrange and to assert."""
    conn = await asyncpg.connect(database)
    yield conn
    await conn.close()


async def _create_database(postgres: EmbeddedPostgres, template: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    await _administer(postgres, f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
    return name


async def _administer(postgres: EmbeddedPostgres, statement: str) -> None:
    conn = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
    try:
        await conn.execute(statement)
    finally:
        await conn.close()
