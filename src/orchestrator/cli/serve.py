from __future__ import annotations

import asyncio

from orchestrator import logs
from orchestrator.cli.failure import CommandFailure
from orchestrator.settings import Settings
from orchestrator.traces import TraceIds


def serve() -> None:
    """Run the server (gRPC and HTTP) until SIGTERM. Reads DATABASE_URL, TEMPORAL_ADDRESS, ORCHESTRATOR_*."""
    from orchestrator import server  # not for the other commands to wait for

    settings = Settings.load()
    logs.configure(settings.log_level, settings.log_format, completing=[TraceIds()])
    try:
        asyncio.run(server.serve(settings))
    except server.CannotServe as failure:
        raise CommandFailure(str(failure)) from failure
