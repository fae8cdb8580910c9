"""Fifty segments by hand: each a statement of its own that asks, and keeps members and transitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime

import asyncpg

from bench.segments_rules import Asked
from orchestrator.domain.subject import BUCKETS

#: As the product has: halves of the project, side by side.
AT_ONCE = 2

_TABLES = """
CREATE TABLE expert_members (
    project_no int, segment_no int, bucket smallint, subject_no bigint,
    PRIMARY KEY (project_no, segment_no, bucket, subject_no)
);
CREATE TABLE expert_transitions (
    transition_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_no int NOT NULL, bucket smallint NOT NULL, subject_no bigint NOT NULL, segment_no int NOT NULL,
    entered boolean NOT NULL, as_of timestamptz NOT NULL
);
CREATE INDEX ON expert_transitions (project_no, bucket, subject_no, transition_no);
"""

_KEEP = """
WITH wanted AS MATERIALIZED (
    SELECT s.bucket, s.subject_no FROM subjects AS s
     WHERE s.project_no = $1 AND s.bucket BETWEEN $3 AND $4 AND {condition}
), stored AS MATERIALIZED (
    SELECT bucket, subject_no FROM expert_members
     WHERE project_no = $1 AND segment_no = $5 AND bucket BETWEEN $3 AND $4
), moved AS MATERIALIZED (
    SELECT coalesce(w.bucket, m.bucket) AS bucket, coalesce(w.subject_no, m.subject_no) AS subject_no,
           w.subject_no IS NOT NULL AS entered
      FROM wanted AS w FULL JOIN stored AS m ON m.bucket = w.bucket AND m.subject_no = w.subject_no
     WHERE w.subject_no IS NULL OR m.subject_no IS NULL
), came AS (
    INSERT INTO expert_members SELECT $1, $5, bucket, subject_no FROM moved WHERE entered
), gone AS (
    DELETE FROM expert_members AS m USING moved
     WHERE NOT moved.entered AND m.project_no = $1 AND m.segment_no = $5 AND m.bucket = moved.bucket
       AND m.subject_no = moved.subject_no
)
INSERT INTO expert_transitions (project_no, bucket, subject_no, segment_no, entered, as_of)
SELECT $1, bucket, subject_no, $5, entered, $2 FROM moved
"""

# Of one segment: who is in one of the two and not in the other.
_DIFFERENT = """
WITH theirs AS MATERIALIZED (
    SELECT bucket, subject_no FROM expert_members WHERE project_no = $1 AND segment_no = $2
), ours AS MATERIALIZED (
    SELECT bucket, subject_no FROM subject_segments WHERE project_no = $1 AND segment_nos @> ARRAY[$2::int]
)
SELECT (SELECT count(*) FROM theirs) AS members,
       (SELECT count(*) FROM theirs FULL JOIN ours USING (bucket, subject_no)
         WHERE theirs.bucket IS NULL OR ours.bucket IS NULL) AS different
"""


class Experts:
    """Their tables, in the same database."""

    def __init__(self, dsn: str, project_no: int, asked: Mapping[int, Asked]) -> None:
        """`asked`: by the product's number of the segment."""
        self._dsn = dsn
        self._project_no = project_no
        self._asked = asked

    async def prepare(self) -> None:
        conn = await asyncpg.connect(self._dsn)
        await conn.execute(_TABLES)
        await conn.close()

    async def run(self, as_of: datetime) -> float:
        """Seconds for all segments, one after the other, each on two connections."""
        # As the product's passes have them.
        settings = {
            "work_mem": "64MB",
            "jit": "off",
            "plan_cache_mode": "force_custom_plan",
            "random_page_cost": "4",
            "enable_nestloop": "off",
        }
        conns = [await asyncpg.connect(self._dsn, server_settings=settings) for _ in range(AT_ONCE)]
        half = BUCKETS // AT_ONCE
        began = time.perf_counter()
        for segment_no, asked in self._asked.items():
            statement = _KEEP.format(condition=asked.sql)
            await asyncio.gather(
                *(
                    conn.execute(
                        statement,
                        self._project_no,
                        as_of,
                        place * half,
                        (place + 1) * half - 1,
                        segment_no,
                        timeout=600,
                    )
                    for place, conn in enumerate(conns)
                )
            )
        seconds = time.perf_counter() - began
        for conn in conns:
            await conn.close()
        return seconds

    async def vacuum(self) -> None:
        conn = await asyncpg.connect(self._dsn)
        await conn.execute("VACUUM (ANALYZE) expert_members, subject_segments")
        await conn.close()

    async def compare(self) -> int:
        """Members in all; raises AssertionError unless each segment has the same ones on both sides."""
        conn = await asyncpg.connect(self._dsn)
        total = 0
        for segment_no in self._asked:
            row = await conn.fetchrow(_DIFFERENT, self._project_no, segment_no, timeout=120)
            assert row is not None
            if row["different"]:
                raise AssertionError(f"segment {segment_no}: {row['different']} of {row['members']} members differ")
            total += row["members"]
        await conn.close()
        return total
