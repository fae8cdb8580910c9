"""Making one subject of two (docs/adr/0004-merging.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.derived_events import count_missing
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.subjects import unknown
from orchestrator.domain.attributes import size_fault
from orchestrator.domain.audit import SUBJECT_MERGED
from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.subject import Subject, id_fault, subject_hash, together
from orchestrator.predicates.evaluate import evaluate
from orchestrator.storage import (
    audit,
    awaiting,
    clock,
    conversions,
    derived_events,
    facts,
    inbox_entries,
    journey_pokes,
    memberships,
    merging,
    refusal_counts,
    static_members,
    subject_aliases,
    subjects,
)
from orchestrator.storage.memberships import Membership, Transition
from orchestrator.storage.merging import Step

#: Events that one merge moves, at most: as long as that takes, ingest into the project waits.
AT_MOST = 100_000


async def merge(
    conn: Connection[Record], scope: Scope, secret: bytes, rule_book: RuleBook, subject_id: str, *, into: str
) -> Subject:
    """Give `into` all that the subject has, and its id; returns what `into` is then.

    Raises InvalidArgument, NotFound SUBJECT_NOT_FOUND, FailedPrecondition SUBJECT_ALREADY_MERGED when both ids name one
    subject, and FailedPrecondition SUBJECT_TOO_LARGE, also where it has more events than can be moved at once.
    """
    _refuse_ids(subject_id, into)
    project_no = scope.project_no
    given, kept = await _hold(conn, project_no, subject_id, into)
    if await merging.has_more_events(conn, given, AT_MOST):
        raise FailedPrecondition(
            "SUBJECT_TOO_LARGE",
            f"{subject_id} has more than {AT_MOST:,} events, and all events of the project wait while they are moved; "
            "the other one can be merged into it",
            subjectId=subject_id,
            intoSubjectId=into,
        )
    # Who writes about many subjects holds none of them; whoever knows the old key has committed behind this.
    await subjects.hold_off_ingest(conn, project_no)
    now = await clock.now(conn)
    before = await subjects.read(conn, project_no, [given, kept])
    merged = together(before[given], before[kept], now)
    if fault := size_fault(merged.attributes, "attributes"):
        raise FailedPrecondition(
            "SUBJECT_TOO_LARGE",
            f"together the attributes are too large: {fault.message}",
            [fault],
            subjectId=subject_id,
            intoSubjectId=into,
        )
    within = await memberships.read(conn, project_no, [given, kept])
    # Who tells executions something in the order of their keys may have passed the place to which these move.
    await journey_pokes.poke_subjects(conn, given, now)
    # For the survivor's own anything may become another: those who listen look again.
    await awaiting.poke_subject(conn, kept, now)
    untold = await merging.untold(conn, given)
    own = await static_members.of(conn, kept) | (set(within[kept].segment_nos) if kept in within else set())
    held_twice = await merging.fold_held(conn, given, kept)
    added = await merging.give(conn, given, kept)
    # What happened to either has happened to the entries of both.
    await conversions.look_back(conn, project_no, [kept])
    await subjects.write(conn, project_no, {kept: merged})
    await subject_aliases.add(conn, given, before[given].subject_id, kept, now)
    for kind in await derived_events.building(conn, project_no):
        await count_missing(conn, kind, [kept])
    # Whoever is in a segment himself does not come to it, nor leave it, as somebody else.
    moved = {number: steps for number, steps in untold.items() if number not in own}
    if given in within:
        await _carry(conn, rule_book, within[given], kept, within.get(kept), moved.keys(), now)
    await merging.retell(
        conn,
        kept,
        [*_followed(moved.values()), *(_joined(number, now) for number in added if number not in moved)],
        [step.transition_no for steps in untold.values() for step in steps if step.transition_no is not None],
    )
    await inbox_entries.add(conn, [kept], "attributes", now)
    await inbox_entries.add(conn, [kept], "preferences", now)
    await audit.append(
        conn,
        project_no=project_no,
        at=now,
        actor=scope.actor,
        action=SUBJECT_MERGED,
        resource_id=subject_hash(secret, scope.project_id, before[given].subject_id),
        metadata={"into": subject_hash(secret, scope.project_id, before[kept].subject_id)},
    )
    again = EntryRefusal.REENTRY.value
    slots = (refusal_counts.slot(project_no, journey_id, again, now, kept.bucket) for journey_id in held_twice)
    await refusal_counts.add(conn, Counter(slots))
    return merged


async def _hold(conn: Connection[Record], project_no: int, subject_id: str, into: str) -> tuple[SubjectKey, SubjectKey]:
    """Both subjects, whose rows are held from here on, and at which no pass looks."""
    while True:
        keys = await subjects.find_keys(conn, project_no, [subject_id, into])
        for wanted in (subject_id, into):
            if wanted not in keys:
                raise unknown(wanted)
        given, kept = keys[subject_id], keys[into]
        if given == kept:
            raise FailedPrecondition(
                "SUBJECT_ALREADY_MERGED",
                f"{subject_id} and {into} are one subject",
                subjectId=subject_id,
                intoSubjectId=into,
            )
        # What was locked in vain is let go, so that all is locked in order.
        attempt = conn.transaction()
        await attempt.start()
        for key in sorted((given, kept)):
            await memberships.hold_off_passes(conn, key)
        if len(await subjects.lock(conn, [given, kept])) == 2:
            await attempt.commit()
            return given, kept
        await attempt.rollback()


async def _carry(
    conn: Connection[Record],
    rule_book: RuleBook,
    given: Membership,
    kept: SubjectKey,
    own: Membership | None,
    moved: Set[int],
    now: datetime,
) -> None:
    """Let `kept` be where the other one was, as far as that holds for both together.

    Nobody came who had not been there, so this is no news: it starts nothing. What else has changed is found, and told,
    by the consumer of the inbox. To where the other one has `moved`, and somebody is still to be told of it, `kept` has
    come all the same; where it does not belong, it leaves as soon as the consumer looks.
    """
    earlier: Collection[int] = own.segment_nos if own is not None else ()
    if not (other := set(given.segment_nos).difference(earlier)):
        return
    rules, _ = await rule_book.current(conn, kept.project_no)
    known = (await facts.load(conn, kept.project_no, [kept], rules.needs))[kept].facts
    carried = sorted(
        number
        for number in other
        if number in rules.unasked
        or (number in moved and number in rules.ids)
        or (number in rules.asked and evaluate(rules.asked[number], known, now))
    )
    membership = Membership(segment_nos=tuple(sorted({*earlier, *carried})), next_due=now)
    transitions = [
        Transition(key=kept, segment_no=number, entered=True, cause="merge")
        for number in carried
        if number not in moved
    ]
    await memberships.count(conn, kept.project_no, moved & set(carried))
    await memberships.write(conn, kept.project_no, {kept: membership}, transitions, now, new=None)


def _followed(moved: Iterable[Sequence[Step]]) -> Iterator[Step]:
    """These steps, by segment, for somebody who is in none of the segments."""
    for first, *rest in moved:
        if not first.entered:
            yield replace(first, entered=True, cause="merge", transition_no=None)
        yield first
        yield from rest


def _joined(segment_no: int, now: datetime) -> Step:
    return Step(segment_no=segment_no, entered=True, cause="merge", at=now, transition_no=None)


def _refuse_ids(subject_id: str, into: str) -> None:
    faults = [id_fault(subject_id, "subjectId"), id_fault(into, "intoSubjectId")]
    if found := [fault for fault in faults if fault is not None]:
        raise InvalidArgument(found)
    if subject_id == into:
        raise InvalidArgument.of("intoSubjectId", "INVALID_VALUE", "a subject is not merged into itself")
