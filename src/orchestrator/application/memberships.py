"""Keeping the stored membership of few subjects true, within the transaction that learned of a change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.segment_rules import SegmentRules
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.flip import next_flip
from orchestrator.storage import facts, memberships
from orchestrator.storage.memberships import Cause, Membership, Recorded, Transition


async def refresh(
    conn: Connection[Record],
    project_no: int,
    rules: SegmentRules,
    keys: Sequence[SubjectKey],
    told: Mapping[SubjectKey, Cause],
    now: datetime,
) -> list[Recorded]:
    """Hold these subjects, whose rows the caller holds and whose buckets it shares, against the rules at `now`.

    `told` says what has happened to whom; of the others a window has run out. Returns who came and went.
    """
    if not rules.asked or not keys:
        return []
    known = await facts.load(conn, project_no, keys, rules.needs)
    stored = await memberships.read(conn, project_no, list(known))
    changed: dict[SubjectKey, Membership] = {}
    transitions: list[Transition] = []
    for key, subject in known.items():
        before = stored.get(key)
        after = _membership(rules, subject.facts, before, now)
        if before is None or _differs(before, after, now):
            changed[key] = after
        transitions += _transitions(key, rules, before, after, told.get(key, "time"))
    return await memberships.write(conn, project_no, changed, transitions, now)


def _membership(rules: SegmentRules, subject: Facts, before: Membership | None, now: datetime) -> Membership:
    within = {number for number, asked in rules.asked.items() if evaluate(asked, subject, now)}
    if before is not None:
        within |= rules.unasked.intersection(before.segment_nos)
    flips = (next_flip(asked, subject, now) for asked in rules.asked.values())
    return Membership(
        segment_nos=tuple(sorted(within)),
        next_due=min((flip for flip in flips if flip is not None), default=None),
    )


def _differs(before: Membership, after: Membership, now: datetime) -> bool:
    """Whether it has to be written. What is looked at too early costs one more look, and is not worth a write."""
    if before.segment_nos != after.segment_nos:
        return True
    if before.next_due is None or after.next_due is None:
        return after.next_due is not None or (before.next_due is not None and before.next_due <= now)
    return after.next_due < before.next_due or before.next_due <= now


def _transitions(
    key: SubjectKey, rules: SegmentRules, before: Membership | None, after: Membership, cause: Cause
) -> Iterable[Transition]:
    earlier = set(before.segment_nos) if before is not None else set()
    # Numbers of segments that were deleted vanish without a word.
    for number in sorted((earlier & rules.ids.keys()) ^ set(after.segment_nos)):
        yield Transition(
            key=key,
            segment_no=number,
            entered=number not in earlier,
            cause="definition" if number in rules.building else cause,
        )
