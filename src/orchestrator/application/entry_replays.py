"""Refused entries, as callers see them: which there are, and deciding on them again once what kept them out is mended.

Callers own the transaction. Workers do what was asked for: application/entry_replay_pages.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application import journeys
from orchestrator.application.replayed_entries import PAGE, decide
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import ENTRIES_REPLAYED, ENTRY_REPLAY_REQUESTED
from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.entry_replay import CANCELED, EntryReplay
from orchestrator.domain.ids import new_id
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import audit, clock, entry_replays, refusal_counts, refused_entries
from orchestrator.storage.refused_entries import Kept, Span

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
    await journeys.get(conn, scope, journey_id)
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
    decided = await decide(conn, versions, span, first)
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
        await note_end(conn, scope.project_no, scope.actor, replay)
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
    await note_end(conn, scope.project_no, scope.actor, replay)
    return replay


def _found_replay(found: EntryReplay | None, replay_id: str) -> EntryReplay:
    if found is None:
        raise NotFound("ENTRY_REPLAY_NOT_FOUND", f"there is no replay {replay_id}", entryReplayId=replay_id)
    return found


async def _asked(
    conn: Connection[Record],
    scope: Scope,
    journey_id: str,
    reason: str,
    after: datetime | None,
    before: datetime | None,
) -> Span:
    journey = await journeys.get(conn, scope, journey_id)
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
        raise journeys.not_active(journey_id, journey.status.value)
    return Span(project_no=scope.project_no, journey_id=journey_id, reason=reason, after=start, before=end)


def _span(after: datetime | None, before: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Raises InvalidArgument for a span that ends before it begins."""
    # What will be refused from now on is not meant.
    end = min(before or now, now)
    start = after or end - refused_entries.KEPT_FOR
    if (before is not None and after is not None and after >= before) or start > end:
        raise InvalidArgument.of("refusedBefore", "INVALID_VALUE", "must be later than refusedAfter, which is past")
    return start, end


async def note_end(conn: Connection[Record], project_no: int, actor: str, replay: EntryReplay) -> None:
    """Note in the audit log what came of it."""
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
