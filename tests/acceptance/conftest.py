"""One stack for many tests, and a project of its own for each of them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

from orchestrator.client import OrchestratorClient, messages
from orchestrator.devstack.postgres import OWNER, SUPERUSER, EmbeddedPostgres
from orchestrator.devstack.stack import Stack
from orchestrator.temporal.client import Target, connect
from tests.acceptance.command_line import CommandLine
from tests.stack_options import stack_options


@pytest.fixture(scope="session")
async def shared_stack(
    session_directory: Path, postgres: EmbeddedPostgres, template: str, temporal_address: str
) -> AsyncIterator[Stack]:
    """A server and a worker that nobody may stop."""
    name = f"shared_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
    await admin.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
    temporal = await connect(Target(address=temporal_address))
    await temporal.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=3 * 86400))
    )
    options = stack_options(
        session_directory / name,
        database_url=postgres.dsn(name),
        temporal_address=temporal_address,
        temporal_namespace=name,
        workers=1,
    )
    async with Stack(options) as stack:
        yield stack
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def project_key(shared_stack: Stack) -> str:
    """The owner's key of a new project."""
    async with OrchestratorClient(shared_stack.addresses.grpc, shared_stack.keys.operator) as operator:
        project = messages.Project(id=f"p-{uuid.uuid4().hex[:12]}", name="Of one test")
        return (await operator.projects.CreateProject(messages.CreateProjectRequest(project=project))).secret


@pytest.fixture
async def client(shared_stack: Stack, project_key: str) -> AsyncIterator[OrchestratorClient]:
    """Who owns a project of this test."""
    async with OrchestratorClient(shared_stack.addresses.grpc, project_key) as client:
        yield client


@pytest.fixture
def run(shared_stack: Stack, project_key: str) -> CommandLine:
    """The command line for who owns a project of this test."""
    return CommandLine(
        environment={"ORCHESTRATOR_ADDRESS": shared_stack.addresses.grpc, "ORCHESTRATOR_API_KEY": project_key}
    )
