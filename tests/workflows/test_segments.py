"""Passes over segments as workflows: on the development server, by a real worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio import workflow
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    ScheduleActionStartWorkflow,
    ScheduleOverlapPolicy,
    ScheduleUpdate,
    ScheduleUpdateInput,
    StartWorkflowInput,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.application import segments
from orchestrator.application.segment_errands import SegmentErrands
from orchestrator.domain.audit import SEGMENT_DRIFT_FOUND, SEGMENT_SWEEP_FAILED
from orchestrator.domain.etag import Expected
from orchestrator.domain.subject import BUCKETS
from orchestrator.storage import memberships, segment_runs
from orchestrator.temporal.segments import (
    CATCH_UP,
    SCHEDULE_ID,
    SEGMENTS_QUEUE,
    SWEEP_EVERY,
    SWEEP_WORKFLOW,
    UNSWEPT_ERROR,
    SegmentWorkflows,
    SweepInput,
    evaluation_id,
)
from tests.eventually import eventually
from tests.integration.crowd import Crowd
from tests.integration.journey_world import World
from tests.workflows.world import Switchboard, worker
from workers.process import Limits

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
LATELY: dict[str, Any] = {
    "kind": "event_fired",
    "eventName": "purchase",
    "window": {"type": "last_n_days", "days": 7},
    "atLeast": 2,
}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    return await Crowd.make(owner, api_pool, worker_pool)


@pytest.fixture
async def kept(crowd: Crowd, temporal: Client, database: str, worker_pool: Pool[Record]) -> AsyncIterator[Crowd]:
    """A crowd whose membership a worker keeps."""
    async with worker(temporal, database, worker_pool, Switchboard()):
        yield crowd


async def test_a_new_segment_is_built_without_anybody_asking(kept: Crowd) -> None:
    await kept.known(ann={"tier": "pro"}, bob={"tier": "free"})

    await kept.segment("pros", PRO)

    await eventually(lambda: _built(kept, "pros"), within=20)
    assert await kept.members("pros") == {"ann"}
    await eventually(lambda: _is_empty(kept, "inbox"))
    assert await kept.wrong() == []


async def test_one_that_is_evaluated_on_request_says_what_came_of_it(kept: Crowd) -> None:
    await kept.segment("pros", PRO)
    await eventually(lambda: _built(kept, "pros"), within=20)
    await kept.known(ann={"tier": "pro"})
    await eventually(lambda: _is_empty(kept, "inbox"))
    await kept.owner.execute("UPDATE subject_segments SET segment_nos = '{}'")

    run_no = await kept.world.do(segments.evaluate, "pros")

    await eventually(lambda: _is_done(kept, run_no), within=20)
    assert await kept.members("pros") == {"ann"}


async def test_a_long_history_goes_on_in_a_new_one(
    kept: Crowd, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the server says it after some thousand events.
    monkeypatch.setattr(workflow.Info, "is_continue_as_new_suggested", lambda info: not info.continued_run_id)
    await kept.known(ann={"tier": "pro"})

    await kept.segment("pros", PRO)

    await eventually(lambda: _built(kept, "pros"), within=20)
    handle = temporal.get_workflow_handle(evaluation_id(kept.project_no, 0))
    await handle.result()
    first = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    assert first.continued_execution_run_id
    await kept.segment("free", {"kind": "not", "clause": PRO})
    await eventually(lambda: _built(kept, "free"), within=20)


async def test_a_sweep_puts_right_what_was_wrong_and_says_so(kept: Crowd, temporal: Client) -> None:
    await kept.segment("pros", PRO)
    await kept.segment("lately", LATELY)
    await eventually(lambda: _built(kept, "lately"), within=20)
    await kept.known(ann={"tier": "pro"})
    await kept.happened(("ann", "purchase", None), ("ann", "purchase", None), ("bob", "purchase", None))
    await eventually(lambda: _is_empty(kept, "inbox"))
    number = await kept.number("pros")
    await kept.owner.execute("UPDATE subject_segments SET segment_nos = array_remove(segment_nos, $1)", number)
    await kept.owner.execute("DELETE FROM segment_transitions WHERE segment_no = $1", number)
    await kept.owner.execute("DELETE FROM segment_sizes WHERE segment_no = $1", number)

    await temporal.execute_workflow(
        SWEEP_WORKFLOW, SweepInput(), id="sweep-by-hand", task_queue=SEGMENTS_QUEUE, task_timeout=timedelta(seconds=10)
    )

    assert await kept.owner.fetchval("SELECT drift FROM segment_runs WHERE kind = 'sweep'") == 1
    assert await kept.owner.fetchval("SELECT count(*) FROM audit_log WHERE action = $1", SEGMENT_DRIFT_FOUND.name) == 1
    assert await kept.members("pros") == {"ann"}
    assert await kept.wrong() == []


async def test_a_project_that_cannot_be_swept_does_not_hold_up_the_others(
    kept: Crowd, temporal: Client, owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    # Projects are swept by number.
    other = Crowd(await World.make(owner, api_pool, "other"), worker_pool)
    assert other.project_no > kept.project_no
    await kept.segment("pros", PRO)
    for crowd in (kept, other):
        await crowd.known(ann={"tier": "pro"})
    await eventually(lambda: _is_empty(kept, "inbox"))
    await kept.jam()

    with pytest.raises(WorkflowFailureError) as failed:
        await temporal.execute_workflow(SWEEP_WORKFLOW, SweepInput(), id="sweep-by-hand", task_queue=SEGMENTS_QUEUE)

    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == UNSWEPT_ERROR
    swept = await owner.fetch("SELECT project_no FROM segment_runs WHERE kind = 'sweep' AND status = 'done'")
    assert [row[0] for row in swept] == [other.project_no]
    told = await owner.fetch("SELECT project_no FROM audit_log WHERE action = $1", SEGMENT_SWEEP_FAILED.name)
    assert [row[0] for row in told] == [kept.project_no]


async def test_who_asks_for_an_evaluation_does_not_wait_for_a_sweep(
    kept: Crowd, temporal: Client, owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    other = Crowd(await World.make(owner, api_pool, "other"), worker_pool)
    for crowd in (kept, other):
        await crowd.known(ann={"tier": "pro"})
    await eventually(lambda: _is_empty(kept, "inbox"))

    async def stands_still() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return int(await owner.fetchval(waiting)) >= Limits().sweeps

    async with owner.transaction():
        await memberships.take_buckets(owner, kept.project_no, 0, BUCKETS - 1)
        sweep = await temporal.start_workflow(
            SWEEP_WORKFLOW, SweepInput(), id="sweep-by-hand", task_queue=SEGMENTS_QUEUE
        )
        await eventually(stands_still, within=20)
        run_no = await other.world.do(segments.evaluate, "everyone")
        await eventually(lambda: _is_done(other, run_no), within=20)
    await sweep.result()


async def test_a_run_that_was_left_half_done_goes_on_where_it_stopped(
    crowd: Crowd, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    await crowd.known(**{f"s{n}": {"tier": "pro"} for n in range(300)})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None

    class Killed(Exception):
        pass

    def die_after_twenty(bucket: int) -> None:
        if bucket >= 20:
            raise Killed

    with pytest.raises(Killed):
        await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, begun.parts[0], die_after_twenty)
    done = await crowd.owner.fetch("SELECT first_bucket, last_bucket FROM segment_run_chunks ORDER BY 1")
    assert done
    told_before = await crowd.owner.fetchval("SELECT count(*) FROM segment_transitions WHERE cause = 'definition'")

    async with worker(temporal, database, worker_pool, Switchboard()):
        await eventually(lambda: _built(crowd, "pros"), within=20)

    number = await crowd.number("pros")
    told = await crowd.owner.fetchval("SELECT count(*) FROM segment_transitions WHERE segment_no = $1", number)
    assert 0 < told_before < told == 300
    assert await crowd.owner.fetchval("SELECT subjects FROM segment_runs WHERE run_no = $1", begun.run_no) == 300
    assert await crowd.wrong() == []


async def test_sweeps_are_scheduled_one_at_a_time_and_made_up_for(kept: Crowd, temporal: Client) -> None:
    async def scheduled() -> bool:
        return SCHEDULE_ID in [schedule.id async for schedule in await temporal.list_schedules()]

    await eventually(scheduled, within=20)

    schedule = (await temporal.get_schedule_handle(SCHEDULE_ID).describe()).schedule

    assert [interval.every for interval in schedule.spec.intervals] == [SWEEP_EVERY] == [timedelta(minutes=15)]
    assert schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert schedule.policy.catchup_window == CATCH_UP > timedelta()


async def test_an_older_schedule_is_brought_up_to_date_and_stays_paused(temporal: Client) -> None:
    await SegmentWorkflows(temporal).ensure_schedule(timedelta(hours=3))
    handle = temporal.get_schedule_handle(SCHEDULE_ID)
    await handle.pause()

    await SegmentWorkflows(temporal).ensure_schedule()

    described = (await handle.describe()).schedule
    assert [interval.every for interval in described.spec.intervals] == [SWEEP_EVERY]
    assert described.state.paused


async def test_a_schedule_that_starts_something_else_is_mended_and_a_good_one_left_alone(temporal: Client) -> None:
    workflows = SegmentWorkflows(temporal)
    await workflows.ensure_schedule()
    handle = temporal.get_schedule_handle(SCHEDULE_ID)
    good = await handle.describe()
    await workflows.ensure_schedule()
    assert (await handle.describe()).info.last_updated_at == good.info.last_updated_at

    for changed in ({"task_queue": "elsewhere"}, {"args": [SweepInput(after=7)]}):

        def change(known: ScheduleUpdateInput, changed: dict[str, Any] = changed) -> ScheduleUpdate:
            schedule = known.description.schedule
            assert isinstance(schedule.action, ScheduleActionStartWorkflow)
            return ScheduleUpdate(replace(schedule, action=replace(schedule.action, **changed)))

        await handle.update(change)
        await workflows.ensure_schedule()

        described = await handle.describe()
        assert described.info.last_updated_at
        action = described.schedule.action
        assert isinstance(action, ScheduleActionStartWorkflow)
        assert action.task_queue == SEGMENTS_QUEUE
        assert await temporal.data_converter.decode(action.args, [SweepInput]) == [SweepInput()]


async def test_a_schedule_that_was_deleted_comes_back(crowd: Crowd, temporal: Client) -> None:
    errands = SegmentErrands(crowd.runs, SegmentWorkflows(temporal), look_again=timedelta())
    await errands.ensure_schedule()
    await temporal.get_schedule_handle(SCHEDULE_ID).delete()

    await errands.ensure_schedule()

    assert (await temporal.get_schedule_handle(SCHEDULE_ID).describe()).schedule.spec.intervals


class Deaf(Interceptor):
    """Temporal cannot be told of this workflow."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        workflow_id = self.workflow_id

        class Outbound(OutboundInterceptor):
            async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
                if input.id == workflow_id:
                    raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
                return await super().start_workflow(input)

        return Outbound(next)


async def test_runs_that_temporal_could_not_be_told_of_hold_up_no_other_and_are_told_at_the_next_look(
    crowd: Crowd, temporal: Client
) -> None:
    await crowd.segment("pros", PRO)
    await crowd.world.do(segments.evaluate, "pros")
    build, one = (evaluation_id(crowd.project_no, number) for number in (0, await crowd.number("pros")))
    deaf = Client(temporal.service_client, namespace=temporal.namespace, interceptors=[Deaf(build)])

    with pytest.raises(RPCError):
        await SegmentErrands(crowd.runs, SegmentWorkflows(deaf)).run()

    assert await temporal.get_workflow_handle(one).describe()
    with pytest.raises(RPCError):
        await temporal.get_workflow_handle(build).describe()
    await SegmentErrands(crowd.runs, SegmentWorkflows(temporal)).run()
    assert await temporal.get_workflow_handle(build).describe()


async def test_a_run_whose_workflow_was_lost_is_told_again(kept: Crowd, temporal: Client) -> None:
    long_ago = datetime.now(UTC) - 2 * segment_runs.TELL_AGAIN
    await kept.owner.execute(
        """
        INSERT INTO segment_runs (project_no, kind, status, requested_at, told_at)
        VALUES ($1, 'build', 'queued', $2, $2)
        """,
        kept.project_no,
        long_ago,
    )

    await eventually(lambda: _is_empty(kept, "segment_runs WHERE status <> 'done'"), within=20)

    described = await temporal.get_workflow_handle(evaluation_id(kept.project_no, 0)).describe()
    assert described.id == evaluation_id(kept.project_no, 0)


async def test_deleting_a_segment_while_it_is_built_harms_nobody(kept: Crowd) -> None:
    await kept.known(**{f"s{n}": {"tier": "pro"} for n in range(100)})
    await kept.segment("pros", PRO)
    await kept.world.do(segments.delete, "pros", Expected(), force=True)
    await kept.segment("others", {"kind": "not", "clause": PRO})

    await eventually(lambda: _built(kept, "others"), within=20)
    await eventually(lambda: _is_empty(kept, "inbox"))
    assert await kept.wrong() == []


async def _built(crowd: Crowd, segment_id: str) -> bool:
    return bool(
        await crowd.owner.fetchval(
            "SELECT built_revision = rules_revision FROM segments WHERE project_no = $1 AND segment_id = $2",
            crowd.project_no,
            segment_id,
        )
    )


async def _is_done(crowd: Crowd, run_no: int) -> bool:
    status = await crowd.owner.fetchval("SELECT status FROM segment_runs WHERE run_no = $1", run_no)
    return bool(status == "done")


async def _is_empty(crowd: Crowd, table: str) -> bool:
    return not await crowd.owner.fetchval(f"SELECT EXISTS (SELECT FROM {table})")
