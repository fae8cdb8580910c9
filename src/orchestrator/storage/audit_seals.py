"""Seals of the audit log in Postgres: the queue of entries without one, the chain, and what was told outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.domain.audit_chain import GENESIS, Seal

# The text that a seal is made of. Postgres writes it, so that whoever has psql can make it again (docs/operations.md),
# and no value that somebody may have put there keeps it from being read. Must never change: seals would not fit.
_ROW = """
jsonb_build_array(l.project_no, l.audit_no, extract(epoch FROM l.at), l.actor, l.action, l.resource_kind, l.resource_id,
                  l.metadata)::text
"""

#: Classes of advisory locks: one process at a time seals, and one anchors.
SEALING, ANCHORING = 0x5EA1, 0xA2C4

_TAKE_TURN = "SELECT pg_try_advisory_xact_lock($1, 0)"


async def take_turn(conn: Connection[Record], turn: int) -> bool:
    """Keep other processes from SEALING or ANCHORING until the transaction ends; False: one of them is at it."""
    return bool(await conn.fetchval(_TAKE_TURN, turn))


# Each project has a log, and so has the instance (project 0), of what its operator did. No project is called like that.
INSTANCE = "operator"
_LOGS = f"(SELECT project_no, project_id FROM projects UNION ALL SELECT 0, '{INSTANCE}')"

_NUMBERS = f"SELECT project_id, project_no FROM {_LOGS} AS p ORDER BY project_no"


async def logs(conn: Connection[Record]) -> dict[str, int]:
    """The numbers of all projects by their ids, and that of the instance."""
    return {row["project_id"]: row["project_no"] for row in await conn.fetch(_NUMBERS)}


_WAITING = f"""
SELECT project_no FROM {_LOGS} AS p
 WHERE EXISTS (SELECT FROM audit_unsealed WHERE project_no = p.project_no)
 ORDER BY project_no
"""


async def waiting(conn: Connection[Record]) -> list[int]:
    """The logs of which entries have no seal yet."""
    return [row["project_no"] for row in await conn.fetch(_WAITING)]


_COUNT = "SELECT count(*) FROM (SELECT FROM audit_unsealed LIMIT $1) AS waiting"


async def count_unsealed(conn: Connection[Record], most: int) -> int:
    """How many entries of all projects have no seal yet; of more than `most`, so many."""
    found: int = await conn.fetchval(_COUNT, most)
    return found


_HEAD = "SELECT seq, hash FROM audit_seals WHERE project_no = $1 ORDER BY seq DESC LIMIT 1"


async def head(conn: Connection[Record], project_no: int) -> Seal:
    """The newest seal; GENESIS before the first."""
    row = await conn.fetchrow(_HEAD, project_no)
    return Seal(seq=row["seq"], hash=row["hash"]) if row else GENESIS


# What is queued and has a seal was put there by hand: it would be in the way of all others. OFFSET 0 here and below:
# entry by entry, as far as the limit goes, and not all of them for each page.
_UNSEALED = f"""
SELECT u.audit_no, l.row
  FROM audit_unsealed AS u
 CROSS JOIN LATERAL (
       SELECT {_ROW} AS row FROM audit_log AS l
        WHERE l.project_no = u.project_no AND l.audit_no = u.audit_no
       OFFSET 0) AS l
 WHERE u.project_no = $1 AND u.audit_no > $2
   AND NOT EXISTS (SELECT FROM audit_seals AS s WHERE s.project_no = $1 AND s.audit_no = u.audit_no OFFSET 0)
 ORDER BY u.audit_no
 LIMIT $3
"""

#: Less than the number of any entry.
BEFORE_ALL = -(2**63)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """An entry, and the text of it that its seal is made of."""

    audit_no: int
    row: str


async def unsealed(conn: Connection[Record], project_no: int, after: int, limit: int) -> list[Unsealed]:
    """Entries without a seal, those with the least numbers that are greater than `after`.

    Whoever goes through many of them tells where he was: what he took out of the queue is still in the way.
    """
    return [Unsealed(**row) for row in await conn.fetch(_UNSEALED, project_no, after, limit)]


_SEAL = """
INSERT INTO audit_seals (project_no, seq, audit_no, hash, sealed_at)
SELECT $1, seq, audit_no, hash, $5 FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS s (seq, audit_no, hash)
"""

_DEQUEUE = "DELETE FROM audit_unsealed WHERE project_no = $1 AND audit_no = ANY ($2::bigint[])"


async def seal(
    conn: Connection[Record], project_no: int, sealed: Sequence[tuple[Seal, Unsealed]], now: datetime
) -> None:
    """Give these entries these seals. A number that is taken, or an entry that has one, is a UniqueViolationError."""
    audit_nos = [entry.audit_no for _, entry in sealed]
    seqs, hashes = [made.seq for made, _ in sealed], [made.hash for made, _ in sealed]
    await conn.execute(_SEAL, project_no, seqs, audit_nos, hashes, now)
    await conn.execute(_DEQUEUE, project_no, audit_nos)


_SEALED = f"""
SELECT s.seq, s.hash, s.audit_no, l.row, a.hash AS anchored
  FROM audit_seals AS s
  LEFT JOIN LATERAL (
       SELECT {_ROW} AS row FROM audit_log AS l
        WHERE l.project_no = s.project_no AND l.audit_no = s.audit_no
       OFFSET 0) AS l ON true
  LEFT JOIN LATERAL (
       SELECT hash FROM audit_anchors WHERE project_no = s.project_no AND seq = s.seq OFFSET 0) AS a ON true
 WHERE s.project_no = $1 AND s.seq > $2
 ORDER BY s.seq
 LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A seal as it is kept; the text of its entry, None: the entry is gone; and which hash was told outside, if any."""

    seq: int
    hash: bytes
    audit_no: int
    row: str | None
    anchored: bytes | None


async def sealed(conn: Connection[Record], project_no: int, after: int, limit: int) -> list[Sealed]:
    """Seals with greater numbers than `after`, in order."""
    return [Sealed(**row) for row in await conn.fetch(_SEALED, project_no, after, limit)]


_REST = """
WITH without_seal AS (
    SELECT l.audit_no, u.audit_no IS NOT NULL AS queued
      FROM audit_log AS l
      LEFT JOIN audit_unsealed AS u USING (project_no, audit_no)
     WHERE l.project_no = $1
       AND NOT EXISTS (SELECT FROM audit_seals WHERE project_no = $1 AND audit_no = l.audit_no))
SELECT count(*) FILTER (WHERE queued) AS waiting,
       min(audit_no) FILTER (WHERE NOT queued) AS stray,
       (SELECT min(u.audit_no)
          FROM audit_unsealed AS u
         WHERE u.project_no = $1
           AND NOT EXISTS (SELECT FROM audit_log WHERE project_no = $1 AND audit_no = u.audit_no)) AS vanished
  FROM without_seal
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Entries without a seal: how many wait for one, the first that does not, and the first that waits and is gone."""

    waiting: int
    stray: int | None
    vanished: int | None


async def rest(conn: Connection[Record], project_no: int) -> Rest:
    """What the chain does not reach yet."""
    row = await conn.fetchrow(_REST, project_no)
    assert row is not None, "an aggregate has a row"
    return Rest(**row)


_ANCHORED = "SELECT coalesce(max(seq), 0) FROM audit_anchors WHERE project_no = $1"


async def anchored(conn: Connection[Record], project_no: int) -> int:
    """The number of the last seal that was told outside; 0 before the first."""
    found: int = await conn.fetchval(_ANCHORED, project_no)
    return found


# Seals on the way are told, too, so that a rewriting is narrowed down to so many entries.
_DUE = f"""
SELECT p.project_no, p.project_id, s.seq, s.hash
  FROM {_LOGS} AS p
 CROSS JOIN LATERAL (
       SELECT seq FROM audit_seals WHERE project_no = p.project_no ORDER BY seq DESC LIMIT 1) AS newest
  LEFT JOIN LATERAL (
       SELECT seq, anchored_at FROM audit_anchors WHERE project_no = p.project_no ORDER BY seq DESC LIMIT 1) AS last
         ON true
  JOIN audit_seals AS s
         ON s.project_no = p.project_no AND s.seq > coalesce(last.seq, 0)
        AND (s.seq = newest.seq OR s.seq % $2 = 0)
 WHERE newest.seq > coalesce(last.seq, 0)
   AND (newest.seq - coalesce(last.seq, 0) >= $2
        OR coalesce(last.anchored_at, '-infinity') <= $1::timestamptz - $3::interval)
 ORDER BY p.project_no, s.seq
 LIMIT $4
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A seal that is to be told outside."""

    project_no: int
    project_id: str
    seal: Seal


async def due(conn: Connection[Record], now: datetime, *, every: int, after: timedelta, limit: int) -> list[Anchor]:
    """What is to be told: of projects with `every` or more seals since they were last told, or that were told longer
    ago than `after` and have new ones.
    """
    rows = await conn.fetch(_DUE, now, every, after, limit)
    return [
        Anchor(project_no=row["project_no"], project_id=row["project_id"], seal=Seal(seq=row["seq"], hash=row["hash"]))
        for row in rows
    ]


_NOTE = """
INSERT INTO audit_anchors (project_no, seq, hash, anchored_at)
SELECT project_no, seq, hash, $4 FROM unnest($1::int[], $2::bigint[], $3::bytea[]) AS a (project_no, seq, hash)
    ON CONFLICT DO NOTHING
"""


async def note(conn: Connection[Record], anchors: Sequence[Anchor], now: datetime) -> None:
    """They have been told. Idempotent."""
    await conn.execute(
        _NOTE,
        [anchor.project_no for anchor in anchors],
        [anchor.seal.seq for anchor in anchors],
        [anchor.seal.hash for anchor in anchors],
        now,
    )
