"""Seeing to it that policies are updated: the schedule is there, and Temporal knows of every request."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import timedelta

from orchestrator.application.policy_updates import PolicyUpdates
from orchestrator.temporal.policies import PolicyWorkflows

#: Whether updates are scheduled is looked at again after this.
SCHEDULE_LOOKED_AT = timedelta(minutes=5)


class PolicyErrands:
    """Run again and again by every worker; each time does what is left to do. Raises RPCError when Temporal is away."""

    def __init__(
        self, updates: PolicyUpdates, workflows: PolicyWorkflows, *, look_again: timedelta = SCHEDULE_LOOKED_AT
    ) -> None:
        self._updates = updates
        self._workflows = workflows
        self._look_again = look_again.total_seconds()
        self._scheduled_until = -math.inf

    async def run(self) -> None:
        """Tell Temporal of journeys whose policies were asked for; of those that it could not be told of, the next look
        does.
        """
        claimed = await self._updates.claim_untold()
        told = await asyncio.gather(
            *(self._workflows.see_to(one.project_no, one.journey_id) for one in claimed), return_exceptions=True
        )
        failures = {one: failure for one, failure in zip(claimed, told, strict=True) if failure is not None}
        if failures:
            await self._updates.not_told(failures)
            raise next(iter(failures.values()))

    async def ensure_schedule(self) -> None:
        """Have updates scheduled as they should be; asks Temporal every few minutes, since people may change it."""
        if time.monotonic() >= self._scheduled_until:
            await self._workflows.ensure_schedule()
            self._scheduled_until = time.monotonic() + self._look_again
