"""One try of an activity that others may hurry, and that must not be cut off in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import activity

from orchestrator.temporal.contract import HEARTBEAT

_Result = TypeVar("_Result")


async def seen_through(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What the work comes to. A workflow that is in a hurry asks for the end of a back-off, not of a try that is under
    way; a worker that stops cuts it off.
    """
    beating = asyncio.create_task(_beat())
    trying = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        why = activity.cancellation_details()
        if why is not None and why.cancel_requested:
            return await trying
        trying.cancel()
        raise
    finally:
        beating.cancel()


async def _beat() -> None:
    """Say every few seconds that this try is alive, so that one that is not is made again soon."""
    while True:
        await asyncio.sleep(HEARTBEAT / 4)
        activity.heartbeat()
