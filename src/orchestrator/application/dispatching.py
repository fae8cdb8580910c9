"""Working through the inbox of one project at somebody's word: the consumers' work, done here and now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.application.inbox import Inbox
from orchestrator.application.inbox_rounds import Round, Rounds, Tell
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.dispatch import (
    DEFAULT_SUBJECTS,
    DEFAULT_TIME_LIMIT,
    MAX_NAMED,
    MAX_SUBJECTS,
    MAX_TIME_LIMIT,
    MIN_TIME_LIMIT,
)
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.faults import Fault
from orchestrator.storage import subjects
from orchestrator.storage.outbox import Notice

#: Subjects looked for at once.
PAGE = 256
#: Calls that work at once in one process. The others wait for them: consumers need the database, too.
AT_ONCE = 2
#: How long to leave subjects alone that somebody else is working on, in seconds.
BUSY_PAUSE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """What came of a call: subjects worked on, their entries, executions started and poked, subjects whose entries
    failed. `more`: entries wait still, beyond a limit or while somebody else works on their subjects.
    """

    subjects: int
    entries: int
    started: int
    poked: int
    failed: int
    more: bool


class Dispatching:
    """One per process. `transactions` are those of the workers' role, whose work this is; `tell` tells Temporal, and
    raises nothing.
    """

    def __init__(self, transactions: Transactions, versions: Versions, tell: Tell) -> None:
        self._transactions = transactions
        self._inbox = Inbox(transactions, versions)
        self._tell = tell
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._telling: set[asyncio.Future[None]] = set()

    async def dispatch(
        self,
        project_no: int,
        subject_ids: Sequence[str],
        *,
        max_subjects: int = DEFAULT_SUBJECTS,
        time_limit: timedelta = DEFAULT_TIME_LIMIT,
    ) -> Dispatched:
        """Work through the entries of these subjects, or of all where none is named, in transactions of its own.

        Whoever breaks this off has lost nothing: a transaction that has not ended has not happened, and what Temporal
        was not told of is told by a sweeper. Raises InvalidArgument.
        """
        _require(subject_ids, max_subjects, time_limit)
        clock = asyncio.get_running_loop().time
        until = clock() + time_limit.total_seconds()
        tally = _Tally()

        async def tell(told: Sequence[Notice]) -> None:
            tally.add_told(told)
            self._begin_telling(told)

        rounds = Rounds(self._inbox, tell)
        named = await self._named(project_no, subject_ids)
        async with self._turn_until(until) as ours:
            after: SubjectKey | None = None
            busy = False
            while ours and clock() < until and (left := max_subjects - tally.subjects - tally.failed) > 0:
                keys = await self._inbox.pending(project_no, after, of=named, at_most=min(PAGE, left))
                if keys:
                    one = await rounds.go(keys)
                    tally.add(one)
                    busy |= one.subjects + one.failed < len(keys)
                    after = keys[-1]
                elif busy:
                    # Once more from the beginning: whoever was at them is done soon.
                    after, busy = None, False
                    await asyncio.sleep(BUSY_PAUSE)
                else:
                    break
            more = await self._inbox.pending(project_no, None, of=named, at_most=1)
        return tally.told(more=bool(more))

    @asynccontextmanager
    async def _turn_until(self, until: float) -> AsyncIterator[bool]:
        """Whether it is this call's turn, for as long as the block lasts; it is not, if that has not come in time."""
        try:
            async with asyncio.timeout_at(until):
                await self._turn.acquire()
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            self._turn.release()

    async def close(self) -> None:
        """Let what is being told to Temporal be told."""
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _begin_telling(self, told: Sequence[Notice]) -> None:
        """Beside the next transaction, and beside the answer: what is decided is decided."""
        if told:
            task = asyncio.ensure_future(self._tell(told))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _named(self, project_no: int, subject_ids: Sequence[str]) -> list[SubjectKey] | None:
        if not subject_ids:
            return None
        async with self._transactions.read(None) as conn:
            found = await subjects.find_keys(conn, project_no, subject_ids)
        # Ids that were merged into one subject are that subject.
        return sorted(set(found.values()))


class _Tally:
    """What a call has done so far."""

    def __init__(self) -> None:
        self.subjects = self.failed = self._entries = self._started = self._poked = 0

    def add(self, one: Round) -> None:
        # Whose entries somebody else has acted on in the meantime is not counted again.
        self.subjects += one.concerned
        self.failed += one.failed
        self._entries += one.entries

    def add_told(self, told: Sequence[Notice]) -> None:
        started = sum(one.kind == "start" for one in told)
        self._started += started
        self._poked += len(told) - started

    def told(self, *, more: bool) -> Dispatched:
        return Dispatched(
            subjects=self.subjects,
            entries=self._entries,
            started=self._started,
            poked=self._poked,
            failed=self.failed,
            more=more,
        )


def _require(subject_ids: Sequence[str], max_subjects: int, time_limit: timedelta) -> None:
    faults: list[Fault] = []
    if len(subject_ids) > MAX_NAMED:
        faults.append(Fault(path="subjectIds", reason="TOO_LARGE", message=f"has at most {MAX_NAMED} elements"))
    if not 1 <= max_subjects <= MAX_SUBJECTS:
        faults.append(Fault(path="maxSubjects", reason="OUT_OF_RANGE", message=f"must be 1 to {MAX_SUBJECTS}"))
    if not MIN_TIME_LIMIT <= time_limit <= MAX_TIME_LIMIT:
        text = f"must be 1 ms to {MAX_TIME_LIMIT.total_seconds():g} s"
        faults.append(Fault(path="timeLimit", reason="OUT_OF_RANGE", message=text))
    if faults:
        raise InvalidArgument(faults)
