"""A worker of the product in this process, on a Postgres and a Temporal that it is told of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.client import Target, connect, runtime
from orchestrator.temporal.keyring import Keyring
from workers.channels.registry import open_channels
from workers.channels.rendering import Renderer
from workers.process import Limits, Parts, running
from workers.step_calls import StepCalls

if TYPE_CHECKING:
    from asyncpg import Pool, Record
    from temporalio.client import Client


@asynccontextmanager
async def working(
    dsn: str, target: Target, *, payload_keys: Sequence[str] = (), limits: Limits | None = None, **channels: Any
) -> AsyncIterator[tuple[Client, Pool[Record]]]:
    """Works as long as the block lasts, which may use its client and its connections. `channels`: as `open_channels`
    has it.
    """
    native = runtime(None)
    client = await connect(target, keyring=Keyring.of(payload_keys), runtime=native)
    pool = await open_pool(dsn, role=WORKER_ROLE, size=16, application_name="orchestrator-worker")
    async with open_channels(pool=pool, **channels) as opened, StepCalls() as calls, Renderer() as renderer:
        parts = Parts(
            dsn=dsn,
            pool=pool,
            client=client,
            channels=opened,
            calls=calls,
            renderer=renderer,
            meter=native.metric_meter,
            searchable=True,
            limits=limits or Limits(),
        )
        async with running(parts):
            yield client, pool
    await pool.close()
