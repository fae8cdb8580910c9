"""Scenarios of what has to be true whoever dies: erasures, the audit log, what Temporal has ended, tests of sends."""

from __future__ import annotations

import httpx
from temporalio.service import RPCError

from orchestrator.application.audit_verification import verify_all
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.stack import AUDIT_ANCHORS
from orchestrator.domain.audit_chain import by_project
from orchestrator.storage import anchor_files
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from tests.acceptance.canaries import Canary
from tests.eventually import eventually
from tests.faults.checker import Effect
from tests.faults.checker.evidence import Forgotten
from tests.faults.checker.op_log import AUDIT, EVENT, FORGOTTEN
from tests.faults.crashes.ground import Ground, crowd


async def erasing(ground: Ground) -> None:
    """Somebody who is on a way, and has told something of themselves, is forgotten."""

    async def turn(number: int) -> None:
        who, diary = f"Kanari.Ann-{4700 + number}", f"Kanari/{number} höchst persönlich"
        event = {"eventId": f"told-{number}", "name": "told", "subjectId": who, "properties": {"diary": diary}}
        effects = [Effect(EVENT, f"told-{number}", subject=who)]
        await ground.field.call("POST", "/v1/events", {"events": [event]}, effects=effects)
        await ground.enroll("lasting", [who])
        await ground.field.call("POST", f"/v1/subjects/{who}:forget", {}, effects=[Effect(FORGOTTEN, who)])
        ground.forgotten.append(Forgotten(subject_id=who, canaries=[Canary("id", who), Canary("diary", diary)]))

    await ground.turn_after_turn("erasing", turn, pause=12)


async def sealing(ground: Ground) -> None:
    """Each new project has a log of its own, of which the first seal is told outside at once."""
    stack = ground.field.stack

    async def turn(number: int) -> None:
        body = {"id": f"sealed-{number}", "name": "Sealed", "predicate": {"kind": "everyone"}}
        created = [Effect(AUDIT, f"audience_created audience/sealed-{number}")]
        await ground.field.call("POST", "/v1/audiences", body, effects=created)
        if number:
            await _new_project(ground, f"project-{number}")

    await ground.turn_after_turn("sealing", turn)

    async def fits() -> None:
        anchors = by_project(anchor_files.read([stack.addresses.data_dir / AUDIT_ANCHORS]).anchors)
        pool = await open_pool(stack.addresses.database_url, role=WORKER_ROLE, size=2, application_name="test")
        try:
            results = [result async for _, result in verify_all(Transactions(pool), anchors)]
        finally:
            await pool.close()
        assert [result.misfit for result in results] == [None] * len(results)
        assert sum(result.anchors for result in results) >= 1

    ground.checks.append(fits)


async def _new_project(ground: Ground, project_id: str) -> None:
    stack = ground.field.stack
    headers = {"X-Api-Key": stack.keys.operator, "Idempotency-Key": project_id}
    async with httpx.AsyncClient(base_url=stack.addresses.http, headers=headers, timeout=10) as operator:

        async def made() -> bool:
            try:
                answer = await operator.post("/v1/projects", json={"id": project_id, "name": project_id})
            except httpx.HTTPError:
                return False
            return answer.status_code == 200

        await eventually(made, within=60)


async def reconciling(ground: Ground) -> None:
    """Somebody terminates executions in Temporal."""

    async def turn(number: int) -> None:
        people = crowd(f"terminated-{number}", 2)
        await ground.enroll("lasting", people)
        rows = await ground.rows.fetch(
            "SELECT workflow_id FROM executions JOIN subjects USING (project_no, bucket, subject_no)"
            " WHERE journey_id = 'lasting' AND subject_id = ANY ($1)",
            people,
        )
        for row in rows:
            handle = ground.temporal.get_workflow_handle(row["workflow_id"])

            async def terminated(handle=handle) -> bool:  # type: ignore[no-untyped-def]
                """In the middle of its long wait: a task that is under way would fail."""
                try:
                    if (await handle.describe()).raw_description.HasField("pending_workflow_task"):
                        return False
                    await handle.terminate("by a test")
                except RPCError:  # it was not told to start yet
                    return False
                return True

            await eventually(terminated, within=ground.within)

    await ground.turn_after_turn("reconciling", turn, pause=16)

    async def closed() -> None:
        rows = await ground.rows.fetch(
            "SELECT DISTINCT outcome, reason FROM executions JOIN subjects USING (project_no, bucket, subject_no)"
            " WHERE subject_id LIKE 'terminated-%'"
        )
        assert [tuple(row) for row in rows] == [("canceled", "temporal_terminated")]

    ground.checks.append(closed)


async def testing(ground: Ground) -> None:
    """Tests of messages go out once at most: whoever dies in between leaves it unknown."""

    async def turn(number: int) -> None:
        del number
        body = {"communicationId": "logged", "addresses": ["one", "two"]}
        await ground.field.call("POST", "/v1/communications:sendTest", body)

    await ground.turn_after_turn("testing", turn)

    async def told() -> None:
        rows = await ground.rows.fetch(
            "SELECT r ->> 'state' AS state, count(*) FROM test_sends, jsonb_array_elements(results) AS r GROUP BY 1"
        )
        counts = {row["state"]: row["count"] for row in rows}
        struck = sum(name.startswith("test send") for name in ground.faults.struck())
        assert counts.pop("unknown", 0) >= struck  # and those of whom somebody died at another point
        assert set(counts) <= {"sent"}

    ground.checks.append(told)
