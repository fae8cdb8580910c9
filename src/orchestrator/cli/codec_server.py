from __future__ import annotations

import asyncio

from orchestrator import logs
from orchestrator.cli.failure import CommandFailure
from orchestrator.settings import Settings


def codec_server() -> None:
    """Show those who have a token what encrypted histories say, in Temporal's pages and command line; until SIGTERM.

    Reads ORCHESTRATOR_PAYLOAD_KEYS and ORCHESTRATOR_CODEC_*. Needs no database.
    """
    # Not for the other commands to wait for.
    from orchestrator import codec_server as process
    from orchestrator.server import CannotServe

    settings = Settings.load()
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(process.serve(settings))
    except CannotServe as failure:
        raise CommandFailure(str(failure)) from failure
