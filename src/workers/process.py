"""What one worker process runs, wired together: it reads top to bottom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.common import MetricMeter, VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Interceptor, Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from orchestrator import traces
from orchestrator.application.advance import Advance
from orchestrator.application.audit_sealing import AuditSealing, Keep
from orchestrator.application.calling import Calling
from orchestrator.application.canceling import Cancellations
from orchestrator.application.carrying import Carries
from orchestrator.application.changing import Changing
from orchestrator.application.channel_turns import LettingOut
from orchestrator.application.choosing import Choosing
from orchestrator.application.closings import Closings
from orchestrator.application.derived_events import Backfill
from orchestrator.application.enrollment_pages import EnrollmentPages
from orchestrator.application.entry_replay_pages import EntryReplayPages
from orchestrator.application.erasure_errands import ErasureErrands
from orchestrator.application.erasures import Erasures
from orchestrator.application.held_entries import HeldEntries
from orchestrator.application.inbox import Inbox
from orchestrator.application.journey_schedules import JourneyScheduleErrands
from orchestrator.application.policy_errands import PolicyErrands
from orchestrator.application.policy_updates import PolicyUpdates
from orchestrator.application.reconciliation import Reconciliation
from orchestrator.application.relay import Relay
from orchestrator.application.remains import Remains
from orchestrator.application.segment_errands import SegmentErrands
from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.application.sending import Sending
from orchestrator.application.sent_tests import TestsToSend
from orchestrator.application.topic_pokes import TopicPokes
from orchestrator.application.transactions import Transactions
from orchestrator.application.upkeep import Upkeep
from orchestrator.application.versions import Versions
from orchestrator.application.watchdog import Watchdog
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks
from orchestrator.storage.erasure_ledger import ErasureLedger
from orchestrator.temporal.contract import (
    BEHIND_QUEUE,
    HEARTBEAT,
    JOURNEYS_QUEUE,
    WEBHOOK_STEPS_QUEUE,
    channel_queue,
)
from orchestrator.temporal.erasures import ERASURES_QUEUE, ErasureWorkflows, RunRemoval
from orchestrator.temporal.executions import Executions
from orchestrator.temporal.policies import POLICIES_QUEUE, PolicyWorkflows
from orchestrator.temporal.schedules import JourneySchedules
from orchestrator.temporal.segments import SEGMENTS_QUEUE, SWEEPS_QUEUE, SegmentWorkflows
from workers.activities.advance import AdvanceActivities
from workers.activities.effects import EffectActivities
from workers.activities.erasures import ErasureActivities
from workers.activities.policies import PolicyActivities
from workers.activities.schedules import ScheduleActivities
from workers.activities.segments import SegmentActivities
from workers.activities.send import SendActivities
from workers.channel_turns import TurnKeeper
from workers.channels.channel import Channel
from workers.channels.rendering import Renderer
from workers.enrollment_jobs import EnrollmentJobRunner
from workers.execution_names import ExecutionNames, NamingInterceptor
from workers.inbox import InboxConsumer
from workers.metrics import Metrics
from workers.provider_places import ProviderPlaces
from workers.sent_tests import SentTestSender
from workers.step_calls import StepCalls
from workers.sweeper import Sweeper
from workers.traced_executions import TracingInterceptor
from workers.workflows.journey_execution import JourneyExecution
from workers.workflows.policy_updates import PolicyUpdate
from workers.workflows.scheduled_enrollment import ScheduledEnrollment
from workers.workflows.segment_runs import SegmentEvaluation, SegmentSweep
from workers.workflows.subject_erasure import SubjectErasure

if TYPE_CHECKING:
    from asyncpg import Pool, Record


logger = logging.getLogger(__name__)

#: By then a stopping process has stopped, all of its parts together: who starts processes seldom waits any longer.
DEADLINE = timedelta(seconds=28)

#: So often signs of life of activities are passed on to Temporal. Left to itself the SDK waits for four fifths of the
#: time within which Temporal must hear one, and a hiccup in the rest of it makes a second try run beside the first.
BEATS_EVERY = timedelta(seconds=HEARTBEAT / 4)


class PartCrashed(Exception):
    """A part of the process has ended that should not have, and with it all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one process does at a time.

    `workflow_tasks`: places for executions. Pollers keep five of them, and an eager start needs one that is free.
    `behind`: the same for executions that were let in with many others; they leave the others' places free.
    `sends_per_channel`, `webhook_calls`: calls under way at once, to all providers of a channel and of steps together.
    `spare`: so many tasks more are taken up, so that those find a worker free who call somebody else than the provider
    that does not answer (workers/provider_places.py).
    `grace`: what a stopping process has begun, it may finish within this; the rest another one does again.
    `cached`: executions kept in memory between two tasks; those that wait longer are replayed from short histories.
    """

    workflow_tasks: int = 20
    behind: int = 2
    advances: int = 16
    sends_per_channel: int = 32
    webhook_calls: int = 32
    spare: int = 16
    # Parts of passes over segments, and beside them parts of sweeps; each keeps a core and a connection busy.
    passes: int = 2
    sweeps: int = 2
    erasures: int = 4
    cached: int = 300
    cached_behind: int = 50
    grace: timedelta = timedelta(seconds=25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a process works with."""

    dsn: str
    pool: Pool[Record]
    client: Client
    channels: Mapping[str, Channel]
    calls: StepCalls
    renderer: Renderer
    meter: MetricMeter
    # The namespace has our search attributes.
    searchable: bool
    # Ask Temporal for the first task together with the start. Not with a `build`: this one would get it, whether it is
    # current or not.
    eager: bool = True
    links: UnsubscribeLinks = field(default_factory=UnsubscribeLinks)
    # Keeps anchors of the audit log; without it they stand in the log alone.
    keep_anchors: Keep | None = None
    # Learns what the log calls the executions that are worked on.
    names: ExecutionNames = field(default_factory=ExecutionNames)
    limits: Limits = Limits()
    # Where erasures are written down outside of the database.
    ledger: ErasureLedger | None = None
    # Which build this is, where Temporal is told which one is current. None: it takes whatever there is.
    build: WorkerDeploymentVersion | None = None


@asynccontextmanager
async def running(parts: Parts) -> AsyncIterator[None]:
    """Works as long as the block lasts; then stops taking work, finishes what it has begun, and returns.

    A part that crashes cancels the block; then PartCrashed is raised.
    """
    transactions, versions = Transactions(parts.pool), Versions()
    eager = parts.eager and parts.build is None
    executions = Executions(parts.client, eager=eager, searchable=parts.searchable)
    relay = Relay(transactions, executions)
    metrics = Metrics(parts.meter, parts.channels)
    consumer = InboxConsumer(parts.dsn, Inbox(transactions, versions), relay, metrics)
    runs = SegmentRuns(transactions, versions.rule_book)
    updates = PolicyUpdates(transactions)
    erasures = Erasures(transactions, RunRemoval(parts.client, searchable=parts.searchable), parts.ledger)
    sweeper = Sweeper(
        relay,
        Closings(transactions),
        TopicPokes(transactions),
        Cancellations(transactions),
        Carries(transactions, versions),
        EntryReplayPages(transactions, versions),
        SentTestSender(TestsToSend(transactions), parts.channels),
        Watchdog(transactions),
        Reconciliation(transactions, executions),
        Upkeep(transactions),
        Remains(transactions),
        Backfill(transactions),
        HeldEntries(transactions),
        JourneyScheduleErrands(transactions, JourneySchedules(parts.client)),
        SegmentErrands(runs, SegmentWorkflows(parts.client)),
        PolicyErrands(updates, PolicyWorkflows(parts.client)),
        AuditSealing(transactions, parts.keep_anchors),
        ErasureErrands(erasures, ErasureWorkflows(parts.client)),
        metrics,
    )
    jobs = EnrollmentJobRunner(
        EnrollmentPages(transactions, versions),
        # Beside what is told at once, none of whose places it takes.
        lambda at_once: Relay(transactions, executions, behind_at_once=at_once),
        metrics,
    )
    turns = TurnKeeper(LettingOut(transactions), relay)
    passes = SegmentActivities(runs, metrics)
    policies = PolicyActivities(updates, metrics)
    sends = SendActivities(
        sending=Sending(transactions, versions),
        channels=parts.channels,
        renderer=parts.renderer,
        links=parts.links,
        metrics=metrics,
        places={channel: ProviderPlaces(parts.limits.sends_per_channel) for channel in parts.channels},
    )
    effects = EffectActivities(
        changing=Changing(transactions, versions),
        choosing=Choosing(transactions, versions),
        calling=Calling(transactions, versions),
        calls=parts.calls,
        renderer=parts.renderer,
        metrics=metrics,
        places=ProviderPlaces(parts.limits.webhook_calls),
    )
    advancing, schedules = AdvanceActivities(Advance(transactions, versions)), ScheduleActivities(transactions)
    workers = _workers(parts, advancing, sends, effects, passes, schedules, policies, ErasureActivities(erasures))
    parts.names.take_over()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                *(group.create_task(worker.run(), name=worker.task_queue) for worker in workers),
                group.create_task(consumer.run(), name="inbox"),
                group.create_task(sweeper.run(), name="sweeper"),
                group.create_task(jobs.run(), name="enrollment jobs"),
                group.create_task(turns.run(), name="channel turns"),
            ]
            try:
                yield
            finally:
                consumer.stop()
                sweeper.stop()
                jobs.stop()
                turns.stop()
                await _ended(workers, tasks)
    except BaseExceptionGroup as failed:
        crashed = {task.get_name(): task.exception() for task in tasks if not task.cancelled() and task.exception()}
        if not crashed:  # what failed is the block
            raise failed.exceptions[0] from None
        for name, error in crashed.items():
            logger.critical("a part of the process has crashed", extra={"part": name}, exc_info=error)
        raise PartCrashed(f"Parts of the worker have crashed, so it ends: {', '.join(crashed)}.") from None


def _workers(
    parts: Parts,
    advancing: AdvanceActivities,
    sends: SendActivities,
    effects: EffectActivities,
    passes: SegmentActivities,
    scheduled: ScheduleActivities,
    policies: PolicyActivities,
    erasures: ErasureActivities,
) -> list[Worker]:
    """Two for executions, of which the first has schedules too, two for passes over segments, one for policies, one for
    erasures, one for webhooks of steps, and one for each channel.
    """
    limits = parts.limits
    deployment = _deployment(parts.build)
    interceptors: list[Interceptor] = [NamingInterceptor(parts.names)]
    if (recorder := traces.recorder()) is not None:
        interceptors.append(TracingInterceptor(recorder))
    serving = partial(
        Worker,
        parts.client,
        graceful_shutdown_timeout=limits.grace,
        max_heartbeat_throttle_interval=BEATS_EVERY,
        deployment_config=deployment,
    )

    def executions(queue: str, workflow_tasks: int, cached: int, *, schedules: bool) -> Worker:
        return serving(
            task_queue=queue,
            workflows=[JourneyExecution, *([ScheduledEnrollment] if schedules else [])],
            activities=[
                advancing.advance,
                effects.update_subject,
                effects.emit_event,
                effects.choose_arm,
                *([scheduled.enroll_on_schedule] if schedules else []),
            ],
            interceptors=interceptors,
            # All that the workflow imports is deterministic, so nothing has to be imported anew for each execution.
            workflow_runner=SandboxedWorkflowRunner(
                restrictions=SandboxRestrictions.default.with_passthrough_all_modules()
            ),
            max_cached_workflows=cached,
            max_concurrent_workflow_tasks=workflow_tasks,
            max_concurrent_activities=limits.advances,
            max_concurrent_local_activities=limits.advances,
        )

    journeys = executions(JOURNEYS_QUEUE, limits.workflow_tasks, limits.cached, schedules=True)
    # Most of them sleep for long after their first task: keeping them in memory would be of no use.
    behind = executions(BEHIND_QUEUE, limits.behind, limits.cached_behind, schedules=False)
    channels = [
        serving(
            task_queue=channel_queue(channel),
            activities=[sends.send],
            interceptors=interceptors,
            max_concurrent_activities=limits.sends_per_channel + limits.spare,
        )
        for channel in parts.channels
    ]
    calls = serving(
        task_queue=WEBHOOK_STEPS_QUEUE,
        activities=[effects.webhook],
        interceptors=interceptors,
        max_concurrent_activities=limits.webhook_calls + limits.spare,
    )
    segments = serving(
        task_queue=SEGMENTS_QUEUE,
        workflows=[SegmentSweep, SegmentEvaluation],
        activities=[
            passes.list_projects,
            passes.begin_run,
            passes.evaluate_buckets,
            passes.finish_run,
            passes.note_unswept,
        ],
        max_concurrent_activities=limits.passes,
    )
    sweeps = serving(
        task_queue=SWEEPS_QUEUE,
        activities=[passes.begin_run, passes.evaluate_buckets, passes.finish_run],
        max_concurrent_activities=limits.sweeps,
    )
    learning = serving(
        task_queue=POLICIES_QUEUE,
        workflows=[PolicyUpdate],
        activities=[policies.list_learning_journeys, policies.update_policies],
        # Each keeps a core busy for some seconds.
        max_concurrent_activities=1,
    )
    forgetting = serving(
        task_queue=ERASURES_QUEUE,
        workflows=[SubjectErasure],
        activities=[erasures.erase_some],
        max_concurrent_activities=limits.erasures,
    )
    return [journeys, behind, segments, sweeps, learning, forgetting, calls, *channels]


def _deployment(build: WorkerDeploymentVersion | None) -> WorkerDeploymentConfig | None:
    """Executions wait for months: they go on with whatever build is current by then, instead of holding old builds
    back until they have ended.
    """
    if build is None:
        return None
    return WorkerDeploymentConfig(
        version=build, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE
    )


async def _ended(workers: Sequence[Worker], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Stop the workers, all at once, and wait for all tasks; those that have not ended by DEADLINE are cut off."""
    stops = [asyncio.create_task(worker.shutdown()) for worker in workers]
    _, late = await asyncio.wait(tasks, timeout=DEADLINE.total_seconds())
    for task in late:
        logger.error("a part of the process is cut off", extra={"part": task.get_name()})
    for task in (*late, *stops):
        task.cancel()
