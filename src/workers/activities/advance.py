"""Asks the database what comes next."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio import activity

from orchestrator.application.advance import Advance
from orchestrator.temporal.contract import ADVANCE_ACTIVITY, Effect, Question
from workers.errors import as_failure


@dataclass(frozen=True)
class AdvanceActivities:
    """Local for speed, regular when the database is slow; deciding twice is impossible, so retries are free."""

    advance_execution: Advance

    @activity.defn(name=ADVANCE_ACTIVITY)
    async def advance(self, question: Question) -> Effect:
        try:
            return await self.advance_execution(question)
        except Exception as error:
            raise as_failure(error, execution_id=question.execution_id) from None
