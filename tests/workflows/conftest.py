from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from orchestrator.temporal.client import Target, connect
from tests.integration.journey_world import World
from tests.workflows.world import Running, Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@pytest.fixture
async def furnished(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    """A project with the communication `welcome`, on the log channel."""
    world = await World.make(owner, api_pool)
    await world.furnish()
    return world


@pytest.fixture
async def at_work(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> AsyncIterator[Running]:
    """Executions run on the development server."""
    channel = Switchboard()
    async with worker(temporal, database, worker_pool, channel):
        yield Running(furnished, temporal, worker_pool, channel)


@pytest.fixture
async def in_time(
    furnished: World, time_skipping: WorkflowEnvironment, database: str, worker_pool: Pool[Record]
) -> AsyncIterator[Running]:
    """Executions run on a server whose clock the test moves."""
    channel = Switchboard()
    async with worker(time_skipping.client, database, worker_pool, channel):
        yield Running(furnished, time_skipping.client, worker_pool, channel)


@pytest.fixture
async def bare_namespace(temporal_address: str) -> Client:
    """A client in a namespace that lacks our search attributes."""
    name = f"bare-{uuid.uuid4().hex}"
    client = await connect(Target(address=temporal_address))
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86400))
    )
    return await connect(Target(address=temporal_address, namespace=name))
