"""Deciding on entries: of what has just been triggered, of what was held, and of what is decided on again.

The caller holds the subjects' rows and what is held of them, and keeps the journeys open, in this order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.admission import Admissions
from orchestrator.application.earlier_entries import question
from orchestrator.application.holding import Holding
from orchestrator.application.listeners import Listener
from orchestrator.application.refusal_audits import audit_refusal
from orchestrator.application.versions import Versions
from orchestrator.domain.entry import (
    MAY_COME,
    Earlier,
    EntryRefusal,
    SegmentContract,
    Trigger,
    missing_segment,
    reentry_of,
    refuse_loop,
    refuse_subject,
    refuse_transition,
)
from orchestrator.domain.journey import Reentry
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.facts import Facts, needs
from orchestrator.storage import catalog, enrollments
from orchestrator.storage.held_entries import EntryKind, HeldEntry
from orchestrator.storage.origins import Origin
from orchestrator.storage.outbox import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that a journey listens to, for a subject; `held` since an earlier look, or new. Or somebody asks for
    it: then it is decided `at_once`, and for good.

    `origin` is what it can be decided on by again; None: nothing that is kept, so that it cannot wait either.
    """

    key: SubjectKey
    listener: Listener
    kind: EntryKind
    trigger: Trigger
    entry_key: str
    origin: Origin | None = None
    held: HeldEntry | None = None
    at_once: bool = False

    @property
    def journey_id(self) -> str:
        return self.listener.journey_id

    def is_twice(self, holding: Holding) -> bool:
        """One entry never enters twice: whether another one of its key waits."""
        return self.held is None and holding.has(self.key, self.journey_id, self.entry_key)

    def grace_until(self, now: datetime) -> datetime | None:
        """Until when what is asked of the subject may come to hold; None: it has to now."""
        if self.held is not None:
            return self.held.grace_until
        grace = self.listener.version.definition.entry_grace
        return now + grace if grace is not None and not self.at_once else None

    def waiting(self, now: datetime, look_at: datetime | None) -> HeldEntry:
        """This entry as it is held until then; None: until its journey is resumed."""
        assert self.origin is not None, "what is decided at once does not wait"
        return HeldEntry(
            key=self.key,
            journey_id=self.journey_id,
            entry_key=self.entry_key,
            entry_kind=self.kind,
            event_id=self.trigger.event_id,
            what=self.origin.what,
            triggered_at=self.trigger.at,
            held_at=self.held.held_at if self.held is not None else now,
            grace_until=self.grace_until(now),
            look_at=look_at,
            hops=self.trigger.hops,
            entry=dict(self.trigger.properties),
        )


#: What is done with a candidate that is not let in, and why not. It drops what was held.
Refuse = Callable[[Candidate, EntryRefusal], None]


async def let_in(
    conn: Connection[Record],
    versions: Versions,
    project: catalog.Current,
    candidates: Sequence[Candidate],
    holding: Holding,
    refuse: Refuse,
    *,
    behind: bool = False,
) -> list[Notice]:
    """Ask the gates about these candidates of active journeys, in their order: each is let in, which is written, or is
    held, or refused.

    `project` was read under the caller's locks. With `behind` they run behind those for whom somebody waits; so does
    who was held for as long as his journey was paused.
    """
    if not candidates:
        return []
    now = project.now
    listeners = {id(c.listener): c.listener for c in candidates}.values()
    subjects = await subject_facts.load(
        conn,
        versions.rule_book,
        project.project_no,
        sorted({c.key for c in candidates}),
        needs([asked for listener in listeners for asked in listener.asked]),
        now,
    )
    earlier = await _earlier(conn, project.project_no, candidates)
    admissions = Admissions(
        versions,
        project_no=project.project_no,
        project_id=project.project_id,
        settings=project.settings,
        sends_paused=project.sends_paused,
        now=now,
    )
    met: dict[tuple[str, EntryRefusal], tuple[Listener, Facts]] = {}
    for c in candidates:
        if c.is_twice(holding):
            refuse(c, EntryRefusal.REENTRY)
            continue
        before = earlier[c.key, c.journey_id]
        found = subjects[c.key]
        reason = refuse_loop(c.trigger)
        if c.kind == "segment" and isinstance(c.listener.contract, SegmentContract):
            reason = reason or refuse_transition(c.listener.contract, found.facts, now)
        reason = reason or refuse_subject(
            c.listener.version, c.listener.audience, c.trigger, c.entry_key, found.facts, found.consent, before, now
        )
        if reason is None:
            before.add(c.entry_key, c.trigger.at)
            if c.held is not None:
                holding.drop(c.held)
            admissions.admit(
                key=c.key,
                prepared=c.listener.prepared,
                goal_revision=c.listener.goal_revision,
                entry_kind=c.kind,
                entry_key=c.entry_key,
                trigger=c.trigger,
                known=found,
                behind=behind or (c.held is not None and c.held.of_a_pause),
            )
        elif not _waits(c, reason, holding, now):
            refuse(c, reason)
            met[c.journey_id, reason] = c.listener, found.facts
    for (_, reason), (listener, facts) in met.items():
        await audit_refusal(
            conn,
            project.project_no,
            listener.version,
            reason,
            now,
            audience_id=listener.audience_id,
            segment_id=missing_segment([listener.asked_by_contract, listener.audience], facts, now),
        )
    return await admissions.write(conn)


def _waits(c: Candidate, reason: EntryRefusal, holding: Holding, now: datetime) -> bool:
    """Whether what stands against it may still pass; then it is held until the end of its grace."""
    until = c.grace_until(now)
    if reason not in MAY_COME or until is None or until <= now:
        return False
    if c.held is None and not holding.has_room(c.key, c.journey_id):
        return False
    holding.keep(c.waiting(now, until), since=c.held)
    return True


async def _earlier(
    conn: Connection[Record], project_no: int, candidates: Sequence[Candidate]
) -> dict[tuple[SubjectKey, str], Earlier]:
    # Who came by an event and who came by a segment may be asked by different policies.
    groups: defaultdict[tuple[SubjectKey, str, Reentry], list[Candidate]] = defaultdict(list)
    for c in candidates:
        groups[c.key, c.journey_id, reentry_of(c.listener.version, c.trigger)].append(c)
    questions = [
        question(key, journey_id, policy, (c.entry_key for c in group), [c.trigger.at for c in group])
        for (key, journey_id, policy), group in groups.items()
    ]
    found = await enrollments.earlier(conn, project_no, questions)
    entered: defaultdict[tuple[SubjectKey, str], list[tuple[str, datetime]]] = defaultdict(list)
    for (key, journey_id, _), entries in zip(groups, found, strict=True):
        entered[key, journey_id] += entries
    return {at: Earlier.of(entries) for at, entries in entered.items()}
