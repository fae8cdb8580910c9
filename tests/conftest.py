"""The real parts, for every test: one Postgres and one Temporal a session, a database for each test."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.postgres import DATABASE, OWNER, SUPERUSER, EmbeddedPostgres
from orchestrator.devstack.stack import Stack
from orchestrator.devstack.temporal import EmbeddedTemporal
from orchestrator.devstack.temporal_cli import ensure_temporal
from orchestrator.devstack.time_skipping import ensure_time_skipping_server
from orchestrator.storage.migrations import migrate
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.contract import SEARCH_ATTRIBUTES
from tests.stack_options import stack_options

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

StartStack = Callable[..., Awaitable[Stack]]

_TESTS = Path(__file__).parent

#: Files that take a minute or so are begun first: else they are what the end of a run waits for, on one core.
LONG = (
    "acceptance/test_bad_input.py",
    "acceptance/test_cli.py",
    "acceptance/test_demo.py",
    "acceptance/test_forgotten.py",
    "acceptance/test_journeys_as_code.py",
    "acceptance/test_purchase_log.py",
    "core/test_core.py",
    "faults/test_carrying.py",
    "faults/test_crash_points.py",
    "faults/test_cut_off_statements.py",
    "faults/test_erasures.py",
    "faults/test_meetings.py",
    "faults/test_nemesis.py",
    "integration/devstack/test_up.py",
    "replay/test_replay.py",
    "workflows/test_learning.py",
    "workflows/test_simulation.py",
)

#: Bytes. Several times as much as a session has ever taken.
MEMORY_FROM = 4 * 1024**3


@pytest.hookimpl(trylast=True)  # behind whoever shuffles
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {_TESTS / file for file in LONG}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(scope="session")
def session_directory() -> Iterator[Path]:
    """Gone after the session. Not pytest's own: that keeps the last three, and paths of sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-test-", dir=_fast_disk()) as directory:
        yield Path(directory)


def _fast_disk() -> str | None:
    """Memory, where there is plenty: a thousand databases are made, for which a disk takes five times as long."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_FROM
    return str(memory) if has_room else None


@pytest.fixture(scope="session")
async def postgres(session_directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server of this session, without fsync."""
    server = EmbeddedPostgres(session_directory / "pg", log=session_directory / "postgres.log", durable=False)
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
async def hurried_pool(database: str) -> AsyncIterator[Pool[Record]]:
    """As `worker_pool`, but that statements have a second."""
    second = timedelta(seconds=1)
    pool = await open_pool(
        database, role=WORKER_ROLE, size=8, application_name="test-hurried", statement_timeout=second
    )
    yield pool
    await pool.close()


@pytest.fixture
async def owner(database: str) -> AsyncIterator[Connection[Record]]:
    """A connection that may look at and change everything: to arrange and to assert."""
    conn = await asyncpg.connect(database)
    yield conn
    await conn.close()


@pytest.fixture(scope="module")
async def tables_owner(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Connection[Record]]:
    """As `owner`, of one database for the tests of a module, each with rows of its own and events of any month."""
    name = await _create_database(postgres, template)
    conn = await asyncpg.connect(postgres.dsn(name))
    await conn.execute("CREATE TABLE events_of_other_months PARTITION OF events DEFAULT")
    yield conn
    await conn.close()
    await _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
async def shared_database(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """As `database`, for the tests of a module, each of which makes a project of its own."""
    name = await _create_database(postgres, template)
    yield postgres.dsn(name)
    await _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def temporal_address(session_directory: Path) -> AsyncIterator[str]:
    """A development server of this session. Tests share it, so each uses a namespace of its own."""
    server = EmbeddedTemporal(
        await ensure_temporal(talk=_talk),
        database=session_directory / "temporal.db",
        log=session_directory / "temporal.log",
        port=free_ports(1)[0],
        ui_port=None,
    )
    process = await server.start()
    yield server.address
    await process.stop(grace=1)  # it waits for clients to go; ours go with the session


@pytest.fixture
async def temporal_namespace(temporal_address: str) -> str:
    """A namespace of this test, with our search attributes."""
    name = f"test-{uuid.uuid4().hex}"
    client = await connect(Target(address=temporal_address))
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=3 * 86400))
    )
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=name,
            search_attributes={
                attribute: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
                for attribute, kind in SEARCH_ATTRIBUTES.items()
            },
        )
    )
    return name


@pytest.fixture
async def temporal(temporal_address: str, temporal_namespace: str) -> Client:
    """A client of the development server, in the namespace of this test."""
    return await connect(Target(address=temporal_address, namespace=temporal_namespace))


@pytest.fixture
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal of this test whose clock moves only by `sleep`: drain what is under way, then sleep."""
    program = await ensure_time_skipping_server(talk=_talk)
    environment = await _started_time_skipping(program)
    with environment.auto_time_skipping_disabled():
        yield environment
    await environment.shutdown()


@pytest.fixture
async def start_stack(
    session_directory: Path, database: str, temporal_address: str, temporal_namespace: str
) -> AsyncIterator[StartStack]:
    """Starts server and workers as processes, on the database and the namespace of this test; stopped after it.

    Keywords are those of StackOptions: `database_url=""` or `temporal_address=""` bring along a Postgres or Temporal of
    its own, which can be killed without harm to other tests.
    """
    async with AsyncExitStack() as stacks:

        async def start(**options: Any) -> Stack:
            defaults = stack_options(
                session_directory / uuid.uuid4().hex[:8],
                database_url=database,
                temporal_address=temporal_address,
                temporal_namespace=temporal_namespace,
            )
            return await stacks.enter_async_context(Stack(replace(defaults, **options), talk=_talk))

        yield start


@pytest.fixture
async def running_stack(start_stack: StartStack) -> Stack:
    """A server and two workers. `running_stack.part("worker-1").pid` may be killed: it is started again."""
    return await start_stack()


async def _started_time_skipping(program: Path) -> WorkflowEnvironment:
    """The SDK gives the server five seconds, which a busy machine does not always have: so it is asked again."""
    for _ in range(3):
        with contextlib.suppress(RuntimeError):
            return await WorkflowEnvironment.start_time_skipping(test_server_existing_path=str(program))
    return await WorkflowEnvironment.start_time_skipping(test_server_existing_path=str(program))


def _talk(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201


async def _create_database(postgres: EmbeddedPostgres, template: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    # Copied file by file, since nothing is forced to the disk here: a third of the work of copying through the log.
    await _administer(postgres, f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template} STRATEGY FILE_COPY")
    return name


async def _administer(postgres: EmbeddedPostgres, statement: str) -> None:
    conn = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
    try:
        await conn.execute(statement)
    finally:
        await conn.close()
