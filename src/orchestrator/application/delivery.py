"""Telling Temporal what was decided:
at once by the process that decided it, later by a sweeper that finds it undone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.service import RPCError

from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, outbox
from orchestrator.storage.outbox import Entry
from orchestrator.temporal.contract import Effect, ExecutionInput
from orchestrator.temporal.executions import PERMANENT, Executions, Start, Told

logger = logging.getLogger(__name__)

#: Calls to Temporal that one process has under way.
AT_ONCE = 32

#: How long a sweeper keeps what it took; longer than any call to Temporal takes.
LEASE = timedelta(seconds=30)

#: The part of a lease in which something new is begun; what was begun then ends in the rest of it.
OURS = 0.7

#: Waits between tries grow to this.
SLOWEST = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class _Postponed:
    entry: Entry
    error: str


@dataclass(frozen=True, slots=True)
class _Refused:
    entry: Entry
    error: str


class Delivery:
    """Delivers outbox entries. An entry that cannot be delivered now stays for the sweeper; nothing is raised."""

    def __init__(self, transactions: Transactions, executions: Executions) -> None:
        self._transactions = transactions
        self._executions = executions
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def deliver(self, entries: Sequence[Entry], *, lease: timedelta = outbox.FIRST_LEASE) -> None:
        """Tell Temporal, then delete what it has taken, postpone what it could not be told, bury what it refuses for
        good.

        For `lease` from now on the entries are ours. What is not begun well before its end is left to a sweeper: told
        by both, it would cost the more the slower Temporal is.
        """
        if not entries:
            return
        until = asyncio.get_running_loop().time() + OURS * lease.total_seconds()
        answers = await asyncio.gather(*(self._tell(entry, until) for entry in entries))
        done = [answer for answer in answers if isinstance(answer, int)]
        async with self._transactions.write(None) as conn:
            await outbox.delete(conn, done)
            if len(done) == len(entries):
                return
            now = await clock.now(conn)
            for answer in answers:
                match answer:
                    case _Postponed(entry, error):
                        await outbox.postpone(conn, entry.outbox_no, until=_next_try(entry, now), error=error)
                    case _Refused(entry, error):
                        await outbox.bury(conn, entry.outbox_no, error=error, now=now)

    async def sweep(self, limit: int = 256) -> int:
        """Take up what is overdue; returns how much there was."""
        async with self._transactions.write(None) as conn:
            now = await clock.now(conn)
            entries, orphans = await outbox.claim(conn, now=now, lease=LEASE, limit=limit)
            await outbox.delete_orphans(conn, orphans)
        await self.deliver(entries, lease=LEASE)
        return len(entries) + len(orphans)

    async def _tell(self, entry: Entry, until: float) -> int | _Postponed | _Refused | None:
        """The number of an entry that Temporal has taken; None when its turn did not come by `until`."""
        async with self._turn:
            if asyncio.get_running_loop().time() > until:
                return None
            try:
                told = await self._told(entry)
            except RPCError as error:
                if error.status in PERMANENT:
                    logger.error("temporal refuses an entry for good", extra={"execution_id": str(entry.execution_id)})
                    return _Refused(entry, error.status.name)
                return _Postponed(entry, error.status.name)
            except (OSError, RuntimeError, TimeoutError) as error:
                return _Postponed(entry, type(error).__name__)
        return _Refused(entry, "ID_TAKEN") if told is Told.FOREIGN else entry.outbox_no

    async def _told(self, entry: Entry) -> Told:
        if entry.kind == "poke":
            return await self._executions.poke(entry.workflow_id)
        return await self._executions.start(
            Start(
                workflow_id=entry.workflow_id,
                project_id=entry.project_id,
                journey_id=entry.journey_id,
                version=entry.version,
                subject_id=entry.subject_id,
                input=ExecutionInput(
                    project_no=entry.key.project_no,
                    bucket=entry.key.bucket,
                    subject_no=entry.key.subject_no,
                    execution_id=str(entry.execution_id),
                    effect=Effect(**entry.effect),
                ),
            )
        )


def _next_try(entry: Entry, now: datetime) -> datetime:
    return now + min(timedelta(seconds=2 ** min(entry.attempts, 6)), SLOWEST)
