"""Workers of two releases at once, one after the other, and back: whoever is under way gets to the end, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from temporalio.client import Client

from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.stack import worker_name
from orchestrator.temporal.client import Target, connect
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, Field, field_on
from tests.faults.fleet import GRACE, Fleet
from tests.faults.releases import CARELESS, PATCH, PATCHED, SAME
from tests.faults.two_waits import check, furnish, happen, stand_at
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

#: Who is under way when a release comes.
OPEN = 50
#: An operator is told within so many seconds that a release cannot go on with what others have begun.
ALARM = 30.0

ALARMING = "temporal_workflow_task_execution_failed_total"

Set = Callable[..., AbstractAsyncContextManager[tuple[Field, Fleet, Client]]]


@pytest.fixture
def fielded(start_stack: StartStack, tmp_path: Path) -> Set:
    """A stack with one worker, of a build if that is said, and a journey that waits twice until it is told to go on."""

    @asynccontextmanager
    async def enter(*, build: str = "") -> AsyncIterator[tuple[Field, Fleet, Client]]:
        stack = await start_stack(environment=ENVIRONMENT | {"ORCHESTRATOR_WORKER_BUILD": build}, workers=1)
        addresses = stack.addresses
        client = await connect(Target(address=addresses.temporal, namespace=addresses.temporal_namespace))
        fleet = Fleet(stack, tmp_path)
        try:
            if build:
                await fleet.make_current(build)
            async with field_on(stack, tmp_path) as field:
                await furnish(field)
                yield field, fleet, client
        finally:
            await fleet.stop()

    return enter


async def builds_of(client: Client) -> Counter[str]:
    """How many executions were last worked on by which build."""
    builds: Counter[str] = Counter()
    async for found in client.list_workflows("WorkflowType = 'JourneyExecution'"):
        described = await client.get_workflow_handle(found.id).describe()
        versioning = described.raw_description.workflow_execution_info.versioning_info
        builds[versioning.deployment_version.build_id] += 1
    return builds


async def patched_of(client: Client) -> int:
    """How many executions were worked on by the patched release."""
    return len([found async for found in client.list_workflows(f"TemporalChangeVersion = '{PATCH}'")])


async def failed_tasks(port: int) -> float:
    """Of executions, as the worker on this port shows them to whoever alarms."""
    async with httpx.AsyncClient() as http:
        page = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == ALARMING
    )


def people(count: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}-{n}" for n in range(count)]


async def test_workers_of_two_releases_share_the_executions_of_both(fielded: Set) -> None:
    everybody = people(OPEN)
    async with fielded() as (field, fleet, client):
        await happen(field, "signup", everybody[: OPEN // 2])
        await stand_at(field, "go-1", OPEN // 2)

        await fleet.start_worker(PATCHED)
        await happen(field, "signup", everybody[OPEN // 2 :])
        await stand_at(field, "go-1", OPEN)
        await happen(field, "go-1", everybody)
        await stand_at(field, "go-2", OPEN)
        both = await patched_of(client)
        await happen(field, "go-2", everybody)

        await check(field, everybody)
        assert 0 < both <= OPEN, "one of the two did everything: nothing was tried"


@in_soak_alone
async def test_a_build_gets_executions_once_it_is_current_and_gives_them_back(fielded: Set) -> None:
    everybody = people(OPEN)
    async with fielded(build="a") as (field, fleet, client):
        await happen(field, "signup", everybody)
        await stand_at(field, "go-1", OPEN)

        old, new = field.stack.part(worker_name(1)), await fleet.start_worker(SAME, build="b")
        await happen(field, "go-1", everybody[:20])
        await stand_at(field, "go-2", 20)
        # Half of them the new one lets in, and does not begin.
        late = people(10, "late")
        await happen(field, "signup", late)
        await stand_at(field, "go-1", OPEN - 20 + len(late))
        assert await builds_of(client) == {"a": OPEN + len(late)}, "a build that is not current was given something"
        await fleet.make_current("b")
        await old.stop()
        await happen(field, "go-1", [*everybody[20:], *late])
        await stand_at(field, "go-2", OPEN + len(late))
        moved = await builds_of(client)
        await old.start()
        await fleet.make_current("a")
        await new.stop(grace=GRACE)
        await happen(field, "go-2", [*everybody, *late])

        await check(field, [*everybody, *late])
        assert moved == {"a": 20, "b": OPEN - 20 + len(late)}
        assert await builds_of(client) == {"a": OPEN + len(late)}


async def test_a_build_that_cannot_go_on_is_noticed_and_taken_back_and_nobody_is_lost(fielded: Set) -> None:
    everybody, late = people(OPEN), people(10, "late")
    (port,) = free_ports(1)
    async with fielded(build="a") as (field, fleet, client):
        await happen(field, "signup", everybody)
        await stand_at(field, "go-1", OPEN)
        good, bad = field.stack.part(worker_name(1)), await fleet.start_worker(CARELESS, build="c", metrics_port=port)
        assert await failed_tasks(port) == 0

        await fleet.make_current("c")
        await good.stop()
        await happen(field, "go-1", everybody)
        await happen(field, "signup", late)

        async def is_alarming() -> bool:
            return await failed_tasks(port) > 0

        await eventually(is_alarming, within=ALARM)
        await stand_at(field, "go-1", OPEN + len(late))  # those that came to it under the bad build got as far as that
        sent = len(field.provider.accepted())
        assert sent == OPEN + len(late), "nobody is sent what comes after"
        await good.start()
        await fleet.make_current("a")
        await bad.stop(grace=GRACE)
        await stand_at(field, "go-2", OPEN)

        # What the bad build has begun by itself no other one can read: it begins anew, and hears what was decided.
        await reset(fleet, client)
        await happen(field, "go-1", late)
        await stand_at(field, "go-2", OPEN + len(late))
        await happen(field, "go-2", [*everybody, *late])

        await check(field, [*everybody, *late])


async def reset(fleet: Fleet, client: Client) -> None:
    """As docs/operations.md has it."""
    code, said = await fleet.temporal(
        *("workflow", "reset", "--yes", "--type", "FirstWorkflowTask", "--reason", "begun by a bad build"),
        *("--query", "ExecutionStatus = 'Running' AND TemporalWorkerDeploymentVersion = 'orchestrator:c'"),
    )
    assert code == 0, said
