"""A database whose user lacks rights: one sentence says what to do, and doing that helps."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from orchestrator.devstack.postgres import SUPERUSER, EmbeddedPostgres
from orchestrator.server import running
from tests.acceptance.command_line import CommandLine
from tests.integration.api.conftest import settings_of


@pytest.fixture
async def stranger(postgres: EmbeddedPostgres, database: str) -> AsyncIterator[str]:
    """The DSN of the migrated database for a user who was given nothing."""
    user = f"stranger_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(_as_superuser(postgres, database))
    await admin.execute(f"CREATE ROLE {user} LOGIN")
    yield postgres.dsn(_name(database), user=user)
    await admin.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")
    await admin.close()


async def test_a_user_who_may_not_act_as_our_roles_is_told_the_statement_that_mends_it(
    stranger: str, postgres: EmbeddedPostgres, database: str, temporal_address: str
) -> None:
    run = CommandLine(
        environment={
            "DATABASE_URL": stranger,
            "TEMPORAL_ADDRESS": temporal_address,
            "ORCHESTRATOR_GRPC_PORT": "0",
            "ORCHESTRATOR_HTTP_PORT": "0",
        }
    )
    admin = await asyncpg.connect(_as_superuser(postgres, database))

    served, examined = await run("serve"), await run("doctor")
    await admin.execute(f"GRANT SELECT ON schema_migrations TO {urlsplit(stranger).username}")
    served_by_half = await run("serve")
    (mending,) = {found[1] for ran in (served, examined, served_by_half) for found in re.finditer("`(.*)`", ran.err)}
    await admin.execute(mending)
    await admin.close()

    for ran in (served, examined, served_by_half):
        assert ran.code == 1
        said = [line for line in ran.err.splitlines() if not line.startswith("{")]  # what is not log
        assert len(said) == 1, ran.err
        assert said[0].startswith("orchestrator: The user stranger_")
    async with running(settings_of(stranger)):
        pass
    assert (await run("doctor")).code == 0


async def test_a_user_who_may_not_migrate_is_told_so(stranger: str, empty_database: str) -> None:
    elsewhere = stranger.replace(_name(stranger), _name(empty_database))

    for dsn in (elsewhere, stranger):
        ran = await CommandLine(environment={"DATABASE_URL": dsn})("migrate")

        assert ran.code == 1
        assert re.fullmatch(
            r"orchestrator: The user of DATABASE_URL may not migrate this database \(permission denied .*\): "
            r"migrate as the user who owns it\.\n",
            ran.err,
        )


def _name(dsn: str) -> str:
    return urlsplit(dsn).path.lstrip("/")


def _as_superuser(postgres: EmbeddedPostgres, dsn: str) -> str:
    return postgres.dsn(_name(dsn), user=SUPERUSER)
