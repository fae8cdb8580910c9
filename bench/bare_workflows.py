"""The bare alternative: the same journey as a plain Temporal workflow, one activity for each step.

As an expert would write it for this one journey. It keeps the same ledgers, but not the product's promises: it takes no
lock, so an opt-out may be overtaken by a send; a send is not reserved, so that a crash behind the provider's answer
leaves no trace; and what is started is not written down before it is started.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from bench.welcome import WAIT_SECONDS

QUEUE = "bare"
PATIENCE = timedelta(seconds=10)


@dataclass
class Traveller:
    """Ids of a subject and of its execution."""

    project_no: int
    bucket: int
    subject_no: int
    execution_id: str


@dataclass
class Step:
    traveller: Traveller
    step_id: str
    seq: int
    # Epoch seconds.
    since: float
    communication_id: str = ""


@workflow.defn(name="BareWelcome")
class BareWelcome:
    @workflow.run
    async def run(self, traveller: Traveller) -> str:
        await self._send(Step(traveller, "hello", 1, workflow.time(), "welcome"))
        since = workflow.time()
        await workflow.sleep(WAIT_SECONDS)
        pro: bool = await workflow.execute_activity(
            "check", Step(traveller, "check", 2, since), result_type=bool, start_to_close_timeout=PATIENCE
        )
        step_id, communication_id = ("thank", "thanks") if pro else ("nudge", "nudge")
        await self._send(Step(traveller, step_id, 3, workflow.time(), communication_id))
        await workflow.execute_activity(
            "finish", Step(traveller, "end", 4, workflow.time()), start_to_close_timeout=PATIENCE
        )
        return "completed"

    async def _send(self, step: Step) -> None:
        await workflow.execute_activity("send", step, start_to_close_timeout=PATIENCE)


@workflow.defn(name="BareStart")
class BareStart:
    """Begins, and waits."""

    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(3600)
