"""Keeping the stored membership of subjects true, within the transaction that learned of a change.

Few are asked in Python, from which an answer comes soonest; many in one statement, which takes least for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.segment_rules import SegmentRules
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import Facts, needs
from orchestrator.predicates.flip import next_flip
from orchestrator.predicates.sql import query
from orchestrator.predicates.sql.inputs import Among
from orchestrator.predicates.sql.query import Query
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import facts, memberships, segment_looks
from orchestrator.storage.event_names import numbers_of
from orchestrator.storage.memberships import Cause, Membership, Recorded, Transition
from orchestrator.storage.segment_looks import Look

#: More subjects than these are asked by a statement. Planning it takes as long as asking about so many in Python.
FEW = 50


async def refresh(
    conn: Connection[Record],
    project_no: int,
    rules: SegmentRules,
    keys: Sequence[SubjectKey],
    told: Mapping[SubjectKey, Cause],
    heard: Collection[int],
    now: datetime,
) -> list[Recorded]:
    """Hold these subjects, whose rows the caller holds and whose buckets it shares, against the rules at `now`.

    `told` says what has happened to whom; of the others a window has run out. Returns who came to segments of `heard`,
    and left them.
    """
    if not rules.asked:
        return []
    if untold := [key for key in keys if key not in told]:
        stored = await memberships.read(conn, project_no, untold)
        # Somebody else may have been faster.
        idle = {key for key in untold if not _is_due(stored.get(key), now)}
        keys = [key for key in keys if key not in idle]
    if not keys:
        return []
    first_looks = await memberships.first_looks(conn, project_no, keys, rules.new)
    # What has happened since the inbox was read comes before the past. Only a statement sees both at one instant.
    if len(keys) <= FEW and "backfill" not in told.values():
        moved = await _ask(conn, project_no, rules, keys, told, first_looks, now)
        return [one for one in moved if one.transition.segment_no in heard]
    look = Look(
        query=await compiled(conn, project_no, rules, rules.asked, now, Among.SUBJECTS),
        asked=rules.asked.keys(),
        unasked=rules.unasked,
        new=rules.new,
        first_looks=first_looks,
        heard=heard,
        as_of=now,
    )
    return await segment_looks.of_subjects(conn, project_no, keys, told, look)


async def compiled(
    conn: Connection[Record],
    project_no: int,
    rules: SegmentRules,
    asked: Mapping[int, Predicate],
    now: datetime,
    among: Among,
) -> Query:
    """These questions, which are some or all of the rules', as a statement, as of `now`."""
    sources = needs(asked.values()).events
    numbers = await numbers_of(conn, project_no, sources)
    name_nos = {source: numbers.get(source) for source in sources}
    return query.compile(asked, name_nos=name_nos, cohort_nos=rules.lists, as_of=now, among=among)


async def _ask(
    conn: Connection[Record],
    project_no: int,
    rules: SegmentRules,
    keys: Sequence[SubjectKey],
    told: Mapping[SubjectKey, Cause],
    first_looks: Mapping[SubjectKey, frozenset[int]],
    now: datetime,
) -> list[Recorded]:
    """What `segment_looks.of_subjects` does, of few."""
    stored = await memberships.read(conn, project_no, keys)
    known = await facts.load(conn, project_no, keys, rules.needs)
    changed: dict[SubjectKey, Membership] = {}
    transitions: list[Transition] = []
    for key, subject in known.items():
        before = stored.get(key)
        after = _with_unasked(rules, before, _membership(rules, subject.facts, now))
        first = first_looks.get(key, frozenset())
        if before is None or first or _differs(before, after, now):
            changed[key] = after
        transitions += _transitions(key, rules, before, after, first, told.get(key, "time"))
    return await memberships.write(conn, project_no, changed, transitions, now, new=rules.new)


def _membership(rules: SegmentRules, subject: Facts, now: datetime) -> Membership:
    flips = (next_flip(asked, subject, now) for asked in rules.asked.values())
    return Membership(
        segment_nos=tuple(sorted(number for number, asked in rules.asked.items() if evaluate(asked, subject, now))),
        next_due=min((flip for flip in flips if flip is not None), default=None),
    )


def _with_unasked(rules: SegmentRules, before: Membership | None, found: Membership) -> Membership:
    kept = rules.unasked.intersection(before.segment_nos) if before is not None else frozenset()
    return replace(found, segment_nos=tuple(sorted({*found.segment_nos, *kept}))) if kept else found


def _is_due(stored: Membership | None, now: datetime) -> bool:
    return stored is None or (stored.next_due is not None and stored.next_due <= now)


def _differs(before: Membership, after: Membership, now: datetime) -> bool:
    """Whether it has to be written. What is looked at too early costs one more look, and is not worth a write."""
    if before.segment_nos != after.segment_nos:
        return True
    if before.next_due is None or after.next_due is None:
        return after.next_due is not None or (before.next_due is not None and before.next_due <= now)
    return after.next_due < before.next_due or before.next_due <= now


def _transitions(
    key: SubjectKey,
    rules: SegmentRules,
    before: Membership | None,
    after: Membership,
    first: Collection[int],
    cause: Cause,
) -> Iterable[Transition]:
    """How it moved, for this cause, but where it met new rules for the first time."""
    earlier = set(before.segment_nos) if before is not None else set()
    # Numbers of segments that were deleted vanish without a word.
    for number in sorted((earlier & rules.ids.keys()) ^ set(after.segment_nos)):
        yield Transition(
            key=key,
            segment_no=number,
            entered=number not in earlier,
            cause="definition" if number in first else cause,
        )
