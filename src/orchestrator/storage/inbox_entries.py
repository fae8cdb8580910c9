"""The writers' side of the inbox: what has happened to subjects, for whoever acts on it (`storage/inbox.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: What consumers listen to. A notification says no more than: look.
CHANNEL = "orchestrator_inbox"

Kind = Literal["attributes", "preferences", "membership", "backfill"]

_ADD = """
INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at)
SELECT project_no, bucket, subject_no, $4, $5
FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS of (project_no, bucket, subject_no)
"""


async def add(conn: Connection[Record], keys: Sequence[SubjectKey], kind: Kind, now: datetime) -> None:
    """Note that this has changed for these subjects; `ring` after the commit. Events come in by `storage/ingest.py`."""
    if keys:
        await conn.execute(
            _ADD, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys], kind, now
        )


async def ring(conn: Connection[Record]) -> None:
    """Tell the consumers that there is something in the inbox. Not in the transaction that writes: a notification
    makes its commit wait for every other one's."""
    await conn.execute(f"NOTIFY {CHANNEL}")
