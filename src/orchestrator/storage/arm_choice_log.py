"""The log of choices of arms, as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: Where a page ended: the instant, the execution, the decision.
Place = tuple[datetime, UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A choice. `subject_id` None: the subject was deleted, its `draw` and `context` with it. `policy_version` None:
    there was no policy. `converted_at`: when the first goal event within the window after it happened.
    """

    subject_id: str | None
    execution_id: UUID
    seq: int
    version: int
    arm_id: str
    propensity_ppm: int
    propensities: Mapping[str, int]
    draw: int | None
    reason: str
    policy_version: int | None
    round: int
    context: Mapping[str, Any] | None
    chosen_at: datetime
    converted_at: datetime | None

    @property
    def place(self) -> Place:
        return self.chosen_at, self.execution_id, self.seq


_PAGE = """
SELECT s.subject_id, c.execution_id, c.seq, c.version, c.arm_id, c.propensity_ppm, c.propensities, c.draw, c.reason,
       c.policy_version, c.round, c.context, c.chosen_at, v.occurred_at AS converted_at
  FROM (SELECT * FROM arm_choices
         WHERE project_no = $1 AND journey_id = $2 AND step_id = $3 {of_subject}
           AND ($4::timestamptz IS NULL
                OR chosen_at <= $4 AND (chosen_at < $4 OR (execution_id, seq) > ($5::uuid, $6::int)))
         ORDER BY chosen_at DESC, execution_id, seq
         LIMIT $7) AS c
  LEFT JOIN subjects AS s ON s.project_no = $1 AND s.bucket = c.bucket AND s.subject_no = c.subject_no
  LEFT JOIN conversions AS v
    ON v.project_no = $1 AND v.bucket = c.bucket AND v.subject_no = c.subject_no AND v.enrollment_id = c.execution_id
   AND v.step_id = c.step_id AND v.seq = c.seq
 ORDER BY c.chosen_at DESC, c.execution_id, c.seq
"""

_OF_ALL = _PAGE.format(of_subject="")

_OF_SUBJECT = _PAGE.format(of_subject="AND bucket = $8 AND subject_no = $9")


async def page(
    conn: Connection[Record],
    project_no: int,
    journey_id: str,
    step_id: str,
    key: SubjectKey | None,
    after: Place | None,
    limit: int,
) -> list[Logged]:
    """At most `limit` choices at a step, of one subject or of all, newest first: those after this place."""
    at = after or (None, None, None)
    query, more = (_OF_ALL, ()) if key is None else (_OF_SUBJECT, (key.bucket, key.subject_no))
    rows = await conn.fetch(query, project_no, journey_id, step_id, *at, limit, *more)
    return [Logged(**{**row, "draw": int(row["draw"]) if row["draw"] is not None else None}) for row in rows]
