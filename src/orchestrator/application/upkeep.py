"""Housekeeping that keeps the tables of repeats small, and removes what has had its time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from asyncpg import Connection, LockNotAvailableError, QueryCanceledError, Record

from orchestrator.application.event_retention import counted_since
from orchestrator.application.given_up_kinds import GivenUpKinds
from orchestrator.application.known_event_ids import KnownEventIds
from orchestrator.application.transactions import Transactions
from orchestrator.predicates.faults import Unreadable
from orchestrator.storage import (
    asked_events,
    clock,
    derived_events,
    event_horizons,
    membership_history,
    memberships,
    projects,
    refusal_counts,
    segment_runs,
    send_tallies,
    sent_tests,
    static_members,
    upkeep,
)
from orchestrator.storage.event_names import numbers_of
from orchestrator.storage.membership_history import Place
from orchestrator.storage.outages import is_outage
from orchestrator.storage.upkeep import Turn

logger = logging.getLogger(__name__)

#: Rows deleted in one transaction.
CHUNK = 5000

#: Rows that the size of a segment may be summed up from.
SIZES_APART = 1000

#: How long ago an hour must have begun whose counts of refused entries are summed up: nobody adds to them any more.
APART_FOR = timedelta(days=1)

#: Transitions that are looked at in one transaction for those of segments that are gone.
HISTORY_AT_ONCE = 50_000

#: How much longer than the retention events are kept: what is asked while they are being removed still finds its own.
MARGIN = timedelta(days=1)

#: A month that holds nothing is dropped when it has been over for so long.
EMPTY_FOR = timedelta(days=31)

_BUCKETS = 256
#: Of a project with few events, so many in one transaction.
_MOST_BUCKETS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clearing:
    """What has to go of a project's events: all before `end`, but for numbers that are counted since an instant."""

    project_no: int
    end: datetime
    since: dict[int, datetime]


_Chunk = Callable[["Connection[Record]", datetime, int], Awaitable[int]]


class Upkeep:
    """Removes stored answers, refused entries, test sends and finished runs after 7 days, event ids after 30, stays in
    segments 90 days after their end, tallies of sends that no window reaches, members of lists that are gone, and
    events when their project keeps them no longer; gives up kinds of events that nothing asks about; sums up the sizes
    of segments, and how many entries were refused.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._event_ids = KnownEventIds(transactions)
        self._kinds = GivenUpKinds(transactions)

    async def run(self, go_on: Callable[[], bool] = lambda: True) -> int:
        """Remove all that is due, chunk by chunk, as long as `go_on`; returns how many rows, and stays, went.

        What somebody else is at is left to him. A part that fails is told of in the log, and the others are done all
        the same; raises what a database raises that is away. Stopped or killed anywhere, the next run goes on.
        """
        removed = 0
        for what, part in self._parts().items():
            try:
                removed += await part(go_on)
            except Exception as error:
                if is_outage(error) and not isinstance(error, QueryCanceledError | LockNotAvailableError):
                    raise
                trace = None if is_outage(error) else error
                logger.error(
                    "a part of the upkeep failed, the next run tries again",
                    extra={"part": what, "error": type(error).__name__},
                    exc_info=trace,
                )
        return removed

    def _parts(self) -> dict[str, Callable[[Callable[[], bool]], Awaitable[int]]]:
        return {
            "events": self._clear_projects,
            "months": self._drop_empty_months,
            "sizes": self._fold_sizes,
            "refusal_counts": self._fold_refusal_counts,
            "requests": partial(self._forget, Turn.REQUESTS, upkeep.forget_requests),
            "event_ids": self._event_ids.run,
            "refused_entries": partial(self._forget, Turn.REFUSED_ENTRIES, upkeep.forget_refused_entries),
            "send_tallies": partial(self._forget, Turn.SEND_TALLIES, send_tallies.forget_old),
            "sent_tests": partial(self._forget, Turn.SENT_TESTS, sent_tests.forget),
            "segment_runs": partial(self._forget, Turn.SEGMENT_RUNS, segment_runs.forget),
            "stays": partial(self._forget, Turn.STAYS, membership_history.forget_stays),
            "gone_segments": self._forget_gone_segments,
            "given_up_kinds": self._kinds.run,
        }

    async def _forget(self, turn: Turn, forget: _Chunk, go_on: Callable[[], bool]) -> int:
        removed, gone = 0, CHUNK
        while gone == CHUNK and go_on():
            async with self._transactions.write(None) as conn:
                if not await upkeep.take_turn(conn, turn):
                    break
                gone = await forget(conn, await clock.now(conn), CHUNK)
            removed += gone
        return removed

    async def _fold_sizes(self, _: Callable[[], bool]) -> int:
        async with self._transactions.write(None) as conn:
            if await upkeep.take_turn(conn, Turn.SIZES):
                await memberships.fold_sizes(conn, SIZES_APART)
        return 0

    async def _fold_refusal_counts(self, go_on: Callable[[], bool]) -> int:
        folded = CHUNK
        while folded == CHUNK and go_on():
            async with self._transactions.write(None) as conn:
                if not await upkeep.take_turn(conn, Turn.REFUSAL_COUNTS):
                    break
                folded = await refusal_counts.fold(conn, await clock.now(conn) - APART_FOR, CHUNK)
        return 0

    async def _clear_projects(self, go_on: Callable[[], bool]) -> int:
        async with self._transactions.read(None) as conn:
            retaining = await upkeep.retaining(conn)
        removed = 0
        for project_no in retaining:
            try:
                clearing = await self._begin(project_no)
            except Unreadable:
                logger.warning("events are kept: something that may count them does not read")
                continue
            if clearing is not None:
                removed += await self._clear(clearing, go_on)
        return removed

    async def _forget_gone_segments(self, go_on: Callable[[], bool]) -> int:
        async with self._transactions.read(None) as conn:
            gone_segments = await membership_history.gone_segments(conn)
        removed = 0
        for project_no, segment_nos in gone_segments.items():
            removed += await self._forget_segments(project_no, segment_nos, go_on)
        return removed

    async def _begin(self, project_no: int) -> _Clearing | None:
        """What has to go; None: nothing, for now."""
        async with self._transactions.write(None) as conn:
            # Whoever is about to save something that counts events sees where they begin, or is seen here.
            horizon = await event_horizons.hold_alone(conn, project_no)
            retention = (await projects.get(conn, project_no)).settings.event_retention
            if retention is None or await derived_events.building(conn, project_no):
                return None
            end = _midnight((await clock.now(conn) - retention).astimezone(UTC).date()) - MARGIN
            if horizon is not None and horizon.cleared_to is not None and horizon.cleared_to >= end:
                return None
            since = counted_since(await asked_events.in_use(conn, project_no))
            numbers = await numbers_of(conn, project_no, since)
            await event_horizons.move(conn, project_no, end)
        kept = {numbers[source]: instant for source, instant in since.items() if source in numbers}
        return _Clearing(project_no=project_no, end=end, since=kept)

    async def _clear(self, clearing: _Clearing, go_on: Callable[[], bool]) -> int:
        """Remove it, some buckets of a month at a time; returns how many rows went."""
        project_no, removed = clearing.project_no, 0
        async with self._transactions.read(None) as conn:
            parts = await upkeep.parts_of_events(conn, project_no, clearing.end)
        drops = [partial(upkeep.drop_events, begin=begin, end=end) for begin, end in parts]
        for drop in (*drops, partial(upkeep.drop_days, end=clearing.end.date())):
            bucket, at_once = 0, 1
            while bucket < _BUCKETS:
                if not go_on():
                    return removed
                async with self._transactions.write(None) as conn:
                    if not await upkeep.clear_alone(conn, project_no):
                        return removed
                    buckets = range(bucket, bucket + at_once)
                    gone = await drop(conn, project_no, buckets, clearing.since)
                removed += gone
                bucket += at_once
                at_once = min(2 * at_once, _MOST_BUCKETS) if gone < CHUNK // 2 else max(1, at_once // 2)
        async with self._transactions.write(None) as conn:
            await event_horizons.cleared(conn, project_no, clearing.end)
        return removed

    async def _forget_segments(self, project_no: int, segment_nos: Collection[int], go_on: Callable[[], bool]) -> int:
        """Remove what is told of segments that are gone; returns how many rows went."""
        removed, waiting, gone = 0, 0, CHUNK
        while gone == CHUNK:
            if not go_on():
                return removed
            async with self._transactions.write(None) as conn:
                if not await upkeep.clear_alone(conn, project_no):
                    return removed
                gone = await static_members.forget_gone(conn, project_no, segment_nos, CHUNK)
            removed += gone
        place: Place | None = membership_history.FIRST
        while place is not None:
            if not go_on():
                return removed
            async with self._transactions.write(None) as conn:
                if not await upkeep.clear_alone(conn, project_no):
                    return removed
                part = await membership_history.forget_gone(conn, project_no, segment_nos, place, HISTORY_AT_ONCE)
                if part.place is None and not waiting + part.waiting:
                    await membership_history.forget_sizes(conn, project_no, segment_nos)
            removed += part.gone
            waiting += part.waiting
            place = part.place
        return removed

    async def _drop_empty_months(self, go_on: Callable[[], bool]) -> int:
        """Each in a transaction of its own: while one is being dropped, nobody reads or writes events."""
        dropped = True
        try:
            while dropped and go_on():
                async with self._transactions.write(None) as conn:
                    if not await upkeep.take_turn(conn, Turn.MONTHS):
                        break
                    dropped = await upkeep.drop_empty_month(conn, (await clock.now(conn) - EMPTY_FOR).date())
        except LockNotAvailableError:
            logger.info("empty months of events are dropped another time")
        return 0


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
