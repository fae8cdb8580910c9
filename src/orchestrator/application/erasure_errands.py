"""Seeing to it that erasures are carried out."""

from __future__ import annotations

from orchestrator.application.errands import Errands
from orchestrator.storage.erasures import Open
from orchestrator.temporal.erasures import ErasureWorkflows


class ErasureErrands(Errands[Open, ErasureWorkflows]):
    async def _see_to(self, request: Open) -> None:
        await self._workflows.see_to(request.project_no, request.erasure_id)
