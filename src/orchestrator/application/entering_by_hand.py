"""Subjects who would enter by hand, and what the gates say of them: by id (enrollment.py), or page by page of a crowd
(enrollment_pages.py). Callers hold their rows and own the transaction.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.admission import Admissions
from orchestrator.application.earlier_entries import question
from orchestrator.application.listeners import audience_of
from orchestrator.application.refusal_audits import audit_refusal
from orchestrator.application.versions import Versions
from orchestrator.domain.entry import Earlier, EntryRefusal, Gone, Trigger, missing_segment, reentry_of, refuse_subject
from orchestrator.domain.refusals import Refusal
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import needs
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import catalog, enrollments, refusal_counts
from orchestrator.storage.outages import is_outage
from orchestrator.storage.outbox import Notice

logger = logging.getLogger(__name__)

#: Where more cannot be worked on, it is not about them.
MOST_LEFT_OUT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LetIn:
    """What came of some subjects who would enter by hand. The caller adds `ledger` to the refusals counted, late.

    `enrolled` counts those who are held out as well, of whom there is nothing to tell. `reached` is how many were
    looked at, in order: all, unless there were more than were to be let in.
    """

    enrolled: int = 0
    told: Sequence[Notice] = ()
    refused: Counter[EntryRefusal] = field(default_factory=Counter)
    ledger: Counter[refusal_counts.Slot] = field(default_factory=Counter)
    reached: int = 0

    def __add__(self, other: LetIn) -> LetIn:
        """Of both together."""
        return LetIn(
            enrolled=self.enrolled + other.enrolled,
            told=[*self.told, *other.told],
            refused=self.refused + other.refused,
            ledger=self.ledger + other.ledger,
            reached=self.reached + other.reached,
        )


async def admit(
    conn: Connection[Record],
    versions: Versions,
    *,
    project_no: int,
    project_id: str,
    journey_id: str,
    journey: catalog.EnteredByHand,
    keys: Sequence[SubjectKey],
    entry_key: str,
    now: datetime,
    crowd: Predicate | None = None,
    at_most: int | None = None,
) -> LetIn:
    """Ask the gates about these subjects, whose rows the caller holds, and write those who are let in.

    The journey takes subjects in, and stays so until the transaction ends (`catalog.entered_by_hand`). Who entered
    under this key before is refused, whatever the policy. With a `crowd`, those it does not hold for are passed over
    without a word, and who is let in runs behind all else; `at_most` so many are let in.
    """
    assert journey.latest_version is not None, "only journeys that were published take subjects in"
    prepared = await versions.get(conn, project_no, journey_id, journey.latest_version)
    audience = audience_of(journey.audience_id, journey.audience)
    asked = [] if audience is None or isinstance(audience, Gone) else [audience]
    asked += [crowd] if crowd is not None else []
    known = await subject_facts.load(
        conn,
        versions.rule_book,
        project_no,
        sorted(keys),
        needs([*asked, *prepared.asked]),
        now,
    )
    trigger = Trigger(at=now)
    policy = reentry_of(prepared.version, trigger)
    # A key that was made just now nobody has.
    entry_keys = () if crowd is None else (entry_key,)
    earlier = await enrollments.earlier(
        conn, project_no, [question(key, journey_id, policy, entry_keys, [now]) for key in keys]
    )
    admissions = Admissions(
        versions,
        project_no=project_no,
        project_id=project_id,
        settings=journey.settings,
        sends_paused=journey.sends_paused,
        now=now,
    )
    refused = Counter[EntryRefusal]()
    lacking: str | None = None
    ledger: Counter[refusal_counts.Slot] = Counter()
    reached = let_in = 0
    for key, entries in zip(keys, earlier, strict=True):
        if let_in == at_most:
            break
        reached += 1
        found = known[key]
        if crowd is not None and not evaluate(crowd, found.facts, now):
            continue
        reason = refuse_subject(
            prepared.version, audience, trigger, entry_key, found.facts, found.consent, Earlier.of(entries), now
        )
        if reason is not None:
            refused[reason] += 1
            if reason is EntryRefusal.COHORT_NOT_FOUND and lacking is None:
                lacking = missing_segment([audience], found.facts, now)
            ledger[refusal_counts.slot(project_no, journey_id, reason.value, now, key.bucket)] += 1
            continue
        let_in += 1
        admissions.admit(
            key=key,
            prepared=prepared,
            goal_revision=journey.goal_revision,
            entry_kind="enroll",
            entry_key=entry_key,
            trigger=trigger,
            known=found,
            behind=crowd is not None,
        )
    for reason in refused:
        await audit_refusal(
            conn,
            project_no,
            prepared.version,
            reason,
            now,
            audience_id=journey.audience_id,
            segment_id=lacking,
        )
    told = await admissions.write(conn)
    return LetIn(enrolled=admissions.count, told=told, refused=refused, ledger=ledger, reached=reached)


async def admit_those_who_can_be(
    conn: Connection[Record], keys: Sequence[SubjectKey], work: Callable[[Sequence[SubjectKey]], Awaitable[LetIn]]
) -> tuple[LetIn, list[SubjectKey]]:
    """`work` admits some of them, all or nothing. All are admitted but those of whom it fails, who are returned as
    well: they are found by halves, so that one in a thousand costs twenty attempts.

    Raises what it fails of where that is about no single subject: a refusal, an outage, and where nobody can be worked
    on, or more than MOST_LEFT_OUT cannot.
    """
    if len(keys) <= 1:
        return await work(keys), []
    done = LetIn()
    failed: list[SubjectKey] = []
    pending = [keys]
    while pending:
        some = pending.pop()
        try:
            # What was done of the others before stays as it is.
            async with conn.transaction():
                let_in = await work(some)
        except Exception as error:
            if isinstance(error, Refusal) or is_outage(error):
                raise
            if len(some) > 1:
                middle = len(some) // 2
                pending += [some[middle:], some[:middle]]
                continue
            failed.append(some[0])
            if len(failed) in (len(keys), MOST_LEFT_OUT + 1):
                raise
            logger.error("a subject cannot be enrolled", exc_info=error)
        else:
            done += let_in
    return done, failed
