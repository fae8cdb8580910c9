"""The executions of a journey, some at a time, for who has something to tell those that are meant by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: The first parameter that is left for the condition.
FIRST = 6

# Newest first, in an order that merging subjects does not change. All of the journey are looked at, so that a page
# takes the same time whoever is meant.
_PAGE = """
SELECT e.bucket, e.subject_no, e.execution_id, e.started_at, {meant} AS meant
  FROM executions AS e
 WHERE e.project_no = $1 AND e.journey_id = $2
   AND e.started_at <= $3 AND (e.started_at < $3 OR e.execution_id > $4)
 ORDER BY e.started_at DESC, e.execution_id
 LIMIT $5
"""

#: How far one has come: the start and the id of an execution.
Place = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Executions that are meant, unless they change before they are locked; `place`: None after the last."""

    meant: Sequence[UUID]
    keys: Sequence[SubjectKey]
    place: Place | None


def statement(meant: str) -> str:
    """For `page`. `meant`: a condition on the columns of `e`, whose parameters begin with FIRST."""
    return _PAGE.format(meant=meant)


async def page(
    conn: Connection[Record],
    statement: str,
    project_no: int,
    journey_id: str,
    place: Place,
    limit: int,
    *arguments: object,
) -> Page:
    """The next executions of the journey, `limit` of them looked at. `arguments` are the condition's."""
    rows = await conn.fetch(statement, project_no, journey_id, *place, limit, *arguments)
    meant = [row for row in rows if row["meant"]]
    return Page(
        meant=[row["execution_id"] for row in meant],
        keys=[SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]) for row in meant],
        place=(rows[-1]["started_at"], rows[-1]["execution_id"]) if len(rows) == limit else None,
    )
