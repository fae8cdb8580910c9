"""Lets out those who wait for the turn of a channel, as their turns come."""

from __future__ import annotations

from orchestrator.application.channel_turns import LettingOut
from orchestrator.application.relay import Relay
from workers.looks import keep_looking
from workers.stopping import Stopping
from workers.telling import Telling

#: Seconds between two looks while nobody waits for a channel, and while somebody does.
LOOK_EVERY = 0.5
STEP_EVERY = 0.1


class TurnKeeper:
    """Runs in every worker process until `stop`; processes share the channels by locks."""

    def __init__(self, letting_out: LettingOut, relay: Relay) -> None:
        self._letting_out = letting_out
        self._relay = relay
        self._stopping = Stopping()
        self._telling = Telling()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Returns after `stop`, when those that were let out have been told."""
        await keep_looking(
            self._step, self._stopping, failed="sends that wait for channels wait longer", again=LOOK_EVERY
        )
        await self._telling.all_end()

    async def _step(self) -> float:
        """Let out at every channel for which somebody waits; returns how long to wait before the next time."""
        channels = await self._letting_out.waited_for()
        for project_no, channel in channels:
            self._telling.begin(self._relay, await self._letting_out.step(project_no, channel))
        return STEP_EVERY if channels else LOOK_EVERY
