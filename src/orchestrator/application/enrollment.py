"""Enroll by hand, into the newest version of an active journey: by id, one subject or up to a thousand; and what jobs
that enroll whole crowds do for each of their pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.admission import Admissions
from orchestrator.application.earlier_entries import question
from orchestrator.application.journeys import not_active, not_found
from orchestrator.application.listeners import audience_of
from orchestrator.application.refusal_audits import audit_refusal
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import JOURNEY_ENROLLED
from orchestrator.domain.entry import Earlier, EntryRefusal, Gone, Trigger, missing_segment, reentry_of, refuse_subject
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.subject import bucket_of
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import needs
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import audit, catalog, clock, enrollments, inbox_entries, refusal_counts, subjects, tombstones
from orchestrator.storage.outbox import Entry

#: Ids in one call.
AT_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What came of a call. `enrolled + skipped + errors == total`, the number of ids given.

    `enrolled` counts those who are held out as well.
    `skipped` are subjects that were not let in (`refused` says why, by reason) and ids given twice. `told` is what
    Temporal is to be told after the commit.
    """

    journey_id: str
    journey_name: str
    enrolled: int
    skipped: int
    errors: int
    total: int
    refused: Mapping[str, int] = field(default_factory=dict)
    told: Sequence[Entry] = ()


async def enroll(
    conn: Connection[Record], scope: Scope, versions: Versions, journey_id: str, subject_ids: Sequence[str]
) -> Enrolled:
    """Enroll these subjects; those that are not known are created. All or nothing: the caller's transaction.

    Those who were forgotten are skipped. Raises NotFound JOURNEY_NOT_FOUND, FailedPrecondition JOURNEY_NOT_ACTIVE,
    InvalidArgument without or with too many ids, and SubjectForgotten for one who is being forgotten at this moment.
    """
    if not subject_ids:
        raise InvalidArgument.of("subjectIds", "REQUIRED", "at least one subject is needed")
    if len(subject_ids) > AT_MOST:
        raise InvalidArgument.of("subjectIds", "TOO_LARGE", f"at most {AT_MOST} subjects in one call")
    project_no = scope.project_no
    unknown = set(subject_ids) - (await subjects.find_keys(conn, project_no, subject_ids)).keys()
    forgotten = await tombstones.among(conn, project_no, unknown)
    wanted = [subject_id for subject_id in subject_ids if subject_id not in forgotten]
    keys, created = await subjects.ensure_locked(conn, project_no, set(wanted), await clock.now(conn))
    # Ids that were merged into one subject are that subject, named more than once.
    named = list(dict.fromkeys(keys[subject_id] for subject_id in wanted))
    # Read under the locks: a pause that was acknowledged before is seen.
    journey = await catalog.entered_by_hand(conn, project_no, journey_id)
    if journey is None:
        raise not_found(journey_id)
    if journey.status != JourneyStatus.ACTIVE.value or journey.latest_version is None:
        raise not_active(journey_id, journey.status)
    now = await clock.now(conn)
    # Whoever keeps something about every subject hears of the new ones.
    await inbox_entries.add(conn, sorted(keys[subject_id] for subject_id in created), "attributes", now)
    # Nobody gave these entries a key, so each call makes its own.
    let_in = await admit(
        conn,
        versions,
        project_no=project_no,
        project_id=scope.project_id,
        journey_id=journey_id,
        journey=journey,
        keys=named,
        entry_key=f"enroll:{new_uuid().hex}",
        now=now,
    )
    refused = Counter({reason.value: count for reason, count in let_in.refused.items()})
    if forgotten:
        refused[EntryRefusal.SUBJECT_FORGOTTEN.value] = len(forgotten)
        await _count_forgotten(conn, project_no, journey_id, forgotten, let_in.ledger, now)
    twice = len(subject_ids) - len(named) - len(forgotten)
    skipped = twice + refused.total()
    await audit.append(
        conn,
        project_no=project_no,
        at=now,
        actor=scope.actor,
        action=JOURNEY_ENROLLED,
        resource_id=journey_id,
        metadata={"enrolled": let_in.enrolled, "skipped": skipped, "errors": 0},
    )
    await refusal_counts.add(conn, let_in.ledger)
    return Enrolled(
        journey_id=journey_id,
        journey_name=journey.name,
        enrolled=let_in.enrolled,
        skipped=skipped,
        errors=0,
        total=len(subject_ids),
        refused=refused,
        told=let_in.told,
    )


async def _count_forgotten(
    conn: Connection[Record],
    project_no: int,
    journey_id: str,
    forgotten: Collection[str],
    ledger: Counter[refusal_counts.Slot],
    now: datetime,
) -> None:
    """Each is refused by the journey, and has come back once more."""
    await tombstones.count(conn, project_no, dict.fromkeys(forgotten, 1), now)
    reason = EntryRefusal.SUBJECT_FORGOTTEN.value
    for subject_id in forgotten:
        ledger[refusal_counts.slot(project_no, journey_id, reason, now, bucket_of(subject_id))] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LetIn:
    """What came of some subjects who would enter by hand. The caller adds `ledger` to the refusals counted, late.

    `enrolled` counts those who are held out as well, of whom there is nothing to tell. `reached` is how many were
    looked at, in order: all, unless there were more than were to be let in.
    """

    enrolled: int
    told: Sequence[Entry]
    refused: Counter[EntryRefusal]
    ledger: Counter[refusal_counts.Slot]
    reached: int


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
