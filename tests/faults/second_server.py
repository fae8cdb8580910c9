"""A server beside that of a stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.devstack.ports import LOOPBACK
from orchestrator.devstack.processes import Process, start_process
from orchestrator.devstack.readiness import await_serving

SECOND_SERVER = "server-2"


async def begin_second_server(environment: Mapping[str, str], log: Path, *, grpc: int, http: int) -> Process:
    """Returns once it serves at these ports; one that does not come so far is stopped."""
    process = await start_process(
        SECOND_SERVER,
        [sys.executable, "-P", "-m", "orchestrator.cli", "serve"],
        log=log,
        env={**environment, "ORCHESTRATOR_GRPC_PORT": str(grpc), "ORCHESTRATOR_HTTP_PORT": str(http)},
    )
    try:
        await await_serving(process, LOOPBACK, grpc)
    except BaseException:
        await process.stop(grace=5)
        raise
    return process
