"""One try of an activity that others may hurry or end, and that must not be cut off in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import activity

from orchestrator.temporal.contract import HEARTBEAT

_Result = TypeVar("_Result")


async def seen_through(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What the work comes to, whoever asks for its end meanwhile: a workflow that is in a hurry means a back-off, and
    who terminates, resets or pauses in Temporal means what comes after. A call that is cut off would be in doubt, and
    what is in doubt may be made a second time, or never. It is as long as its own timeouts let it be.

    A worker that stops cuts the work off, and so does the end of the time that Temporal gives a try.
    """
    beating = asyncio.create_task(_beat())
    trying = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        why = activity.cancellation_details()
        if why is not None and not (why.worker_shutdown or why.timed_out):
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
