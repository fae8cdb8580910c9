"""Bare starts of the product's own workflow: `python -m bench.bulk_bare TEMPORAL` starts it in a process that also runs
it, and writes nothing down.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any
from uuid import uuid4

from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from bench.remote import obey, run
from orchestrator.temporal.client import Target, connect, runtime
from orchestrator.temporal.contract import (
    ENROLLMENT_MEMO,
    EXECUTION_WORKFLOW,
    JOURNEY_ATTRIBUTE,
    PHASE_ATTRIBUTE,
    PROJECT_ATTRIBUTE,
    SUBJECT_ATTRIBUTE,
    SUBJECT_MEMO,
    VERSION_ATTRIBUTE,
    Effect,
    ExecutionInput,
    phase_at,
)
from workers.process import Limits
from workers.workflows.journey_execution import JourneyExecution

QUEUE = "bare-bulk"

#: Starts under way at once.
AT_ONCE = 32


async def main(address: str) -> None:
    client = await connect(Target(address=address), runtime=runtime(None))

    async def start(asked: list[Any]) -> float:
        """Seconds for so many."""
        series, count, wait = asked
        turn = asyncio.Semaphore(AT_ONCE)
        until = time.time() + wait

        async def one(number: int) -> None:
            subject_id = f"{series}-{number}"
            execution_id = str(uuid4())
            effect = Effect(seq=0, kind="sleep", step_id="pause", until=until, why="wait")
            phase = phase_at(effect, time.time())
            async with turn:
                await client.start_workflow(
                    EXECUTION_WORKFLOW,
                    ExecutionInput(
                        project_no=1,
                        bucket=0,
                        subject_no=number,
                        execution_id=execution_id,
                        effect=effect,
                        phase=phase,
                    ),
                    id=f"disp:bulk__v1__{subject_id}__bare",
                    task_queue=QUEUE,
                    memo={ENROLLMENT_MEMO: execution_id, SUBJECT_MEMO: [1, 0, number]},
                    search_attributes=TypedSearchAttributes(
                        [
                            SearchAttributePair(PROJECT_ATTRIBUTE, "default"),
                            SearchAttributePair(JOURNEY_ATTRIBUTE, "bulk"),
                            SearchAttributePair(VERSION_ATTRIBUTE, 1),
                            SearchAttributePair(SUBJECT_ATTRIBUTE, subject_id),
                            SearchAttributePair(PHASE_ATTRIBUTE, phase),
                        ]
                    ),
                    static_summary="bulk v1",
                    request_eager_start=True,
                )

        began = time.perf_counter()
        await asyncio.gather(*map(one, range(count)))
        return time.perf_counter() - began

    limits = Limits()
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[JourneyExecution],
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_all_modules()
        ),
        max_cached_workflows=limits.cached,
        max_concurrent_workflow_tasks=limits.workflow_tasks,
    ):
        await obey({"start": start})


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
