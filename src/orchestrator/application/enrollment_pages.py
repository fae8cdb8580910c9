"""Working through jobs that enroll a whole crowd: page after page, each a transaction that lets some subjects in and
remembers how far it came.

Processes share the jobs by their rows' locks: whoever holds one does its next page, and whoever pauses or cancels one
waits for that page. Subjects come in lock order. The statement that finds who belongs to the crowd takes no locks; who
is found is asked about once more, under his.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.application import estimates
from orchestrator.application.enrollment_stand_still import LOOK_AGAIN, finish, stand_still
from orchestrator.application.entering_by_hand import LetIn, admit
from orchestrator.application.memberships import compiled
from orchestrator.application.segment_rules import stored_rules
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.enrollment_job import EnrollmentJob, StandStill
from orchestrator.domain.entry import EntryRefusal, refuse_date
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.refusals import FailedPrecondition, Unavailable
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.evaluate import Missing
from orchestrator.predicates.facts import needs
from orchestrator.predicates.sql.inputs import Among
from orchestrator.predicates.tree import Everyone, Predicate
from orchestrator.storage import (
    catalog,
    clock,
    derived_events,
    enrollment_jobs,
    refusal_counts,
    segment_looks,
    subjects,
)
from orchestrator.storage.audiences import audiences
from orchestrator.storage.catalog import EnteredByHand
from orchestrator.storage.enrollment_jobs import Next, Others
from orchestrator.storage.outages import is_nobodys_fault
from orchestrator.storage.outbox import Notice

logger = logging.getLogger(__name__)

#: Subjects let in by one transaction: few, so that nobody waits long for their locks or for this process.
PAGE = 100

#: Subjects in a row that could not be enrolled: whatever it is, it is about the job.
TOO_MANY_ERRORS = 10

#: Others go first while Temporal has so many starts still to be told, or something has waited in the inbox for so long.
UNTOLD = 1000
PATIENCE = timedelta(seconds=1)

_ASKED = 1

_CLOSED = {
    EntryRefusal.NOT_STARTED: StandStill.JOURNEY_NOT_STARTED,
    EntryRefusal.ENDED: StandStill.JOURNEY_ENDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What came of a look at the jobs: a page of one, and what Temporal is to be told; or nothing (not `worked`), and
    how long until a job is due, if one is. `rate` is the job's.
    """

    worked: bool = False
    told: Sequence[Notice] = ()
    rate: int | None = None
    due_in: timedelta | None = None


class PageFailed(Exception):
    """A page of this job (project, id) failed, for a reason that is no outage: `__cause__`."""

    def __init__(self, job: tuple[int, str]) -> None:
        super().__init__("a page of an enrollment job failed")
        self.job = job


class _StandsStill(Exception):
    """Something is in the job's way."""

    def __init__(self, why: StandStill) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The next subjects of a project, in order, and those of them who belong to the crowd; `last`: no others come."""

    keys: list[SubjectKey]
    members: list[SubjectKey]
    last: bool


class EnrollmentPages:
    """For one process. Each step may be cut off anywhere, by anything: the next one, anybody's, goes on."""

    def __init__(self, transactions: Transactions, versions: Versions, *, page: int = PAGE) -> None:
        self._transactions = transactions
        self._versions = versions
        self._most = page

    async def others(self) -> Others | None:
        """Those who go first; None: no job runs."""
        async with self._transactions.read(None) as conn:
            return await enrollment_jobs.others(conn, UNTOLD, PATIENCE)

    async def step(self) -> Step:
        """One page of the job whose turn it is. Raises PageFailed when it is not about single subjects."""
        try:
            return await self._page(self._most)
        except PageFailed as failed:
            logger.info("a page is tried subject by subject", extra={"error": type(failed.__cause__).__name__})
            return await self._apart(failed.job)

    async def _apart(self, job: tuple[int, str]) -> Step:
        """As many as make a page, one by one; those that cannot be worked on are counted, and left behind."""
        told: list[Notice] = []
        failures = 0
        for _ in range(self._most):
            try:
                step = await self._page(1, job)
                failures = 0
            except PageFailed as failed:
                failures += 1
                if failures == TOO_MANY_ERRORS:
                    await self._give_up(job)
                    break
                logger.error("a subject cannot be enrolled", exc_info=failed.__cause__)
                step = await self._leave_behind(job)
            if not step.worked:
                break
            told += step.told
        return Step(worked=True, told=told)

    async def _leave_behind(self, job: tuple[int, str]) -> Step:
        try:
            return await self._page(1, job, leave_behind=True)
        except PageFailed:
            async with self._transactions.write(None) as conn:
                found = await enrollment_jobs.hold_next(conn, job)
                if found.job is not None:
                    later_on = await clock.now(conn) + LOOK_AGAIN
                    await enrollment_jobs.record(conn, found.project_no, replace(found.job, next_at=later_on))
            raise

    async def _give_up(self, job: tuple[int, str]) -> None:
        async with self._transactions.write(None) as conn:
            found = await enrollment_jobs.hold_next(conn, job)
            if found.job is not None:
                await stand_still(conn, found.project_no, found.job, StandStill.TOO_MANY_ERRORS, await clock.now(conn))

    async def _page(self, most: int, only: tuple[int, str] | None = None, *, leave_behind: bool = False) -> Step:
        async with self._transactions.write(None) as conn:
            found = await enrollment_jobs.hold_next(conn, only)
            if found.job is None:
                return Step(due_in=found.due_in)
            try:
                told = await self._work(conn, found, found.job, most, leave_behind=leave_behind)
            except Exception as error:
                if is_nobodys_fault(error):
                    raise
                raise PageFailed((found.project_no, found.job.job_id)) from error
        return Step(worked=True, told=told, rate=found.job.rate)

    async def _work(
        self, conn: Connection[Record], found: Next, job: EnrollmentJob, most: int, *, leave_behind: bool
    ) -> Sequence[Notice]:
        now = await clock.now(conn)
        try:
            crowd = await self._crowd(conn, found, job)
            if not job.estimated:
                await self._estimate(conn, found, job, crowd)
                return ()
            allowed = job.allowance(now, most)
            if not allowed:
                paced_to, next_at = job.paced(now, 0, most)
                await enrollment_jobs.record(conn, found.project_no, replace(job, paced_to=paced_to, next_at=next_at))
                return ()
            look = await self._look(conn, found, job, crowd, job.candidates(allowed, most), now)
            if leave_behind:
                await self._record(conn, found, job, look, None, now)
                return ()
            held = await subjects.lock(conn, look.members)
            # Read under the locks: a pause of the journey that was acknowledged before is seen.
            journey = _open(await catalog.entered_by_hand(conn, found.project_no, job.journey_id))
            now = await clock.now(conn)
            await self._require_dates(conn, found.project_no, job.journey_id, journey, now)
            let_in = await admit(
                conn,
                self._versions,
                project_no=found.project_no,
                project_id=found.project_id,
                journey_id=job.journey_id,
                journey=journey,
                keys=held,
                # The last word on who was let in by this job already: the ledger has it once.
                entry_key=f"job:{job.job_id}",
                now=now,
                crowd=crowd,
                at_most=allowed,
            )
        except _StandsStill as still:
            await stand_still(conn, found.project_no, job, still.why, now)
            return ()
        except Missing:
            await stand_still(conn, found.project_no, job, StandStill.COHORT_NOT_FOUND, now)
            return ()
        if let_in.reached < len(held):
            look = _up_to(look, held[let_in.reached - 1])
        await self._record(conn, found, job, look, let_in, now)
        await refusal_counts.add(conn, let_in.ledger)
        return let_in.told

    async def _require_dates(
        self, conn: Connection[Record], project_no: int, journey_id: str, journey: EnteredByHand, now: datetime
    ) -> None:
        assert journey.latest_version is not None, "an active journey was published"
        prepared = await self._versions.get(conn, project_no, journey_id, journey.latest_version)
        if (closed := refuse_date(prepared.version, now)) is not None:
            raise _StandsStill(_CLOSED[closed])

    async def _crowd(self, conn: Connection[Record], found: Next, job: EnrollmentJob) -> Predicate:
        audience = None
        if job.crowd.audience_id is not None:
            audience = await audiences.find(conn, found.project_no, job.crowd.audience_id)
        document = job.crowd.document(audience.content.predicate if audience else None)
        if document is None:
            raise _StandsStill(StandStill.AUDIENCE_NOT_FOUND)
        return stored_rules(document)

    async def _estimate(self, conn: Connection[Record], found: Next, job: EnrollmentJob, crowd: Predicate) -> None:
        """In a transaction of its own, whose settings it changes."""
        size = None
        try:
            size = (await estimates.of_predicate(conn, found.project_no, self._versions.rule_book, crowd)).estimate.size
        except (FailedPrecondition, Unavailable) as refusal:
            logger.info("a job goes on without an estimate", extra={"reason": refusal.reason})
        await enrollment_jobs.record(conn, found.project_no, replace(job, estimate=size, estimated=True))

    async def _look(
        self,
        conn: Connection[Record],
        found: Next,
        job: EnrollmentJob,
        crowd: Predicate,
        wanted: int,
        now: datetime,
    ) -> _Look:
        limit = job.outlook(wanted)
        keys = await enrollment_jobs.keys_after(conn, job.place, limit)
        look = _Look(keys=keys, members=keys, last=len(keys) < limit)
        if not isinstance(crowd, Everyone) and keys:
            look = replace(look, members=await self._members(conn, found.project_no, crowd, keys, now))
        return _up_to(look, look.members[wanted - 1], wanted) if len(look.members) > wanted else look

    async def _members(
        self, conn: Connection[Record], project_no: int, crowd: Predicate, keys: list[SubjectKey], now: datetime
    ) -> list[SubjectKey]:
        rules, _ = await self._versions.rule_book.current(conn, project_no)
        asked = rules.cohorts.inline(crowd)
        if await derived_events.uncounted(conn, project_no) & needs([asked]).events.keys():
            raise _StandsStill(StandStill.EVENTS_BEING_COUNTED)
        statement = await compiled(conn, project_no, rules, {_ASKED: asked}, now, Among.SUBJECTS)
        return await segment_looks.members(conn, project_no, keys, statement)

    async def _record(
        self,
        conn: Connection[Record],
        found: Next,
        job: EnrollmentJob,
        look: _Look,
        let_in: LetIn | None,
        now: datetime,
    ) -> None:
        """How far the job has come with this page. `let_in` None: those that belong to the crowd are left behind."""
        enrolled = let_in.enrolled if let_in else 0
        paced_to, next_at = job.paced(now, enrolled, self._most)
        refused = Counter(job.refused)
        if let_in is not None:
            refused.update({reason.value: count for reason, count in let_in.refused.items()})
        job = replace(
            job,
            reason=None,
            place=look.keys[-1] if look.keys else job.place,
            looked_at=job.looked_at + len(look.keys),
            enrolled=job.enrolled + enrolled,
            held_out=job.held_out + (enrolled - len(let_in.told) if let_in else 0),
            errors=job.errors + (len(look.members) if let_in is None else 0),
            refused=refused,
            paced_to=paced_to,
            next_at=next_at,
        )
        if look.last:
            await finish(conn, found.project_no, job, now)
        else:
            await enrollment_jobs.record(conn, found.project_no, job)


def _up_to(look: _Look, place: SubjectKey, members: int | None = None) -> _Look:
    """The part of a look that ends with this subject."""
    keys = look.keys[: bisect_right(look.keys, place)]
    return _Look(keys=keys, members=look.members[:members], last=False)


def _open(journey: EnteredByHand | None) -> EnteredByHand:
    """The journey, if it takes subjects in."""
    if journey is None:
        raise _StandsStill(StandStill.JOURNEY_NOT_FOUND)
    if journey.status == JourneyStatus.ARCHIVED.value:
        raise _StandsStill(StandStill.JOURNEY_ARCHIVED)
    if journey.status != JourneyStatus.ACTIVE.value:
        raise _StandsStill(StandStill.JOURNEY_PAUSED)
    return journey
