"""Two servers and two workers are restarted one after the other, under load, as an upgrade does it: no call fails for
callers with the client's patience, next to none for those without, and everybody gets to the end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.client import OrchestratorClient, OrchestratorError
from orchestrator.client import messages as m
from orchestrator.devstack.stack import SERVER, worker_name
from orchestrator.v1 import event_service_pb2_grpc, subject_service_pb2_grpc
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, RECOVERY, field_on
from tests.faults.fleet import Fleet
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

#: Of callers who try nothing again, and look for servers as the client does.
OPTIONS = (
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

#: How often everything is restarted.
ROUNDS = 6
#: Callers of each kind, each with one call at a time.
CALLERS = 4
#: Of the calls of those who try nothing again, so many may fail.
PART = 0.001


@dataclass
class Load:
    """What callers called, and what failed."""

    calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    over: bool = False

    async def call(self, one: Awaitable[object]) -> bool:
        self.calls += 1
        try:
            await one
        except OrchestratorError as error:
            self.failed[f"{error.code.name} {error}"] += 1
        except grpc.aio.AioRpcError as error:
            self.failed[f"{error.code().name} {error.details()}"] += 1
        else:
            return True
        return False


async def is_called_by_both(http: str) -> bool:
    """Whether callers of each kind have found this server since it was started."""
    async with httpx.AsyncClient() as client:
        page = (await client.get(f"{http}/metrics")).text
    called = {
        sample.labels["grpc_method"]
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "grpc_server_handled_total" and sample.value
    }
    return {"ListExecutions", "UpsertSubject"} <= called


@in_soak_alone
async def test_servers_and_workers_are_restarted_one_by_one_and_no_call_is_lost(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    fleet = Fleet(stack, tmp_path)
    second = await fleet.second_server()
    target = f"ipv4:{stack.addresses.grpc},{second.grpc}"
    patient, plain = Load(), Load()
    arrived: list[str] = []
    numbers = count()
    try:
        async with field_on(stack, tmp_path) as ground, OrchestratorClient(target, stack.keys.owner) as client:
            await ground.furnish(wait="1s")
            await client.reach(within=10)
            channel = grpc.aio.insecure_channel(target, options=OPTIONS)
            await channel.channel_ready()
            key = (("authorization", f"Bearer {stack.keys.owner}"),)
            events = event_service_pb2_grpc.EventServiceStub(channel)
            subjects = subject_service_pb2_grpc.SubjectServiceStub(channel)

            async def with_patience() -> None:
                while not patient.over:
                    number = next(numbers)
                    if number % 5:
                        read = m.ListExecutionsRequest(journey_id="welcome", page_size=5)
                        await patient.call(client.executions.ListExecutions(read))
                        continue
                    who = f"p-{number}"
                    if number % 2 == 0:
                        bought = m.Event(event_id=f"buy-{who}", name="purchase", subject_id=who)
                        await patient.call(client.events.IngestEvents(m.IngestEventsRequest(events=[bought])))
                    event = m.Event(event_id=f"up-{who}", name="signup", subject_id=who)
                    if await patient.call(client.events.IngestEvents(m.IngestEventsRequest(events=[event]))):
                        arrived.append(who)

            async def without() -> None:
                while not plain.over:
                    number = next(numbers)
                    if number % 2:
                        seen = m.Event(event_id=f"seen-{number}", name="seen", subject_id=f"q-{number % 50}")
                        request = m.IngestEventsRequest(events=[seen])
                        await plain.call(events.IngestEvents(request, timeout=10, metadata=key))
                    else:
                        subject = m.UpsertSubjectRequest(subject=m.Subject(id=f"q-{number % 50}"))
                        await plain.call(subjects.UpsertSubject(subject, timeout=10, metadata=key))

            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(with_patience())
                    group.create_task(without())
                for _ in range(ROUNDS):
                    for server, http in ((stack.part(SERVER), stack.addresses.http), (second.supervisor, second.http)):
                        await server.stop()
                        await server.start()
                        await eventually(partial(is_called_by_both, http), within=60)
                    for worker in (stack.part(worker_name(1)), stack.part(worker_name(2))):
                        await worker.stop()
                        await worker.start()
                patient.over = plain.over = True
            await channel.close()

            print(f"{patient.calls} calls with patience, {plain.calls} without: {dict(plain.failed)} failed")  # noqa: T201
            assert patient.failed == Counter()
            assert plain.calls >= 1 / PART
            assert plain.failed.total() <= PART * plain.calls, plain.failed
            assert len(arrived) >= 20
            await ground.ended(len(arrived), within=2 * RECOVERY)
            await ground.check(arrived)
    finally:
        await second.supervisor.stop()
        await fleet.stop()
