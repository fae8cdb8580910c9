"""Sees to what is due on schedule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio import activity

from orchestrator.application.journey_schedules import fire
from orchestrator.application.transactions import Transactions
from orchestrator.temporal.schedules import FIRE_ACTIVITY, DueFiring
from workers.errors import as_failure


@dataclass(frozen=True)
class ScheduleActivities:
    """May be repeated after any failure: a firing becomes one job."""

    transactions: Transactions

    @activity.defn(name=FIRE_ACTIVITY)
    async def enroll_on_schedule(self, due: DueFiring) -> str:
        due_at = datetime.fromtimestamp(due.due_at, UTC)
        try:
            return await fire(self.transactions, due.project_no, due.journey_id, due.digest, due_at)
        except Exception as error:
            raise as_failure(error) from None
