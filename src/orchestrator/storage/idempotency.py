"""Stored answers of mutating requests. They live and die with the transaction of their effect."""

from __future__ import annotations

from dataclasses import dataclass

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
    """`fingerprint` tells whether it was the same request that was answered."""

    fingerprint: bytes
    response: bytes


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


def _columns(key: RequestKey) -> tuple[int, str, str, str]:
    return key.project_no, key.principal, key.method, key.request_id
