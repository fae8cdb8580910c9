"""Row-level security is the second net: it holds where a query forgets its project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from orchestrator.application.transactions import Transactions
from orchestrator.domain.scope import Role
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, connection, open_pool
from orchestrator.v1 import audience_service_pb2 as audiences
from tests.integration.api.callers import Refused
from tests.integration.api.conftest import Keys, Served
from tests.integration.api.test_contract import creation

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


async def _guarded(owner: Connection[Record]) -> list[str]:
    """Every table that has a project."""
    rows = await owner.fetch(
        "SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid "
        "WHERE a.attname = 'project_no' AND c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
    )
    return [row[0] for row in rows]


async def test_every_table_of_a_project_is_guarded(owner: Connection[Record]) -> None:
    open_tables = await owner.fetch(
        "SELECT relname FROM pg_class WHERE NOT relrowsecurity AND relname = ANY ($1) AND NOT relispartition",
        await _guarded(owner),
    )

    assert [row[0] for row in open_tables] == []


async def test_a_query_without_a_filter_shows_one_project(served: Served, keys: Keys, api_pool: Pool[Record]) -> None:
    elsewhere = await keys.project("elsewhere")
    stranger = await keys.admit(Role.OWNER, elsewhere)
    await served.grpc.call(creation("ours"))
    await served.grpc.call(creation("theirs"), key=stranger)

    async with connection(api_pool, 1) as conn:
        assert await conn.fetchval("SELECT array_agg(audience_id) FROM audiences") == ["ours"]
    async with connection(api_pool, elsewhere) as conn:
        assert await conn.fetchval("SELECT array_agg(audience_id) FROM audiences") == ["theirs"]
        # Nor can it be written to.
        assert await conn.execute("UPDATE audiences SET name = 'x' WHERE audience_id = 'ours'") == "UPDATE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(
                "INSERT INTO audiences SELECT 1, 'mine', name, description, subject_type, predicate, revision, "
                "created_at, updated_at FROM audiences"
            )


async def test_a_connection_without_a_project_shows_nothing(api_pool: Pool[Record], owner: Connection[Record]) -> None:
    for table in await _guarded(owner):
        async with api_pool.acquire() as conn:
            with pytest.raises((asyncpg.DataError, asyncpg.InsufficientPrivilegeError)):
                await conn.fetch(f"SELECT FROM {table}")


async def test_the_project_is_set_when_it_changes_and_not_otherwise(database: str) -> None:
    pool = await open_pool(database, role=API_ROLE, size=1, application_name="test")
    statements: list[str] = []
    try:
        async with connection(pool, 1) as conn:
            conn.add_query_logger(lambda logged: statements.append(logged.query))
        for project_no in (1, 1, 2, 2, 1):
            async with connection(pool, project_no) as conn:
                assert await conn.fetchval("SELECT current_setting('app.project_no')") == str(project_no)
    finally:
        await pool.close()

    assert sum("SET app.project_no" in statement for statement in statements) == 2


async def test_a_rollback_does_not_bring_back_another_project(database: str) -> None:
    pool = await open_pool(database, role=API_ROLE, size=1, application_name="test")
    transactions = Transactions(pool)
    try:
        async with transactions.read(1):
            pass
        with pytest.raises(ZeroDivisionError):
            async with transactions.write(2):
                raise ZeroDivisionError
        async with transactions.read(2) as conn:
            assert await conn.fetchval("SELECT current_setting('app.project_no')") == "2"
    finally:
        await pool.close()


async def test_the_servers_roles_own_nothing_and_cannot_lift_the_guard(database: str) -> None:
    for role in (API_ROLE, WORKER_ROLE):
        pool = await open_pool(database, role=role, size=1, application_name="test")
        try:
            for statement in (
                "ALTER TABLE audiences DISABLE ROW LEVEL SECURITY",
                "DROP TABLE audiences",
                "DELETE FROM audit_log",
                "UPDATE audit_log SET actor = 'x'",
                "TRUNCATE audit_log",
            ):
                async with connection(pool, 1) as conn:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await conn.execute(statement)
        finally:
            await pool.close()


async def test_a_key_of_one_project_finds_nothing_of_another_by_its_ids(served: Served, keys: Keys) -> None:
    stranger = await keys.admit(Role.OWNER, await keys.project("elsewhere"))
    made = await served.grpc.call(creation("ours"))

    with pytest.raises(Refused) as refusal:
        await served.grpc.call(
            audiences.DeleteAudienceRequest(audience_id="ours", etag=made.audience.etag), key=stranger
        )

    assert refusal.value.code == "NOT_FOUND"
