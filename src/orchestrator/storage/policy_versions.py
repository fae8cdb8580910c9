"""What branches have learned, and which journeys are to learn: versions are written once and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.journey import Goal

#: A request that has not been met is told to Temporal again after this, in case its workflow was lost.
TELL_AGAIN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version of a policy. `triangle` None: it was learned from rows of subjects, which may go. `version` and
    `goal_revision` are the journey's, whose rules and whose goal it learned by.
    """

    project_no: int
    journey_id: str
    step_id: str
    policy_version: int
    version: int
    goal_revision: int
    kind: str
    document: Any
    fingerprint: str
    triangle: Mapping[str, Any] | None
    data_cutoff_at: datetime
    created_at: datetime


_COLUMNS = """project_no, journey_id, step_id, policy_version, version, goal_revision, kind, document, fingerprint,
       triangle, data_cutoff_at, created_at"""

_FIND = f"""
SELECT {_COLUMNS} FROM policy_versions
 WHERE project_no = $1 AND journey_id = $2 AND step_id = $3 AND ($4::int IS NULL OR policy_version = $4)
 ORDER BY policy_version DESC LIMIT 1
"""


async def find(
    conn: Connection[Record], project_no: int, journey_id: str, step_id: str, policy_version: int | None = None
) -> Published | None:
    """This version of a branch's policy (None: the newest); None when there is none."""
    row = await conn.fetchrow(_FIND, project_no, journey_id, step_id, policy_version)
    return Published(**row) if row else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What choosing takes of the newest version of a branch's policy. `policy_version` None: there is none."""

    project_id: str
    policy_version: int | None
    kind: str | None
    document: Any


_SERVING = """
SELECT p.project_id, v.policy_version, v.kind, v.document
  FROM projects AS p
  LEFT JOIN LATERAL (SELECT policy_version, kind, document FROM policy_versions
                      WHERE project_no = p.project_no AND journey_id = $2 AND step_id = $3
                      ORDER BY policy_version DESC LIMIT 1) AS v ON true
 WHERE p.project_no = $1
"""


async def serving(conn: Connection[Record], project_no: int, journey_id: str, step_id: str) -> Serving:
    """The newest version, with the name of the project."""
    row = await conn.fetchrow(_SERVING, project_no, journey_id, step_id)
    assert row is not None, "projects are never deleted"
    return Serving(**row)


_INSERT = """
INSERT INTO policy_versions (project_no, journey_id, step_id, policy_version, version, goal_revision, kind, document,
                             fingerprint, triangle, data_cutoff_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT ON CONSTRAINT policy_versions_pkey DO NOTHING
RETURNING true
"""


async def insert(conn: Connection[Record], p: Published) -> bool:
    """Publish it; False when somebody else has published a version of this number."""
    inserted: bool | None = await conn.fetchval(
        _INSERT,
        p.project_no, p.journey_id, p.step_id, p.policy_version, p.version, p.goal_revision, p.kind, p.document,
        p.fingerprint, p.triangle, p.data_cutoff_at, p.created_at,
    )  # fmt: skip
    return bool(inserted)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningJourney:
    """A journey whose newest version has steps that learn."""

    project_no: int
    journey_id: str


_LEARNS = "jsonb_path_exists(v.definition, '$.steps[*] ? (exists (@.adaptiveBranch) || exists (@.nbaDecision))')"

_JOURNEYS = f"""
SELECT j.project_no, j.journey_id
  FROM journeys AS j
  JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
 WHERE j.status IN ('active', 'paused') AND (j.project_no, j.journey_id) > ($1, $2) AND {_LEARNS}
 ORDER BY j.project_no, j.journey_id LIMIT $3
"""


async def learning_journeys(conn: Connection[Record], after: LearningJourney, limit: int) -> list[LearningJourney]:
    """Those that take part, in order."""
    rows = await conn.fetch(_JOURNEYS, after.project_no, after.journey_id, limit)
    return [LearningJourney(**row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """What a journey learns by now. `goal_revisions`: those whose goal is the one of now."""

    version: int
    goal: Goal
    goal_revisions: tuple[int, ...]


_LEARNER = """
SELECT j.latest_version, g.goal_revision, g.event_name, g.goal_window,
       ARRAY(SELECT o.goal_revision FROM journey_goals AS o
              WHERE o.project_no = g.project_no AND o.journey_id = g.journey_id
                AND o.event_name = g.event_name AND o.goal_window = g.goal_window
              ORDER BY o.goal_revision) AS goal_revisions
  FROM journeys AS j
  JOIN journey_goals AS g
    ON g.project_no = j.project_no AND g.journey_id = j.journey_id AND g.goal_revision = j.goal_revision
 WHERE j.project_no = $1 AND j.journey_id = $2 AND j.latest_version IS NOT NULL
"""


async def learner(conn: Connection[Record], project_no: int, journey_id: str) -> Learner | None:
    """None: the journey is gone, or was never published."""
    row = await conn.fetchrow(_LEARNER, project_no, journey_id)
    if row is None:
        return None
    return Learner(
        version=row["latest_version"],
        goal=Goal(revision=row["goal_revision"], event_name=row["event_name"], window=row["goal_window"]),
        goal_revisions=tuple(row["goal_revisions"]),
    )


_REQUEST = """
INSERT INTO policy_requests (project_no, journey_id, requested_at) VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT policy_requests_pkey DO UPDATE SET requested_at = excluded.requested_at, told_at = NULL
"""


async def request(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> None:
    """Have a journey's policies made anew from what is recorded from now on."""
    await conn.execute(_REQUEST, project_no, journey_id, now)


_UNTOLD = """
UPDATE policy_requests AS r SET told_at = $1
  FROM (SELECT project_no, journey_id FROM policy_requests
         WHERE told_at IS NULL OR told_at < $2
         ORDER BY requested_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS open
 WHERE r.project_no = open.project_no AND r.journey_id = open.journey_id
RETURNING r.project_no, r.journey_id
"""


async def claim_untold(conn: Connection[Record], now: datetime, limit: int) -> list[LearningJourney]:
    """Requests to tell Temporal of, at most `limit`. Whoever claims one and fails is followed by a later look."""
    return [LearningJourney(**row) for row in await conn.fetch(_UNTOLD, now, now - TELL_AGAIN, limit)]


_NOT_TOLD = """
UPDATE policy_requests AS r SET told_at = NULL
 WHERE (project_no, journey_id) IN (SELECT * FROM unnest($1::int[], $2::text[]))
"""


async def not_told(conn: Connection[Record], journeys: Iterable[LearningJourney]) -> None:
    """Take back that Temporal was told of these."""
    keys = [(journey.project_no, journey.journey_id) for journey in journeys]
    await conn.execute(_NOT_TOLD, [project_no for project_no, _ in keys], [journey_id for _, journey_id in keys])


_MET = "DELETE FROM policy_requests WHERE project_no = $1 AND journey_id = $2 AND requested_at <= $3"


async def met(conn: Connection[Record], project_no: int, journey_id: str, looked_at: datetime) -> None:
    """What was asked for by then has been done."""
    await conn.execute(_MET, project_no, journey_id, looked_at)
