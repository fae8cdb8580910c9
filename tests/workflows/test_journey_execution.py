"""Executions on real servers: what wakes them, what they leave in the ledgers, what a history shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio import workflow
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from orchestrator.application import canceling, lifecycle, preferences, segments
from orchestrator.application.enrollment import enroll
from orchestrator.application.relay import Relay
from orchestrator.application.versions import Versions
from orchestrator.domain.cancellation import Filter
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.domain.subject import bucket_of
from orchestrator.temporal.contract import (
    EXECUTION_WORKFLOW,
    JOURNEYS_QUEUE,
    PHASE_ATTRIBUTE,
    ExecutionInput,
    effect_from,
)
from orchestrator.temporal.executions import Executions, Told
from tests.eventually import eventually
from tests.integration.journey_world import ANY_STATE, IN_VIP, World
from tests.workflows.world import Running, Switchboard, worker
from workers.channels.channel import ChannelUnavailable, OnAmbiguity, Refused
from workers.workflows.journey_execution import JourneyExecution

if TYPE_CHECKING:
    from asyncpg import Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"}
CHECK = {
    "id": "check",
    "branch": {
        "arms": [
            {
                "id": "pro",
                "when": {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"},
                "next": "again",
            }
        ],
        "otherwise": "bye",
    },
}
ASK = {**CHECK, "branch": {"arms": [{"id": "vip", "when": IN_VIP, "next": "bye"}], "otherwise": "bye"}}
AGAIN = {"id": "again", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


def pause(duration: str) -> dict[str, object]:
    return {"id": "pause", "wait": {"duration": duration}, "next": "check"}


ALL_ENDED = "NOT EXISTS (SELECT FROM executions WHERE outcome IS NULL)"


async def test_a_wait_of_thirty_days_passes_at_its_instant(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    await in_time.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    await in_time.enroll("ann")
    await in_time.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")

    await time_skipping.sleep(timedelta(days=29, hours=23))
    still_asleep = await in_time.owner.fetchval("SELECT step_id FROM executions")
    await time_skipping.sleep(timedelta(hours=1, seconds=1))
    await in_time.until(ALL_ENDED)

    waited = await in_time.owner.fetchval("SELECT left_at - entered_at FROM visits WHERE step_id = 'pause'")
    assert still_asleep == "pause"
    assert timedelta(days=30) <= waited < timedelta(days=30, minutes=1)
    assert [step for step, _, _ in await in_time.visits()] == ["hello", "pause", "check", "bye"]


async def test_each_step_is_visited_once_and_each_send_has_one_key(at_work: Running) -> None:
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)

    await at_work.enroll(*(f"s{n}" for n in range(20)))
    await at_work.until(ALL_ENDED)

    assert len(await at_work.visits()) == 20 * 4
    assert set(at_work.channel.asked.values()) == {1}
    assert await at_work.owner.fetchval("SELECT count(*) FROM sends WHERE state = 'sent' AND attempt = 1") == 20


async def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_key(at_work: Running) -> None:
    at_work.channel.answers = [ChannelUnavailable("timeout", in_doubt=True), ChannelUnavailable("503", in_doubt=False)]
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)

    await at_work.enroll("ann")
    await at_work.until(ALL_ENDED)

    assert list(at_work.channel.asked.values()) == [3]
    assert await at_work.owner.fetchval("SELECT (state, attempt)::text FROM sends") == "(sent,3)"


async def test_a_refusal_is_an_outcome_and_the_execution_goes_on(at_work: Running) -> None:
    at_work.channel.answers = [Refused(reason="no_such_address")]
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)

    await at_work.enroll("ann")
    await at_work.until(ALL_ENDED)

    assert (await at_work.visits())[0] == ("hello", "failed", "no_such_address")
    assert await at_work.owner.fetchval("SELECT (state, reason)::text FROM sends") == "(failed,no_such_address)"


async def test_a_refusal_of_the_repeat_does_not_say_that_the_first_try_failed(at_work: Running) -> None:
    at_work.channel.answers = [ChannelUnavailable("timeout", in_doubt=True), Refused(reason="rejected")]
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)

    await at_work.enroll("ann")
    await at_work.until(ALL_ENDED)

    assert (await at_work.visits())[0] == ("hello", "executed", "unknown")
    assert await at_work.owner.fetchval("SELECT (state, reason)::text FROM sends") == "(unknown,rejected)"


async def test_without_a_key_a_send_in_doubt_ends_unknown_where_the_channel_says_at_most_once(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    channel = Switchboard(key_life=None, on_ambiguity=OnAmbiguity.AT_MOST_ONCE)
    channel.answers = [ChannelUnavailable("timeout", in_doubt=True)]
    async with worker(temporal, database, worker_pool, channel):
        running = Running(furnished, temporal, worker_pool, channel)
        await running.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)
        await running.enroll("ann")
        await running.until(ALL_ENDED)

    assert list(channel.asked.values()) == [1]
    assert await running.owner.fetchval("SELECT state FROM sends") == "unknown"


async def test_an_opt_out_between_two_tries_stops_the_send(at_work: Running) -> None:
    at_work.channel.answers = [ChannelUnavailable("503", in_doubt=False, retry_after=timedelta(minutes=5))]
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM sends WHERE NOT in_doubt)")

    async with at_work.transactions.write(None) as conn:
        change = PreferenceChange(channel="log", category="marketing", opted_out=True)
        await preferences.update(conn, at_work.world.scope.project_no, "ann", [change])
    await at_work.client.get_workflow_handle(entry.workflow_id).signal("poke")
    await at_work.until(ALL_ENDED)

    assert (await at_work.visits())[0] == ("hello", "skipped", "opted_out")
    assert await at_work.owner.fetchval("SELECT (state, reason)::text FROM sends") == "(failed,withdrawn)"


async def test_a_provider_that_asks_for_time_is_left_alone_whoever_pokes(at_work: Running) -> None:
    throttled = ChannelUnavailable("throttled", in_doubt=False, retry_after=timedelta(hours=1), throttled=True)
    at_work.channel.answers = [throttled] * 10
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM sends WHERE retry_at IS NOT NULL)")
    handle = at_work.client.get_workflow_handle(entry.workflow_id)

    for poked in range(1, 4):
        await handle.signal("poke")
        await _comes_to_back_off(handle, poked + 1)

    assert len(at_work.channel.at) == 1
    description = (await handle.describe()).raw_description
    assert description.pending_activities[0].last_failure.message == "unavailable"
    left = description.pending_activities[0].next_attempt_schedule_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=50) < left < timedelta(hours=1)


async def _comes_to_back_off(handle: WorkflowHandle[Any, Any], number: int) -> None:
    """Returns once its activity was begun for this time, and has failed."""

    async def is_in_it() -> bool:
        history = await handle.fetch_history()
        begun = sum(event.HasField("activity_task_scheduled_event_attributes") for event in history.events)
        pending = (await handle.describe()).raw_description.pending_activities
        return begun == number and bool(pending) and pending[0].attempt == 2

    await eventually(is_in_it, within=20)


async def test_who_is_poked_again_and_again_while_the_provider_is_away_goes_on_in_a_new_history(
    at_work: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the server says it after some thousand events.
    monkeypatch.setattr(workflow.Info, "is_continue_as_new_suggested", lambda info: not info.continued_run_id)
    away = ChannelUnavailable("refused", in_doubt=False, retry_after=timedelta(hours=1))
    at_work.channel.answers = [away]
    await at_work.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM sends WHERE retry_at IS NOT NULL)")
    handle = at_work.client.get_workflow_handle(entry.workflow_id)
    run_id = (await handle.describe()).run_id

    await handle.signal("poke")
    await eventually(lambda: _runs_on_as_another(handle, run_id), within=20)

    history = await at_work.client.get_workflow_handle(entry.workflow_id, run_id=run_id).fetch_history()
    anew = history.events[-1].workflow_execution_continued_as_new_event_attributes
    assert [payload.data for payload in anew.input.payloads]
    await Replayer(workflows=[JourneyExecution]).replay_workflow(history)
    # The other one waits on the same try: who had asked for an hour has it.
    await _comes_to_back_off(handle, 1)
    await at_work.owner.execute("UPDATE sends SET retry_at = now()")
    await handle.signal("poke")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")
    assert list(at_work.channel.asked.values()) == [2]


async def _runs_on_as_another(handle: WorkflowHandle[Any, Any], run_id: str | None) -> bool:
    return (await handle.describe()).run_id != run_id


async def test_archive_with_end_wakes_those_who_wait_and_ends_them(at_work: Running) -> None:
    await at_work.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    await at_work.enroll("ann", "bob")
    await at_work.until("(SELECT count(*) FROM executions WHERE step_id = 'pause') = 2")

    await at_work.world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)
    await at_work.until(ALL_ENDED)

    outcomes = await at_work.owner.fetch("SELECT outcome, reason FROM executions")
    assert [tuple(row) for row in outcomes] == [("canceled", "journey_archived")] * 2


async def test_a_cancel_by_filter_wakes_those_who_wait_and_ends_them(at_work: Running) -> None:
    await at_work.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    await at_work.enroll("ann", "bob")
    await at_work.until("(SELECT count(*) FROM executions WHERE step_id = 'pause') = 2")

    wanted = Filter(step_ids=("pause",))
    await at_work.world.do(canceling.cancel_many, "welcome", wanted, "wrong-price", 2)
    await at_work.until(ALL_ENDED)

    outcomes = await at_work.owner.fetch("SELECT outcome, reason, step_id FROM executions")
    assert [tuple(row) for row in outcomes] == [("canceled", "wrong-price", "pause")] * 2
    assert await at_work.owner.fetchval("SELECT canceled FROM cancellations") == 2


async def test_a_cancel_withdraws_a_send_that_waits_for_its_next_try(at_work: Running) -> None:
    at_work.channel.answers = [ChannelUnavailable("timeout", in_doubt=True)] * 20
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)
    (entry,) = await at_work.enroll("ann")
    await at_work.channel.called.wait()

    canceled = await at_work.world.do(canceling.cancel, str(entry.execution_id), "wrong-price")
    executions = Executions(at_work.client, eager=False, searchable=False)
    await Relay(at_work.transactions, executions).tell(canceled.told)
    await at_work.until(ALL_ENDED)

    assert await at_work.visits() == [("hello", "executed", "unknown")]
    assert await at_work.owner.fetchval("SELECT (state, reason)::text FROM sends") == "(unknown,withdrawn)"
    assert await at_work.owner.fetchval("SELECT (outcome, reason)::text FROM executions") == "(canceled,wrong-price)"


async def test_an_execution_terminated_in_temporal_is_closed_in_the_ledger(at_work: Running) -> None:
    await at_work.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")

    await at_work.client.get_workflow_handle(entry.workflow_id).terminate()
    await at_work.until(ALL_ENDED, within=60)

    assert tuple(await at_work.owner.fetchrow("SELECT outcome, reason FROM executions") or ()) == (
        "canceled",
        "temporal_terminated",
    )


async def test_a_history_shows_ids_summaries_and_nothing_about_the_subject(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    secret = "canary-7391"
    channel = Switchboard()
    async with worker(temporal, database, worker_pool, channel, searchable=True):
        running = Running(furnished, temporal, worker_pool, channel)
        await running.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)
        await running.owner.execute(
            "INSERT INTO subjects (project_no, bucket, subject_id, attributes, created_at, updated_at) "
            "VALUES ($1, $2, 'ann', $3::text::jsonb, now(), now())",
            furnished.scope.project_no, bucket_of("ann"), f'{{"tier": "pro", "name": "{secret}"}}',
        )  # fmt: skip
        (entry,) = await running.enroll("ann")
        handle = temporal.get_workflow_handle(entry.workflow_id)
        assert await handle.result() == "completed"

    history = await handle.fetch_history()
    scheduled = [
        (event.activity_task_scheduled_event_attributes.activity_id, event.activity_task_scheduled_event_attributes)
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert [activity_id for activity_id, _ in scheduled] == ["0:hello", "2:again"]
    assert {attributes.activity_type.name for _, attributes in scheduled} == {"send"}
    assert {attributes.task_queue.name for _, attributes in scheduled} == {"channel-log"}
    assert len(history.events) <= 24
    summaries = [
        event.user_metadata.summary.data.decode() for event in history.events if event.HasField("user_metadata")
    ]
    assert '"hello"' in summaries
    assert any(summary.startswith('"pause until ') for summary in summaries)
    assert secret not in history.to_json()
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED


@pytest.mark.parametrize("count", [200])
async def test_pokes_too_many_do_no_harm(at_work: Running, count: int) -> None:
    await at_work.publish(HELLO, pause("2s"), CHECK, AGAIN, BYE)
    (entry,) = await at_work.enroll("ann")
    executions = Executions(at_work.client, eager=True, searchable=False)

    # On a slow machine it has ended before the last of them.
    told = [await executions.poke(entry.workflow_id) for _ in range(count)]
    await at_work.until(ALL_ENDED)

    assert [step for step, _, _ in await at_work.visits()] == ["hello", "pause", "check", "bye"]
    assert list(at_work.channel.asked.values()) == [1]
    assert Told.DONE in told


async def test_an_execution_that_is_parked_is_found_by_its_phase(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    channel = Switchboard()
    async with worker(temporal, database, worker_pool, channel, searchable=True):
        running = Running(furnished, temporal, worker_pool, channel, searchable=True)
        await running.publish(ASK, BYE)
        await furnished.do(segments.delete, "vip", ANY_STATE, force=True)
        (entry,) = await running.enroll("ann")
        workflow = temporal.get_workflow_handle(entry.workflow_id)

        async def is_parked() -> bool:
            return await phase_of(workflow) == "park"

        await eventually(is_parked)
        vip = Segment(kind=STATIC, name="VIP", description="", predicate=None)
        await furnished.do(segments.create, "vip", vip)
        await workflow.signal("poke")
        await running.until(ALL_ENDED)


async def test_a_run_that_goes_on_for_another_knows_its_phase(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    running = Running(furnished, temporal, worker_pool, Switchboard())
    await running.publish(pause("2s") | {"next": "bye"}, BYE)
    async with running.transactions.write(None) as conn:
        (entry,) = (await enroll(conn, furnished.scope, Versions(), "welcome", ["ann"])).told
    # As a run that parked leaves it to the next one.
    workflow = await temporal.start_workflow(
        EXECUTION_WORKFLOW,
        ExecutionInput(
            project_no=entry.key.project_no,
            bucket=entry.key.bucket,
            subject_no=entry.key.subject_no,
            execution_id=str(entry.execution_id),
            effect=effect_from(entry.effect),
            phase="park",
        ),
        id=entry.workflow_id,
        task_queue=JOURNEYS_QUEUE,
        search_attributes=TypedSearchAttributes([SearchAttributePair(PHASE_ATTRIBUTE, "park")]),
    )
    async with worker(temporal, database, worker_pool, Switchboard(), searchable=True):
        assert await workflow.result() == "completed"

    assert await phase_of(workflow) == "running"


async def test_the_table_of_steps_has_a_row_for_each_however_often_it_is_poked(at_work: Running) -> None:
    await at_work.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")
    workflow = at_work.client.get_workflow_handle(entry.workflow_id)

    async def looks() -> int:
        """How often it has asked what comes next."""
        history = await workflow.fetch_history()
        return sum(event.HasField("marker_recorded_event_attributes") for event in history.events)

    for count in range(1, 4):
        await workflow.signal("poke")

        async def has_looked(count: int = count) -> bool:
            return await looks() >= count

        await eventually(has_looked)
    metadata = await workflow.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)

    assert metadata.current_details.splitlines()[2:] == ["| 0 | hello | send |", "| 1 | pause | wait |"]


async def phase_of(workflow: WorkflowHandle[Any, Any]) -> str | None:
    return (await workflow.describe()).typed_search_attributes.get(PHASE_ATTRIBUTE)
