"""Is all well? What the database says about itself, and what it and Temporal say about each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.application.audit_verification import verify_all
from orchestrator.application.comparison import Comparison
from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, doctor, saved_predicates, segment_checks
from orchestrator.storage.doctor import NONE, Count
from orchestrator.storage.doctor_checks import CHECKS

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
    NOT_STARTED: "Temporal was told of them and has no workflow of theirs: was its database lost, or were they deleted "
    "there, or ended while no worker looked for as long as it keeps what has ended? `orchestrator executions cancel` "
    "those that are to end. `orchestrator doctor --repair --apply` has all of them started again, where they stand; "
    "those that were canceled end at once.",
    WORKFLOW_OVER: "Their workflow has ended and they have not: a worker closes such rows within a minute, but for "
    "those that ended by themselves, after a restore: `orchestrator doctor --repair --apply` closes these.",
    KEY_MISSING: "Their histories are encrypted with a key that is not among ORCHESTRATOR_PAYLOAD_KEYS here. They "
    "cannot go on without it: give it back to the workers, behind the others. If it is lost, terminate them.",
    NO_EXECUTION: "No execution of this database: does another one use the same namespace? Else have them look, by "
    "`orchestrator doctor --repair --apply`, and they end; terminate those that do not.",
}

ON_ITS_WAY = timedelta(seconds=60)

#: The checks that are no statement of storage.
NAMES = tuple(_REMEDIES)


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
        self._comparison = Comparison(transactions, temporal, on_its_way)

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
            found = await self._comparison.differences(now)
        except (RPCError, RuntimeError):
            # RuntimeError: a client that connects at its first call could not.
            return {TEMPORAL_AWAY: _counted([self._temporal.service_client.config.target_host])}
        return {
            TEMPORAL_AWAY: NONE,
            NOT_STARTED: _counted([f"execution {one.execution_id}" for one in found.not_started]),
            WORKFLOW_OVER: _counted([f"execution {one.execution_id}" for one, _ in found.over]),
            KEY_MISSING: _counted([f"execution {one.execution_id}, key {kid}" for one, kid in found.locked]),
            NO_EXECUTION: _counted([workflow.workflow_id for workflow in found.strangers]),
        }


def _counted(examples: Sequence[str]) -> Count:
    return Count(total=len(examples), examples=tuple(examples[: doctor.EXAMPLES]))
