"""Enroll by id, into the newest version of an active journey: one subject or up to a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.entering_by_hand import LetIn, admit, admit_those_who_can_be
from orchestrator.application.journeys import not_active, not_found
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import JOURNEY_ENROLLED
from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.subject import bucket_of
from orchestrator.storage import audit, catalog, clock, inbox_entries, refusal_counts, subjects, tombstones
from orchestrator.storage.outbox import Notice

#: Ids in one call.
AT_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What came of a call. `enrolled + skipped + len(failed) == total`, the number of ids given.

    `enrolled` counts those who are held out as well.
    `skipped` are subjects that were not let in (`refused` says why, by reason) and ids given twice. `failed` are ids of
    subjects that could not be worked on. `told` is what Temporal is to be told after the commit.
    """

    journey_id: str
    journey_name: str
    enrolled: int
    skipped: int
    failed: Sequence[str]
    total: int
    refused: Mapping[str, int] = field(default_factory=dict)
    told: Sequence[Notice] = ()


async def enroll(
    conn: Connection[Record], scope: Scope, versions: Versions, journey_id: str, subject_ids: Sequence[str]
) -> Enrolled:
    """Enroll these subjects; those that are not known are created. It is one transaction, the caller's.

    Those who were forgotten are skipped. Who cannot be worked on is left out, if others can. Raises NotFound
    JOURNEY_NOT_FOUND, FailedPrecondition JOURNEY_NOT_ACTIVE, InvalidArgument without or with too many ids,
    SubjectForgotten for one who is being forgotten at this moment, and whatever stands in the way of all of them, or of
    more than a few.
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
    entry_key = f"enroll:{new_uuid().hex}"

    async def let_some_in(some: Sequence[SubjectKey]) -> LetIn:
        return await admit(
            conn,
            versions,
            project_no=project_no,
            project_id=scope.project_id,
            journey_id=journey_id,
            journey=journey,
            keys=some,
            entry_key=entry_key,
            now=now,
        )

    let_in, left_out = await admit_those_who_can_be(conn, named, let_some_in)
    # By the id that named each first.
    called = {key: subject_id for subject_id, key in reversed([(one, keys[one]) for one in wanted])}
    failed = [called[key] for key in left_out]
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
        metadata={"enrolled": let_in.enrolled, "skipped": skipped, "errors": len(failed)},
    )
    await refusal_counts.add(conn, let_in.ledger)
    return Enrolled(
        journey_id=journey_id,
        journey_name=journey.name,
        enrolled=let_in.enrolled,
        skipped=skipped,
        failed=failed,
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
