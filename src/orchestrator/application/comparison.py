"""What Postgres and Temporal have under way, held against each other. Looks and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.client import Client

from orchestrator.application.transactions import Transactions
from orchestrator.storage import doctor
from orchestrator.storage.doctor import Open
from orchestrator.temporal.open_workflows import Described, OpenWorkflow, describe, missing_kids, open_workflows

#: Workflows or executions looked at in one go. Of suspects no more are looked at: they tell what is wrong.
AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """`not_started`: executions that run and of which Temporal has no workflow; `over`: those whose workflow has ended,
    and how; `strangers`: workflows that run though no execution does; `locked`: executions whose workflow cannot be
    read, with the id of the key that is missing.
    """

    not_started: Sequence[Open] = ()
    over: Sequence[tuple[Open, Described]] = ()
    strangers: Sequence[OpenWorkflow] = ()
    locked: Sequence[tuple[Open, str]] = ()


class Comparison:
    """What has begun or ended within `on_its_way` need not be known in both places yet."""

    def __init__(self, transactions: Transactions, temporal: Client, on_its_way: timedelta) -> None:
        self._transactions = transactions
        self._temporal = temporal
        self._on_its_way = on_its_way

    async def differences(self, now: datetime, *, besides: AbstractSet[str] = frozenset()) -> Differences:
        """As they are at the database's `now`, but for these workflows. Raises RPCError, or RuntimeError of a client
        that connects at its first call, while Temporal is away.
        """
        there = [workflow async for workflow in open_workflows(self._temporal, now - self._on_its_way)]
        readable = [one for one in there if one.missing_kid is None and one.workflow_id not in besides]
        strangers = await self._strangers(readable, now)
        not_started, over, locked = await self._left_alone({one.workflow_id: one for one in there}, now)
        return Differences(not_started=not_started, over=over, strangers=strangers, locked=locked)

    async def _strangers(self, there: Sequence[OpenWorkflow], now: datetime) -> list[OpenWorkflow]:
        """Workflows that run though no execution does."""
        suspects = {workflow.workflow_id: workflow for workflow in there if workflow.execution is None}
        known = [(workflow, workflow.execution) for workflow in there if workflow.execution is not None]
        for start in range(0, len(known), AT_ONCE):
            some = known[start : start + AT_ONCE]
            async with self._transactions.read(None) as conn:
                keys = [execution for _, execution in some]
                here = await doctor.still_open(conn, keys, or_ended_after=now - self._on_its_way)
            suspects |= {workflow.workflow_id: workflow for workflow, execution in some if execution[3] not in here}
        # The list lags behind: ask each.
        told = await describe(self._temporal, list(suspects)[:AT_ONCE])
        return [suspects[workflow_id] for workflow_id, found in told.items() if found.closed_at is None]

    async def _left_alone(
        self, there: Mapping[str, OpenWorkflow], now: datetime
    ) -> tuple[list[Open], list[tuple[Open, Described]], list[tuple[Open, str]]]:
        """Executions that run though no workflow does: those that never had one, and those whose workflow is over; and
        those whose workflow cannot be read.
        """
        suspects: list[Open] = []
        overdue: dict[str, Open] = {}
        locked: list[tuple[Open, str]] = []
        async with self._transactions.read(None) as conn:
            async for page in doctor.running(conn, now - self._on_its_way):
                suspects += [execution for execution in page if execution.workflow_id not in there]
                locked += [
                    (execution, workflow.missing_kid)
                    for execution in page
                    if (workflow := there.get(execution.workflow_id)) is not None and workflow.missing_kid is not None
                ]
                overdue |= {
                    execution.workflow_id: execution
                    for execution in page
                    if execution.overdue and len(overdue) < AT_ONCE and execution.workflow_id in there
                }
        # What they say of themselves can be read, and what was added since then perhaps not.
        readable = [workflow_id for workflow_id in overdue if there[workflow_id].missing_kid is None]
        locked += [
            (overdue[workflow_id], kid) for workflow_id, kid in (await missing_kids(self._temporal, readable)).items()
        ]
        suspects = suspects[:AT_ONCE]
        told = await describe(self._temporal, [execution.workflow_id for execution in suspects])
        # What has ended while we looked is well.
        async with self._transactions.read(None) as conn:
            still = await doctor.still_open(conn, [execution.key for execution in suspects])
        suspects = [execution for execution in suspects if execution.execution_id in still]
        never = [execution for execution in suspects if execution.workflow_id not in told]
        over = [
            (execution, found)
            for execution in suspects
            if (found := told.get(execution.workflow_id)) is not None
            and found.closed_at is not None
            and found.closed_at < now - self._on_its_way
        ]
        return never, over, locked
