"""What the channel `log` has sent: its receipts, one for each key."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

_INSERT_ONCE = """
INSERT INTO log_messages (project_no, bucket, subject_no, idempotency_key, subject_line, body, logged_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
ON CONFLICT (project_no, bucket, subject_no, idempotency_key) DO NOTHING
RETURNING true
"""


async def insert_once(conn: Connection[Record], key: SubjectKey, idempotency_key: str, subject: str, body: str) -> bool:
    """Store the message; False when one with this key is there already, which then stays as it is."""
    inserted: bool | None = await conn.fetchval(
        _INSERT_ONCE, key.project_no, key.bucket, key.subject_no, idempotency_key, subject, body
    )
    return bool(inserted)
