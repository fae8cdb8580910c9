"""Arms that are really chosen by workers, and policies that they really make."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.client import Client, ScheduleActionStartWorkflow, ScheduleIntervalSpec, ScheduleOverlapPolicy

from orchestrator.application import policy_updates
from orchestrator.application.policy_errands import PolicyErrands
from orchestrator.application.policy_updates import PolicyUpdates
from orchestrator.temporal.policies import POLICIES_QUEUE, SCHEDULE_ID, UPDATE_WORKFLOW, PolicyWorkflows
from tests.workflows.test_effects import ended, knows
from tests.workflows.world import Running

Json = dict[str, Any]
BYE: Json = {"id": "bye", "exit": {"reason": "finished"}}
ARMS: list[Json] = [{"id": "a", "next": "best"}, {"id": "b", "next": "best"}]
CHOOSE: Json = {"id": "choose", "adaptiveBranch": {"arms": ARMS}}
BEST: Json = {
    "id": "best",
    "nbaDecision": {"arms": [{"id": "x", "next": "bye"}, {"id": "y", "next": "bye"}], "context": ["plan"]},
}


async def test_arms_are_chosen_on_the_way_and_histories_know_nothing_of_whom_for(at_work: Running) -> None:
    await knows(at_work, "ann", plan="canary")
    await at_work.publish(CHOOSE, BEST, BYE, goal="paid")
    # Publishing asks for policies; what comes of nothing is that all are alike.
    await at_work.until("(SELECT count(*) FROM policy_versions) = 2 AND NOT EXISTS (SELECT FROM policy_requests)")

    (entry,) = await at_work.enroll("ann")
    await ended(at_work)

    visits = await at_work.visits()
    assert [(step, result) for step, result, _ in visits] == [(step, "executed") for step in ("choose", "best", "bye")]
    rows = await at_work.owner.fetch(
        "SELECT step_id, arm_id, reason, policy_version, context->>'plan' AS plan FROM arm_choices ORDER BY seq"
    )
    assert [tuple(row) for row in rows] == [
        ("choose", visits[0][2], "cold_start", 1, None),
        ("best", visits[1][2], "cold_start", 1, "canary"),
    ]
    history = await at_work.client.get_workflow_handle(entry.workflow_id).fetch_history()
    scheduled = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert [(one.activity_type.name, one.activity_id) for one in scheduled] == [
        ("choose_arm", "0:choose"), ("choose_arm", "1:best"),
    ]  # fmt: skip
    assert "canary" not in history.to_json()


async def test_policies_are_made_when_somebody_asks(at_work: Running) -> None:
    await at_work.publish(CHOOSE, BEST, BYE, goal="paid")
    await at_work.until("(SELECT count(*) FROM policy_versions) = 2 AND NOT EXISTS (SELECT FROM policy_requests)")
    await at_work.owner.execute("UPDATE policy_versions SET created_at = now() - interval '2 days'")

    await at_work.world.do(policy_updates.request, "welcome")

    await at_work.until("(SELECT count(*) FROM policy_versions) = 4 AND NOT EXISTS (SELECT FROM policy_requests)")


async def test_updates_are_scheduled_hourly_one_at_a_time(at_work: Running, temporal: Client) -> None:
    errands = PolicyErrands(
        PolicyUpdates(at_work.transactions), PolicyWorkflows(temporal), look_again=timedelta(seconds=0)
    )
    await errands.ensure_schedule()
    await errands.ensure_schedule()

    schedule = (await temporal.get_schedule_handle(SCHEDULE_ID).describe()).schedule
    assert schedule.spec.intervals == [ScheduleIntervalSpec(every=timedelta(hours=1))]
    assert schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
    action = schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert (action.workflow, action.task_queue) == (UPDATE_WORKFLOW, POLICIES_QUEUE)
