"""The writers' side of the inbox: what has happened to subjects, for whoever acts on it (`storage/inbox.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from asyncpg import Connection, Record

from orchestrator import traces
from orchestrator.domain.scope import SubjectKey

#: What consumers listen to. A notification says no more than: look.
CHANNEL = "orchestrator_inbox"

Kind = Literal["attributes", "preferences", "backfill"]

_ADD = """
INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at, hops, trace)
SELECT project_no, bucket, subject_no, $4, $5, $6::smallint, $7
FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS of (project_no, bucket, subject_no)
"""


async def add(
    conn: Connection[Record], keys: Sequence[SubjectKey], kind: Kind, now: datetime, *, hops: int | None = None
) -> None:
    """Note that this has changed for these subjects; `ring` after the commit. Events come in by `storage/ingest.py`.

    `hops`: domain/entry.py, Trigger; None: no execution has changed it.
    """
    if keys:
        await conn.execute(
            _ADD, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys], kind, now, hops,
            traces.carried(),
        )  # fmt: skip


_ADD_MOVED = """
INSERT INTO inbox (project_no, bucket, subject_no, kind, transition_nos, received_at, trace)
SELECT project_no, bucket, subject_no, 'membership', ARRAY[transition_no], $5, $6
FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::bigint[]) AS of (project_no, bucket, subject_no, transition_no)
"""


async def add_moved(conn: Connection[Record], moved: Mapping[SubjectKey, int], now: datetime) -> None:
    """Note that these subjects came to a list or left it, by the numbers of their transitions."""
    if moved:
        await conn.execute(
            _ADD_MOVED, [k.project_no for k in moved], [k.bucket for k in moved], [k.subject_no for k in moved],
            list(moved.values()), now, traces.carried(),
        )  # fmt: skip


async def ring(conn: Connection[Record]) -> None:
    """Tell the consumers that there is something in the inbox. Not in the transaction that writes: a notification
    makes its commit wait for every other one's."""
    await conn.execute(f"NOTIFY {CHANNEL}")
