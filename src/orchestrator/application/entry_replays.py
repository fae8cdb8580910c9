"""Deciding again on entries that were refused, once what kept them out is mended.

Each is decided on as if it came now, by the function that decides on what comes, but for the age of its event: whoever
asks has seen how old they are. Its key stays what it was, so that no entry enters twice, however often it is replayed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.application import journeys as authoring
from orchestrator.application.holding import Holding
from orchestrator.application.letting_in import Candidate, let_in
from orchestrator.application.listeners import Listener, listener_of
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import ENTRIES_REPLAYED, ENTRY_REPLAY_REQUESTED, RUNTIME
from orchestrator.domain.entry import (
    EntryRefusal,
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    refuse_trigger,
    transition_key,
)
from orchestrator.domain.entry_replay import CANCELED, EVENT_GONE, JOURNEY_NOT_ACTIVE, NOT_HEARD, EntryReplay
from orchestrator.domain.ids import new_id
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.predicates.faults import Fault
from orchestrator.storage import (
    audit,
    catalog,
    clock,
    entry_replays,
    event_names,
    held_entries,
    inbox,
    journeys,
    outbox,
    refusal_counts,
    refused_entries,
    subjects,
)
from orchestrator.storage.entry_replays import UnderWay
from orchestrator.storage.inbox import Arrival
from orchestrator.storage.origins import Event, Moved
from orchestrator.storage.outages import is_outage
from orchestrator.storage.outbox import Entry as Told
from orchestrator.storage.refused_entries import Kept, RefusedEntry, Span

logger = logging.getLogger(__name__)

#: Entries decided on in one transaction: few, so that nobody waits long for their subjects.
PAGE = 100

#: While so many entries of the outbox wait, no more are added.
BACKLOG = 1000

REASONS = frozenset(reason.value for reason in EntryRefusal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Entries of a journey that were refused for one reason: in the hours that touch a span, by the ledger (`total`),
    and within the span, those that can be decided on again."""

    reason: str
    total: int
    kept: Kept | None


async def refused(
    conn: Connection[Record], scope: Scope, journey_id: str, after: datetime | None, before: datetime | None
) -> list[Refused]:
    """By reason, the most frequent first. Raises NotFound, and InvalidArgument for a span that is none."""
    await authoring.get(conn, scope, journey_id)
    start, end = _span(after, before, await clock.now(conn))
    hour = start.replace(minute=0, second=0, microsecond=0)
    totals = await refusal_counts.since(conn, scope.project_no, journey_id, hour, end)
    kept = await refused_entries.by_reason(conn, scope.project_no, journey_id, start, end)
    found = [Refused(reason=reason, total=totals.get(reason, 0), kept=kept.get(reason)) for reason in {*totals, *kept}]
    return sorted(found, key=lambda one: (-one.total, one.reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """How many entries there are; of the first `looked_at` of them, what would become of them now."""

    count: int
    looked_at: int
    enrolled: int
    refused: Mapping[str, int]


async def rehearse(
    conn: Connection[Record],
    scope: Scope,
    versions: Versions,
    journey_id: str,
    reason: str,
    after: datetime | None,
    before: datetime | None,
) -> Rehearsed:
    """What a replay would do, tried with the first of the entries; the caller rolls it back.

    Raises NotFound, InvalidArgument, and FailedPrecondition JOURNEY_NOT_ACTIVE.
    """
    span = await _asked(conn, scope, journey_id, reason, after, before)
    count = await refused_entries.count(conn, span)
    first = await refused_entries.page(conn, span, (span.after, 0), PAGE)
    decided = await _decide(conn, versions, span, first)
    return Rehearsed(
        count=count,
        looked_at=len(first),
        enrolled=decided.enrolled,
        refused=decided.refused,
    )


async def ask(
    conn: Connection[Record],
    scope: Scope,
    journey_id: str,
    reason: str,
    after: datetime | None,
    before: datetime | None,
    at_most: int,
) -> EntryReplay:
    """Have the entries decided on again that a journey refused for this reason; workers begin after the commit.

    `after` None: as far back as they are kept; `before` None: now. Raises NotFound JOURNEY_NOT_FOUND, InvalidArgument
    with all faults, FailedPrecondition JOURNEY_NOT_ACTIVE, and MORE_ENTRIES_MATCH when there are more than `at_most`.
    """
    span = await _asked(conn, scope, journey_id, reason, after, before)
    count = await refused_entries.count(conn, span)
    if count > at_most:
        raise FailedPrecondition(
            "MORE_ENTRIES_MATCH",
            f"{count} entries were refused so, and atMost is {at_most}",
            journeyId=journey_id,
            count=str(count),
        )
    now = await clock.now(conn)
    replay = EntryReplay(
        replay_id=new_id("rpl"),
        journey_id=journey_id,
        reason=reason,
        after=span.after,
        before=span.before,
        matched=count,
        requested_at=now,
        ended_at=None if count else now,
    )
    await entry_replays.insert(conn, scope.project_no, replay)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=ENTRY_REPLAY_REQUESTED,
        resource_id=journey_id,
        metadata={
            "entryReplayId": replay.replay_id,
            "reason": reason,
            "entries": count,
            "refusedAfter": span.after.isoformat(),
            "refusedBefore": span.before.isoformat(),
        },
    )
    if replay.ended_at is not None:
        await _note_end(conn, scope.project_no, scope.actor, replay)
    return replay


async def get(conn: Connection[Record], scope: Scope, replay_id: str) -> EntryReplay:
    """Raises NotFound ENTRY_REPLAY_NOT_FOUND."""
    return _found_replay(await entry_replays.find(conn, scope.project_no, replay_id), replay_id)


async def cancel(conn: Connection[Record], scope: Scope, replay_id: str) -> EntryReplay:
    """End it where it stands, behind the page that is under way: those it let in go on, and the others stay refused,
    to be replayed another time. A canceled replay stays so.

    Raises NotFound ENTRY_REPLAY_NOT_FOUND, and FailedPrecondition ENTRY_REPLAY_ENDED for one that has ended otherwise.
    """
    replay = _found_replay(await entry_replays.hold(conn, scope.project_no, replay_id), replay_id)
    if replay.end_reason == CANCELED:
        return replay
    if replay.ended_at is not None:
        raise FailedPrecondition("ENTRY_REPLAY_ENDED", f"replay {replay_id} has ended", entryReplayId=replay_id)
    replay = replace(replay, ended_at=await clock.now(conn), end_reason=CANCELED)
    await entry_replays.end(conn, scope.project_no, replay)
    await _note_end(conn, scope.project_no, scope.actor, replay)
    return replay


def _found_replay(found: EntryReplay | None, replay_id: str) -> EntryReplay:
    if found is None:
        raise NotFound("ENTRY_REPLAY_NOT_FOUND", f"there is no replay {replay_id}", entryReplayId=replay_id)
    return found


class _PageFailed(Exception):
    """The page that begins here failed, for a reason that is no outage: `__cause__`."""

    def __init__(self, at: UnderWay) -> None:
        super().__init__("a page of a replay failed")
        self.at = at


class EntryReplays:
    """Works through what `ask` leaves behind. Processes share the work by locks; each step may be cut off anywhere."""

    def __init__(self, transactions: Transactions, versions: Versions, *, page: int = PAGE) -> None:
        self._transactions = transactions
        self._versions = versions
        self._most = page

    async def step(self) -> list[Told] | None:
        """One page: what Temporal is to be told; None when there is nothing to do, or the outbox is full."""
        try:
            return await self._page(self._most)
        except _PageFailed as failed:
            logger.info("a page is tried entry by entry", extra={"error": type(failed.__cause__).__name__})
            return await self._apart()

    async def _apart(self) -> list[Told] | None:
        """As many as make a page, one by one; those that cannot be worked on are counted, and left where they are."""
        told: list[Told] = []
        for number in range(self._most):
            try:
                page = await self._page(1)
            except _PageFailed as failed:
                logger.error("a refused entry cannot be decided on again", exc_info=failed.__cause__)
                page = await self._page(1, pass_over=failed.at)
            if page is None:
                return told if number else None
            told += page
        return told

    async def _page(self, most: int, *, pass_over: UnderWay | None = None) -> list[Told] | None:
        """What Temporal is to be told after one page; None when there is none. `pass_over`: the page that begins there
        is only counted, unless somebody else has been at it."""
        async with self._transactions.write(None) as conn:
            at = await entry_replays.take(conn)
            if at is None or await outbox.is_backlog(conn, await clock.now(conn), BACKLOG):
                return None
            if pass_over is not None and pass_over.page != at.page:
                return []
            try:
                return await self._work(conn, at, most, pass_over=pass_over is not None)
            except Exception as error:
                if is_outage(error):
                    raise
                raise _PageFailed(at) from error

    async def _work(self, conn: Connection[Record], under_way: UnderWay, most: int, *, pass_over: bool) -> list[Told]:
        project_no, replay = under_way.project_no, under_way.replay
        span = Span(
            project_no=project_no,
            journey_id=replay.journey_id,
            reason=replay.reason,
            after=replay.after,
            before=replay.before,
        )
        entries = await refused_entries.page(conn, span, under_way.place, most)
        decided = _Decided()
        try:
            if not pass_over:
                decided = await _decide(conn, self._versions, span, entries)
            replay = replace(
                replay,
                looked_at=replay.looked_at + len(entries),
                enrolled=replay.enrolled + decided.enrolled,
                errors=replay.errors + (len(entries) if pass_over else 0),
                refused=dict(Counter(replay.refused) + decided.refused),
            )
        except FailedPrecondition:  # it can be asked for again when the journey takes subjects in
            entries = []
            replay = replace(replay, end_reason=JOURNEY_NOT_ACTIVE)
        now = await clock.now(conn)
        if len(entries) < most:
            replay = replace(replay, ended_at=now)
            await _note_end(conn, project_no, RUNTIME, replay)
        place = entries[-1].place if entries else under_way.place
        await entry_replays.record(conn, project_no, replay, place, now)
        return decided.told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    """What became of some entries. `enrolled` counts held-out subjects, of whom there is nothing to tell."""

    told: list[Told] = field(default_factory=list)
    enrolled: int = 0
    refused: Counter[str] = field(default_factory=Counter)


async def _decide(
    conn: Connection[Record], versions: Versions, span: Span, entries: Sequence[RefusedEntry]
) -> _Decided:
    """Decide on these entries now. Those that are let in are no longer kept; the others are, as they were.

    Raises FailedPrecondition JOURNEY_NOT_ACTIVE.
    """
    held = await _hold(conn, span, entries)
    # An entry that waits, for the end of its grace or to be released, enters once it is decided.
    waiting = Holding(await held_entries.hold(conn, sorted({entry.key for entry in held})))
    # Read under the locks, as the consumer of the inbox reads: a pause that was acknowledged before is seen.
    project = (await catalog.current(conn, [span.project_no]))[span.project_no]
    statuses = await journeys.keep_open(conn, span.project_no, [span.journey_id])
    if statuses.get(span.journey_id) is not JourneyStatus.ACTIVE:
        raise FailedPrecondition(
            "JOURNEY_NOT_ACTIVE", f"journey {span.journey_id} takes nobody in", journeyId=span.journey_id
        )
    row = await catalog.listens(conn, span.project_no, span.journey_id)
    # Those whose subjects were deleted since are gone with them.
    counted: Counter[str] = Counter()
    if row is None:
        return _Decided(refused=Counter({NOT_HEARD: len(held)} if held else {}))
    listener = await listener_of(conn, versions, span.project_no, row)
    candidates: dict[int, RefusedEntry] = {}
    asked: list[Candidate] = []
    for entry, found in zip(held, await _found(conn, project, listener, row, held), strict=True):
        if isinstance(found, Candidate):
            candidates[id(found)] = entry
            asked.append(found)
        else:
            counted[found] += 1

    def refuse(candidate: Candidate, reason: EntryRefusal) -> None:
        del candidates[id(candidate)]
        counted[reason.value] += 1

    told = await let_in(conn, versions, project, asked, waiting, refuse, behind=True)
    entered = list(candidates.values())
    await refused_entries.delete(conn, span, entered)
    return _Decided(told=told, enrolled=len(entered), refused=counted)


async def _found(
    conn: Connection[Record],
    project: catalog.Current,
    listener: Listener,
    row: catalog.Listening,
    entries: Sequence[RefusedEntry],
) -> list[Candidate | str]:
    """Each entry as a candidate, or why it is none any more."""
    name_no: int | None = None
    if row.event_name is not None:
        name_no = (await event_names.ensure(conn, project.project_no, {row.event_name}))[row.event_name]
    arrivals = [
        Arrival(key=entry.key, name_no=what.name_no, event_no=what.event_no, occurred_at=entry.origin.at)
        for entry in entries
        if isinstance(what := entry.origin.what, Event) and what.name_no == name_no
    ]
    events = await inbox.events(conn, project.project_no, arrivals) if arrivals else {}
    found: list[Candidate | str] = []
    for entry in entries:
        match entry.origin.what, listener.contract:
            case Event() as what, TriggerContract() as contract if what.name_no == name_no:
                event = events.get(what.event_no)
                found.append(
                    EVENT_GONE if event is None else _of_event(entry, listener, contract, *event, now=project.now)
                )
            case Moved() as what, SegmentContract() as contract if (
                what.segment_no == row.segment_no and what.entered == row.entered
            ):
                found.append(
                    Candidate(
                        key=entry.key,
                        listener=listener,
                        kind="segment",
                        trigger=Trigger(at=entry.origin.at, hops=entry.origin.hops),
                        entry_key=transition_key(contract.segment_id, what.transition_no),
                        origin=entry.origin,
                        replayed=True,
                    )
                )
            case _:
                found.append(NOT_HEARD)
    return found


def _of_event(
    entry: RefusedEntry,
    listener: Listener,
    contract: TriggerContract,
    event_id: str,
    properties: Mapping[str, object],
    *,
    now: datetime,
) -> Candidate | str:
    trigger = Trigger(at=entry.origin.at, event_id=event_id, properties=properties, hops=entry.origin.hops)
    # How old they may be, whoever asks for them has decided.
    ageless = replace(contract, max_event_age=timedelta.max)
    if (reason := refuse_trigger(ageless, trigger, now)) is not None:
        return reason.value
    key = entry_key(contract, trigger)
    assert key is not None, "an entry without a key is refused"
    return Candidate(
        key=entry.key,
        listener=listener,
        kind="event",
        trigger=trigger,
        entry_key=key,
        origin=entry.origin,
        replayed=True,
    )


async def _hold(conn: Connection[Record], span: Span, entries: Sequence[RefusedEntry]) -> list[RefusedEntry]:
    """These entries, with the rows of their subjects held, whomever they have been merged into meanwhile; without
    those whose subject was deleted."""
    held: set[SubjectKey] = set()
    asked: set[SubjectKey] = set()
    missing: Collection[SubjectKey] = {entry.key for entry in entries}
    while missing:
        asked |= set(missing)
        held.update(await subjects.lock(conn, missing))
        entries = await refused_entries.again(conn, span, entries)
        missing = {entry.key for entry in entries} - asked
    return [entry for entry in entries if entry.key in held]


async def _asked(
    conn: Connection[Record],
    scope: Scope,
    journey_id: str,
    reason: str,
    after: datetime | None,
    before: datetime | None,
) -> Span:
    journey = await authoring.get(conn, scope, journey_id)
    faults = []
    if reason not in REASONS:
        faults.append(
            Fault(path="reason", reason="INVALID_VALUE", message="is no reason for which entries are refused")
        )
    try:
        start, end = _span(after, before, await clock.now(conn))
    except InvalidArgument as refusal:
        raise InvalidArgument([*faults, *refusal.faults]) from None
    if faults:
        raise InvalidArgument(faults)
    if journey.status is not JourneyStatus.ACTIVE:
        raise FailedPrecondition(
            "JOURNEY_NOT_ACTIVE",
            f"journey {journey_id} is {journey.status.value}",
            journeyId=journey_id,
            status=journey.status.value,
        )
    return Span(project_no=scope.project_no, journey_id=journey_id, reason=reason, after=start, before=end)


def _span(after: datetime | None, before: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Raises InvalidArgument for a span that ends before it begins."""
    # What will be refused from now on is not meant.
    end = min(before or now, now)
    start = after or end - refused_entries.KEPT_FOR
    if (before is not None and after is not None and after >= before) or start > end:
        raise InvalidArgument.of("refusedBefore", "INVALID_VALUE", "must be later than refusedAfter, which is past")
    return start, end


async def _note_end(conn: Connection[Record], project_no: int, actor: str, replay: EntryReplay) -> None:
    assert replay.ended_at is not None, "it has ended"
    ended_early = {"endReason": replay.end_reason} if replay.end_reason is not None else {}
    await audit.append(
        conn,
        project_no=project_no,
        at=replay.ended_at,
        actor=actor,
        action=ENTRIES_REPLAYED,
        resource_id=replay.journey_id,
        metadata={
            "entryReplayId": replay.replay_id,
            "enrolled": replay.enrolled,
            "errors": replay.errors,
            "lookedAt": replay.looked_at,
            **ended_early,
        },
    )
