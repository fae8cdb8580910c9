"""What becomes of refused entries that are decided on again.

Each is decided on as if it came now, by the function that decides on what comes, but for the age of its event: whoever
asks has seen how old they are. Its key stays what it was, so that no entry enters twice, however often it is replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.application.holding import Holding
from orchestrator.application.letting_in import Candidate, let_in
from orchestrator.application.listeners import Listener, listener_of
from orchestrator.application.versions import Versions
from orchestrator.domain.entry import (
    EntryRefusal,
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    refuse_trigger,
    transition_key,
)
from orchestrator.domain.entry_replay import EVENT_GONE, NOT_HEARD
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import catalog, event_names, held_entries, inbox, journeys, refused_entries, subjects
from orchestrator.storage.inbox import Arrival
from orchestrator.storage.origins import Event, Moved
from orchestrator.storage.outbox import Notice
from orchestrator.storage.refused_entries import RefusedEntry, Span

#: Entries decided on in one transaction: few, so that nobody waits long for their subjects.
PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What became of some entries. `enrolled` counts held-out subjects, of whom there is nothing to tell."""

    told: list[Notice] = field(default_factory=list)
    enrolled: int = 0
    refused: Counter[str] = field(default_factory=Counter)


async def decide(conn: Connection[Record], versions: Versions, span: Span, entries: Sequence[RefusedEntry]) -> Decided:
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
        return Decided(refused=Counter({NOT_HEARD: len(held)} if held else {}))
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
    return Decided(told=told, enrolled=len(entered), refused=counted)


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
                        at_once=True,
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
        at_once=True,
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
