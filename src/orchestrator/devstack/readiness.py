"""When a part may be called ready: the server says so itself, and Temporal says who asks it for work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from temporalio.api.enums.v1 import DescribeTaskQueueMode, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, ListTaskQueuePartitionsRequest
from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.ports import place
from orchestrator.devstack.processes import Process
from orchestrator.temporal.contract import JOURNEYS_QUEUE

_TIMEOUT = 60.0
_LOOK_EVERY = 0.1


async def await_serving(process: Process, host: str, port: int) -> None:
    """Returns once the server's gRPC health is SERVING. Raises StackFailure if it ends, or takes a minute."""
    await _before_it_ends(process, _serving(host, port))


async def await_listening(process: Process, host: str, port: int) -> None:
    """Returns once connections are taken there, as `await_serving` does."""
    await _before_it_ends(process, _listening(host, port))


async def await_polling(process: Process, client: Client) -> None:
    """Returns once the worker asks for workflow tasks and activities, as `await_serving` does."""
    await _before_it_ends(process, _polling(process.pid, client))


async def _before_it_ends(process: Process, ready: Awaitable[None]) -> None:
    readiness, end = asyncio.ensure_future(ready), asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({readiness, end}, timeout=_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if readiness.done():
            return readiness.result()
        if end.done():
            raise StackFailure(f"{process.name} did not start: {process.last_words()} (log: {process.log}).")
        raise StackFailure(f"{process.name} was not ready within {_TIMEOUT:.0f} s (log: {process.log}).")
    finally:
        readiness.cancel()
        end.cancel()
        await asyncio.gather(readiness, end, return_exceptions=True)


async def _serving(host: str, port: int) -> None:
    # A channel that has failed waits longer and longer before it tries again, so it is not asked before it can succeed.
    await _listening(host, port)
    request = health_pb2.HealthCheckRequest()
    async with grpc.aio.insecure_channel(place(host, port)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await health.Check(request, timeout=5, wait_for_ready=True)
            except grpc.aio.AioRpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(_LOOK_EVERY)


async def _listening(host: str, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(_LOOK_EVERY)
        else:
            writer.close()
            return


async def _polling(pid: int, client: Client) -> None:
    for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        questions = await _questions(client, kind)
        while True:
            # The SDK's identity of a worker is pid@host.
            if any([await _asks(question, f"{pid}@", client) for question in questions]):
                break
            await asyncio.sleep(_LOOK_EVERY)


async def _questions(client: Client, kind: TaskQueueType.ValueType) -> list[DescribeTaskQueueRequest]:
    """One for each partition of the queue, for a worker may be in any. Some Temporals do not list them; then one about
    all, which is answered from a cache of some seconds."""
    queue = TaskQueue(name=JOURNEYS_QUEUE)
    listing = ListTaskQueuePartitionsRequest(namespace=client.namespace, task_queue=queue)
    try:
        listed = await client.workflow_service.list_task_queue_partitions(listing)
    except RPCError:
        about_all = DescribeTaskQueueRequest(namespace=client.namespace, task_queue=queue, task_queue_types=[kind])
        about_all.api_mode = DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED
        about_all.report_pollers = True
        return [about_all]
    workflows = kind == TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    partitions = listed.workflow_task_queue_partitions if workflows else listed.activity_task_queue_partitions
    return [
        DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=partition.key), task_queue_type=kind
        )
        for partition in partitions
    ]


async def _asks(question: DescribeTaskQueueRequest, identity: str, client: Client) -> bool:
    try:
        answer = await client.workflow_service.describe_task_queue(question)
    except RPCError:
        return False  # it may be starting, too
    pollers = list(answer.pollers)
    for version in answer.versions_info.values():
        for kind in version.types_info.values():
            pollers += kind.pollers
    return any(poller.identity.startswith(identity) for poller in pollers)
