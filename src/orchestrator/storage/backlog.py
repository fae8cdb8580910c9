"""How long inbox, outbox and erasures have waited, and what was set aside, of all projects. Looks at the ends of
indexes, and at tables that are empty as long as all is well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record

INBOX = "inbox"
OUTBOX = "outbox"
ERASURES = "erasures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """By queue. Where nothing waits, the oldest has waited for no time."""

    oldest: Mapping[str, timedelta]
    set_aside: Mapping[str, int]


_LOOK = """
SELECT (SELECT received_at FROM inbox ORDER BY inbox_no LIMIT 1) AS inbox,
       (SELECT created_at FROM outbox ORDER BY outbox_no LIMIT 1) AS outbox,
       (SELECT requested_at FROM erasures WHERE ended_at IS NULL ORDER BY requested_at LIMIT 1) AS erasures,
       (SELECT count(*) FROM inbox_dead) AS inbox_dead,
       (SELECT count(*) FROM outbox_dead) AS outbox_dead
"""


async def look(conn: Connection[Record], now: datetime) -> Backlog:
    row = await conn.fetchrow(_LOOK)
    assert row is not None
    began = {queue: row[queue] or now for queue in (INBOX, OUTBOX, ERASURES)}
    return Backlog(
        oldest={queue: max(now - instant, timedelta()) for queue, instant in began.items()},
        set_aside={queue: row[f"{queue}_dead"] for queue in (INBOX, OUTBOX)},
    )
