"""Temporal is told beside other work of what was decided; of what it cannot be told now, the sweeper tells it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from orchestrator.application.delivery import Delivery
from orchestrator.storage.outbox import Entry

logger = logging.getLogger(__name__)


class Telling:
    """Deliveries that are under way; `len` counts them."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Task[None], int] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def entries(self) -> int:
        """How many entries are being told."""
        return sum(self._under_way.values())

    def begin(self, delivery: Delivery, told: Sequence[Entry]) -> None:
        if not told:
            return
        task = asyncio.create_task(_tell(delivery, told))
        self._under_way[task] = len(told)
        task.add_done_callback(self._under_way.pop)

    async def one_ends(self) -> None:
        """Returns when one of those under way has ended."""
        await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    async def all_end(self) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)


async def _tell(delivery: Delivery, told: Sequence[Entry]) -> None:
    try:
        await delivery.deliver(told)
    except Exception as error:
        logger.warning("a delivery is left to the sweeper", extra={"error": type(error).__name__})
