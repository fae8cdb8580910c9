"""Taking in what providers report of messages: noted on the send, told as an event, and a bar where it has to be.

The first transaction notes and suppresses, under the subjects' locks, so that no send begins after a report that stands
against it was answered; those after it store the events. Each may be repeated without harm, and whoever was not
answered repeats all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

import orjson
from asyncpg import Connection, Record

from orchestrator.application import preferences
from orchestrator.application.auto_pauses import AutoPauses
from orchestrator.application.ingest import Ingest
from orchestrator.application.sending import idempotency_key
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.auto_pause import Tally
from orchestrator.domain.delivery import Kind, Of, Report, event_id, event_properties, names_of
from orchestrator.domain.entry import hops_from
from orchestrator.domain.event import Event
from orchestrator.domain.event import Outcome as EventOutcome
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.storage import clock, deliveries, send_tallies, subjects
from orchestrator.storage.deliveries import Known


class Outcome(Enum):
    """What became of a well-formed report."""

    ACCEPTED = "accepted"
    #: The same was reported before: nothing was done.
    DUPLICATE = "duplicate"
    #: No message of that name is known, or not yet, or more than one.
    UNKNOWN_SEND = "unknown_send"


@dataclass(frozen=True, slots=True)
class _Reported:
    """A report with the message that it is about, and whose it is."""

    report: Report
    send: Known
    subject_id: str

    @property
    def event(self) -> Event:
        send = self.send
        of = Of(
            key=idempotency_key(send.execution_id, send.seq),
            execution_id=str(send.execution_id),
            journey_id=send.journey_id,
            version=send.version,
            step_id=send.step_id,
            communication_id=send.communication_id,
            content_revision=send.content_revision,
            channel=send.channel,
            category=send.category,
        )
        return Event(
            event_id=event_id(self.report, of),
            name=self.report.kind.event,
            subject_id=self.subject_id,
            occurred_at=self.report.occurred_at,
            properties=orjson.dumps(event_properties(self.report, of)),
        )


class Deliveries:
    """`secret` is the instance's: the audit log calls subjects by their refs."""

    def __init__(self, transactions: Transactions, ingest: Ingest, versions: Versions, secret: bytes) -> None:
        self._transactions = transactions
        self._ingest = ingest
        self._auto_pauses = AutoPauses(transactions, versions)
        self._secret = secret

    async def take(
        self, scope: Scope, reports: Sequence[Report], *, committed: Callable[[], None] | None = None
    ) -> list[Outcome]:
        """What became of each report, in the same order. Safe to repeat. `committed` as in Transactions.write."""
        outcomes = [Outcome.UNKNOWN_SEND] * len(reports)
        suspects: set[str] = set()
        async with self._transactions.write(scope.project_no, committed=committed) as conn:
            told = await _held(conn, scope.project_no, reports)
            now = await clock.now(conn)
            if told:
                suspects = await self._note(conn, scope, list(told.values()), now)
        if suspects:
            await self._auto_pauses.look(scope.project_no, suspects)
        # A report is told by the execution whose message it is about: else journeys that start on one would go round.
        apart: defaultdict[int, list[int]] = defaultdict(list)
        for place, each in told.items():
            apart[hops_from(each.send.hops, each.send.started_at, now)].append(place)
        for hops, places in sorted(apart.items()):
            events = [told[place].event for place in places]
            taken = await self._ingest.take(scope.project_no, events, backfill=False, hops=hops, committed=committed)
            for place, outcome in zip(places, taken, strict=True):
                outcomes[place] = Outcome.ACCEPTED if outcome is EventOutcome.ACCEPTED else Outcome.DUPLICATE
        return outcomes

    async def _note(self, conn: Connection[Record], scope: Scope, told: Sequence[_Reported], now: datetime) -> set[str]:
        """Returns the journeys that pause their sends by themselves and of which something bad was learned."""
        times: dict[tuple[SubjectKey, UUID, int], dict[Kind, datetime]] = {}
        bars: dict[tuple[SubjectKey, str], tuple[str, str]] = {}
        for each in told:
            kind, send = each.report.kind, each.send
            at = min(each.report.occurred_at or now, now)
            kept = times.setdefault((send.key, send.execution_id, send.seq), {})
            kept[kind] = min(kept.get(kind, at), at)
            # Who was let in again after a bounce is not shut out by its repeat.
            if kind.suppresses is not None and kind not in send.reported:
                bars.setdefault((send.key, send.channel), (each.subject_id, kind.suppresses))
        await deliveries.note(conn, scope.project_no, times)
        for (key, channel), (subject_id, reason) in bars.items():
            await preferences.suppress_held(
                conn, scope, self._secret, subject_id, key, channel=channel, reason=reason, now=now
            )
        return await self._count(conn, scope.project_no, told, now)

    async def _count(
        self, conn: Connection[Record], project_no: int, told: Sequence[_Reported], now: datetime
    ) -> set[str]:
        """Add what counts against journeys; each of these journeys. A repeat of a report does not count."""
        bad: set[tuple[SubjectKey, UUID, int, Kind]] = set()
        counts: dict[send_tallies.Slot, Tally] = {}
        for each in told:
            kind, send = each.report.kind, each.send
            once = (send.key, send.execution_id, send.seq, kind)
            if kind not in (Kind.BOUNCED, Kind.COMPLAINED) or kind in send.reported or once in bad:
                continue
            if await self._auto_pauses.watches(conn, project_no, send.journey_id, send.version):
                bad.add(once)
                slot = send_tallies.slot(send.journey_id, send.key.bucket)
                before = counts.get(slot, Tally())
                counts[slot] = Tally(
                    failed=before.failed + (kind is Kind.BOUNCED),
                    complained=before.complained + (kind is Kind.COMPLAINED),
                )
        await send_tallies.add(conn, project_no, now, counts)
        return {journey_id for journey_id, _ in counts}


async def _held(conn: Connection[Record], project_no: int, reports: Sequence[Report]) -> Mapping[int, _Reported]:
    """Those reports, by place, whose message is known, with the rows of their subjects locked."""
    names = [names_of(report.key, report.provider_id) for report in reports]
    keys = sorted({key for key, _ in names if key})
    provider_ids = sorted({name for _, name in names if name})
    asked: set[SubjectKey] = set()
    held: set[SubjectKey] = set()
    while True:
        by_key = await deliveries.by_key(conn, project_no, keys)
        by_provider = await deliveries.by_provider_id(conn, project_no, provider_ids)
        # Whose messages became another's by a merge, while we waited, are asked for again.
        owners = {send.key for send in (*by_key.values(), *by_provider.values())} - asked
        if not owners:
            break
        asked |= owners
        held.update(await subjects.lock(conn, owners))
    known = await subjects.read(conn, project_no, held)
    told = {}
    for place, (report, (key, name)) in enumerate(zip(reports, names, strict=True)):
        send = by_key.get(key) if key else by_provider.get(name)
        if send is not None and send.key in known:
            told[place] = _Reported(report, send, known[send.key].subject_id)
    return told
