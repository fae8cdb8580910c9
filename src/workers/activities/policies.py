"""Updates of policies: which journeys learn, and what one has learned."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from temporalio import activity
from temporalio.exceptions import ApplicationError

from orchestrator.application.policy_updates import PolicyUpdates
from orchestrator.storage.outages import is_outage
from orchestrator.storage.policy_versions import LearningJourney
from orchestrator.temporal.policies import JOURNEYS_AT_ONCE, LIST_ACTIVITY, UPDATE_ACTIVITY, Learning
from workers.activities.tries import seen_through
from workers.errors import as_failure
from workers.metrics import Metrics

logger = logging.getLogger(__name__)

#: A journey whose update failed so often, for a reason that is its own, is left to the next hour.
TRIES = 3


@dataclass(frozen=True)
class PolicyActivities:
    """Each may be repeated after any failure: what is worth publishing is published once."""

    updates: PolicyUpdates
    metrics: Metrics

    @activity.defn(name=LIST_ACTIVITY)
    async def list_learning_journeys(self, after: Learning) -> list[Learning]:
        found = await self.updates.journeys(
            LearningJourney(project_no=after.project_no, journey_id=after.journey_id), JOURNEYS_AT_ONCE
        )
        return [Learning(project_no=one.project_no, journey_id=one.journey_id) for one in found]

    @activity.defn(name=UPDATE_ACTIVITY)
    async def update_policies(self, journey: Learning) -> int:
        """How many versions were published."""
        named = LearningJourney(project_no=journey.project_no, journey_id=journey.journey_id)
        try:
            published = await seen_through(self.updates.update(named))
        except Exception as error:
            if not is_outage(error) and activity.info().attempt >= TRIES:
                logger.exception("policies could not be updated", extra={"journey_id": journey.journey_id})
                raise ApplicationError(type(error).__name__, non_retryable=True) from None
            raise as_failure(error) from None
        self.metrics.policies.add(published)
        return published
