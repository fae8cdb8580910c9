"""A worker process, `python -m workers.main`: reads the settings, opens the parts, works until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import asyncpg

from orchestrator import logs
from orchestrator.settings import InvalidSettings, Settings
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.client import Target, connect, missing_search_attributes, runtime
from workers.channels.registry import open_channels
from workers.channels.rendering import Renderer
from workers.process import Parts, running

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach a part at the start: whoever started us may be starting it, too.
PAUSE = 0.5

_Part = TypeVar("_Part")


def main() -> int:
    """Exit status 0 after a stop that was asked for, 2 for settings that cannot be used."""
    try:
        settings = Settings.load()
        if settings.database_url is None:
            raise InvalidSettings("DATABASE_URL is not set: a worker needs a database.")
    except InvalidSettings as fault:
        print(fault, file=sys.stderr)  # noqa: T201 - logging is not configured yet
        return 2
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(_serve(settings, settings.database_url))
    return 0


async def _serve(settings: Settings, dsn: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port = settings.worker_metrics_port
    native = runtime(f"{settings.worker_metrics_host}:{port}" if port is not None else None)
    target = Target(address=settings.temporal_address or "", namespace=settings.temporal_namespace)
    async with AsyncExitStack() as stack:
        pool = await _reach(
            "postgres",
            stop,
            lambda: open_pool(dsn, role=WORKER_ROLE, size=settings.pool_size, application_name="orchestrator-worker"),
        )
        if pool is None:
            return
        stack.push_async_callback(pool.close)
        client = await _reach("temporal", stop, lambda: connect(target, runtime=native))
        if client is None:
            return
        if missing := await missing_search_attributes(client):
            logger.warning("the namespace lacks search attributes, executions cannot be found by them: %s", missing)
        channels = await stack.enter_async_context(
            open_channels(
                pool=pool,
                webhook_secrets=[secret.get_secret_value() for secret in settings.webhook_secrets],
                allow_private=settings.webhook_networks,
                plain_http=settings.webhook_plain_http,
            )
        )
        parts = Parts(
            dsn=dsn,
            pool=pool,
            client=client,
            channels=channels,
            renderer=await stack.enter_async_context(Renderer()),
            meter=native.metric_meter,
            searchable=not missing,
        )
        async with running(parts):
            logger.info("working")
            await stop.wait()
            logger.info("stopping")


async def _reach(part: str, stop: asyncio.Event, open_part: Callable[[], Awaitable[_Part]]) -> _Part | None:
    """Open a part, however long it takes to be there; None when we are told to stop meanwhile."""
    while not stop.is_set():
        try:
            return await open_part()
        except (OSError, TimeoutError, RuntimeError, asyncpg.PostgresError) as error:
            logger.warning("waiting for a part", extra={"part": part, "error": type(error).__name__})
        try:
            await asyncio.wait_for(stop.wait(), PAUSE)
        except TimeoutError:
            continue
    return None


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Not sys.exit: native threads of Temporal's SDK may touch the interpreter while it is being torn down, which aborts
    # the process after all is done well. Everything of ours is closed.
    os._exit(status)
