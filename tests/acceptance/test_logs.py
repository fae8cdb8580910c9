"""Who travels is in no log: executions stand there by their own ids, whatever goes wrong and whoever writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
from temporalio.client import Client

from orchestrator.devstack.stack import SERVER, Stack, worker_name
from orchestrator.temporal.contract import EXECUTION_WORKFLOW, JOURNEYS_QUEUE, Effect, ExecutionInput, workflow_id
from tests.conftest import StartStack
from tests.eventually import eventually

if TYPE_CHECKING:
    from asyncpg import Connection, Record

SUBJECT = "bob.jones"
STEPS = [
    {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"},
    {"id": "bye", "exit": {"reason": "finished"}},
]


async def test_no_log_names_a_subject_when_activities_and_workflows_fail(
    start_stack: StartStack, owner: Connection[Record], temporal: Client
) -> None:
    stack = await start_stack(workers=1, environment={"ORCHESTRATOR_LOG_LEVEL": "debug"})
    execution_id = await _enrolled_while_sends_are_away(stack, owner)
    foreign = workflow_id(
        project_id="default", journey_id="welcome", version=1, subject_id=SUBJECT, entry_key="from-the-future"
    )
    await temporal.start_workflow(
        EXECUTION_WORKFLOW,
        ExecutionInput(1, 0, 0, execution_id="e-future", effect=Effect(seq=1, kind="no such kind")),
        id=foreign,
        task_queue=JOURNEYS_QUEUE,
    )
    await eventually(lambda: _of(stack, "e-future") != [], within=30)

    assert {"Completing activity as failed", "an activity failed"} <= {
        line["message"] for line in _of(stack, execution_id)
    }
    assert _of(stack, "e-future")[0]["message"].startswith("Failed activation on workflow")
    for part in (SERVER, worker_name(1)):
        log = stack.part(part).process.log.read_text()
        assert log
        assert SUBJECT not in log


async def _enrolled_while_sends_are_away(stack: Stack, owner: Connection[Record]) -> str:
    """The execution, once its send has failed for want of a table and gone well after all."""
    async with httpx.AsyncClient(
        base_url=stack.addresses.http, headers={"X-Api-Key": stack.keys.owner}, timeout=30
    ) as http:
        message = {"id": "welcome", "name": "Welcome", "channel": "log", "category": "marketing", "body": "Hi"}
        for path, body in (
            ("/v1/communications", message),
            ("/v1/journeys", {"id": "welcome", "name": "Welcome", "steps": STEPS}),
            ("/v1/journeys/welcome:publish", {}),
        ):
            assert (await http.post(path, json=body)).status_code == 200
        await owner.execute("ALTER TABLE sends RENAME TO sends_elsewhere")
        await http.post("/v1/journeys/welcome:enroll", json={"subjectIds": [SUBJECT]})
        execution_id = str(await owner.fetchval("SELECT execution_id FROM executions"))
        await eventually(lambda: len(_of(stack, execution_id)) >= 2, within=30)
        await owner.execute("ALTER TABLE sends_elsewhere RENAME TO sends")

        async def has_ended() -> bool:
            answer = await http.get(f"/v1/executions/{execution_id}")
            return bool(answer.json()["status"] == "SUCCEEDED")

        await eventually(has_ended, within=60)
    return execution_id


def _of(stack: Stack, execution_id: str) -> list[dict[str, Any]]:
    """What the worker's log has of an execution."""
    lines = stack.part(worker_name(1)).process.log.read_text().splitlines()
    return [line for line in map(json.loads, lines) if line.get("execution_id") == execution_id]
