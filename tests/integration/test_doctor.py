"""A sound world, one fault planted in it, and what the doctor says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RawValue

from orchestrator.application import forgetting, publishing
from orchestrator.application.doctor import NO_EXECUTION, NOT_STARTED, TEMPORAL_AWAY, WORKFLOW_OVER, Doctor
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.ports import free_ports
from orchestrator.storage import clock, doctor, erasing, executions
from orchestrator.storage.doctor import Count
from orchestrator.storage.doctor_check import Check
from orchestrator.storage.doctor_checks import CHECKS
from orchestrator.storage.executions import Ending
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.contract import ENROLLMENT_MEMO, EXECUTION_WORKFLOW, JOURNEYS_QUEUE, SUBJECT_MEMO
from tests.eventually import eventually
from tests.integration.journey_world import ANY_STATE, World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

ONE_SUBJECT = "(SELECT project_no, bucket, subject_no FROM subjects LIMIT 1) AS s"
REOPEN = "outcome = NULL, reason = NULL, ended_at = NULL"

#: What each check must find: a statement that spoils the sound world.
FAULTS = {
    "inbox_late": f"""
        INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at)
        SELECT s.*, 'attributes', now() - interval '2 minutes' FROM {ONE_SUBJECT}""",
    "inbox_dead": f"""
        INSERT INTO inbox_dead (inbox_no, project_no, bucket, subject_no, kind, attempts, received_at, error, died_at)
        SELECT 1, s.*, 'attributes', 10, now(), 'ValueError', now() FROM {ONE_SUBJECT}""",
    "outbox_late": f"""
        INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
        SELECT s.*, gen_random_uuid(), 'poke', 'w', now(), now() - interval '2 minutes' FROM {ONE_SUBJECT}""",
    "closings_late": """
        INSERT INTO journey_closings (project_no, journey_id, requested_at, moved_at)
        VALUES (1, 'welcome', now(), now() - interval '6 minutes')""",
    "topic_pokes_late": """
        INSERT INTO topic_pokes (project_no, topics, moved_at)
        VALUES (1, '{gates}', now() - interval '6 minutes')
        ON CONFLICT (project_no) DO UPDATE SET moved_at = excluded.moved_at""",
    "cancellations_late": """
        INSERT INTO cancellations (project_no, cancellation_id, journey_id, filter, reason, matched, requested_at,
                                   started_at, moved_at)
        VALUES (1, 'can-1', 'welcome', '{}', 'why', 3, now(), now(), now() - interval '6 minutes')""",
    "carries_late": """
        INSERT INTO carries (project_no, journey_id, version, mode, matched, requested_at, moved_at)
        VALUES (1, 'welcome', 1, 'compatible', 3, now(), now() - interval '6 minutes')""",
    "canceled_running": f"""
        UPDATE executions SET {REOPEN}, cancel_reason = 'why', cancel_asked_at = now() - interval '2 minutes'""",
    "entry_replays_late": """
        INSERT INTO entry_replays (project_no, entry_replay_id, journey_id, reason, refused_after, refused_before,
                                   matched, requested_at, place_at, moved_at)
        VALUES (1, 'rpl-1', 'welcome', 'audience', now(), now(), 3, now(), now(), now() - interval '6 minutes')""",
    "enrollment_jobs_late": """
        INSERT INTO enrollment_jobs (project_no, enrollment_job_id, journey_id, state, paced_to, next_at, created_by,
                                     created_at, updated_at)
        SELECT 1, 'job', 'welcome', 'running', t, t, 'key:k', t, t
          FROM (SELECT now() - interval '2 minutes') AS q (t)""",
    "held_entries_late": f"""
        INSERT INTO held_entries (project_no, bucket, subject_no, journey_id, entry_key, entry_kind, triggered_at,
                                  held_at, look_at, event_no, name_no)
        SELECT s.*, 'welcome', 'e', 'event', now(), now(), now() - interval '2 minutes', 1, 1 FROM {ONE_SUBJECT}""",
    "sends_waiting_late": """
        INSERT INTO channel_turns (project_no, channel, used_to) VALUES (1, 'log', now() - interval '2 minutes');
        INSERT INTO waiting_sends (project_no, channel, rank, execution_id, since)
        VALUES (1, 'log', 1, gen_random_uuid(), now() - interval '2 minutes')""",
    "schedules_late": """
        INSERT INTO journey_schedules (project_no, journey_id, changed_at)
        VALUES (1, 'welcome', now() - interval '2 minutes')""",
    "erasures_late": f"""
        INSERT INTO erasures (project_no, erasure_id, subject_ref, origin, ids, phase, phases, bucket, subject_no,
                              subject_ids, requested_at)
        SELECT 1, 'era-1', 'ref', 'request', 1, 'runs', '{{}}', s.bucket, s.subject_no, '{{gone}}',
               now() - interval '2 hours'
          FROM {ONE_SUBJECT}""",
    "erasures_unwritten": """
        INSERT INTO erasures (project_no, erasure_id, subject_ref, origin, ids, phase, phases, requested_at, ended_at)
        VALUES (1, 'era-1', 'ref', 'request', 1, 'done', '{"ledger": {"ended_at": null, "counts": {"lines": 0}}}',
                now() - interval '6 minutes', now())""",
    "outbox_dead": f"""
        INSERT INTO outbox_dead (outbox_no, project_no, bucket, subject_no, execution_id, kind, workflow_id, attempts,
                                 leased_until, last_error, created_at, died_at)
        SELECT 1, s.*, gen_random_uuid(), 'start', 'w', 1, now(), 'ID_TAKEN', now(), now() FROM {ONE_SUBJECT}""",
    "sends_dispatching": """
        UPDATE sends SET state = 'dispatching', settled_at = NULL, reserved_at = now() - interval '6 minutes'""",
    "executions_overdue": f"UPDATE executions SET {REOPEN}, wakes_at = now() - interval '2 minutes'",
    "sends_not_begun": f"""
        UPDATE executions SET {REOPEN}, seq = 7, since = now() - interval '6 minutes',
               effect = '{{"kind": "run", "queue": "channel-log"}}'""",
    "executions_deaf": f"""
        UPDATE journey_versions
           SET definition = definition || '{{"exitRules": [{{"id": "r", "event": {{"eventName": "x"}}}}]}}';
        UPDATE executions SET {REOPEN}, step_id = 'pause'""",
    "sends_without_visit": "DELETE FROM visits WHERE step_kind = 'send'",
    "visits_without_send": "DELETE FROM sends",
    "sends_unlike_visits": "UPDATE sends SET state = 'failed'",
    "calls_unlike_visits": """
        INSERT INTO webhook_calls (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                                   state, attempt, reserved_at, settled_at)
        SELECT project_no, bucket, subject_no, execution_id, 0, 'hello', journey_id, version, 'failed', 1,
               now() - interval '2 minutes', now() - interval '2 minutes'
          FROM executions""",
    "visits_without_call": "UPDATE visits SET step_kind = 'webhook' WHERE step_id = 'pause'",
    "choices_unlike_visits": "UPDATE visits SET step_kind = 'adaptive_branch', reason = 'a' WHERE step_id = 'check'",
    "completed_without_exit": "DELETE FROM visits WHERE step_kind = 'exit'",
    "enrollments_unlike_executions": "DELETE FROM enrollments",
    "goals_uncredited": """
        SELECT ensure_events_month('2026-05-01');
        INSERT INTO event_names (project_no, name_no, name) VALUES (1, 77, 'paid');
        UPDATE journey_goals SET event_name = 'paid';
        INSERT INTO events (occurred_at, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
        SELECT triggered_at + interval '1 hour', project_no, 77, subject_no, bucket, triggered_at + interval '2 hours',
               'e', '{}'
          FROM enrollments;
        INSERT INTO subject_event_state (project_no, bucket, subject_no, name_no, total, first_at, last_at)
        SELECT project_no, bucket, subject_no, 77, 1, triggered_at + interval '1 hour',
               triggered_at + interval '1 hour'
          FROM enrollments""",
    "versions_gone": "DELETE FROM journey_versions",
    "contents_gone": "DELETE FROM communication_revisions",
    "definitions_dangling": "UPDATE journeys SET latest_version = 9",
    "journeys_without_segment": """
        UPDATE trigger_contracts SET event_name = NULL, segment_id = 'gone', transition = 'entered'""",
    "events_miscounted": f"""
        INSERT INTO subject_event_state (project_no, bucket, subject_no, name_no, total, first_at, last_at)
        SELECT s.*, 1, 3, now(), now() FROM {ONE_SUBJECT}""",
    "kinds_uncounted": f"""
        INSERT INTO derived_events (project_no, base_no, where_sha256, predicate, created_at, leased_until)
        SELECT project_no, 1, sha256('x'), '{{}}', now(), now() - interval '2 minutes' FROM {ONE_SUBJECT}""",
    "audit_unsealed_late": """
        INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id)
        VALUES (1, now(), 'runtime', 'journey_paused', 'journey', 'welcome');
        UPDATE audit_unsealed SET written_at = now() - interval '2 minutes'""",
    "audit_anchors_late": """
        INSERT INTO audit_seals (project_no, seq, audit_no, hash, sealed_at)
        VALUES (1, 1, 1, sha256('x'), now() - interval '20 minutes')""",
    "audit_log_unprotected": "ALTER TABLE audit_log DISABLE TRIGGER append_only",
    "tables_unguarded": "ALTER TABLE visits DISABLE ROW LEVEL SECURITY",
    "visits_off_the_way": "UPDATE visits SET step_id = 'end' WHERE step_id = 'pause'",
    "ledgers_without_execution": "DELETE FROM executions",
    "calls_calling": """
        INSERT INTO webhook_calls (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                                   state, attempt, reserved_at)
        SELECT project_no, bucket, subject_no, execution_id, 7, 'hello', journey_id, version, 'calling', 1,
               now() - interval '6 minutes'
          FROM executions""",
    "requests_half_answered": """
        INSERT INTO idempotency (project_no, principal, method, request_id, fingerprint, created_at)
        VALUES (1, 'key:k', 'm', 'r', 'f', now())""",
    "constraints_missing": "ALTER TABLE enrollments DROP CONSTRAINT enrollments_entry_key",
    "rows_of_other_projects": """
        INSERT INTO projects (project_id, name, created_at, updated_at) VALUES ('other', 'Other', now(), now());
        UPDATE enrollments SET project_no = (SELECT max(project_no) FROM projects)""",
}


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    """Somebody has come to the end of a published journey."""
    world = await World.make(owner, api_pool)
    await world.furnish()
    await world.draft()
    await world.do(publishing.publish, "welcome", ANY_STATE)
    execution_id = await world.lay_execution(
        "anna",
        step_id="end",
        outcome="completed",
        visits=(
            (1, "hello", "send", "executed"),
            (1, "pause", "wait", "executed"),
            (1, "check", "branch", "executed"),
            (1, "end", "exit", "executed"),
        ),
    )
    await world.lay_send("anna", execution_id, seq=0)
    return world


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_each_check_is_silent_in_a_sound_world_and_finds_its_fault(
    check: Check, world: World, worker_pool: Pool[Record]
) -> None:
    async def look() -> Count:
        async with Transactions(worker_pool).read(None) as conn:
            return await doctor.check(conn, check, await clock.now(conn))

    before = await look()
    await world.owner.execute(FAULTS[check.name])
    after = await look()

    assert before == doctor.NONE
    assert after.total >= 1
    assert after.examples
    assert all(after.examples)


@pytest.mark.parametrize(("minutes", "found"), [(6, 0), (20, 1)])
@pytest.mark.parametrize("name", ["sends_dispatching", "calls_calling"])
async def test_what_was_under_way_when_its_execution_was_ended_is_a_finding_once_nobody_has_settled_it(
    name: str, minutes: int, found: int, world: World, worker_pool: Pool[Record]
) -> None:
    (check,) = (check for check in CHECKS if check.name == name)
    await world.owner.execute(FAULTS[name])
    await world.owner.execute("UPDATE executions SET ended_at = now() - make_interval(mins => $1)", minutes)

    async with Transactions(worker_pool).read(None) as conn:
        count = await doctor.check(conn, check, await clock.now(conn))

    assert count.total == found


async def test_only_so_many_examples_are_told_of_many_faults(world: World, worker_pool: Pool[Record]) -> None:
    for number in range(20):
        await world.lay_execution(f"subject-{number}", outcome="completed")
    (check,) = (check for check in CHECKS if check.name == "completed_without_exit")

    async with Transactions(worker_pool).read(None) as conn:
        found = await doctor.check(conn, check, await clock.now(conn))

    assert found.total == 20
    assert len(found.examples) == doctor.EXAMPLES


async def test_an_open_execution_without_a_workflow_is_found_unless_its_start_is_still_to_be_told(
    world: World, worker_pool: Pool[Record], temporal: Client
) -> None:
    lost = await world.lay_execution("bert")
    told_soon = await world.lay_execution("carl")
    await world.owner.execute(
        """
        INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
        SELECT project_no, bucket, subject_no, execution_id, 'start', workflow_id, now(), now()
          FROM executions WHERE execution_id = $1
        """,
        told_soon,
    )

    found = await compare(worker_pool, temporal)

    assert found[NOT_STARTED] == Count(total=1, examples=(f"execution {lost}",))
    assert found[WORKFLOW_OVER] == doctor.NONE


async def test_an_open_execution_is_well_while_its_workflow_runs_and_found_once_that_was_ended(
    world: World, worker_pool: Pool[Record], temporal: Client
) -> None:
    execution_id = await world.lay_execution("bert")
    workflow = await start(temporal, world, execution_id)
    await eventually(lambda: listed(temporal, workflow.id))

    before = await compare(worker_pool, temporal)
    await workflow.terminate()

    async def is_found() -> bool:
        found = await compare(worker_pool, temporal)
        return found[WORKFLOW_OVER] == Count(total=1, examples=(f"execution {execution_id}",))

    assert not any(count.total for count in before.values())
    await eventually(is_found)


async def test_a_workflow_of_no_execution_is_found(world: World, worker_pool: Pool[Record], temporal: Client) -> None:
    stranger = await start(temporal, world, uuid4())
    await eventually(lambda: listed(temporal, stranger.id))

    found = await compare(worker_pool, temporal)

    assert found[NO_EXECUTION] == Count(total=1, examples=(stranger.id,))


async def test_a_workflow_that_nobody_can_read_is_found_and_hides_no_other(
    world: World, worker_pool: Pool[Record], temporal: Client
) -> None:
    """It stays as it is: no worker can do a task of it, and nothing here says that nobody else can."""
    rubbish = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"\xff\x00{"))
    unreadable = await temporal.start_workflow(
        EXECUTION_WORKFLOW, rubbish, id="unreadable", task_queue=JOURNEYS_QUEUE, memo={ENROLLMENT_MEMO: rubbish}
    )
    lost = await world.lay_execution("bert")
    await eventually(lambda: listed(temporal, unreadable.id))

    found = await compare(worker_pool, temporal)
    await unreadable.terminate(reason="nobody can read it")
    afterwards = await compare(worker_pool, temporal)

    assert found[NO_EXECUTION] == Count(total=1, examples=(unreadable.id,))
    assert found[NOT_STARTED] == Count(total=1, examples=(f"execution {lost}",))
    assert afterwards[NO_EXECUTION] == doctor.NONE


async def test_what_is_left_of_who_was_forgotten_in_the_middle_is_no_finding(
    world: World, worker_pool: Pool[Record], temporal: Client
) -> None:
    """Their sends and calls have no visits, and their executions no workflows."""
    execution_id = await world.lay_execution("bert")
    await world.lay_send("bert", execution_id, seq=1, state="sent")
    await world.lay_send("bert", execution_id, seq=2)
    await world.owner.execute("UPDATE sends SET state = 'dispatching', settled_at = NULL WHERE seq = 2")
    await world.lay_call("bert", execution_id, seq=3)
    key = await world.subject("bert")
    erasure = await world.do(forgetting.forget, b"s" * 48, "bert")
    async with Transactions(worker_pool).write(None) as conn:
        ending = Ending(outcome="forgotten", reason="subject_forgotten", at=await clock.now(conn))
        assert await executions.close_all(conn, key, effect={"kind": "end"}, ending=ending) == 1
        while await erasing.some(conn, key):
            pass
    await world.owner.execute(
        "UPDATE sends SET settled_at = now() - interval '1 hour' WHERE seq = 2; UPDATE erasures SET phase = 'done',"
        " ended_at = now(), bucket = NULL, subject_no = NULL, subject_ids = NULL"
    )

    found = await compare(worker_pool, temporal)

    assert erasure.ids == 1
    assert {name: count for name, count in found.items() if count.total} == {}


async def test_what_has_just_begun_is_left_alone(world: World, worker_pool: Pool[Record], temporal: Client) -> None:
    stranger = await start(temporal, world, uuid4())
    await eventually(lambda: listed(temporal, stranger.id))

    found = await compare(worker_pool, temporal, on_its_way=timedelta(minutes=1))

    assert found[NO_EXECUTION] == doctor.NONE


async def test_a_temporal_that_is_away_is_a_finding(world: World, worker_pool: Pool[Record]) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    away = await connect(Target(address=address), lazy=True)

    found = await compare(worker_pool, away)

    assert {name: count for name, count in found.items() if count.total} == {
        TEMPORAL_AWAY: Count(total=1, examples=(address,))
    }
    assert NOT_STARTED not in found


async def compare(pool: Pool[Record], temporal: Client, *, on_its_way: timedelta = timedelta(0)) -> Mapping[str, Count]:
    """What the doctor finds, by the name of the check."""
    findings = Doctor(Transactions(pool), temporal, on_its_way=on_its_way).examine()
    return {finding.name: finding.count async for finding in findings}


async def start(temporal: Client, world: World, execution_id: UUID) -> WorkflowHandle[object, object]:
    """A workflow as an execution has it; no worker takes it up."""
    return await temporal.start_workflow(
        EXECUTION_WORKFLOW,
        id=f"disp:{execution_id}",
        task_queue=JOURNEYS_QUEUE,
        memo={ENROLLMENT_MEMO: str(execution_id), SUBJECT_MEMO: await subject_of(world, execution_id)},
    )


async def subject_of(world: World, execution_id: UUID) -> list[int]:
    row = await world.owner.fetchrow(
        "SELECT project_no, bucket, subject_no FROM executions WHERE execution_id = $1", execution_id
    )
    return list(row.values()) if row else [world.scope.project_no, 1, 1]


async def listed(temporal: Client, workflow_id: str) -> bool:
    found = temporal.list_workflows(f"WorkflowId = '{workflow_id}' AND ExecutionStatus = 'Running'")
    return [workflow.id async for workflow in found] == [workflow_id]
