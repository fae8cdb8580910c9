"""Seeing to it that erasures are carried out."""

from __future__ import annotations

from orchestrator.application.erasures import Erasures
from orchestrator.application.errands import Errands
from orchestrator.storage.erasures import Open
from orchestrator.temporal.erasures import ErasureWorkflows


class ErasureErrands(Errands[Open, ErasureWorkflows]):
    def __init__(self, erasures: Erasures, workflows: ErasureWorkflows) -> None:
        super().__init__(erasures, workflows)
        self._erasures = erasures

    async def write_down(self) -> None:
        """Write to the ledger what it lacks, until it lacks nothing or cannot be written."""
        while await self._erasures.write_down():
            pass

    async def _see_to(self, request: Open) -> None:
        await self._workflows.see_to(request.project_no, request.erasure_id)
