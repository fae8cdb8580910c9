"""Bare eager starts: `python -m bench.bare_start TEMPORAL` starts plain workflows in a process that also runs them."""

from __future__ import annotations

import sys
import time
from typing import Any

from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from bench.bare_workflows import BareStart
from bench.pace import at_pace
from bench.remote import obey, run
from orchestrator.temporal.client import Target, connect, runtime

QUEUE = "bare-start"


async def main(address: str) -> None:
    client = await connect(Target(address=address), runtime=runtime(None))

    async def start(asked: list[Any]) -> dict[str, float]:
        """When each workflow was asked for, by its id; so many, at so many a second."""
        series, count, pace = asked
        asked_at: dict[str, float] = {}

        async def one(number: int) -> None:
            workflow_id = f"{series}-{number}"
            asked_at[workflow_id] = time.time()
            await client.start_workflow(BareStart.run, id=workflow_id, task_queue=QUEUE, request_eager_start=True)

        await at_pace(one, count, pace)
        return asked_at

    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[BareStart],
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_all_modules()
        ),
    ):
        await obey({"start": start})


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
