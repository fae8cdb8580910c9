"""Segments: made, changed, deleted; and the members of those that are lists. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import authoring
from orchestrator.application.predicates import predicate_faults
from orchestrator.application.segment_rules import RuleBook, read_rules, rules_of, stored_rules
from orchestrator.domain import audit as actions
from orchestrator.domain.audit import Action
from orchestrator.domain.conditions import segment_topic
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, PermissionDenied
from orchestrator.domain.resource import Page, Place, Resource, differ
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.segment import MAX_MEMBERS_PER_CALL, STATIC, SYSTEM, Member, Segment, User, faults_in
from orchestrator.domain.subject import id_fault
from orchestrator.predicates.cohorts import (
    MAX_INLINED_COHORTS,
    MAX_INLINED_LEAVES,
    CohortCycle,
    Cohorts,
    TooManyCohorts,
    TooManyLeaves,
)
from orchestrator.predicates.faults import Fault, under
from orchestrator.storage import (
    audit,
    clock,
    inbox_entries,
    journey_pokes,
    journeys,
    memberships,
    segment_runs,
    static_members,
    subjects,
    topic_pokes,
)
from orchestrator.storage import segments as stored
from orchestrator.storage.segments import Freshness, Held

SEGMENT = authoring.Noun(
    name="segment",
    prefix="seg",
    store=stored.segments,
    created=actions.SEGMENT_CREATED,
    updated=actions.SEGMENT_UPDATED,
    deleted=actions.SEGMENT_DELETED,
)

#: What executions are parked for that ask about a segment that is gone (predicates/evaluate.py).
PARKED = "segment_not_found"

#: Users of a segment that a refusal names.
USERS_NAMED = 20


async def create(conn: Connection[Record], scope: Scope, segment_id: str, segment: Segment) -> Resource[Segment]:
    """Make a segment. Workers hold everybody against its rules. Raises InvalidArgument with all faults, and
    AlreadyExists.
    """
    made = await authoring.create(conn, scope, SEGMENT, segment_id, segment, partial(_check, segment_id))
    await _rules_changed(conn, scope.project_no, made.id, itself=False)
    return made


async def get(conn: Connection[Record], scope: Scope, segment_id: str) -> Resource[Segment]:
    """Raises NotFound."""
    return await authoring.get(conn, scope, SEGMENT, segment_id)


async def page(conn: Connection[Record], scope: Scope, after: Place | None, limit: int) -> Page[Segment]:
    """System segments first, each kind newest first."""
    return await authoring.page(conn, scope, SEGMENT, after, limit)


async def update(
    conn: Connection[Record], scope: Scope, segment_id: str, changes: Mapping[str, Any], expected: Expected
) -> Resource[Segment]:
    """Set the named fields. Raises NotFound, PermissionDenied SYSTEM_SEGMENT, Conflict, InvalidArgument."""
    before = await authoring.get(conn, scope, SEGMENT, segment_id)
    after = await authoring.update(
        conn,
        scope,
        SEGMENT,
        segment_id,
        lambda before: _edited(before, changes, segment_id),
        expected,
        partial(_check, segment_id),
    )
    if differ(before.content.predicate, after.content.predicate):
        await _rules_changed(conn, scope.project_no, segment_id, itself=True)
    return after


async def delete(conn: Connection[Record], scope: Scope, segment_id: str, expected: Expected, *, force: bool) -> None:
    """Remove a segment; its members, which nothing finds any more, go in the background.

    Raises NotFound, PermissionDenied SYSTEM_SEGMENT, Conflict, and, unless `force`, FailedPrecondition SEGMENT_IN_USE
    while audiences, other segments, trigger contracts, drafts or versions in use name it; with `force` these meet a
    segment that does not exist, and the audit log says so of journeys that start on it: nothing else will fail there.
    """

    async def clear(segment: Resource[Segment]) -> None:
        _refuse_system(segment.content, segment_id)
        if not force and (users := await stored.users(conn, scope.project_no, segment_id, limit=USERS_NAMED)):
            raise _in_use(segment_id, users)
        # Whoever is adding members has committed then, and nobody adds any more. They may be many, and all that is
        # changed in the project waits for us: they go later (application/upkeep.py).
        await stored.hold_alone(conn, scope.project_no, segment_id)

    await authoring.delete(conn, scope, SEGMENT, segment_id, expected, clear)
    now = await clock.now(conn)
    for journey_id, contract_id in await journeys.listening_to(conn, scope.project_no, segment_id):
        await audit.append(
            conn,
            project_no=scope.project_no,
            at=now,
            actor=scope.actor,
            action=actions.TRIGGER_SEGMENT_DELETED,
            resource_id=journey_id,
            metadata={"segmentId": segment_id} | ({"triggerContractId": contract_id} if contract_id else {}),
        )
    await _rules_changed(conn, scope.project_no, segment_id, itself=False)


async def evaluate(conn: Connection[Record], scope: Scope, segment_id: str) -> int:
    """Have everybody held against the rules of this segment now; returns the run's number.

    A worker does it, and `evaluated_at` rises to an instant that is not before this call. Raises NotFound,
    FailedPrecondition SEGMENT_IS_A_LIST, and COHORT_NOT_FOUND while its rules name a segment that is gone.
    """
    held = await stored.hold(conn, scope.project_no, segment_id)
    if held is None:
        raise SEGMENT.not_found(segment_id)
    if held.kind == STATIC:
        raise FailedPrecondition("SEGMENT_IS_A_LIST", "a list has no rules to evaluate", segmentId=segment_id)
    if gone := (await read_rules(conn, scope.project_no)).broken.get(held.segment_no):
        raise FailedPrecondition(
            "COHORT_NOT_FOUND",
            f"its rules name a segment that is gone, are past a limit, or do not read: {gone}",
            segmentId=segment_id,
            cohortId=gone,
        )
    now = await clock.now(conn)
    run_no = await segment_runs.request(conn, scope.project_no, "evaluate", held.segment_no, now)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=actions.SEGMENT_EVALUATION_REQUESTED,
        resource_id=segment_id,
    )
    return run_no


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a segment's members, beside its definition. `broken`: a cohort its rules name is gone."""

    freshness: Freshness
    size: int
    broken: str | None


async def states(
    conn: Connection[Record], project_no: int, rule_book: RuleBook, segment_ids: Collection[str]
) -> dict[str, State]:
    """Of these segments, by id."""
    fresh = await stored.freshness(conn, project_no, segment_ids)
    sizes = await memberships.sizes(conn, project_no, (one.segment_no for one in fresh.values()))
    rules, _ = await rule_book.current(conn, project_no)
    return {
        segment_id: State(freshness=one, size=sizes.get(one.segment_no, 0), broken=rules.broken.get(one.segment_no))
        for segment_id, one in fresh.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """How many members came or went, and for how many of those named nothing did (repeats count each time)."""

    changed: int
    unchanged: int


async def add_members(conn: Connection[Record], scope: Scope, segment_id: str, subject_ids: Sequence[str]) -> Changed:
    """Put subjects into a list; unknown ones are created. Consumers of the inbox hear of each who was not in it.

    Raises InvalidArgument with all faults, NotFound, FailedPrecondition SEGMENT_NOT_STATIC.
    """
    held = await _static(conn, scope, segment_id, subject_ids)
    keys, _ = await subjects.ensure_locked(conn, scope.project_no, subject_ids, await clock.now(conn))
    now = await clock.now(conn)
    added = await static_members.add(conn, scope.project_no, held.segment_no, sorted(set(keys.values())), now)
    await _tell(conn, scope, segment_id, added, now, actions.SEGMENT_MEMBERS_ADDED, "added")
    return Changed(changed=len(added), unchanged=len(subject_ids) - len(added))


async def remove_members(
    conn: Connection[Record], scope: Scope, segment_id: str, subject_ids: Sequence[str]
) -> Changed:
    """Take subjects out of a list. Consumers of the inbox hear of each who was in it.

    Raises InvalidArgument with all faults, NotFound, FailedPrecondition SEGMENT_NOT_STATIC.
    """
    held = await _static(conn, scope, segment_id, subject_ids)
    keys = await subjects.find_locked(conn, scope.project_no, subject_ids)
    now = await clock.now(conn)
    locked = sorted(set(keys.values()))
    removed = await static_members.remove(conn, scope.project_no, held.segment_no, locked, now)
    await _tell(conn, scope, segment_id, removed, now, actions.SEGMENT_MEMBERS_REMOVED, "removed")
    return Changed(changed=len(removed), unchanged=len(subject_ids) - len(removed))


#: Before the first member.
FIRST = (-1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """A part of a segment's members; `end` is the place behind which the list goes on, None when it does not."""

    members: Sequence[Member]
    end: tuple[int, int] | None


async def members(
    conn: Connection[Record], scope: Scope, segment_id: str, *, after: tuple[int, int], limit: int
) -> Members:
    """At most `limit` members behind a place. Raises NotFound."""
    segment = await stored.find(conn, scope.project_no, segment_id)
    if segment is None:
        raise SEGMENT.not_found(segment_id)
    pages = static_members if segment.kind == STATIC else memberships
    found = await pages.page(conn, scope.project_no, segment.segment_no, after=after, limit=limit + 1)
    return Members(members=found[:limit], end=found[limit - 1].place if len(found) > limit else None)


async def _check(
    segment_id: str, conn: Connection[Record], project_no: int, segment: Segment, changed: Collection[str]
) -> list[Fault]:
    """Everything that is wrong with the segment, for itself and among the others."""
    faults = faults_in(segment, "")
    if segment.predicate is None or "predicate" not in changed:
        return faults
    faults += await predicate_faults(conn, project_no, segment.predicate, "rules", inlined=False)
    return faults or await _faults_among_others(conn, project_no, segment_id, segment.predicate)


async def _faults_among_others(
    conn: Connection[Record], project_no: int, segment_id: str, predicate: Any
) -> list[Fault]:
    """What these rules would do to all that asks about them, and what they ask about would do to them."""
    rules = rules_of(await stored.ruled(conn, project_no))
    cohorts = Cohorts({**rules, segment_id: stored_rules(predicate)})
    dependents = cohorts.dependents(segment_id)
    for asking in [segment_id, *sorted(dependents)]:
        try:
            cohorts.rules_of(asking)
        except CohortCycle as cycle:
            message = f"the segment would ask about itself: {cycle}"
            return [Fault(path="rules", reason="COHORT_CYCLE", message=message)]
        except TooManyCohorts:
            message = f"{asking or 'it'} would ask about more than {MAX_INLINED_COHORTS} segments within each other"
            return [Fault(path="rules", reason="TOO_DEEP", message=message)]
        except TooManyLeaves:
            return [_too_large(asking or "it")]
    for user in await stored.asking(conn, project_no, dependents | {segment_id}):
        try:
            cohorts.inline(stored_rules(user.predicate))
        except TooManyLeaves:
            return [_too_large(f"the {user.kind.replace('_', ' ')} {user.id}")]
    return []


def _too_large(what: str) -> Fault:
    message = f"with the rules of its cohorts put in, {what} has more than {MAX_INLINED_LEAVES} leaves"
    return Fault(path="rules", reason="TOO_LARGE", message=message)


async def _rules_changed(conn: Connection[Record], project_no: int, segment_id: str, *, itself: bool) -> None:
    """Have everybody held against the rules that are new: those of a segment, and of all that ask about it."""
    ruled = await stored.ruled(conn, project_no)
    cohorts = Cohorts(rules_of(ruled))
    dependents = cohorts.dependents(segment_id)
    changed = dependents | ({segment_id} if itself else set())
    await stored.rebuild(conn, project_no, changed)
    # Branches that asked about one that was gone may ask again.
    asked = dependents | {segment_id}
    now = await clock.now(conn)
    await journey_pokes.request_naming(conn, project_no, asked, PARKED, now)
    # And whoever awaits one of them finds it to be something else.
    await topic_pokes.request(conn, project_no, map(segment_topic, asked), now)
    if changed or any(one.segment_id == segment_id for one in ruled):
        await segment_runs.request(conn, project_no, "build", None, now)


def _edited(before: Segment, changes: Mapping[str, Any], segment_id: str) -> Segment:
    _refuse_system(before, segment_id)
    if changes.get("kind", before.kind) != before.kind:
        raise InvalidArgument.of("kind", "INVALID_VALUE", "the kind of a segment never changes")
    return replace(before, **changes)


def _refuse_system(segment: Segment, segment_id: str) -> None:
    if segment.kind == SYSTEM:
        raise PermissionDenied("SYSTEM_SEGMENT", "system segments are read-only", segmentId=segment_id)


def _in_use(segment_id: str, users: Sequence[User]) -> FailedPrecondition:
    names = ", ".join(f"{user.kind.replace('_', ' ')} {user.id}" for user in users)
    faults = [
        Fault(path=f"{user.kind}/{user.id}", reason="SEGMENT_IN_USE", message=f"names the segment {segment_id}")
        for user in users
    ]
    return FailedPrecondition(
        "SEGMENT_IN_USE", f"the segment is used by {names}", faults, segmentId=segment_id, users=names
    )


async def _static(conn: Connection[Record], scope: Scope, segment_id: str, subject_ids: Sequence[str]) -> Held:
    """The list whose members shall change, held until the transaction ends."""
    if faults := _id_faults(subject_ids):
        raise InvalidArgument(faults)
    held = await stored.hold(conn, scope.project_no, segment_id)
    if held is None:
        raise SEGMENT.not_found(segment_id)
    if held.kind != STATIC:
        raise FailedPrecondition(
            "SEGMENT_NOT_STATIC", "only static segments are lists", segmentId=segment_id, kind=held.kind
        )
    return held


def _id_faults(subject_ids: Sequence[str]) -> list[Fault]:
    path = "subjectIds"
    if not subject_ids:
        return [Fault(path=path, reason="REQUIRED", message="at least one subject is required")]
    if len(subject_ids) > MAX_MEMBERS_PER_CALL:
        return [Fault(path=path, reason="TOO_LARGE", message=f"has at most {MAX_MEMBERS_PER_CALL} elements")]
    faults = (id_fault(subject_id, under(path, index)) for index, subject_id in enumerate(subject_ids))
    return [fault for fault in faults if fault is not None]


async def _tell(
    conn: Connection[Record],
    scope: Scope,
    segment_id: str,
    moved: Mapping[SubjectKey, int],
    now: datetime,
    action: Action,
    count: str,
) -> None:
    if not moved:
        return
    await inbox_entries.add_moved(conn, moved, now)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=action,
        resource_id=segment_id,
        metadata={count: len(moved)},
    )
