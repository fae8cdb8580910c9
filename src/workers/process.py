"""What one worker process runs, wired together: it reads top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from orchestrator.application.advance import Advance
from orchestrator.application.delivery import Delivery
from orchestrator.application.inbox import Inbox
from orchestrator.application.reconciliation import Reconciliation
from orchestrator.application.segment_errands import SegmentErrands
from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.application.sending import Sending
from orchestrator.application.transactions import Transactions
from orchestrator.application.upkeep import Upkeep
from orchestrator.application.versions import Versions
from orchestrator.temporal.contract import JOURNEYS_QUEUE, channel_queue
from orchestrator.temporal.executions import Executions
from orchestrator.temporal.segments import SEGMENTS_QUEUE, SegmentWorkflows
from workers.activities.advance import AdvanceActivities
from workers.activities.segments import SegmentActivities
from workers.activities.send import SendActivities
from workers.channels.channel import Channel
from workers.channels.rendering import Renderer
from workers.execution_names import ExecutionNames, NamingInterceptor
from workers.inbox import InboxConsumer
from workers.metrics import Metrics
from workers.sweeper import Sweeper
from workers.workflows.journey_execution import JourneyExecution
from workers.workflows.segment_runs import SegmentEvaluation, SegmentSweep

if TYPE_CHECKING:
    from asyncpg import Pool, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one process does at a time.

    `grace`: what a stopping process has begun, it may finish within this; the rest another one does again.
    `cached`: executions kept in memory between two tasks; those that wait longer are replayed from short histories.
    """

    workflow_tasks: int = 8
    advances: int = 16
    sends_per_channel: int = 32
    # Parts of passes over segments; each keeps a core and a connection busy.
    passes: int = 2
    cached: int = 300
    grace: timedelta = timedelta(seconds=25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a process works with."""

    dsn: str
    pool: Pool[Record]
    client: Client
    channels: Mapping[str, Channel]
    renderer: Renderer
    meter: MetricMeter
    # The namespace has our search attributes.
    searchable: bool
    # Ask Temporal for the first task together with the start.
    eager: bool = True
    # Learns what the log calls the executions that are worked on.
    names: ExecutionNames = field(default_factory=ExecutionNames)
    limits: Limits = Limits()


@asynccontextmanager
async def running(parts: Parts) -> AsyncIterator[None]:
    """Works as long as the block lasts; then stops taking work, finishes what it has begun, and returns."""
    transactions, versions = Transactions(parts.pool), Versions()
    executions = Executions(parts.client, eager=parts.eager, searchable=parts.searchable)
    delivery = Delivery(transactions, executions)
    metrics = Metrics(parts.meter)
    consumer = InboxConsumer(parts.dsn, Inbox(transactions, versions), delivery, metrics)
    runs = SegmentRuns(transactions, versions.rule_book)
    sweeper = Sweeper(
        delivery,
        Reconciliation(transactions, executions),
        Upkeep(transactions),
        SegmentErrands(runs, SegmentWorkflows(parts.client)),
        metrics,
    )
    segments = SegmentActivities(runs, metrics)
    sends = SendActivities(
        sending=Sending(transactions, versions), channels=parts.channels, renderer=parts.renderer, metrics=metrics
    )
    limits = parts.limits
    parts.names.take_over()
    interceptors = [NamingInterceptor(parts.names)]
    async with AsyncExitStack() as stack:
        for channel in parts.channels:
            await stack.enter_async_context(
                Worker(
                    parts.client,
                    task_queue=channel_queue(channel),
                    activities=[sends.send],
                    interceptors=interceptors,
                    max_concurrent_activities=limits.sends_per_channel,
                    graceful_shutdown_timeout=limits.grace,
                )
            )
        await stack.enter_async_context(
            Worker(
                parts.client,
                task_queue=JOURNEYS_QUEUE,
                workflows=[JourneyExecution],
                activities=[AdvanceActivities(Advance(transactions, versions)).advance],
                interceptors=interceptors,
                # All that the workflow imports is deterministic, so nothing has to be imported anew for each execution.
                workflow_runner=SandboxedWorkflowRunner(
                    restrictions=SandboxRestrictions.default.with_passthrough_all_modules()
                ),
                max_cached_workflows=limits.cached,
                max_concurrent_workflow_tasks=limits.workflow_tasks,
                max_concurrent_activities=limits.advances,
                max_concurrent_local_activities=limits.advances,
                graceful_shutdown_timeout=limits.grace,
            )
        )
        await stack.enter_async_context(
            Worker(
                parts.client,
                task_queue=SEGMENTS_QUEUE,
                workflows=[SegmentSweep, SegmentEvaluation],
                activities=[
                    segments.list_projects,
                    segments.begin_run,
                    segments.evaluate_buckets,
                    segments.finish_run,
                ],
                max_concurrent_activities=limits.passes,
                graceful_shutdown_timeout=limits.grace,
            )
        )
        # Stopped before the workers are: what it decides, this process still delivers.
        beside = [asyncio.create_task(consumer.run()), asyncio.create_task(sweeper.run())]
        try:
            yield
        finally:
            consumer.stop()
            sweeper.stop()
            await asyncio.gather(*beside)
