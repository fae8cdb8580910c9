"""Stored answers of mutating requests. They live and die with the transaction of their effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

# A twin in another transaction makes this wait until that one has ended.
_CLAIM = """
INSERT INTO idempotency (project_no, principal, method, request_id, fingerprint, created_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp())
ON CONFLICT DO NOTHING
RETURNING true
"""

_FIND = """
SELECT fingerprint, response
FROM idempotency
WHERE project_no = $1 AND principal = $2 AND method = $3 AND request_id = $4
"""

_SETTLE = """
UPDATE idempotency
SET response = $5
WHERE project_no = $1 AND principal = $2 AND method = $3 AND request_id = $4
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """What makes two requests the same one. `request_id` is the caller's."""

    project_no: int
    principal: str
    method: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """`fingerprint` tells whether it was the same request that was answered. `response` None: it spoke of somebody who
    was forgotten since, and nothing but that it was given is known.
    """

    fingerprint: bytes
    response: bytes | None


async def claim(conn: Connection[Record], key: RequestKey, fingerprint: bytes) -> Answered | None:
    """None when the request is ours to carry out; else what an earlier one was answered. Waits for a running twin."""
    while not await conn.fetchval(_CLAIM, *_columns(key), fingerprint):
        # A statement of its own: it sees the row for which the insert has waited.
        row = await conn.fetchrow(_FIND, *_columns(key))
        if row is not None:
            return Answered(fingerprint=row[0], response=row[1])
        # The row was too old and has been deleted between the two statements: it is free again.
    return None


async def settle(conn: Connection[Record], key: RequestKey, response: bytes) -> None:
    """Store the answer of a claimed request."""
    await conn.execute(_SETTLE, *_columns(key), response)


# The text with its length before it, as a message has it: an id that is part of another one is not found. What is
# erased by mistake all the same costs its caller an answer, and takes no effect twice.
_ERASE = """
UPDATE idempotency
SET response = NULL, fingerprint = '', erased_at = $3,
    request_id = CASE WHEN named THEN 'erased:' || gen_random_uuid() ELSE request_id END
FROM (
    SELECT project_no, principal, method, request_id,
        EXISTS (SELECT FROM unnest($2::text[]) AS id WHERE length(id) > 3 AND strpos(request_id, id) > 0) AS named
    FROM idempotency
    WHERE project_no = $1 AND created_at >= $4 AND created_at < $5 AND erased_at IS NULL AND response IS NOT NULL AND (
        EXISTS (
            SELECT FROM unnest($2::text[]) AS id
            WHERE position(set_byte('\\x00', 0, length(id)) || convert_to(id, 'UTF8') IN response) > 0)
        OR EXISTS (SELECT FROM unnest($2::text[]) AS id WHERE length(id) > 3 AND strpos(request_id, id) > 0))
) AS about (project_no_, principal_, method_, request_id_, named)
WHERE (project_no, principal, method, request_id) = (project_no_, principal_, method_, request_id_)
"""


async def erase(
    conn: Connection[Record],
    project_no: int,
    subject_ids: Sequence[str],
    now: datetime,
    *,
    since: datetime,
    before: datetime,
) -> int:
    """Forget the answers of this time that speak of these subjects, and requests that were named after them; returns
    how many. All answers of the project of this time are looked at for it.
    """
    return int((await conn.execute(_ERASE, project_no, list(subject_ids), now, since, before)).rsplit(" ", 1)[1])


async def oldest(conn: Connection[Record]) -> datetime | None:
    """When the oldest answer of any project was stored."""
    found: datetime | None = await conn.fetchval("SELECT min(created_at) FROM idempotency")
    return found


def _columns(key: RequestKey) -> tuple[int, str, str, str]:
    return key.project_no, key.principal, key.method, key.request_id
