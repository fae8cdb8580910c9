"""Housekeeping that keeps the tables of repeats small, and removes what has had its time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from asyncpg import LockNotAvailableError

from orchestrator.application.event_retention import counted_since
from orchestrator.application.given_up_kinds import GivenUpKinds
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
    segment_runs,
    send_tallies,
    sent_tests,
    upkeep,
)
from orchestrator.storage.event_names import numbers_of
from orchestrator.storage.membership_history import Place

logger = logging.getLogger(__name__)

#: Rows deleted in one transaction.
CHUNK = 5000

#: Rows that the size of a segment may be summed up from.
SIZES_APART = 1000

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


class Upkeep:
    """Removes stored answers, refused entries, test sends and finished runs after 7 days, event ids after 30, stays in
    segments 90 days after their end, tallies of sends that no window reaches, and events when their project keeps them
    no longer; gives up kinds of events that nothing asks about; sums up the sizes of segments.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._kinds = GivenUpKinds(transactions)

    async def run(self, go_on: Callable[[], bool] = lambda: True) -> int:
        """Remove all that is due, chunk by chunk, as long as `go_on`; returns how many rows, and stays, went.

        Stopped or killed anywhere, the next run goes on.
        """
        removed = 0
        async with self._transactions.write(None) as conn:
            await memberships.fold_sizes(conn, SIZES_APART)
        for forget in (
            upkeep.forget_requests,
            upkeep.forget_event_ids,
            upkeep.forget_refused_entries,
            send_tallies.forget_old,
            sent_tests.forget,
            segment_runs.forget,
            membership_history.forget_stays,
        ):
            gone = CHUNK
            while gone == CHUNK and go_on():
                async with self._transactions.write(None) as conn:
                    gone = await forget(conn, await clock.now(conn), CHUNK)
                removed += gone
        async with self._transactions.read(None) as conn:
            retaining = await upkeep.retaining(conn)
        for project_no in retaining:
            try:
                clearing = await self._begin(project_no)
            except Unreadable:
                logger.warning("events are kept: something that may count them does not read")
                continue
            if clearing is not None:
                removed += await self._clear(clearing, go_on)
        await self._drop_empty_months()
        async with self._transactions.read(None) as conn:
            gone_segments = await membership_history.gone_segments(conn)
        for project_no, segment_nos in gone_segments.items():
            removed += await self._forget_segments(project_no, segment_nos, go_on)
        removed += await self._kinds.run(go_on)
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
        removed, waiting = 0, 0
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

    async def _drop_empty_months(self) -> None:
        try:
            async with self._transactions.write(None) as conn:
                await upkeep.drop_empty_months(conn, (await clock.now(conn) - EMPTY_FOR).date())
        except LockNotAvailableError:
            logger.info("empty months of events are dropped another time")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
