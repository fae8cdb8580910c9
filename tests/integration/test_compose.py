"""What the Compose file does to Temporal and Postgres, done to real ones."""

from __future__ import annotations

import asyncio
import shlex
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest
import yaml
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from orchestrator.devstack.postgres import DATABASE, OWNER, SUPERUSER, EmbeddedPostgres, binaries
from orchestrator.devstack.temporal_cli import ensure_temporal
from orchestrator.temporal.client import Target, connect, missing_search_attributes
from tests.acceptance.command_line import CommandLine
from tests.unit.test_containers import ROOT, setup_script

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


async def test_temporal_is_set_up_though_its_namespace_comes_late(temporal_address: str, tmp_path: Path) -> None:
    program = await ensure_temporal(talk=lambda sentence: None)
    late = tmp_path / "temporal"
    late.write_text(
        f"#!/bin/sh\necho $* >>{tmp_path}/calls\n"
        f"[ $(wc -l <{tmp_path}/calls) -gt 3 ] || {{ echo 'Namespace default is not found.' >&2; exit 1; }}\n"
        f'exec {shlex.quote(str(program))} "$@"\n'
    )
    late.chmod(0o755)
    script = setup_script({"services": SERVICES})

    for _ in range(2):  # a second `up` does it all again
        setting_up = await asyncio.create_subprocess_exec(
            "sh", "-c", script, stdout=PIPE, stderr=STDOUT,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "TEMPORAL_ADDRESS": temporal_address},
        )  # fmt: skip
        said, _ = await setting_up.communicate()
        assert setting_up.returncode == 0, said.decode()

    client = await connect(Target(address=temporal_address))
    described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    assert described.config.workflow_execution_retention_ttl.ToTimedelta().days == 7
    assert await missing_search_attributes(client) == []


@pytest.mark.parametrize("password", ["p@ss/w:rd", "a#b?c%d&e=f", "50%", "'$HOME'"])
async def test_whatever_is_in_the_password_the_database_is_reached(tmp_path: Path, password: str) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", log=tmp_path / "log", durable=False)
    process = await server.start()
    try:
        await _ask_for_a_password(server, tmp_path / "pg" / "pg_hba.conf", password)
        environment = SERVICES["server"]["environment"]
        sockets = urlsplit(server.dsn()).query
        dsn = environment["DATABASE_URL"].replace("@postgres:5432/orchestrator", f"@/{DATABASE}?{sockets}")
        assert environment["PGPASSWORD"].startswith("${DATABASE_PASSWORD")

        right = await CommandLine(environment={"DATABASE_URL": dsn, "PGPASSWORD": password})("migrate")
        wrong = await CommandLine(environment={"DATABASE_URL": dsn, "PGPASSWORD": f"{password}!"})("migrate")
    finally:
        await process.stop(grace=20)

    assert right.code == 0, right.err
    assert wrong.code == 5, wrong.err


async def test_neither_the_orchestrator_nor_temporal_is_a_superuser_of_its_database(tmp_path: Path) -> None:
    (_, mounted) = SERVICES["postgres"]["volumes"]
    script = ROOT / mounted.split(":")[0]
    server = EmbeddedPostgres(tmp_path / "pg", log=tmp_path / "log", durable=False)
    process = await server.start()
    try:
        await _forget(server)
        sockets = urlsplit(server.dsn()).query
        given = {"DATABASE_PASSWORD": "p'w\"d", "TEMPORAL_DATABASE_PASSWORD": "t' \\d"}
        places = dict(part.split("=") for part in unquote(sockets).split("&"))
        image = {"POSTGRES_USER": SUPERUSER, "POSTGRES_DB": "postgres", "PATH": f"{binaries()}:/usr/bin:/bin"}
        made = await asyncio.create_subprocess_exec(
            "sh", script, stdout=PIPE, stderr=STDOUT,
            env=image | given | {"PGHOST": places["host"], "PGPORT": places.get("port", "5432")},
        )  # fmt: skip
        said, _ = await made.communicate()
        assert made.returncode == 0, said.decode()

        dsn = SERVICES["server"]["environment"]["DATABASE_URL"].replace("@postgres:5432/", "@/") + f"?{sockets}"
        migrated = await CommandLine(environment={"DATABASE_URL": dsn})("migrate")
        for name in ("temporal", "temporal_visibility"):
            as_temporal = await asyncpg.connect(dsn.replace("orchestrator@/orchestrator", f"temporal@/{name}"))
            await as_temporal.execute("CREATE TABLE schema_version (version_partition int)")  # its schema begins so
            users = await as_temporal.fetch(
                "SELECT rolname, rolsuper OR rolbypassrls OR rolcreatedb AS passes_by FROM pg_roles WHERE rolcanlogin"
            )
            await as_temporal.close()
        superuser = await asyncpg.connect(server.dsn("postgres", user=SUPERUSER))
        kept = await superuser.fetchval("SELECT count(*) FROM pg_authid WHERE rolpassword LIKE 'SCRAM%'")
        await superuser.close()
    finally:
        await process.stop(grace=20)

    assert migrated.code == 0, migrated.err
    assert dict(map(tuple, users)) == {SUPERUSER: True, "orchestrator": False, "temporal": False}
    assert kept == 2


async def _forget(server: EmbeddedPostgres) -> None:
    """What an embedded server makes beforehand, and an image does not."""
    conn = await asyncpg.connect(server.dsn("postgres", user=SUPERUSER))
    await conn.execute(f"DROP DATABASE {DATABASE}")
    await conn.execute(f"DROP ROLE {OWNER}")
    await conn.close()


async def _ask_for_a_password(server: EmbeddedPostgres, rules: Path, password: str) -> None:
    conn = await asyncpg.connect(server.dsn("postgres", user=SUPERUSER))
    quoted = await conn.fetchval("SELECT quote_literal($1::text)", password)
    await conn.execute(f"ALTER ROLE {OWNER} PASSWORD {quoted}")
    await asyncio.to_thread(rules.write_text, f"local all {OWNER} scram-sha-256\nlocal all all trust\n")
    await conn.execute("SELECT pg_reload_conf()")
    await conn.close()
