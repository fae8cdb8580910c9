"""Workers must be able to go on with executions that older workers began: every stored history replays.

A change of the commands the workflow gives needs `workflow.patched()`; a history is stored for every such change and
never removed (`pytest tests/replay --record-histories`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from orchestrator.application import forgetting, segments
from orchestrator.application.ingest import Ingest
from orchestrator.application.journey_schedules import digest_of
from orchestrator.domain.event import Event
from orchestrator.domain.journey_form import stored as form_of
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.codec import data_converter, kid_of
from orchestrator.temporal.contract import EXECUTION_WORKFLOW, JOURNEYS_QUEUE, ExecutionInput
from orchestrator.temporal.erasures import ERASURE_WORKFLOW, ErasureInput, erasure_workflow_id
from orchestrator.temporal.keyring import NO_KEYS, Keyring
from orchestrator.temporal.policies import POLICIES_QUEUE, UPDATE_WORKFLOW, Learning, UpdateInput
from orchestrator.temporal.schedules import FIRING_WORKFLOW, FiringInput
from orchestrator.temporal.segments import (
    EVALUATION_WORKFLOW,
    SEGMENTS_QUEUE,
    SWEEP_WORKFLOW,
    EvaluationInput,
    SegmentWorkflows,
    SweepInput,
    evaluation_id,
)
from tests.eventually import eventually
from tests.integration.channels.receiver import one_after_the_other, receiving
from tests.integration.crowd import Crowd
from tests.integration.journey_world import ANY_STATE, World
from tests.provider.wire import response
from tests.workflows.payloads import payloads_in
from tests.workflows.world import Running, Switchboard, worker
from workers.channels.channel import ChannelUnavailable
from workers.workflows.journey_execution import JourneyExecution
from workers.workflows.policy_updates import PolicyUpdate
from workers.workflows.scheduled_enrollment import ScheduledEnrollment
from workers.workflows.segment_runs import SegmentEvaluation, SegmentSweep
from workers.workflows.subject_erasure import SubjectErasure

if TYPE_CHECKING:
    from asyncpg import Pool, Record

HISTORIES = Path(__file__).parent / "histories"

SEND = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"}
WAIT = {"id": "pause", "wait": {"duration": "1s"}, "next": "bye"}
LONG = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}
VIP = {"kind": "in_cohort", "cohortId": "vip"}
ASK = {"id": "ask", "branch": {"arms": [{"id": "vip", "when": VIP, "next": "bye"}], "otherwise": "bye"}}
BYE = {"id": "bye", "exit": {"reason": "finished"}}
AT = {"at": "2126-01-01T00:00:00Z", "everyone": True}
SCHEDULED = form_of({"steps": [BYE], "schedule": AT})
PAID = {"event": {"eventName": "paid"}}

#: What is stored: a name, and the steps of the journey whose execution it is.
KINDS: dict[str, list[dict[str, Any]]] = {
    "exit-only": [BYE],
    "send-wait-exit": [SEND, WAIT, BYE],
    "wait-for-a-second": [WAIT, BYE],
    "send-tried-three-times": [SEND, WAIT, BYE],
    "poked-awake": [SEND, {**WAIT, "wait": {"duration": "10s"}}, BYE],
    "asleep-for-a-month": [LONG, BYE],
    "poked-in-back-off": [SEND, WAIT, BYE],
    "parked-and-mended": [ASK, BYE],
    "waited-for-and-came": [{"id": "await", "waitFor": PAID, "next": "bye"}, BYE],
    "waited-for-in-vain": [
        {"id": "await", "waitFor": PAID | {"timeout": "1s", "otherwise": "bye"}, "next": "bye"},
        BYE,
    ],
    "subject-changed": [
        {"id": "mark", "updateSubject": {"attributes": {"plan": "pro"}}, "next": "tell"},
        {"id": "tell", "emitEvent": {"eventName": "upgraded"}, "next": "bye"},
        BYE,
    ],
    "arm-chosen": [
        {"id": "choose", "adaptiveBranch": {"arms": [{"id": "a", "next": "pause"}, {"id": "b", "next": "pause"}]}},
        WAIT,
        BYE,
    ],
    # Its receiver is somewhere else each time.
    "webhook-tried-twice": [],
}


#: Passes over segments: a run that was asked for, a look that found nothing to do, a sweep, and one that failed.
SEGMENT_KINDS = {"segments-evaluated", "segments-none-new", "segments-swept", "segments-unswept"}


#: Updates of policies: of one journey, because somebody asked, and of all.
POLICY_KINDS = {"policies-asked-for", "policies-of-all"}

SEGMENTS = (SegmentEvaluation, SegmentSweep)

#: What a schedule starts when it is due.
FIRED = "enrolled-on-schedule"

#: Of somebody who was travelling.
FORGOTTEN = "subject-forgotten"

#: Histories that are stored encrypted: with KEYS, in which namespace. Each key is for one workflow of one namespace.
ENCRYPTED = {
    "encrypted-subject-changed.1": "test-25f2c8f86b9044e48a30ece0c175322e",
    "encrypted-waited-for-in-vain.1": "test-d607c76e99c54ff0890e986981ebcaff",
}

#: Of executions that are run once more, encrypted: failures and markers, search attributes and signals.
ENCRYPTED_KINDS = ("send-tried-three-times", "parked-and-mended")

KEYS = Keyring.of(["test:" + base64.b64encode(b"the key of these histories, long").decode()])


async def _replay(history: WorkflowHistory, namespace: str | None = None) -> Exception | None:
    """Replays in the strict sandbox, in which everything that is not deterministic is refused.

    `namespace`: of one that is encrypted with KEYS.
    """
    replayer = Replayer(
        workflows=[*SEGMENTS, JourneyExecution, ScheduledEnrollment, PolicyUpdate, SubjectErasure],
        namespace=namespace or "default",
        data_converter=data_converter(KEYS if namespace is not None else NO_KEYS),
    )
    return (await replayer.replay_workflow(history, raise_on_replay_failure=False)).replay_failure


def stored() -> list[WorkflowHistory]:
    return [
        WorkflowHistory.from_json(file.stem, file.read_text())
        for file in sorted(HISTORIES.glob("*.json"))
        if file.stem not in ENCRYPTED
    ]


async def has_slept(handle: WorkflowHandle[Any, Any]) -> bool:
    history = await handle.fetch_history()
    return any(event.HasField("timer_started_event_attributes") for event in history.events)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What is entered ends with the test."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.mark.parametrize("history", stored(), ids=lambda history: history.workflow_id)
async def test_a_stored_history_replays(history: WorkflowHistory) -> None:
    assert await _replay(history) is None


@pytest.mark.parametrize("name", ENCRYPTED)
async def test_a_stored_history_that_is_encrypted_replays(name: str) -> None:
    text = (HISTORIES / f"{name}.json").read_text()
    started = WorkflowHistory.from_json(name, text).events[0].workflow_execution_started_event_attributes
    history = WorkflowHistory.from_json(started.workflow_id, text)

    assert await _replay(history, ENCRYPTED[name]) is None
    # Its key is for its workflow alone.
    assert await _replay(WorkflowHistory.from_json("disp:other__v1__ann__e-1", text), ENCRYPTED[name]) is not None


def test_there_is_a_history_of_every_kind() -> None:
    assert {
        history.workflow_id.split(".")[0] for history in stored()
    } >= KINDS.keys() | SEGMENT_KINDS | POLICY_KINDS | {FIRED, FORGOTTEN}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_history_of_today_replays(
    at_work: Running, kind: str, stack: AsyncExitStack, request: pytest.FixtureRequest
) -> None:
    history = await (await _lived(at_work, kind, stack)).fetch_history()

    assert await _replay(history) is None
    if request.config.getoption("--record-histories"):
        _keep(_next(kind), history)


@pytest.mark.parametrize("kind", ENCRYPTED_KINDS)
async def test_a_history_of_today_that_is_encrypted_replays(
    encrypted_work: Running, kind: str, stack: AsyncExitStack, request: pytest.FixtureRequest
) -> None:
    history = await (await _lived(encrypted_work, kind, stack)).fetch_history()
    namespace = encrypted_work.client.namespace

    assert {kid_of(payload) for event in history.events for payload in payloads_in(event)} == {"test"}
    assert await _replay(history, namespace) is None
    assert await _replay(history) is not None, "nothing can be made of it without the key"
    if request.config.getoption("--record-histories"):
        name = _next(f"encrypted-{kind}")
        _keep(name, history)
        print(f"ENCRYPTED[{name!r}] = {namespace!r}")  # noqa: T201 - to be written down above


@pytest.fixture
async def encrypted_work(
    furnished: World, temporal_address: str, temporal_namespace: str, database: str, worker_pool: Pool[Record]
) -> AsyncIterator[Running]:
    """As `at_work`, encrypted with KEYS."""
    client = await connect(Target(address=temporal_address, namespace=temporal_namespace), keyring=KEYS)
    channel = Switchboard()
    async with worker(client, database, worker_pool, channel):
        yield Running(furnished, client, worker_pool, channel)


async def _lived(at_work: Running, kind: str, stack: AsyncExitStack) -> WorkflowHandle[Any, Any]:
    """An execution of this kind, at its end, or asleep for a month."""
    if kind == "send-tried-three-times":
        at_work.channel.answers = [ChannelUnavailable("timeout", in_doubt=True)] * 2
    if kind == "poked-in-back-off":
        later = timedelta(minutes=5)
        at_work.channel.answers = [ChannelUnavailable("503", in_doubt=False, retry_after=later)]
    steps = KINDS[kind]
    if kind == "webhook-tried-twice":
        answers = [response(503, headers={"retry-after": "0"}), response(200, b'{"score": 7}')]
        receiver = await stack.enter_async_context(receiving(one_after_the_other(*answers)))
        steps = [{"id": "call", "webhook": {"url": f"http://127.0.0.1:{receiver.port}/"}, "next": "bye"}, BYE]
    await at_work.publish(*steps, goal="paid" if kind == "arm-chosen" else None)
    if kind in ("parked-and-mended", "waited-for-and-came"):
        at_work.searchable = True
    if kind == "parked-and-mended":
        await at_work.world.do(segments.delete, "vip", ANY_STATE, force=True)
    (entry,) = await at_work.enroll("ann")
    handle = at_work.client.get_workflow_handle(entry.workflow_id)
    match kind:
        case "parked-and-mended":
            await at_work.until("EXISTS (SELECT FROM executions WHERE parked IS NOT NULL)")
            await eventually(lambda: has_slept(handle))
            vip = Segment(kind=STATIC, name="VIP", description="", predicate=None)
            await at_work.world.do(segments.create, "vip", vip)
            await handle.signal("poke")
        case "poked-awake":
            for _ in range(3):
                await handle.signal("poke")
        case "waited-for-and-came":
            await eventually(lambda: has_slept(handle))
            paid = Event(event_id="e-1", name="paid", subject_id="ann", occurred_at=None, properties=b"{}")
            await Ingest(at_work.world.transactions).take(at_work.world.scope.project_no, [paid], backfill=False)
        case "poked-in-back-off":
            await at_work.until("EXISTS (SELECT FROM sends WHERE NOT in_doubt)")
            await handle.signal("poke")
    if kind == "asleep-for-a-month":
        await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")
    else:
        await handle.result()
    return handle


def _next(kind: str) -> str:
    """The name of the next history of a kind."""
    return f"{kind}.{len(list(HISTORIES.glob(f'{kind}.*.json'))) + 1}"


@pytest.mark.parametrize("kind", sorted(SEGMENT_KINDS))
async def test_a_history_of_a_pass_of_today_replays(
    at_work: Running, kind: str, worker_pool: Pool[Record], request: pytest.FixtureRequest
) -> None:
    crowd = Crowd(at_work.world, worker_pool)
    project_no, client = crowd.project_no, at_work.client
    await crowd.known(ann={"tier": "pro"})
    if kind == "segments-unswept":
        await crowd.segment("pros", {"kind": "everyone"})
        await at_work.until("NOT EXISTS (SELECT FROM inbox)")
        await crowd.jam()
    started: WorkflowHandle[Any, Any]
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

    assert await _replay(history) is None
    assert "no longer read" not in history.to_json(), "what an error says may hold values"
    if request.config.getoption("--record-histories"):
        _keep(f"{kind}.1", history)


@pytest.mark.parametrize("kind", sorted(POLICY_KINDS))
async def test_a_history_of_an_update_of_policies_of_today_replays(
    at_work: Running, kind: str, request: pytest.FixtureRequest
) -> None:
    await at_work.publish(*KINDS["arm-chosen"], goal="paid")
    asked = UpdateInput()
    if kind == "policies-asked-for":
        asked = UpdateInput(only=Learning(project_no=at_work.world.scope.project_no, journey_id="welcome"))
    started = await at_work.client.start_workflow(UPDATE_WORKFLOW, asked, id="update", task_queue=POLICIES_QUEUE)
    await started.result()
    assert await at_work.owner.fetchval("SELECT count(*) FROM policy_versions") == 1

    history = await started.fetch_history()

    assert await _replay(history) is None
    if request.config.getoption("--record-histories"):
        _keep(f"{kind}.1", history)


async def test_a_history_of_a_firing_of_today_replays(at_work: Running, request: pytest.FixtureRequest) -> None:
    await at_work.publish(BYE, schedule=AT)
    project_no, digest = at_work.world.scope.project_no, digest_of(SCHEDULED)
    firing = FiringInput(project_no=project_no, journey_id="welcome", digest=digest)
    started = await at_work.client.start_workflow(FIRING_WORKFLOW, firing, id="due", task_queue=JOURNEYS_QUEUE)
    assert await started.result() == "fired"

    history = await started.fetch_history()

    assert await _replay(history) is None
    if request.config.getoption("--record-histories"):
        _keep(f"{FIRED}.1", history)


async def test_a_history_of_an_erasure_of_today_replays(at_work: Running, request: pytest.FixtureRequest) -> None:
    await at_work.publish(LONG, BYE)
    await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")
    erasure = await at_work.world.do(forgetting.forget, b"s" * 48, "ann")
    done = "EXISTS (SELECT FROM erasures WHERE phase = 'done')"
    await at_work.until(done, within=60)
    workflow_id = erasure_workflow_id(at_work.world.scope.project_no, erasure.erasure_id)
    started = at_work.client.get_workflow_handle(workflow_id)
    await started.result()

    history = await started.fetch_history()

    assert await _replay(history) is None
    assert '"ann' not in history.to_json()
    if request.config.getoption("--record-histories"):
        _keep(f"{FORGOTTEN}.1", history)


@workflow.defn(name=EXECUTION_WORKFLOW)
class Reordered:
    """What a careless change would make of it: sleep first, then act."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        await workflow.sleep(timedelta(seconds=1))
        return start.effect.outcome

    @workflow.signal
    def poke(self) -> None:
        pass


@workflow.defn(name=EVALUATION_WORKFLOW)
class Idle:
    """Asks for nothing before it waits."""

    @workflow.run
    async def run(self, start: EvaluationInput) -> None:
        await workflow.sleep(timedelta(seconds=1))

    @workflow.signal
    def look_again(self) -> None:
        pass


@workflow.defn(name=SWEEP_WORKFLOW)
class Forgetful:
    """Sweeps nothing."""

    @workflow.run
    async def run(self, start: SweepInput) -> None:
        return


@workflow.defn(name=UPDATE_WORKFLOW)
class Unlearned:
    """Has nothing made."""

    @workflow.run
    async def run(self, start: UpdateInput) -> None:
        return


@workflow.defn(name=FIRING_WORKFLOW)
class Late:
    """Asks nobody."""

    @workflow.run
    async def run(self, firing: FiringInput) -> str:
        return firing.digest


@workflow.defn(name=ERASURE_WORKFLOW)
class Hasty:
    """Waits for nothing to be erased."""

    @workflow.run
    async def run(self, erasure: ErasureInput) -> None:
        return


@pytest.mark.parametrize(
    "prefix", ["send-", "segments-evaluated", "segments-none-new", "segments-swept", "policies-", FIRED, FORGOTTEN]
)
async def test_the_gate_notices_a_workflow_that_gives_other_commands(prefix: str) -> None:
    # Outside the sandbox, which would import this module again.
    gate = Replayer(
        workflows=[Reordered, Idle, Forgetful, Unlearned, Late, Hasty], workflow_runner=UnsandboxedWorkflowRunner()
    )
    histories = [history for history in stored() if history.workflow_id.startswith(prefix)]

    results = [await gate.replay_workflow(history, raise_on_replay_failure=False) for history in histories]

    assert results
    assert all(result.replay_failure is not None for result in results)


def _keep(name: str, history: WorkflowHistory) -> None:
    """Without stack traces, which replay does not need and which say where somebody's checkout is."""
    HISTORIES.mkdir(exist_ok=True)
    document = json.loads(history.to_json(), object_hook=lambda members: _without(members, "stackTrace"))
    (HISTORIES / f"{name}.json").write_text(json.dumps(document, indent=2))


def _without(members: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}
