"""Waking all running executions of a journey, so that they see what became of it."""

from __future__ import annotations

from datetime import datetime

from asyncpg import Connection, Record

# Leased until now: no process has promised to deliver them, so the next sweep does.
_POKE = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, $3, $3
  FROM executions
 WHERE project_no = $1 AND journey_id = $2 AND outcome IS NULL
"""


async def poke_running(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> int:
    """Have every running execution look again; returns how many there are."""
    done: str = await conn.execute(_POKE, project_no, journey_id, now)
    return int(done.rsplit(" ", 1)[-1])
