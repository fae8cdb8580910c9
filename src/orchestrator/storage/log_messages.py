"""What the channel `log` has sent: its receipts, one for each key."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import subject_aliases

# Not while the subject is being merged into another, who gets all that is there.
_INSERT_ONCE = """
WITH held AS MATERIALIZED (
    SELECT FROM subjects WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 FOR SHARE
), stored AS (
    INSERT INTO log_messages (project_no, bucket, subject_no, idempotency_key, subject_line, body, logged_at)
    SELECT $1, $2, $3, $4, $5, $6, clock_timestamp() WHERE EXISTS (SELECT FROM held)
    ON CONFLICT (project_no, bucket, subject_no, idempotency_key) DO NOTHING
    RETURNING true
)
SELECT EXISTS (SELECT FROM held), EXISTS (SELECT FROM stored)
"""


async def insert_once(conn: Connection[Record], key: SubjectKey, idempotency_key: str, subject: str, body: str) -> bool:
    """Store the message; False when one with this key is there already, which then stays as it is, and when there is
    nobody any more to whom it was sent: what was said to them is kept as long as they are.
    """
    owner: SubjectKey | None = key
    while owner is not None:
        held, stored = await _insert(conn, owner, idempotency_key, subject, body)
        if held:
            return stored
        # Merged since the send was reserved; else deleted.
        owner = await subject_aliases.survivor(conn, owner)
    return False


async def _insert(
    conn: Connection[Record], key: SubjectKey, idempotency_key: str, subject: str, body: str
) -> tuple[bool, bool]:
    """Whether there is such a subject, and whether the message was stored."""
    row = await conn.fetchrow(_INSERT_ONCE, key.project_no, key.bucket, key.subject_no, idempotency_key, subject, body)
    assert row is not None
    return row[0], row[1]
