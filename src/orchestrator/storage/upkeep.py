"""Removing what has had its time: keys by which repeats are known."""

from __future__ import annotations

from datetime import datetime, timedelta

from asyncpg import Connection, Record

#: How long an answer is kept for a repeat of its request.
REQUESTS_KEPT = timedelta(days=7)

#: How long an event id is remembered.
EVENTS_KNOWN = timedelta(days=30)

_REQUESTS = """
DELETE FROM idempotency WHERE (project_no, principal, method, request_id) IN (
    SELECT project_no, principal, method, request_id FROM idempotency
     WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""

_EVENT_IDS = """
DELETE FROM event_ids WHERE (project_no, event_hash) IN (
    SELECT project_no, event_hash FROM event_ids WHERE received_at < $1 LIMIT $2)
"""


async def forget_requests(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` stored answers that are too old; returns how many."""
    return _count(await conn.execute(_REQUESTS, now - REQUESTS_KEPT, limit))


async def forget_event_ids(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` event ids that are too old; returns how many."""
    return _count(await conn.execute(_EVENT_IDS, now - EVENTS_KNOWN, limit))


def _count(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[1])
