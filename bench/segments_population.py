"""A project of a million subjects and what happened to them, written straight into the tables, the same every time.

All that happened lies, counted in days, between 2 and 24 hours before the anchor: so no window of whole days runs out
within two hours after it, and what is compared does not depend on when it was looked at.
"""

from __future__ import annotations

import asyncio
import zlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from orchestrator.domain.subject import BUCKETS

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The first of them are by far the most frequent.
NAMES = (
    "page_viewed", "product_viewed", "searched", "added_to_cart", "app_opened", "purchase",
    "email_clicked", "wishlisted", "review_written", "support_asked", "refund_asked", "friend_invited",
)  # fmt: skip

#: Connections that write, and buckets of one of their transactions.
AT_ONCE, CHUNK = 2, 8

_NAMES = """
INSERT INTO event_names (project_no, name) SELECT $1, unnest($2::text[]) RETURNING name, name_no
"""

_NUMBERS = "CREATE UNLOGGED TABLE numbers (bucket smallint, subject_no bigint)"

# Of a subject, everything is made of the hash of its number.
_SUBJECTS = """
INSERT INTO subjects (project_no, bucket, subject_no, subject_id, attributes, attribute_times, time_zone, created_at,
                      updated_at)
SELECT $1, bucket, subject_no, 's' || subject_no,
       jsonb_build_object(
           'plan', (ARRAY['free', 'free', 'free', 'free', 'pro', 'pro', 'team', 'enterprise'])[1 + (h & 7)],
           'country', (ARRAY['DE', 'FR', 'US', 'GB', 'ES', 'IT', 'NL', 'PL', 'SE', 'JP'])[1 + ((h >> 3) & 1023) % 10],
           'age', 18 + ((h >> 13) & 63),
           'score', round(((h >> 19) & 1023) / 10.24, 1),
           'signupAt', to_char(signup AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           'tags', (ARRAY['["new"]', '["vip", "beta"]', '[]', '["beta"]'])[1 + ((h >> 29) & 3)]::jsonb,
           'profile', jsonb_build_object('language', (ARRAY['de', 'en', 'fr'])[1 + ((h >> 31) & 255) % 3],
                                         'newsletter', (h >> 39) & 1 = 1)),
       jsonb_build_object('signupAt', (extract(epoch FROM signup) * 1000000)::bigint),
       (ARRAY['Europe/Berlin', 'America/New_York', NULL])[1 + ((h >> 40) & 255) % 3],
       signup, signup
  FROM (SELECT bucket, subject_no, h,
               $2::timestamptz - ((h >> 48) & 511) * interval '24 hours' - interval '3 hours' AS signup
          FROM (SELECT bucket, subject_no, hashint8extended(subject_no, 1) & 9223372036854775807 AS h FROM numbers
                 WHERE bucket BETWEEN $3 AND $4) AS numbered) AS signed_up
 ORDER BY bucket, subject_no
"""

_HAPPENED = """
CREATE TEMPORARY TABLE happened ON COMMIT DROP AS
SELECT bucket, subject_no, event_no, ($2::int[])[1 + floor({names} * power(((h >> 10) & 1023) / 1024.0, 1.7))::int]
       AS name_no,
       $3::timestamptz - floor(365 * power(((h >> 20) & 4095) / 4096.0, 2))::int * interval '24 hours'
       - interval '2 hours' - ((h >> 32) & 16777215) * interval '4291 microseconds' AS occurred_at
  FROM (SELECT s.bucket, s.subject_no, s.subject_no * 32 + i AS event_no,
               hashint8extended(s.subject_no * 32 + i, 2) & 9223372036854775807 AS h
          FROM subjects AS s
         CROSS JOIN generate_series(1, 4 + (hashint8(s.subject_no) & 2147483647) % 15) AS i
         WHERE s.project_no = $1 AND s.bucket BETWEEN $4 AND $5) AS drawn
"""

_EVENTS = """
INSERT INTO events (occurred_at, event_no, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
SELECT occurred_at, event_no, $1, name_no, subject_no, bucket, occurred_at, 'g' || event_no, '{"amount": 12.5}'
  FROM happened ORDER BY bucket, subject_no
"""

_DAYS = """
INSERT INTO subject_event_days (subject_no, first_at, last_at, day, total, project_no, name_no, bucket)
SELECT subject_no, min(occurred_at), max(occurred_at), (occurred_at AT TIME ZONE 'UTC')::date, count(*), $1, name_no,
       bucket
  FROM happened GROUP BY bucket, subject_no, name_no, 4 ORDER BY bucket, subject_no, name_no, 4
"""

_STATES = """
INSERT INTO subject_event_state (subject_no, total, first_at, last_at, project_no, name_no, bucket)
SELECT subject_no, count(*), min(occurred_at), max(occurred_at), $1, coalesce(name_no, 0), bucket
  FROM happened GROUP BY GROUPING SETS ((bucket, subject_no, name_no), (bucket, subject_no))
 ORDER BY bucket, subject_no, 6
"""

_AFTERWARDS = """
DROP TABLE numbers;
SELECT setval(pg_get_serial_sequence('subjects', 'subject_no'), (SELECT max(subject_no) FROM subjects));
SELECT setval('events_no', (SELECT max(event_no) FROM events));
"""

_MONTHS = """
SELECT ensure_events_month(m::date)
  FROM generate_series(date_trunc('month', $1::timestamp), $2::timestamp, '1 month') AS m
"""


async def populate(dsn: str, project_no: int, anchor: datetime, subjects: int) -> None:
    """Make `subjects` subjects and about eleven events of each, with the aggregates that ingest keeps."""
    conn = await asyncpg.connect(dsn)
    rows = await conn.fetch(_NAMES, project_no, NAMES)
    numbers = {row["name"]: row["name_no"] for row in rows}
    await conn.execute(_MONTHS, *((at.replace(tzinfo=None)) for at in (anchor - timedelta(days=400), anchor)))
    await conn.execute(_NUMBERS)
    first = 1 + await conn.fetchval("SELECT coalesce(max(subject_no), 0) FROM subjects")
    await conn.copy_records_to_table(
        "numbers", records=((zlib.crc32(b"s%d" % no) & 255, no) for no in range(first, first + subjects))
    )
    await conn.execute("CREATE INDEX ON numbers (bucket, subject_no)")
    await conn.execute("ANALYZE numbers")
    chunks = iter(range(0, BUCKETS, CHUNK))

    async def write() -> None:
        writer = await asyncpg.connect(dsn, server_settings={"work_mem": "128MB", "jit": "off"})
        for first in chunks:
            await _write(writer, project_no, anchor, [numbers[name] for name in NAMES], first, first + CHUNK - 1)
        await writer.close()

    await asyncio.gather(*(write() for _ in range(AT_ONCE)))
    await conn.execute(_AFTERWARDS)
    await conn.close()
    await asyncio.gather(
        *(_vacuum(dsn, table) for table in ("subjects, events", "subject_event_state, subject_event_days"))
    )


async def _write(
    conn: Connection[Record], project_no: int, anchor: datetime, name_nos: list[int], first: int, last: int
) -> None:
    async with conn.transaction():
        await conn.execute(_SUBJECTS, project_no, anchor, first, last)
        await conn.execute(_HAPPENED.format(names=len(NAMES)), project_no, name_nos, anchor, first, last)
        for statement in (_EVENTS, _DAYS, _STATES):
            await conn.execute(statement, project_no)


async def _vacuum(dsn: str, tables: str) -> None:
    """As autovacuum leaves them."""
    conn = await asyncpg.connect(dsn)
    await conn.execute(f"VACUUM (ANALYZE) {tables}")
    await conn.close()
