"""Passes over all subjects of a project, in transactions of about a second, each of which takes some buckets alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from asyncpg import Connection, LockNotAvailableError, QueryCanceledError, Record

from orchestrator.application.memberships import compiled
from orchestrator.application.segment_rules import RuleBook, SegmentRules, read_rules
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import SEGMENT_DRIFT_FOUND, SEGMENT_SWEEP_FAILED
from orchestrator.domain.conditions import segment_topic
from orchestrator.domain.subject import BUCKETS
from orchestrator.predicates.sql.inputs import Among
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import audit, awaiting, catalog, clock, memberships, segment_passes, segment_runs
from orchestrator.storage.segment_passes import Pass
from orchestrator.storage.segment_runs import Chunk, Finished, Kind, Run, Untold

#: Others wait for the buckets as long as a transaction takes. Seconds.
LONGEST = 1.0
SHORTEST = 0.3

#: Parts that are worked on beside each other.
PARTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run and its parts: ranges of buckets, both ends included."""

    run_no: int
    parts: tuple[tuple[int, int], ...]


class SegmentRuns:
    """Begins, does and finishes runs. Each step may be repeated, by anybody, after any of them was lost."""

    def __init__(self, transactions: Transactions, rule_book: RuleBook) -> None:
        self._transactions = transactions
        self._rule_book = rule_book

    async def claim_untold(self, limit: int = 100) -> list[Untold]:
        """Runs that Temporal has to be told of."""
        async with self._transactions.write(None) as conn:
            return await segment_runs.claim_untold(conn, await clock.now(conn), limit)

    async def not_told(self, runs: Iterable[Untold]) -> None:
        """Temporal could not be told of these."""
        async with self._transactions.write(None) as conn:
            await segment_runs.not_told(conn, runs)

    async def projects(self, after: int, limit: int) -> list[int]:
        """Projects to sweep, with a number above `after`."""
        async with self._transactions.read(None) as conn:
            return await segment_runs.peopled(conn, after, limit)

    async def begin(self, project_no: int, kind: Kind, segment_no: int | None) -> Begun | None:
        """The run to do next. None: there is none, or the events it asks about are still being counted."""
        async with self._transactions.write(None) as conn:
            run = await segment_runs.hold_next(conn, project_no, kind, segment_no)
            # Read behind the lock: whoever changed rules and shares the run has committed.
            rules, now = await self._rule_book.current(conn, project_no)
            asked = _asked(rules, kind, segment_no)
            if not asked and rules.counting:
                return None
            if run is None and kind == "sweep":
                # Nobody asks for a sweep but the one who does it; one that was left behind comes first. Another that
                # was begun meanwhile is its own.
                run = Run(run_no=await segment_runs.request(conn, project_no, kind, None, now), begun=False)
            if run is None:
                return None
            if not run.begun:
                revisions = {number: rules.revisions[number] for number in asked}
                await segment_runs.begin(conn, project_no, run.run_no, revisions, now)
        step = BUCKETS // PARTS
        return Begun(run_no=run.run_no, parts=tuple((n, n + step - 1) for n in range(0, BUCKETS, step)))

    async def work(
        self,
        project_no: int,
        run_no: int,
        kind: Kind,
        segment_no: int | None,
        part: tuple[int, int],
        beat: Callable[[int], None],
    ) -> None:
        """Do a part of a run, from where it was left. `beat` is called with the next bucket after each transaction.

        Buckets that take too long together are tried in halves; raises when one alone does.
        """
        first, last = part
        async with self._transactions.write(None) as conn:
            bucket = await segment_runs.next_bucket(conn, project_no, run_no, first, last)
        step, most = 1, BUCKETS
        while bucket <= last:
            end = min(bucket + step - 1, last)
            began = time.monotonic()
            try:
                bucket = await self._chunk(project_no, run_no, kind, segment_no, part, bucket, end)
            except (QueryCanceledError, LockNotAvailableError):
                if end == bucket:
                    raise
                step = most = (end - bucket + 1) // 2
            else:
                took = time.monotonic() - began
                if took > LONGEST:
                    step = max(1, step // 2)
                elif took < SHORTEST:
                    step = min(2 * step, most)
            beat(bucket)

    async def finish(self, project_no: int, run_no: int) -> Finished | None:
        """Add up what was done; of a run that was finished before, what came of it. Drift is told in the audit log."""
        async with self._transactions.write(None) as conn:
            now = await clock.now(conn)
            finished = await segment_runs.finish(conn, project_no, run_no, now)
            if finished is None:
                # Whoever finished it may have been lost before anybody heard.
                return await segment_runs.finished(conn, project_no, run_no)
            await segment_passes.forget_looks(conn, project_no)
            await _ask_for_the_rest(conn, project_no, now)
            if finished.drift:
                await audit.append(
                    conn,
                    project_no=project_no,
                    at=now,
                    actor="system",
                    action=SEGMENT_DRIFT_FOUND,
                    resource_id=str(run_no),
                    metadata={"subjects": finished.subjects, "drift": finished.drift},
                )
        return finished

    async def note_unswept(self, project_no: int) -> str:
        """Say in the audit log that this project could not be swept; returns its id."""
        async with self._transactions.write(None) as conn:
            project = (await catalog.current(conn, [project_no]))[project_no]
            await audit.append_hourly(
                conn,
                project_no=project_no,
                at=project.now,
                action=SEGMENT_SWEEP_FAILED,
                resource_id=project.project_id,
            )
            return project.project_id

    async def _chunk(
        self,
        project_no: int,
        run_no: int,
        kind: Kind,
        segment_no: int | None,
        part: tuple[int, int],
        first: int,
        last: int,
    ) -> int:
        """Do these buckets, unless somebody else has, who is at the same part. Returns the bucket to go on with."""
        async with self._transactions.write(None) as conn:
            await memberships.take_buckets(conn, project_no, first, last)
            if (bucket := await segment_runs.next_bucket(conn, project_no, run_no, *part)) > first:
                return bucket
            # Read under the locks: nobody who knows older rules, or an earlier time, comes after us.
            rules, now = await self._rule_book.current(conn, project_no)
            asked = _asked(rules, kind, segment_no)
            chunk = Chunk(subjects=0, drift=0, changes={})
            if asked:
                chunk = await segment_passes.of_buckets(
                    conn, project_no, first, last, await prepare(conn, project_no, rules, asked, now)
                )
                chunk = replace(chunk, changes={**dict.fromkeys(asked, (0, 0)), **chunk.changes})
            await segment_runs.record(conn, project_no, run_no, first, last, chunk)
        return last + 1


async def _ask_for_the_rest(conn: Connection[Record], project_no: int, now: datetime) -> None:
    """Have those built that could not be asked when the run began, or whose rules have changed since."""
    if (await catalog.current(conn, [project_no]))[project_no].unbuilt:
        # Not from the book: what this transaction has written may be rolled back.
        rules = await read_rules(conn, project_no)
        if rules.building & rules.asked.keys():
            await segment_runs.request(conn, project_no, "build", None, now)


async def prepare(
    conn: Connection[Record], project_no: int, rules: SegmentRules, asked: Mapping[int, Predicate], now: datetime
) -> Pass:
    """Make a statement of these questions, which are some or all of the rules', as of `now`."""
    return Pass(
        query=await compiled(conn, project_no, rules, asked, now, Among.BUCKETS),
        asked=asked.keys(),
        unasked=rules.ids.keys() - asked.keys(),
        building={number: rules.revisions[number] for number in rules.building & asked.keys()},
        whole=len(asked) == len(rules.asked),
        heard=catalog.heard(await catalog.listening(conn, project_no)),
        awaited=await awaiting.anybody(conn, project_no),
        topics={number: segment_topic(rules.ids[number]) for number in asked},
        as_of=now,
    )


def _asked(rules: SegmentRules, kind: Kind, segment_no: int | None) -> Mapping[int, Predicate]:
    """What a run of this kind asks, as the rules stand now."""
    match kind:
        case "sweep":
            return rules.asked
        case "build":
            return {number: asked for number, asked in rules.asked.items() if number in rules.building}
        case "evaluate":
            return {number: asked for number, asked in rules.asked.items() if number == segment_no}
