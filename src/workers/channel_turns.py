"""Lets out those who wait for the turn of a channel, as their turns come."""

from __future__ import annotations

import logging

from orchestrator.application.channel_turns import LettingOut
from orchestrator.application.delivery import Delivery
from orchestrator.storage.outages import is_outage
from workers.stopping import Stopping
from workers.telling import Telling

logger = logging.getLogger(__name__)

#: Seconds between two looks while nobody waits for a channel, and while somebody does.
LOOK_EVERY = 0.5
STEP_EVERY = 0.1


class TurnKeeper:
    """Runs in every worker process until `stop`; processes share the channels by locks."""

    def __init__(self, letting_out: LettingOut, delivery: Delivery) -> None:
        self._letting_out = letting_out
        self._delivery = delivery
        self._stopping = Stopping()
        self._telling = Telling()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Returns after `stop`, when those that were let out have been told."""
        pause = 0.0
        while not await self._stopping.within(pause):
            try:
                pause = STEP_EVERY if await self._step() else LOOK_EVERY
            except Exception as error:
                if is_outage(error):
                    logger.warning("sends that wait for channels wait longer", extra={"error": type(error).__name__})
                else:
                    logger.exception("sends that wait for channels wait longer")
                pause = LOOK_EVERY
        await self._telling.all_end()

    async def _step(self) -> bool:
        """Let out at every channel for which somebody waits; False where nobody does."""
        channels = await self._letting_out.waited_for()
        for project_no, channel in channels:
            self._telling.begin(self._delivery, await self._letting_out.step(project_no, channel))
        return bool(channels)
