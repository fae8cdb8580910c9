"""Erasing somebody who was forgotten, step by step: each notes in Postgres how far it came, and may be done twice.

A workflow asks for steps until there are none (workers/workflows/subject_erasure.py); what is left to do is here alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.application.transactions import Transactions
from orchestrator.domain.erasure import Passed, Phase
from orchestrator.domain.execution import Outcome
from orchestrator.storage import clock, erasing, erasures, executions, idempotency, tombstones
from orchestrator.storage.erasure_ledger import ErasureLedger, Forgotten, Lifted, Line
from orchestrator.storage.erasures import Open, UnderWay, Unwritten
from orchestrator.storage.executions import Ending
from orchestrator.temporal.client import CALL_TIMEOUT
from orchestrator.temporal.contract import Effect, subject_part
from orchestrator.temporal.erasures import RunRemoval

logger = logging.getLogger(__name__)

#: Executions whose runs one step sees to.
RUNS = 50

#: Lines for the ledger written in one transaction.
LINES = 50

#: Stored answers that one step looks at.
ANSWERS = 5000

#: Seconds until Temporal is asked again about runs that were not gone yet.
ASK_AGAIN = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`pause` in seconds: before it is over there is nothing to do."""

    phase: Phase
    pause: float = 0.0


class Erasures:
    """One per process. `ledger` None: there is none, and after a restore nothing is erased again by itself."""

    def __init__(self, transactions: Transactions, runs: RunRemoval, ledger: ErasureLedger | None) -> None:
        self._transactions = transactions
        self._runs = runs
        self._ledger = ledger

    async def claim_untold(self, limit: int = 100) -> list[Open]:
        """Erasures of which Temporal has to be told."""
        async with self._transactions.write(None) as conn:
            return await erasures.claim_untold(conn, await clock.now(conn), limit)

    async def not_told(self, untold: Iterable[Open]) -> None:
        """Temporal could not be told of these."""
        async with self._transactions.write(None) as conn:
            await erasures.not_told(conn, untold)

    async def step(self, project_no: int, erasure_id: str) -> Step:
        """Do some of what is left. Raises RPCError when Temporal is away, OSError when the ledger cannot be written."""
        async with self._transactions.read(None) as conn:
            under_way = await erasures.look(conn, project_no, erasure_id)
        if under_way is None:
            return Step(phase=Phase.DONE)
        match under_way.erasure.phase:
            case Phase.LEDGER:
                return await self._write_down(under_way)
            case Phase.EXECUTIONS:
                return await self._end_executions(under_way)
            case Phase.RUNS:
                return await self._remove_runs(under_way)
            case Phase.ROWS:
                return await self._erase_rows(under_way)
            case Phase.ANSWERS:
                return await self._erase_answers(under_way)
            case phase:
                raise AssertionError(f"an erasure under way is not at {phase.value}")

    async def _write_down(self, under_way: UnderWay) -> Step:
        erasure = under_way.erasure
        if self._ledger is not None:
            async with self._transactions.read(None) as conn:
                line = await _line(conn, under_way)
            await self._ledger.add(line)
        else:
            logger.warning("there is no ledger of erasures to write to", extra={"erasure_id": erasure.erasure_id})
        async with self._transactions.write(None) as conn:
            return await _went_on(conn, under_way, {"lines": int(self._ledger is not None)}, ended=True)

    async def write_down(self) -> int:
        """Write to the ledger what it lacks, some at a time: what was lifted, and what was erased before there was one.
        Returns how many lines. What cannot be written is tried again at the next look.

        It is noted behind the line: whoever dies in between has it written twice, which does no harm.
        """
        if self._ledger is None:
            return 0
        async with self._transactions.write(None) as conn:
            unwritten = await erasures.hold_unwritten(conn, LINES)
            try:
                for one in unwritten:
                    await self._ledger.add(await _line(conn, one))
                    await erasures.written(conn, one)
            except OSError as error:
                said = error.strerror or type(error).__name__
                logger.error("the ledger of erasures cannot be written", extra={"error": said})
                return 0
        return len(unwritten)

    async def _end_executions(self, under_way: UnderWay) -> Step:
        async with self._transactions.write(None) as conn:
            ended = await executions.close_all(
                conn,
                under_way.key,
                effect=asdict(Effect(seq=0, kind="end", outcome=Outcome.FORGOTTEN.value)),
                ending=Ending(outcome=Outcome.FORGOTTEN.value, reason="subject_forgotten", at=await clock.now(conn)),
            )
            return await _went_on(conn, under_way, {"ended": ended}, ended=True)

    async def _remove_runs(self, under_way: UnderWay) -> Step:
        async with self._transactions.read(None) as conn:
            now = await clock.now(conn)
            wanted = await erasing.workflows(conn, under_way.key, RUNS)
        if (rest := _until_started(under_way, now)) > timedelta(0):
            return Step(phase=Phase.RUNS, pause=rest.total_seconds())
        if not wanted:
            listed = await self._runs.of_subject(under_way.project_id, under_way.subject_ids)
            await self._runs.remove(listed)
            if listed:  # Temporal's list lags behind
                return Step(phase=Phase.RUNS, pause=ASK_AGAIN)
            async with self._transactions.write(None) as conn:
                return await _went_on(conn, under_way, {}, ended=True)
        gone = await self._runs.remove(wanted.values())
        async with self._transactions.write(None) as conn:
            found = [execution_id for execution_id, workflow_id in wanted.items() if workflow_id in gone]
            removed = await erasing.workflows_gone(conn, under_way.key, found)
            step = await _went_on(conn, under_way, {"executions": removed}, ended=False)
        return step if len(found) == len(wanted) else Step(phase=Phase.RUNS, pause=ASK_AGAIN)

    async def _erase_rows(self, under_way: UnderWay) -> Step:
        async with self._transactions.write(None) as conn:
            met = await erasing.some(conn, under_way.key)
            return await _went_on(conn, under_way, met, ended=not met)

    async def _erase_answers(self, under_way: UnderWay) -> Step:
        """Some, from where the step before ended. Nobody has stored one that speaks of them since the tombstone.

        Those to starts of executions name the workflow alone, whose id has the subject's, and the entry's key.
        """
        workflows = [subject_part(subject_id) for subject_id in under_way.subject_ids]
        async with self._transactions.write(None) as conn:
            now, erased = await clock.now(conn), 0
            part = await idempotency.part(conn, under_way.project_no, under_way.answers_to, now, ANSWERS)
            if part is not None:
                erased = await idempotency.erase(
                    conn, under_way.project_no, under_way.subject_ids, now,
                    since=part.since, before=part.before, within=workflows,
                )  # fmt: skip
                await erasures.looked_at_answers(conn, under_way, part.before)
            return await _went_on(conn, under_way, {"answers": erased}, ended=part is None or part.last)


async def _line(conn: Connection[Record], of: UnderWay | Unwritten) -> Line:
    """What the ledger has to know next."""
    erasure = of.erasure
    if isinstance(of, Unwritten) and erasure.lifted_at is not None:
        return Lifted(erasure_id=erasure.erasure_id, project_id=of.project_id, lifted_at=erasure.lifted_at)
    return Forgotten(
        erasure_id=erasure.erasure_id,
        project_id=of.project_id,
        subject_ref=erasure.subject_ref,
        hashes=tuple(await tombstones.hashes(conn, of.project_no, erasure.erasure_id)),
        requested_at=erasure.requested_at,
    )


def _until_started(under_way: UnderWay, now: datetime) -> timedelta:
    """How long until whoever was about to start an execution has done so, or will not: a call that was begun at the end
    of its lease has ended then.
    """
    if under_way.starts_until is None:
        return timedelta(0)
    return under_way.starts_until + CALL_TIMEOUT + timedelta(seconds=1) - now


async def _went_on(conn: Connection[Record], seen: UnderWay, counts: Mapping[str, int], *, ended: bool) -> Step:
    """Note what a step has done; with `ended`, that its phase has nothing left. Somebody else may have done the same at
    the same time, and gone on: then it is theirs that counts.
    """
    held = await erasures.hold(conn, seen.project_no, seen.erasure.erasure_id)
    if held is None:
        return Step(phase=Phase.DONE)
    phase = held.erasure.phase
    if phase is not seen.erasure.phase:
        return Step(phase=phase)
    now = await clock.now(conn)
    before = held.erasure.phases.get(phase, Passed())
    sums = {what: before.counts.get(what, 0) + counts.get(what, 0) for what in [*before.counts, *counts]}
    passed = Passed(ended_at=now if ended else None, counts=sums)
    phases = {**held.erasure.phases, phase: passed}
    following = phase.after if ended else phase
    await erasures.go_on(conn, held, following, phases, now)
    if following is Phase.DONE and held.erasure.lifted_at is not None:  # after a restore, which knew nothing of that
        await tombstones.lift(conn, held.project_no, held.erasure.erasure_id)
    return Step(phase=following)
