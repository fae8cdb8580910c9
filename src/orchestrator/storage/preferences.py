"""Opt-outs and suppressions in Postgres. Writers hold the subject's row (`storage/subjects.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.preferences import OptOut, Suppression
from orchestrator.domain.scope import SubjectKey

_OPT_OUTS = """
SELECT channel, category, opted_out_at
FROM opt_outs
WHERE project_no = $1 AND bucket = $2 AND subject_no = $3
ORDER BY channel, category
"""

_OPT_OUT = """
INSERT INTO opt_outs (project_no, bucket, subject_no, channel, category, opted_out_at)
SELECT $1, $2, $3, channel, category, $6
FROM unnest($4::text[], $5::text[]) AS new (channel, category)
"""

_OPT_IN = """
DELETE FROM opt_outs
USING unnest($4::text[], $5::text[]) AS old (channel, category)
WHERE project_no = $1 AND bucket = $2 AND subject_no = $3
    AND opt_outs.channel = old.channel AND opt_outs.category = old.category
"""

_SUPPRESSIONS = """
SELECT channel, reason, suppressed_at
FROM suppressions
WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND channel > $4
ORDER BY channel
LIMIT $5
"""

_SUPPRESSION = """
SELECT channel, reason, suppressed_at
FROM suppressions
WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND channel = $4
"""

_SUPPRESS = """
INSERT INTO suppressions (project_no, bucket, subject_no, channel, reason, suppressed_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (project_no, bucket, subject_no, channel) DO UPDATE SET reason = excluded.reason
"""

_UNSUPPRESS = """
DELETE FROM suppressions
WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND channel = $4
RETURNING true
"""


async def opt_outs(conn: Connection[Record], key: SubjectKey) -> list[OptOut]:
    """What the subject opted out of, by channel and category."""
    rows = await conn.fetch(_OPT_OUTS, key.project_no, key.bucket, key.subject_no)
    return [OptOut(**row) for row in rows]


async def opt_out(conn: Connection[Record], key: SubjectKey, pairs: Iterable[tuple[str, str]], now: datetime) -> None:
    """Opt out of these (channel, category), of none of which the subject has."""
    new = sorted(pairs)
    await conn.execute(
        _OPT_OUT, key.project_no, key.bucket, key.subject_no, [c for c, _ in new], [c for _, c in new], now
    )


async def opt_in(conn: Connection[Record], key: SubjectKey, pairs: Iterable[tuple[str, str]]) -> None:
    """Take these opt-outs (channel, category) back."""
    old = sorted(pairs)
    await conn.execute(_OPT_IN, key.project_no, key.bucket, key.subject_no, [c for c, _ in old], [c for _, c in old])


async def suppressions(
    conn: Connection[Record], key: SubjectKey, *, after_channel: str, limit: int
) -> list[Suppression]:
    """At most `limit` suppressions of the subject, by channel, after this one (empty: from the first)."""
    rows = await conn.fetch(_SUPPRESSIONS, key.project_no, key.bucket, key.subject_no, after_channel, limit)
    return [Suppression(**row) for row in rows]


async def find_suppression(conn: Connection[Record], key: SubjectKey, channel: str) -> Suppression | None:
    row = await conn.fetchrow(_SUPPRESSION, key.project_no, key.bucket, key.subject_no, channel)
    return Suppression(**row) if row else None


async def suppress(conn: Connection[Record], key: SubjectKey, suppression: Suppression) -> None:
    """Store a suppression, or give the one that is there the new reason."""
    s = suppression
    await conn.execute(_SUPPRESS, key.project_no, key.bucket, key.subject_no, s.channel, s.reason, s.suppressed_at)


async def unsuppress(conn: Connection[Record], key: SubjectKey, channel: str) -> bool:
    """Remove a suppression; False when there is none."""
    return bool(await conn.fetchval(_UNSUPPRESS, key.project_no, key.bucket, key.subject_no, channel))
