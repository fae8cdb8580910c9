"""What nobody can read, somewhere in Temporal or in a row: it harms nobody but whom it belongs to, and no worker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import RawValue

from orchestrator.devstack.stack import worker_name
from orchestrator.temporal.contract import EXECUTION_WORKFLOW, JOURNEYS_QUEUE, POKE_SIGNAL
from tests.conftest import StartStack
from tests.faults.field import ENVIRONMENT, field_on
from tests.soak import SOAK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

#: Who go the same way as the poisoned.
NEIGHBOURS = 100 if SOAK else 30

RUBBISH = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"\xff\x00{"))


async def test_what_nobody_can_read_stops_nobody_but_whom_it_belongs_to(
    start_stack: StartStack, temporal: Client, owner: Connection[Record], tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish(wait="3s")
        everybody = [f"p-{n}" for n in range(NEIGHBOURS)]
        # Those before they come, so that all that is poisoned is there with the neighbours.
        for number in range(3):
            await temporal.start_workflow(
                EXECUTION_WORKFLOW, RUBBISH, id=f"stranger-{number}", task_queue=JOURNEYS_QUEUE
            )
        await field.sign_up(everybody)
        asleep = await field.asleep(everybody, least=5)
        for execution_id in sorted(asleep)[:5]:
            question = "SELECT workflow_id FROM executions WHERE execution_id = $1"
            await temporal.get_workflow_handle(await owner.fetchval(question, execution_id)).signal(
                POKE_SIGNAL, RUBBISH
            )
        # One that says nothing sensible where it stands is asked for from what it has passed.
        riddled = sorted(asleep)[-1]
        await owner.execute("UPDATE executions SET effect = $2 WHERE execution_id = $1", riddled, '{"kind": "riddle"}')
        await field.ended(len(everybody))

        assert [stack.part(worker_name(number)).restarts for number in (1, 2)] == [0, 0]
        failing = [one async for one in temporal.list_workflows("WorkflowId STARTS_WITH 'stranger'")]
        assert {one.status for one in failing} == {WorkflowExecutionStatus.RUNNING}
        accepted = [receipt.key for receipt in field.provider.accepted()]
        assert len(accepted) == len(set(accepted))
