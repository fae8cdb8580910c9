"""Creating, changing and deleting subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.time_slices import TimeSlice
from orchestrator.domain.attributes import merge_patch, size_fault
from orchestrator.domain.audit import SUBJECT_DELETED
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.resource import later
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.subject import Subject, SubjectPatch, id_fault, is_time_zone, subject_hash
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.values import equal
from orchestrator.storage import audit, clock, inbox_entries, memberships, subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Upserted:
    """The subjects as stored, in the order they were asked for. `changed` counts those consumers are told about."""

    subjects: tuple[Subject, ...]
    created: int
    changed: int


async def upsert(
    conn: Connection[Record], project_no: int, patches: Sequence[SubjectPatch], *, hops: int | None = None
) -> Upserted:
    """Create subjects, or merge into those that are there: all or none.

    What changes nothing is not written and raises no revision. `hops`: of the execution that does so, if one does
    (domain/entry.py). Raises InvalidArgument with every fault found, before anything is written, and Conflict
    ETAG_MISMATCH.
    """
    _refuse(await _faults(patches))
    ids = [patch.subject_id for patch in patches]
    keys, created = await subjects.ensure_locked(conn, project_no, ids, await clock.now(conn))
    now = await clock.now(conn)
    kept = await subjects.read(conn, project_no, keys.values())
    merged: list[Subject] = []
    written: dict[SubjectKey, Subject] = {}
    new = {keys[subject_id] for subject_id in created}
    faults: list[Fault] = []
    time = TimeSlice()
    for patch in patches:
        if time.over:
            await time.next()
        key = keys[patch.subject_id]
        # Two ids can be those of one subject, which is patched twice.
        before = written.get(key, kept[key])
        subject = _merge(before, patch, now, is_new=key in new)
        merged.append(subject)
        if subject is not before:
            written[key] = subject
            if fault := size_fault(subject.attributes, under(patch.path, "attributes")):
                faults.append(fault)
    _refuse(faults)
    await subjects.write(conn, project_no, written)
    told = written.keys() | new
    await inbox_entries.add(conn, sorted(told), "attributes", now, hops=hops)
    return Upserted(subjects=tuple(merged), created=len(created), changed=len(told))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some subjects, newest first. `last` is where the next page begins; None after the last one."""

    subjects: tuple[Subject, ...]
    last: int | None


async def page(conn: Connection[Record], project_no: int, *, before: int | None, limit: int) -> Page:
    """At most `limit` subjects, newest first, from where an earlier page ended."""
    found = await subjects.page(conn, project_no, before=before, limit=limit + 1)
    shown = found[:limit]
    return Page(
        subjects=tuple(subject for _, subject in shown),
        last=shown[-1][0].subject_no if len(found) > limit else None,
    )


async def get(conn: Connection[Record], project_no: int, subject_id: str) -> Subject:
    """Raises NotFound SUBJECT_NOT_FOUND."""
    _, subject = await find(conn, project_no, subject_id)
    return subject


async def find(conn: Connection[Record], project_no: int, subject_id: str) -> tuple[SubjectKey, Subject]:
    """Raises NotFound SUBJECT_NOT_FOUND."""
    found = await subjects.find(conn, project_no, subject_id)
    if found is None:
        raise unknown(subject_id)
    return found


async def delete(conn: Connection[Record], scope: Scope, secret: bytes, subject_id: str, expected: Expected) -> None:
    """Remove a subject with its events, preferences and memberships; what journeys recorded stays, without a person.

    With any of its ids: those of subjects that were merged into it are nobody's from then on.

    Two copies outlast it for as long as they are kept of anybody: closed runs in Temporal, whose ids hold the subject's
    (the namespace's retention), and stored answers to repeated requests (7 days).

    Raises NotFound SUBJECT_NOT_FOUND, Conflict ETAG_MISMATCH, FailedPrecondition SUBJECT_HAS_RUNNING_EXECUTIONS.
    """
    key, _ = await find(conn, scope.project_no, subject_id)
    await memberships.hold_off_passes(conn, key)
    if not await subjects.lock(conn, [key]):
        raise unknown(subject_id)
    now = await clock.now(conn)
    subject = (await subjects.read(conn, scope.project_no, [key]))[key]
    expected.require(revision=subject.revision, updated_at=subject.updated_at, subjectId=subject_id)
    if running := await subjects.running_executions(conn, key):
        raise FailedPrecondition(
            "SUBJECT_HAS_RUNNING_EXECUTIONS",
            f"{running} executions of this subject are running",
            subjectId=subject_id,
            runningExecutions=str(running),
        )
    await memberships.delete(conn, key)
    await subjects.delete(conn, key, now)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=SUBJECT_DELETED,
        resource_id=subject_hash(secret, scope.project_id, subject.subject_id),
    )


def _merge(subject: Subject, patch: SubjectPatch, now: datetime, *, is_new: bool) -> Subject:
    """The subject after the patch; the very same one if nothing changes."""
    patch.expected.require(revision=subject.revision, updated_at=subject.updated_at, subjectId=patch.subject_id)
    attributes = merge_patch(subject.attributes, patch.attributes)
    time_zone = subject.time_zone if patch.time_zone is None else (patch.time_zone or None)
    if equal(attributes, subject.attributes) and time_zone == subject.time_zone:
        return subject
    return Subject(
        subject_id=subject.subject_id,
        attributes=attributes,
        time_zone=time_zone,
        revision=subject.revision if is_new else subject.revision + 1,
        created_at=subject.created_at,
        updated_at=subject.updated_at if is_new else later(subject.updated_at, now),
        alias_ids=subject.alias_ids,
    )


async def _faults(patches: Sequence[SubjectPatch]) -> list[Fault]:
    """What can be seen to be wrong before the subjects are read."""
    faults: list[Fault] = []
    seen: set[str] = set()
    time = TimeSlice()
    for patch in patches:
        if time.over:
            await time.next()
        path = under(patch.path, "id")
        if fault := id_fault(patch.subject_id, path):
            faults.append(fault)
        elif patch.subject_id in seen:
            faults.append(Fault(path=path, reason="DUPLICATE_ID", message="a subject may be named once"))
        seen.add(patch.subject_id)
        # A patch within the limits can still make a subject that is not.
        if fault := size_fault(patch.attributes, under(patch.path, "attributes")):
            faults.append(fault)
        if patch.time_zone and not is_time_zone(patch.time_zone):
            message = "must be a zone of the IANA time zone database, such as Europe/Berlin"
            faults.append(Fault(path=under(patch.path, "timeZone"), reason="INVALID_VALUE", message=message))
    return faults


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise InvalidArgument(faults)


def unknown(subject_id: str) -> NotFound:
    return NotFound("SUBJECT_NOT_FOUND", f"there is no subject {subject_id}", subjectId=subject_id)
