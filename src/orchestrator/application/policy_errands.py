"""Seeing to it that policies are updated."""

from __future__ import annotations

from orchestrator.application.errands import RegularErrands
from orchestrator.storage.policy_versions import LearningJourney
from orchestrator.temporal.policies import PolicyWorkflows


class PolicyErrands(RegularErrands[LearningJourney, PolicyWorkflows]):
    async def _see_to(self, request: LearningJourney) -> None:
        await self._workflows.see_to(request.project_no, request.journey_id)
