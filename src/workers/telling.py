"""Temporal is told beside other work of what was decided; of what it cannot be told now, the sweeper tells it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from orchestrator.application.relay import Relay
from orchestrator.storage.outbox import Notice

logger = logging.getLogger(__name__)


class Telling:
    """What is being told by a relay; `len` counts them."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Task[None], int] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def notices(self) -> int:
        """How many notices are being told."""
        return sum(self._under_way.values())

    def begin(self, relay: Relay, told: Sequence[Notice]) -> None:
        if not told:
            return
        task = asyncio.create_task(_tell(relay, told))
        self._under_way[task] = len(told)
        task.add_done_callback(self._under_way.pop)

    async def one_ends(self) -> None:
        """Returns when one of those under way has ended."""
        await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    async def all_end(self) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)


async def _tell(relay: Relay, told: Sequence[Notice]) -> None:
    try:
        await relay.tell(told)
    except Exception as error:
        logger.warning("what is told is left to the sweeper", extra={"error": type(error).__name__})
