"""Schedules of what is done regularly, whatever anybody asks for: there, and as this release has them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from orchestrator.temporal.codec import is_written_so


async def ensure_schedule(
    client: Client,
    schedule_id: str,
    workflow: str,
    argument: Any,
    *,
    task_queue: str,
    summary: str,
    every: timedelta,
    catch_up: timedelta,
) -> None:
    """Have the workflow started so often, one at a time, and no other way; one that was due while Temporal was away is
    made up for if it was due no longer ago than `catch_up`. Raises RPCError.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            workflow, argument, id=schedule_id, task_queue=task_queue, static_summary=summary
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=catch_up),
    )
    try:
        await client.create_schedule(schedule_id, schedule)
    except ScheduleAlreadyRunningError:
        # Made by an earlier release, perhaps. Whether it is paused is the operators' business.
        await client.get_schedule_handle(schedule_id).update(lambda known: _updated(client, known, schedule))


async def _updated(client: Client, known: ScheduleUpdateInput, schedule: Schedule) -> ScheduleUpdate | None:
    before = known.description.schedule
    if (
        before.spec.intervals == schedule.spec.intervals
        and before.policy == schedule.policy
        and is_encrypted_as_now(client, before)
        and await _started(client, before) == await _started(client, schedule)
    ):
        return None
    schedule.state = before.state
    return ScheduleUpdate(schedule)


async def _started(client: Client, schedule: Schedule) -> object:
    """What the schedule starts, in a form that can be compared."""
    action = schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow):
        return None
    converter = client.data_converter
    # Of one that is described, arguments are as they are stored; encrypted, no two are alike.
    stored = [one for one in action.args if isinstance(one, Payload)]
    opened = await converter.payload_codec.decode(stored) if stored and converter.payload_codec else stored
    given = converter.payload_converter.to_payloads([one for one in action.args if not isinstance(one, Payload)])
    return (
        action.workflow,
        action.id,
        action.task_queue,
        [one.SerializeToString(deterministic=True) for one in (*opened, *given)],
    )


def is_encrypted_as_now(client: Client, described: Schedule) -> bool:
    """Whether what a schedule hands to what it starts is encrypted as this client would do it. Schedules outlive keys:
    they are written anew before the one they were encrypted with goes.
    """
    action = described.action
    return isinstance(action, ScheduleActionStartWorkflow) and all(
        is_written_so(client.data_converter, one) for one in action.args if isinstance(one, Payload)
    )
