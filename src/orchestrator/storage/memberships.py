"""Stored membership of segments with rules, what changed in it, and when it has to be looked at again.

Two kinds of writers take part: those of few subjects hold these subjects' rows and share their buckets; passes over
many have whole buckets to themselves and lock no subject.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.segment import Member

#: Why a subject came or went: something happened to it, a window ran out, the rules are new, the past has changed, or
#: it was merged with one who was in the segment.
Cause = Literal["data", "time", "definition", "backfill", "merge"]

# Class of the advisory locks on buckets; the other half of the key is 256 · project_no + bucket.
_BUCKETS = 0x5E6

_SHARE = """
SELECT project_no, bucket
  FROM unnest($2::int[], $3::smallint[]) AS w (project_no, bucket)
 WHERE pg_try_advisory_xact_lock_shared($1, 256 * project_no + bucket)
"""


async def share_buckets(conn: Connection[Record], keys: Sequence[SubjectKey]) -> list[SubjectKey]:
    """Those of these subjects whose bucket no pass is at; none can begin there before the transaction ends.

    Waits for nobody. Comes before the subjects' locks.
    """
    buckets = sorted({(key.project_no, key.bucket) for key in keys})
    rows = await conn.fetch(_SHARE, _BUCKETS, [b[0] for b in buckets], [b[1] for b in buckets])
    shared = {(row[0], row[1]) for row in rows}
    return [key for key in keys if (key.project_no, key.bucket) in shared]


_WAIT_TO_SHARE = "SELECT pg_advisory_xact_lock_shared($1, $2)"


async def hold_off_passes(conn: Connection[Record], key: SubjectKey) -> None:
    """Let no pass look at this subject before the transaction ends; waits for one that does. Before the row's lock."""
    await conn.execute(_WAIT_TO_SHARE, _BUCKETS, 256 * key.project_no + key.bucket)


_TAKE = """
SELECT pg_advisory_xact_lock($1, 256 * $2 + bucket) FROM generate_series($3::int, $4::int) AS bucket ORDER BY bucket
"""


async def take_buckets(conn: Connection[Record], project_no: int, first: int, last: int) -> None:
    """Have these buckets alone until the transaction ends; waits for those who share them."""
    await conn.execute(_TAKE, _BUCKETS, project_no, first, last)


_DUE = """
SELECT project_no, bucket, subject_no FROM subject_segments WHERE next_due <= $1 ORDER BY next_due LIMIT $2
"""


async def due(conn: Connection[Record], now: datetime, limit: int) -> list[SubjectKey]:
    """At most `limit` subjects whose membership time may have changed by now, longest overdue first."""
    return [SubjectKey(*row) for row in await conn.fetch(_DUE, now, limit)]


_POSTPONE = """
UPDATE subject_segments SET next_due = $4 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND next_due < $4
"""


async def postpone(conn: Connection[Record], key: SubjectKey, until: datetime) -> None:
    """Leave a subject alone until then whose membership cannot be worked out: looking at once helps nobody."""
    await conn.execute(_POSTPONE, key.project_no, key.bucket, key.subject_no, until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """One subject's. `segment_nos` ascend; `next_due` None: time alone changes nothing."""

    segment_nos: tuple[int, ...]
    next_due: datetime | None


# Subjects are looked up one by one, whatever the statistics say.
_READ = """
SELECT w.bucket, w.subject_no, m.segment_nos, m.next_due
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT segment_nos, next_due FROM subject_segments
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no
       OFFSET 0) AS m
"""


async def read(conn: Connection[Record], project_no: int, keys: Sequence[SubjectKey]) -> dict[SubjectKey, Membership]:
    """What is stored about these subjects; nothing about those that were never looked at."""
    rows = await conn.fetch(_READ, project_no, [k.bucket for k in keys], [k.subject_no for k in keys])
    return {
        SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]): Membership(
            segment_nos=tuple(row["segment_nos"]), next_due=row["next_due"]
        )
        for row in rows
    }


#: SQL: whether it is the first time that the subject `who` is held against the rules of the segment `new`, revision
#: `new.revision`. A pass remembers whole buckets, who looks at few remembers these; and a subject that is younger than
#: the rules, and was never held against all there were, did not move because of them.
FIRST_LOOK = """
(NOT EXISTS (SELECT FROM segment_looks AS l
              WHERE l.project_no = $1 AND l.segment_no = new.segment_no AND l.bucket = who.bucket
                AND l.rules_revision = new.revision)
 AND (who.seen @> ARRAY[new.segment_no::bigint << 32 | new.revision]) IS NOT TRUE
 AND EXISTS (SELECT FROM segments AS s
              WHERE s.project_no = $1 AND s.segment_no = new.segment_no
                AND s.built_revision IS DISTINCT FROM new.revision
                AND (who.known OR s.rules_since > (SELECT created_at FROM subjects
                                                    WHERE project_no = $1 AND bucket = who.bucket
                                                      AND subject_no = who.subject_no))))
"""

_FIRST_LOOKS = f"""
SELECT who.bucket, who.subject_no, new.segment_no
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
  LEFT JOIN LATERAL (
       SELECT seen IS DISTINCT FROM '{{}}' AS known, seen FROM subject_segments
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no
       OFFSET 0) AS m ON true
 CROSS JOIN LATERAL (SELECT w.bucket, w.subject_no, m.seen, m.known IS TRUE AS known) AS who
 CROSS JOIN unnest($4::int[], $5::int[]) AS new (segment_no, revision)
 WHERE {FIRST_LOOK}
"""


async def first_looks(
    conn: Connection[Record], project_no: int, keys: Sequence[SubjectKey], new: Mapping[int, int]
) -> dict[SubjectKey, frozenset[int]]:
    """Which of these segments, whose rules are new (number → revision), a look is about to hold each subject against
    for the first time; without those who have met them all. The caller holds the subjects and shares their buckets.
    """
    if not new:
        return {}
    rows = await conn.fetch(
        _FIRST_LOOKS, project_no, [k.bucket for k in keys], [k.subject_no for k in keys], list(new), list(new.values())
    )
    found: dict[SubjectKey, frozenset[int]] = {}
    for bucket, subject_no, segment_no in rows:
        key = SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)
        found[key] = found.get(key, frozenset()) | {segment_no}
    return found


class Transition(NamedTuple):
    """A subject came to a segment, or left it."""

    key: SubjectKey
    segment_no: int
    entered: bool
    cause: Cause


class Recorded(NamedTuple):
    """A transition as it is kept. Of one subject, numbers ascend; `at`: as of when it was found to have moved."""

    transition_no: int
    transition: Transition
    at: datetime


_WRITE = """
INSERT INTO subject_segments AS m (project_no, bucket, subject_no, segment_nos, next_due, as_of, seen)
SELECT $1, w.bucket, w.subject_no, string_to_array(w.segment_nos, ',')::int[], w.next_due, $6, $7
  FROM unnest($2::smallint[], $3::bigint[], $4::text[], $5::timestamptz[])
       AS w (bucket, subject_no, segment_nos, next_due)
 ORDER BY w.bucket, w.subject_no
ON CONFLICT (project_no, bucket, subject_no) DO UPDATE SET
    segment_nos = excluded.segment_nos, next_due = excluded.next_due, as_of = excluded.as_of,
    seen = CASE WHEN $8 THEN excluded.seen ELSE m.seen END
"""

_TRANSITIONS = """
WITH changed AS MATERIALIZED (
    SELECT * FROM unnest($2::smallint[], $3::bigint[], $4::int[], $5::bool[], $6::text[])
        AS changed (bucket, subject_no, segment_no, entered, cause)
), sizes AS (
    INSERT INTO segment_sizes (project_no, segment_no, delta)
    SELECT $1, segment_no, sum(CASE WHEN entered THEN 1 ELSE -1 END) FROM changed GROUP BY segment_no
    HAVING sum(CASE WHEN entered THEN 1 ELSE -1 END) <> 0
)
INSERT INTO segment_transitions (project_no, bucket, subject_no, segment_no, entered, cause, as_of)
SELECT $1, bucket, subject_no, segment_no, entered, cause, $7 FROM changed
RETURNING bucket, subject_no, segment_no, transition_no
"""


async def write(
    conn: Connection[Record],
    project_no: int,
    changed: Mapping[SubjectKey, Membership],
    transitions: Sequence[Transition],
    now: datetime,
    *,
    new: Mapping[int, int] | None,
) -> list[Recorded]:
    """Store memberships and what changed in them, in each segment once at most for each subject.

    `new`: segments whose rules are new (number → revision) that these subjects were held against; None: they were not
    held against all rules. The caller holds the subjects and shares their buckets. Returns the transitions in the order
    given.
    """
    if changed:
        seen = None if new == {} else [number << 32 | revision for number, revision in (new or {}).items()]
        await conn.execute(
            _WRITE, project_no, [k.bucket for k in changed], [k.subject_no for k in changed],
            [",".join(map(str, m.segment_nos)) for m in changed.values()], [m.next_due for m in changed.values()], now,
            seen, new is not None,
        )  # fmt: skip
    if not transitions:
        return []
    rows = await conn.fetch(
        _TRANSITIONS, project_no, [t.key.bucket for t in transitions], [t.key.subject_no for t in transitions],
        [t.segment_no for t in transitions], [t.entered for t in transitions], [t.cause for t in transitions], now,
    )  # fmt: skip
    numbers = {(bucket, subject_no, segment_no): number for bucket, subject_no, segment_no, number in rows}
    return [
        Recorded(transition_no=numbers[t.key.bucket, t.key.subject_no, t.segment_no], transition=t, at=now)
        for t in transitions
    ]


_RECORDED = """
SELECT transition_no, project_no, bucket, subject_no, segment_no, entered, cause, as_of FROM segment_transitions
 WHERE transition_no = ANY ($2::bigint[]) AND project_no = $1
 ORDER BY transition_no
"""


async def recorded(conn: Connection[Record], project_no: int, transition_nos: Sequence[int]) -> list[Recorded]:
    """These transitions, in order."""
    return [
        Recorded(
            transition_no=row["transition_no"],
            transition=Transition(
                key=SubjectKey(project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"]),
                segment_no=row["segment_no"],
                entered=row["entered"],
                cause=row["cause"],
            ),
            at=row["as_of"],
        )
        for row in await conn.fetch(_RECORDED, project_no, list(transition_nos))
    ]


_COUNT = "INSERT INTO segment_sizes (project_no, segment_no, delta) SELECT $1, unnest($2::int[]), 1"


async def count(conn: Connection[Record], project_no: int, segment_nos: Collection[int]) -> None:
    """Count one member more in each of these segments."""
    if segment_nos:
        await conn.execute(_COUNT, project_no, list(segment_nos))


_DELETE = """
WITH gone AS (
    DELETE FROM subject_segments WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 RETURNING segment_nos
), history AS (
    DELETE FROM segment_transitions WHERE project_no = $1 AND bucket = $2 AND subject_no = $3
), lists AS (
    DELETE FROM static_members WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 RETURNING segment_no
)
INSERT INTO segment_sizes (project_no, segment_no, delta)
SELECT $1, unnest(segment_nos), -1 FROM gone UNION ALL SELECT $1, segment_no, -1 FROM lists
"""


async def delete(conn: Connection[Record], key: SubjectKey) -> None:
    """Forget which segments a subject is and was in, lists included.

    The caller holds the subject, and has held off passes before.
    """
    await conn.execute(_DELETE, key.project_no, key.bucket, key.subject_no)


# There is no index on the numbers of segments, which would make each change of membership dear: the pages of a large
# segment are found at once, and looking for the few of a small one reads what a pass over the project reads.
_PAGE = """
SELECT m.bucket, m.subject_no, s.subject_id,
       (SELECT t.as_of FROM segment_transitions AS t
         WHERE t.project_no = $1 AND t.bucket = m.bucket AND t.subject_no = m.subject_no AND t.segment_no = $2
         ORDER BY t.transition_no DESC LIMIT 1) AS since
  FROM (SELECT bucket, subject_no FROM subject_segments
         WHERE project_no = $1 AND segment_nos @> ARRAY[$2::int] AND (bucket, subject_no) > ($3::smallint, $4::bigint)
         ORDER BY bucket, subject_no LIMIT $5) AS m
  JOIN subjects AS s ON s.project_no = $1 AND s.bucket = m.bucket AND s.subject_no = m.subject_no
 ORDER BY m.bucket, m.subject_no
"""


async def page(
    conn: Connection[Record], project_no: int, segment_no: int, *, after: tuple[int, int], limit: int
) -> list[Member]:
    """At most `limit` members behind a place, by bucket and number."""
    rows = await conn.fetch(_PAGE, project_no, segment_no, *after, limit)
    return [
        Member(place=(row["bucket"], row["subject_no"]), subject_id=row["subject_id"], since=row["since"])
        for row in rows
    ]


_SIZES = """
SELECT segment_no, sum(delta)::bigint AS size FROM segment_sizes
 WHERE project_no = $1 AND segment_no = ANY ($2::int[]) GROUP BY segment_no
"""


async def sizes(conn: Connection[Record], project_no: int, segment_nos: Iterable[int]) -> dict[int, int]:
    """How many subjects are in each of these segments; those nobody ever was in are left out."""
    rows = await conn.fetch(_SIZES, project_no, list(segment_nos))
    return {row["segment_no"]: row["size"] for row in rows}


_FOLD = """
WITH crowded AS (
    SELECT project_no, segment_no FROM segment_sizes GROUP BY project_no, segment_no HAVING count(*) > $1
), taken AS (
    DELETE FROM segment_sizes AS s USING crowded AS c
     WHERE s.project_no = c.project_no AND s.segment_no = c.segment_no
    RETURNING s.project_no, s.segment_no, s.delta
)
INSERT INTO segment_sizes (project_no, segment_no, delta)
SELECT project_no, segment_no, sum(delta) FROM taken GROUP BY project_no, segment_no
"""


async def fold_sizes(conn: Connection[Record], rows: int) -> None:
    """Leave one row for each segment that has more than `rows`. Every snapshot sees the same sums before and after."""
    await conn.execute(_FOLD, rows)
