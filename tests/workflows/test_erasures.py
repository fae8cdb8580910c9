"""Forgetting somebody, with workers and a real Temporal: nothing is left of them anywhere, and no number changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.client import Client

from orchestrator.application import forgetting
from orchestrator.domain.erasure import Erasure, Phase
from orchestrator.temporal.contract import EXECUTION_WORKFLOW
from tests.workflows.test_effects import knows
from tests.workflows.test_journey_execution import BYE, HELLO
from tests.workflows.world import Running

if TYPE_CHECKING:
    pass

SECRET = b"s" * 48
PAUSE = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}


async def forget(running: Running, subject_id: str) -> Erasure:
    return await running.world.do(forgetting.forget, SECRET, subject_id)


async def receipt(running: Running, erasure: Erasure) -> Erasure:
    """Once all is done."""
    await running.until("EXISTS (SELECT FROM erasures WHERE erasure_id = $1 AND phase = 'done')", erasure.erasure_id)
    return await running.world.look(forgetting.get, erasure.erasure_id)


async def workflows(client: Client) -> set[str]:
    query = f"WorkflowType = '{EXECUTION_WORKFLOW}'"
    return {run.id async for run in client.list_workflows(query)}


async def test_whoever_is_forgotten_on_the_way_is_gone_from_temporal_and_the_others_travel_on(at_work: Running) -> None:
    await at_work.publish(HELLO, PAUSE, BYE)
    for who in ("ann", "bob"):
        await knows(at_work, who, plan="pro")
    told = await at_work.enroll("ann", "bob")
    await at_work.until("(SELECT count(*) FROM executions WHERE step_id = 'pause') = 2")
    (anns, bobs) = (entry.workflow_id for entry in told)

    done = await receipt(at_work, await forget(at_work, "ann"))

    assert done.phase is Phase.DONE
    assert list(done.phases) == [phase for phase in Phase if phase is not Phase.DONE]
    assert done.phases[Phase.EXECUTIONS].counts == {"ended": 1}
    assert done.phases[Phase.RUNS].counts == {"executions": 1}
    assert anns not in await workflows(at_work.client)
    assert bobs in await workflows(at_work.client)
    outcomes = await at_work.owner.fetch("SELECT outcome, reason FROM executions ORDER BY outcome NULLS LAST")
    assert [tuple(row) for row in outcomes] == [("forgotten", "subject_forgotten"), (None, None)]
