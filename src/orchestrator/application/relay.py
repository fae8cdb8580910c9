"""Telling Temporal what was decided:
at once by the process that decided it, later by a sweeper that finds it undone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from temporalio.service import RPCError

from orchestrator import traces
from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, executions, outbox
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.client import CALL_TIMEOUT
from orchestrator.temporal.contract import ExecutionInput, effect_from, phase_at
from orchestrator.temporal.executions import Executions, Holder, Start, Told
from orchestrator.temporal.outages import is_away

logger = logging.getLogger(__name__)

#: Calls to Temporal that one process has under way.
AT_ONCE = 32

#: The same for executions that run behind others: they take none of those places, and few of Temporal.
BEHIND_AT_ONCE = 4

#: How long a sweeper keeps what it took: longer than a call to Temporal takes, but not much, since for so long those
#: wait whom a sweeper had taken that has died.
LEASE = timedelta(seconds=14)

#: The part of a lease in which something new is begun where the lease is shorter than a call may take. Of others, what
#: was begun ends in the rest.
OURS = 0.7

#: Waits between tries grow to this; where Temporal is away, since it is asked about a few at a time then, to that.
SLOWEST = timedelta(seconds=60)
SLOWEST_AWAY = timedelta(seconds=8)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Temporal has it."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class _Gone:
    """No such workflow runs."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class _Left:
    """Its turn did not come in time."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class _Postponed:
    """`away`: Temporal could not be asked."""

    notice: Notice
    error: str
    away: bool = False


@dataclass(frozen=True, slots=True)
class _Refused:
    notice: Notice
    error: str


@dataclass(frozen=True, slots=True)
class Swept:
    """How many notices were taken up, and how many of them need not be told any more."""

    taken: int
    told: int


_Answer = _Taken | _Gone | _Left | _Postponed | _Refused


class Relay:
    """Tells what stands in the outbox. What cannot be told now stays for the sweeper; nothing is raised."""

    def __init__(
        self,
        transactions: Transactions,
        executions: Executions,
        *,
        at_once: int = AT_ONCE,
        behind_at_once: int = BEHIND_AT_ONCE,
    ) -> None:
        """`at_once`: calls to Temporal that this one has under way; `behind_at_once`: besides, for what runs behind."""
        self._transactions = transactions
        self._executions = executions
        self._turn = asyncio.Semaphore(at_once)
        self._turn_behind = asyncio.Semaphore(behind_at_once)

    async def tell(self, notices: Sequence[Notice], *, lease: timedelta = outbox.FIRST_LEASE) -> int:
        """Tell Temporal, then delete what it has taken, postpone what it could not be told, bury what it refuses for
        good. Returns how many were told or buried.

        For `lease` from now on the notices are ours. What is not begun well before its end is left to a sweeper: told
        by both, it would cost the more the slower Temporal is.
        """
        if not notices:
            return 0
        begun_within = lease - CALL_TIMEOUT if lease > CALL_TIMEOUT else OURS * lease
        until = asyncio.get_running_loop().time() + begun_within.total_seconds()
        answers = await self._tell_all(notices, until)
        done = [answer.notice.outbox_no for answer in answers if isinstance(answer, _Taken)]
        async with self._transactions.write(None) as conn:
            await outbox.delete(conn, done)
            if len(done) == len(notices):
                return len(done)
            now, buried = await clock.now(conn), 0
            for answer in answers:
                match answer:
                    case _Postponed(notice, error, away):
                        until_then = _next_try(notice, now, SLOWEST_AWAY if away else SLOWEST)
                        await outbox.postpone(conn, notice.outbox_no, until=until_then, error=error)
                    case _Refused(notice, error):
                        await outbox.bury(conn, notice.outbox_no, error=error, now=now)
                        buried += 1
        return len(done) + buried

    async def sweep(self, limit: int = 256) -> Swept:
        """Take up what is overdue, some of it."""
        async with self._transactions.write(None) as conn:
            now = await clock.now(conn)
            notices, orphans = await outbox.claim(conn, now=now, lease=LEASE, limit=limit)
            await outbox.delete_orphans(conn, orphans)
        told = await self.tell(notices, lease=LEASE)
        return Swept(taken=len(notices) + len(orphans), told=told + len(orphans))

    async def _tell_all(self, notices: Iterable[Notice], until: float) -> list[_Answer]:
        groups: defaultdict[UUID, list[Notice]] = defaultdict(list)
        for notice in notices:
            groups[notice.execution_id].append(notice)
        told = await asyncio.gather(*(self._tell_in_order(group, until) for group in groups.values()))
        answers = [answer for group in told for answer in group]
        gone = [answer.notice for answer in answers if isinstance(answer, _Gone)]
        if not gone:
            return answers
        settled = [answer for answer in answers if not isinstance(answer, _Gone)]
        return settled + await self._tell_the_gone(gone, until)

    async def _tell_the_gone(self, notices: Sequence[Notice], until: float) -> list[_Answer]:
        """What becomes of pokes that met no workflow: it has ended, or they have overtaken its start."""
        async with self._transactions.read(None) as conn:
            unfinished = await outbox.unfinished(conn, notices)

        async def tell(notice: Notice) -> _Answer:
            match unfinished.get(notice.execution_id):
                case None:  # who has ended needs no waking
                    return _Taken(notice)
                case True:
                    return _Postponed(notice, "NOT_STARTED")
            # Started between our poke and our look, by somebody else: this poke comes after.
            answer = await self._tell_one(notice, until)
            return _Taken(notice) if isinstance(answer, _Gone) else answer

        return await asyncio.gather(*map(tell, notices))

    async def _tell_in_order(self, notices: Sequence[Notice], until: float) -> list[_Answer]:
        """What there is to tell of one execution: it is not poked before it is started, and not twice."""
        starts = [notice for notice in notices if notice.kind == "start"]
        pokes = [notice for notice in notices if notice.kind != "start"]
        answers: list[_Answer] = [await self._tell_one(notice, until) for notice in starts]
        if not pokes:
            return answers
        if not all(isinstance(answer, _Taken) for answer in answers):
            return [*answers, *(_Postponed(notice, "NOT_STARTED") for notice in pokes)]
        poked = await self._tell_one(pokes[0], until)
        return [*answers, *(replace(poked, notice=notice) for notice in pokes)]

    async def _tell_one(self, notice: Notice, until: float) -> _Answer:
        async with self._turn_behind if notice.behind else self._turn:
            if asyncio.get_running_loop().time() > until:
                return _Left(notice)
            try:
                with traces.joined(notice.kind, "producer", notice.trace, execution_id=str(notice.execution_id)):
                    # All calls that it takes, and their repeats by the SDK: whoever waits until nothing of it can be
                    # under way any more goes by that (application/erasures.py).
                    async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                        told = await self._told(notice)
            except RPCError as error:
                if is_away(error):
                    return _Postponed(notice, error.status.name, away=True)
                logger.error("temporal refuses a notice for good", extra={"execution_id": str(notice.execution_id)})
                return _Refused(notice, error.status.name)
            except (OSError, RuntimeError, TimeoutError) as error:
                return _Postponed(notice, type(error).__name__, away=True)
            except Exception as error:
                # Something about this one: the others go on, and `doctor` shows what stays.
                logger.exception("a notice cannot be told", extra={"execution_id": str(notice.execution_id)})
                return _Postponed(notice, type(error).__name__)
        match told:
            case Told.DONE:
                return _Taken(notice)
            case Told.GONE:
                return _Gone(notice)
            case Holder(execution_id=holder):
                logger.error(
                    "a workflow id belongs to another enrollment",
                    extra={"execution_id": str(notice.execution_id), "holder": holder},
                )
                return _Refused(notice, "ID_TAKEN")

    async def _told(self, notice: Notice) -> Told | Holder:
        if notice.kind == "poke":
            return await self._executions.poke(notice.workflow_id)
        effect = effect_from(notice.effect)
        start = Start(
            workflow_id=notice.workflow_id,
            project_id=notice.project_id,
            journey_id=notice.journey_id,
            version=notice.version,
            subject_id=notice.subject_id,
            behind=notice.behind,
            input=ExecutionInput(
                project_no=notice.key.project_no,
                bucket=notice.key.bucket,
                subject_no=notice.key.subject_no,
                execution_id=str(notice.execution_id),
                effect=effect,
                phase=phase_at(effect, time.time()),
            ),
        )
        told = await self._executions.start(start)
        if isinstance(told, Holder) and await self._is_of_one_deleted(told, notice):
            return await self._executions.start(start, anew=True)
        return told

    async def _is_of_one_deleted(self, holder: Holder, notice: Notice) -> bool:
        """Whether a workflow id was used for a subject that was deleted and has come back under the same id."""
        if not holder.closed or holder.execution_id is None:
            return False
        async with self._transactions.read(None) as conn:
            return await executions.outlived_its_subject(conn, notice.key.project_no, UUID(holder.execution_id))


def _next_try(notice: Notice, now: datetime, slowest: timedelta) -> datetime:
    return now + min(timedelta(seconds=2 ** min(notice.attempts, 6)), slowest)
