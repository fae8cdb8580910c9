"""Is all well? What the database says about itself, and what it and Temporal say about each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.application.audit_verification import verify_all
from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, doctor, saved_predicates, segment_checks
from orchestrator.storage.doctor import NONE, Count, Open
from orchestrator.storage.doctor_checks import CHECKS
from orchestrator.temporal.open_workflows import OpenWorkflow, describe, missing_kids, open_workflows

UNREADABLE = "predicates_unreadable"
AUDIT_CHANGED = "audit_log_changed"
TEMPORAL_AWAY = "temporal_away"
NOT_STARTED = "executions_not_started"
WORKFLOW_OVER = "executions_without_workflow"
NO_EXECUTION = "workflows_without_execution"
KEY_MISSING = "payload_keys_missing"

_REMEDIES = {
    UNREADABLE: "They were saved by another release, or changed by hand. Until they are saved anew segments stay as "
    "they are, and journeys take nobody in; whom a trigger contract or an audience refused can be decided on again.",
    AUDIT_CHANGED: "The audit log is not what was written: somebody with rights of an administrator changed it, or its "
    "database was restored in part. `orchestrator audit verify` holds it against anchors; compare with a backup.",
    TEMPORAL_AWAY: "Temporal does not answer: executions wait until it does. See that TEMPORAL_ADDRESS is right.",
    NOT_STARTED: "Temporal was told of them and has no workflow of theirs: was its database lost? They will not move.",
    WORKFLOW_OVER: "Their workflow has ended and they have not: a worker closes such rows within a minute.",
    KEY_MISSING: "Their histories are encrypted with a key that is not among ORCHESTRATOR_PAYLOAD_KEYS here. They "
    "cannot go on without it: give it back to the workers, behind the others. If it is lost, terminate them.",
    NO_EXECUTION: "No execution of this database: does another one use the same namespace? Else terminate them.",
}

ON_ITS_WAY = timedelta(seconds=60)

#: Workflows or executions looked at in one go. Of suspects no more are looked at: they tell what is wrong.
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one check; `count.total` 0: all is well. `remedy` is for when it is not."""

    name: str
    remedy: str
    count: Count


class Doctor:
    """Looks and changes nothing. `transactions` are those of the workers' role, which sees all projects.

    What has begun or ended within `on_its_way` need not be known in both places yet.
    """

    def __init__(self, transactions: Transactions, temporal: Client, *, on_its_way: timedelta = ON_ITS_WAY) -> None:
        self._transactions = transactions
        self._temporal = temporal
        self._on_its_way = on_its_way

    async def examine(self) -> AsyncIterator[Finding]:
        """Every check, one after the other."""
        for check in (*CHECKS, *segment_checks.CHECKS):
            async with self._transactions.read(None) as conn:
                count = await doctor.check(conn, check, await clock.now(conn))
            yield Finding(name=check.name, remedy=check.remedy, count=count)
        yield Finding(name=UNREADABLE, remedy=_REMEDIES[UNREADABLE], count=await self._unreadable())
        yield Finding(name=AUDIT_CHANGED, remedy=_REMEDIES[AUDIT_CHANGED], count=await self._changed())
        for name, count in (await self._compare()).items():
            yield Finding(name=name, remedy=_REMEDIES[name], count=count)

    async def _unreadable(self) -> Count:
        """What is saved and does not read."""
        found = []
        async with self._transactions.read(None) as conn:
            projects = await doctor.projects(conn)
        for project_no in projects:
            async with self._transactions.read(None) as conn:
                unreadable = await saved_predicates.unreadable(conn, project_no)
            found += [f"project {project_no}, {what}" for what in unreadable]
        return _counted(found)

    async def _changed(self) -> Count:
        """Projects whose audit log does not fit its seals."""
        return _counted(
            [
                f"project {project_id}: {verified.misfit.sentence}"
                async for project_id, verified in verify_all(self._transactions, {})
                if verified.misfit is not None
            ]
        )

    async def _compare(self) -> dict[str, Count]:
        """What is under way here and there. While Temporal is away there is nothing to compare."""
        async with self._transactions.read(None) as conn:
            now = await clock.now(conn)
        try:
            there = [workflow async for workflow in open_workflows(self._temporal, now - self._on_its_way)]
            strangers = await self._strangers([one for one in there if one.missing_kid is None], now)
            not_started, over, locked = await self._left_alone({one.workflow_id: one for one in there}, now)
        except (RPCError, RuntimeError):
            # RuntimeError: a client that connects at its first call could not.
            return {TEMPORAL_AWAY: _counted([self._temporal.service_client.config.target_host])}
        return {
            TEMPORAL_AWAY: NONE,
            NOT_STARTED: not_started,
            WORKFLOW_OVER: over,
            KEY_MISSING: locked,
            NO_EXECUTION: strangers,
        }

    async def _strangers(self, there: Sequence[OpenWorkflow], now: datetime) -> Count:
        """Workflows that run though no execution does."""
        suspects: list[str] = [workflow.workflow_id for workflow in there if workflow.execution is None]
        known = [(workflow.workflow_id, workflow.execution) for workflow in there if workflow.execution is not None]
        for start in range(0, len(known), _AT_ONCE):
            some = known[start : start + _AT_ONCE]
            async with self._transactions.read(None) as conn:
                keys = [execution for _, execution in some]
                here = await doctor.still_open(conn, keys, or_ended_after=now - self._on_its_way)
            suspects += [workflow_id for workflow_id, execution in some if execution[3] not in here]
        # The list lags behind: ask each.
        told = await describe(self._temporal, suspects[:_AT_ONCE])
        return _counted([workflow_id for workflow_id, found in told.items() if found.closed_at is None])

    async def _left_alone(self, there: Mapping[str, OpenWorkflow], now: datetime) -> tuple[Count, Count, Count]:
        """Executions that run though no workflow does: those that never had one, and those whose workflow is over; and
        those whose workflow cannot be read.
        """
        suspects: list[Open] = []
        overdue: dict[str, Open] = {}
        locked: list[str] = []
        async with self._transactions.read(None) as conn:
            async for page in doctor.running(conn, now - self._on_its_way):
                suspects += [execution for execution in page if execution.workflow_id not in there]
                locked += [
                    f"execution {execution.execution_id}, key {workflow.missing_kid}"
                    for execution in page
                    if (workflow := there.get(execution.workflow_id)) is not None and workflow.missing_kid is not None
                ]
                overdue |= {
                    execution.workflow_id: execution
                    for execution in page
                    if execution.overdue and len(overdue) < _AT_ONCE and execution.workflow_id in there
                }
        # What they say of themselves can be read, and what was added since then perhaps not.
        readable = [workflow_id for workflow_id in overdue if there[workflow_id].missing_kid is None]
        locked += [
            f"execution {overdue[workflow_id].execution_id}, key {kid}"
            for workflow_id, kid in (await missing_kids(self._temporal, readable)).items()
        ]
        suspects = suspects[:_AT_ONCE]
        told = await describe(self._temporal, [execution.workflow_id for execution in suspects])
        # What has ended while we looked is well.
        async with self._transactions.read(None) as conn:
            still = await doctor.still_open(conn, [execution.key for execution in suspects])
        suspects = [execution for execution in suspects if execution.execution_id in still]
        never = [execution for execution in suspects if execution.workflow_id not in told]
        over = [
            execution
            for execution in suspects
            if (found := told.get(execution.workflow_id)) is not None
            and found.closed_at is not None
            and found.closed_at < now - self._on_its_way
        ]
        return (
            _counted([f"execution {execution.execution_id}" for execution in never]),
            _counted([f"execution {execution.execution_id}" for execution in over]),
            _counted(locked),
        )


def _counted(examples: Sequence[str]) -> Count:
    return Count(total=len(examples), examples=tuple(examples[: doctor.EXAMPLES]))
