"""Workers must be able to go on with executions that older workers began: every stored history replays.

A change of the commands a workflow gives needs `workflow.patched()`. Each release adds the histories that its workers
write (`make histories`), and none is ever removed: see tests/replay/corpus.py. The lives that they tell of are those
of tests/replay/lives.py.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio import workflow
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from orchestrator.application import forgetting, segments
from orchestrator.application.journey_schedules import digest_of
from orchestrator.domain.journey_form import stored as form_of
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.codec import data_converter, kid_of
from orchestrator.temporal.contract import JOURNEYS_QUEUE, SEARCH_ATTRIBUTES
from orchestrator.temporal.erasures import erasure_workflow_id
from orchestrator.temporal.keyring import NO_KEYS, Keyring
from orchestrator.temporal.policies import POLICIES_QUEUE, UPDATE_WORKFLOW, Learning, UpdateInput
from orchestrator.temporal.schedules import FIRING_WORKFLOW, FiringInput
from orchestrator.temporal.segments import (
    SEGMENTS_QUEUE,
    SWEEP_WORKFLOW,
    SegmentWorkflows,
    SweepInput,
    evaluation_id,
)
from tests.integration.crowd import Crowd
from tests.integration.journey_world import World
from tests.own_temporal import temporal_with
from tests.replay.careless import CARELESS
from tests.replay.corpus import ENCRYPTED_NAMESPACE, keep, namespace_of, stored, stored_encrypted, type_of
from tests.replay.lives import BYE, CONTINUED_LIVES, ENCRYPTED_LIVES, LIVES, MONTH
from tests.replay.stage import lived, set_stage
from tests.workflows.payloads import payloads_in
from tests.workflows.test_erasures import SECRET
from tests.workflows.world import Running
from workers.workflows.journey_execution import JourneyExecution
from workers.workflows.policy_updates import PolicyUpdate
from workers.workflows.scheduled_enrollment import ScheduledEnrollment
from workers.workflows.segment_runs import SegmentEvaluation, SegmentSweep
from workers.workflows.subject_erasure import SubjectErasure

if TYPE_CHECKING:
    from asyncpg import Pool, Record

    Keep = Callable[[str, WorkflowHistory], None]

#: A local activity that has ended while it was told to, which the SDK warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot find activity to cancel:UserWarning")

WORKFLOWS = [JourneyExecution, ScheduledEnrollment, SegmentEvaluation, SegmentSweep, PolicyUpdate, SubjectErasure]

#: Fewer were never stored.
LEAST = 60

AT = {"at": "2126-01-01T00:00:00Z", "everyone": True}
SCHEDULED = form_of({"steps": [BYE], "schedule": AT})

#: Passes over segments: a run that was asked for, a look that found nothing to do, a sweep, and one that failed.
PASSES = ("segments-evaluated", "segments-none-new", "segments-swept", "segments-unswept")

#: Updates of policies: of one journey, because somebody asked, and of all.
UPDATES = ("policies-asked-for", "policies-of-all")

#: Events after which Temporal wants a new run, where lives are to be continued.
A_FEW = 12

#: Whoever has them can read the histories that are stored encrypted: they hold nobody's data.
KEYS = Keyring.of(["test:" + base64.b64encode(b"the key of these histories, long").decode()])


async def _faults(histories: Mapping[str, WorkflowHistory], namespace: str | None = None) -> dict[str, Exception]:
    """Which of them do not replay. In the strict sandbox, in which everything that is not deterministic is refused.

    `namespace`: of those that are encrypted with KEYS.
    """
    replayer = Replayer(
        workflows=WORKFLOWS,
        namespace=namespace or "default",
        data_converter=data_converter(KEYS if namespace is not None else NO_KEYS),
    )
    faults = {}
    for name, history in histories.items():
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        if result.replay_failure is not None:
            faults[name] = result.replay_failure
    return faults


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Keep:
    """Stores a history of today, if that is asked for."""
    recording: bool = request.config.getoption("--record-histories")

    def store(name: str, history: WorkflowHistory) -> None:
        if recording:
            keep(name, history)

    return store


@pytest.mark.timeout(240)
async def test_every_stored_history_replays() -> None:
    histories = stored()

    assert await _faults(histories) == {}
    assert len(histories) >= LEAST
    assert set(Counter(map(type_of, histories.values()))) == set(_names(WORKFLOWS))


async def test_every_stored_history_that_is_encrypted_replays() -> None:
    histories = stored_encrypted()

    for name, history in histories.items():
        assert await _faults({name: history}, namespace_of(name)) == {}
    # A key is for one workflow alone.
    one, other = list(histories.items())[:2]
    mistaken = WorkflowHistory(other[1].workflow_id, one[1].events)
    assert await _faults({one[0]: mistaken}, namespace_of(one[0])) != {}


def test_there_is_a_history_of_every_life() -> None:
    names = {name.rpartition("/")[2].rpartition(".")[0] or name.rpartition("/")[2] for name in stored()}

    assert names >= LIVES.keys()


@pytest.mark.parametrize("careless", CARELESS, ids=lambda careless: careless.__name__)
async def test_a_careless_change_is_noticed(careless: type) -> None:
    # Outside the sandbox, which would import this module again.
    gate = Replayer(workflows=[careless], workflow_runner=UnsandboxedWorkflowRunner())
    (name,) = _names([careless])
    histories = [history for history in stored().values() if type_of(history) == name]

    noticed = 0
    for history in histories:
        result = await gate.replay_workflow(history, raise_on_replay_failure=False)
        noticed += result.replay_failure is not None

    assert noticed >= 1, f"of {len(histories)} histories"


def _names(workflows: Iterable[type]) -> list[str]:
    return [definition.name or "" for w in workflows if (definition := workflow._Definition.from_class(w)) is not None]


@pytest.mark.timeout(240)
async def test_what_executions_live_through_today_replays(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record], kept: Keep
) -> None:
    async with set_stage(furnished, temporal, database, worker_pool, LIVES) as stage:
        histories = await lived(stage, LIVES)

    assert await _faults(histories) == {}
    for name, history in histories.items():
        kept(name, history)


@pytest.mark.timeout(240)
async def test_what_executions_live_through_today_replays_when_it_is_encrypted(
    furnished: World,
    temporal_address: str,
    database: str,
    worker_pool: Pool[Record],
    request: pytest.FixtureRequest,
) -> None:
    client = await _in_namespace(temporal_address, ENCRYPTED_NAMESPACE)
    lives = {name: LIVES[name] for name in ENCRYPTED_LIVES}

    async with set_stage(furnished, client, database, worker_pool, lives) as stage:
        histories = await lived(stage, lives)

    kids = {
        kid_of(payload) for history in histories.values() for event in history.events for payload in payloads_in(event)
    }
    assert kids == {"test"}
    assert await _faults(histories, ENCRYPTED_NAMESPACE) == {}
    assert (await _faults(histories)).keys() == histories.keys(), "nothing can be made of them without the key"
    if request.config.getoption("--record-histories"):
        for name, history in histories.items():
            keep(name, history, encrypted=True)


@pytest.mark.timeout(240)
async def test_what_executions_live_through_today_in_several_runs_replays(
    furnished: World,
    session_directory: Path,
    database: str,
    worker_pool: Pool[Record],
    kept: Keep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lives = {name: LIVES[name] for name in CONTINUED_LIVES}
    config = {"limit__historyCount__suggestContinueAsNew": A_FEW}
    async with temporal_with(session_directory, monkeypatch, **config) as address:
        client = await connect(Target(address=address))
        async with set_stage(furnished, client, database, worker_pool, lives) as stage:
            histories = await lived(stage, lives)

    assert await _faults(histories) == {}
    continued = [name for name in histories if name.endswith(".2")]
    assert len(continued) >= len(lives) / 2
    for name, history in histories.items():
        life, _, run = name.partition(".")
        if run:
            kept(f"continued-{life}.{run}", history)


async def _in_namespace(address: str, name: str) -> Client:
    """A client in a namespace of this name, which is made if it is not there."""
    plain = await connect(Target(address=address))
    with suppress(RPCError):
        await plain.workflow_service.register_namespace(
            RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86400))
        )
    await plain.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=name,
            search_attributes={
                attribute: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
                for attribute, kind in SEARCH_ATTRIBUTES.items()
            },
        )
    )
    return await connect(Target(address=address, namespace=name), keyring=KEYS)


@pytest.mark.parametrize("kind", PASSES)
async def test_a_pass_over_segments_of_today_replays(
    at_work: Running, kind: str, worker_pool: Pool[Record], kept: Keep
) -> None:
    crowd = Crowd(at_work.world, worker_pool)
    project_no, client = crowd.project_no, at_work.client
    await crowd.known(ann={"tier": "pro"})
    if kind == "segments-unswept":
        await crowd.segment("pros", {"kind": "everyone"})
        await at_work.until("NOT EXISTS (SELECT FROM inbox)")
        await crowd.jam()
    started: WorkflowHandle[object, object]
    match kind:
        case "segments-evaluated":
            number = await crowd.number("everyone")
            await crowd.world.do(segments.evaluate, "everyone")
            await SegmentWorkflows(client).see_to(project_no, number)
            started = client.get_workflow_handle(evaluation_id(project_no, number))
        case "segments-none-new":
            await SegmentWorkflows(client).see_to(project_no, 0)
            started = client.get_workflow_handle(evaluation_id(project_no, 0))
        case _:
            started = await client.start_workflow(SWEEP_WORKFLOW, SweepInput(), id="swept", task_queue=SEGMENTS_QUEUE)
    with pytest.raises(WorkflowFailureError) if kind == "segments-unswept" else nullcontext():
        await started.result()

    history = await started.fetch_history()

    assert await _faults({kind: history}) == {}
    assert "no longer read" not in history.to_json(), "what an error says may hold values"
    kept(kind, history)


@pytest.mark.parametrize("kind", UPDATES)
async def test_an_update_of_policies_of_today_replays(at_work: Running, kind: str, kept: Keep) -> None:
    await at_work.publish(*LIVES["arm-chosen"].steps, goal="paid")
    asked = UpdateInput()
    if kind == "policies-asked-for":
        asked = UpdateInput(only=Learning(project_no=at_work.world.scope.project_no, journey_id="welcome"))
    started = await at_work.client.start_workflow(UPDATE_WORKFLOW, asked, id="update", task_queue=POLICIES_QUEUE)
    await started.result()
    assert await at_work.owner.fetchval("SELECT count(*) FROM policy_versions") == 1

    history = await started.fetch_history()

    assert await _faults({kind: history}) == {}
    kept(kind, history)


async def test_a_firing_of_today_replays(at_work: Running, kept: Keep) -> None:
    await at_work.publish(BYE, schedule=AT)
    project_no, digest = at_work.world.scope.project_no, digest_of(SCHEDULED)
    firing = FiringInput(project_no=project_no, journey_id="welcome", digest=digest)
    stale = FiringInput(project_no=project_no, journey_id="welcome", digest="of another schedule")
    for name, what, came_of_it in (("enrolled-on-schedule", firing, "fired"), ("schedule-changed", stale, None)):
        started = await at_work.client.start_workflow(FIRING_WORKFLOW, what, id=name, task_queue=JOURNEYS_QUEUE)
        answered = await started.result()
        assert came_of_it in (None, answered)

        history = await started.fetch_history()

        assert await _faults({name: history}) == {}
        kept(name, history)


async def test_erasures_of_today_replay(at_work: Running, kept: Keep) -> None:
    await at_work.publish(MONTH, BYE)
    await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")
    for name, subject_id in (("subject-forgotten", "ann"), ("stranger-forgotten", "nobody-ever")):
        erasure = await at_work.world.do(forgetting.forget, SECRET, subject_id)
        await at_work.until("NOT EXISTS (SELECT FROM erasures WHERE phase <> 'done')", within=60)
        workflow_id = erasure_workflow_id(at_work.world.scope.project_no, erasure.erasure_id)
        started = at_work.client.get_workflow_handle(workflow_id)
        await started.result()

        history = await started.fetch_history()

        assert await _faults({name: history}) == {}
        assert '"ann' not in history.to_json()
        kept(name, history)
