"""Stored answers of mutating requests. They live and die with the transaction of their effect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record
from google.protobuf.wrappers_pb2 import StringValue

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


# What the request of an erased answer is called from then on, if it was named after somebody. Whoever asks again finds
# it by that; it leads back to the name only for who has the instance's secret.
_ERASED_NAME = "'erased:' || encode(tombstone_hash({project_no}, {request_id}), 'hex')"

_WAS_ERASED = f"""
SELECT EXISTS (
    SELECT FROM idempotency
    WHERE project_no = $1 AND principal = $2 AND method = $3
      AND request_id = {_ERASED_NAME.format(project_no="$1", request_id="$4")})
"""


async def was_erased(conn: Connection[Record], key: RequestKey) -> bool:
    """Whether a request that was just claimed has been answered before, under a name that was erased with the answer.

    Asked behind the claim, which waits for whoever is erasing it.
    """
    found: bool = await conn.fetchval(_WAS_ERASED, *_columns(key))
    return found


# What is erased by mistake costs its caller an answer, and takes no effect twice.
_ERASE = f"""
UPDATE idempotency
SET response = NULL, fingerprint = '', erased_at = $3,
    request_id = CASE WHEN named THEN {_ERASED_NAME.format(project_no="project_no", request_id="request_id")}
                      ELSE request_id END
FROM (
    SELECT project_no, principal, method, request_id, named
    FROM idempotency
    CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM unnest($6::text[]) AS id WHERE strpos(request_id, id) > 0)
            OR EXISTS (SELECT FROM unnest($7::text[]) AS word WHERE request_id ~ word) AS named) AS names
    WHERE project_no = $1 AND created_at >= $4 AND created_at < $5 AND erased_at IS NULL AND response IS NOT NULL
      AND (named OR EXISTS (SELECT FROM unnest($2::bytea[]) AS mark WHERE position(mark IN response) > 0))
) AS about (project_no_, principal_, method_, request_id_, named)
WHERE (project_no, principal, method, request_id) = (project_no_, principal_, method_, request_id_)
"""

#: Ids that are not longer are looked for in names of requests as words: within words there are too many of them.
_WORD = 3


async def erase(
    conn: Connection[Record],
    project_no: int,
    subject_ids: Sequence[str],
    now: datetime,
    *,
    since: datetime,
    before: datetime,
    within: Sequence[str] = (),
) -> int:
    """Forget the answers of this time that speak of these subjects, and requests that were named after them; returns
    how many. All answers of the project of this time are looked at for it.

    An answer speaks of a subject where a field of it is the id, or where any of the texts `within` stands anywhere.
    """
    # A field as a message has it, with its length before it, but for its tag: an id that is part of another one is
    # not found.
    fields = [StringValue(value=subject_id).SerializeToString()[1:] for subject_id in subject_ids]
    words = [
        f"(^|[^A-Za-z0-9]){re.escape(subject_id)}($|[^A-Za-z0-9])"
        for subject_id in subject_ids
        if len(subject_id) <= _WORD
    ]
    tag = await conn.execute(
        _ERASE, project_no, [*fields, *(text.encode() for text in within)], now, since, before,
        [subject_id for subject_id in subject_ids if len(subject_id) > _WORD], words,
    )  # fmt: skip
    return int(tag.rsplit(" ", 1)[1])


_PART = """
SELECT min(created_at) AS since, max(created_at) AS last, count(*) AS looked_at
  FROM (SELECT created_at FROM idempotency
         WHERE project_no = $1 AND created_at >= coalesce($2::timestamptz, '-infinity') AND created_at <= $3
         ORDER BY created_at LIMIT $4) AS part
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of time in which answers were stored, from `since` and before `before`. `last`: none follows."""

    since: datetime
    before: datetime
    last: bool


async def part(
    conn: Connection[Record], project_no: int, since: datetime | None, until: datetime, limit: int
) -> Part | None:
    """The time of the first `limit` answers of a project that were stored then; None when there is none. `since` None:
    ever.
    """
    row = await conn.fetchrow(_PART, project_no, since, until, limit)
    if row is None or row["since"] is None:
        return None
    return Part(since=row["since"], before=row["last"] + timedelta(microseconds=1), last=row["looked_at"] < limit)


def _columns(key: RequestKey) -> tuple[int, str, str, str]:
    return key.project_no, key.principal, key.method, key.request_id
