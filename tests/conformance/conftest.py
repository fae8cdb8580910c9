"""A database for the SQL engine. The tests of a module share it, and each puts its own worlds in."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from asyncpg import Connection, Record

from orchestrator.devstack.postgres import OWNER, SUPERUSER, EmbeddedPostgres


@pytest.fixture(scope="module")
async def tables_owner(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Connection[Record]]:
    """A connection that owns the tables of a migrated database, which takes events of any month."""
    name = f"test_{uuid.uuid4().hex}"
    administrator = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
    await administrator.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
    conn = await asyncpg.connect(postgres.dsn(name))
    await conn.execute("CREATE TABLE events_of_other_months PARTITION OF events DEFAULT")
    yield conn
    await conn.close()
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await administrator.close()
