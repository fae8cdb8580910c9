"""Hearing Postgres notifications."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import asyncpg

from orchestrator.storage.outages import is_outage

logger = logging.getLogger(__name__)

#: Wait before connecting again, in seconds.
PAUSE = 1.0


async def listen(dsn: str, channel: str, ring: Callable[[], None]) -> None:
    """Call `ring` at each notification on `channel`, and after each (re)connect, since some may have been missed.

    Runs until it is cancelled; a lost connection is made anew. A connection of its own: one of a pool would not stay.
    """
    while True:
        try:
            conn = await asyncpg.connect(dsn, timeout=5)
        except Exception as error:
            if not is_outage(error):
                raise
            logger.info("cannot listen for now", extra={"error": type(error).__name__})
            await asyncio.sleep(PAUSE)
            continue
        lost = asyncio.Event()
        try:
            conn.add_termination_listener(lambda _, lost=lost: lost.set())
            await conn.add_listener(channel, lambda *_: ring())
            ring()
            await lost.wait()
        except Exception as error:
            if not is_outage(error):
                raise
            logger.info("stopped hearing for a moment", extra={"error": type(error).__name__})
        finally:
            if not conn.is_closed():
                conn.terminate()
