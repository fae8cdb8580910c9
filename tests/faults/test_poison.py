"""What nobody can read, somewhere in Temporal or in a row: it harms nobody but whom it belongs to, and no worker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue

from orchestrator.devstack.stack import worker_name
from orchestrator.temporal.contract import EXECUTION_WORKFLOW, JOURNEYS_QUEUE, POKE_SIGNAL
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.checker import evidence_of
from tests.faults.field import ENVIRONMENT, RECOVERY, field_on
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
        asleep = sorted(await field.asleep(everybody, least=5))
        poked, riddled = asleep[:3], asleep[3]
        for execution_id in poked:
            workflow_id = await owner.fetchval(
                "SELECT workflow_id FROM executions WHERE execution_id = $1", execution_id
            )
            await temporal.get_workflow_handle(workflow_id).signal(POKE_SIGNAL, RUBBISH)
        await owner.execute(
            """UPDATE executions SET effect = '{"kind": "riddle", "seq": 1}' WHERE execution_id = $1""", riddled
        )

        async def others_have_ended() -> bool:
            left: int = await owner.fetchval(
                "SELECT count(*) FROM executions WHERE outcome IS NULL AND execution_id <> $1", riddled
            )
            return left == 0

        await eventually(others_have_ended, within=RECOVERY)
        evidence = await evidence_of(stack, receipts=field.provider.receipts)

        assert await owner.fetchval("SELECT outcome FROM executions WHERE execution_id = $1", riddled) is None
        overdue = next(one for one in evidence.diagnoses if one.check == "executions_overdue")
        assert (overdue.total, riddled in str(overdue.examples)) == (1, True)
        assert [stack.part(worker_name(number)).restarts for number in (1, 2)] == [0, 0]
        accepted = [receipt.key for receipt in field.provider.accepted()]
        assert len(accepted) == len(set(accepted))
