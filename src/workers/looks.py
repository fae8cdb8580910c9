"""Looking for work again and again, whatever comes of one look."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from orchestrator.storage.outages import is_outage
from orchestrator.temporal.outages import is_away
from workers.stopping import Stopping

logger = logging.getLogger(__name__)


async def keep_looking(
    look: Callable[[], Awaitable[float]], stopping: Stopping, *, failed: str, again: float, first: float = 0.0
) -> None:
    """Look until `stopping` is set. A look returns how many seconds to wait before the next one; the first is made
    after `first`. One that raises is told in the log as `failed`, and the next is made after `again`.
    """
    pause = first
    while not await stopping.within(pause):
        try:
            pause = await look()
        except Exception as error:
            tell(failed, error)
            pause = again


def tell(failed: str, error: Exception) -> None:
    """An outage is worth a line, anything else its trace; either is tried again."""
    if is_outage(error) or is_away(error):
        logger.warning(failed, extra={"error": type(error).__name__})
    else:
        logger.error(failed, exc_info=error)
