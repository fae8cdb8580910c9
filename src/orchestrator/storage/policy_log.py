"""Versions of policies, as they are read by people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A version, without what it was learned from. `version` and `goal_revision` are the journey's. `document` None: it
    comes without one, in lists.
    """

    policy_version: int
    version: int
    goal_revision: int
    kind: str
    document: Mapping[str, Any] | None
    fingerprint: str
    data_cutoff_at: datetime
    created_at: datetime


_PAGE = """
SELECT policy_version, version, goal_revision, kind, NULL::jsonb AS document, fingerprint, data_cutoff_at, created_at
  FROM policy_versions
 WHERE project_no = $1 AND journey_id = $2 AND step_id = $3 AND ($4::int IS NULL OR policy_version < $4)
 ORDER BY policy_version DESC
 LIMIT $5
"""


async def page(
    conn: Connection[Record], project_no: int, journey_id: str, step_id: str, below: int | None, limit: int
) -> list[PolicyVersion]:
    """At most `limit` versions of a branch's policy, the newest first: those below this number."""
    return [PolicyVersion(**row) for row in await conn.fetch(_PAGE, project_no, journey_id, step_id, below, limit)]


_FIND = """
SELECT policy_version, version, goal_revision, kind, document, fingerprint, data_cutoff_at, created_at
  FROM policy_versions
 WHERE project_no = $1 AND journey_id = $2 AND step_id = $3 AND policy_version = $4
"""


async def find(
    conn: Connection[Record], project_no: int, journey_id: str, step_id: str, policy_version: int
) -> PolicyVersion | None:
    row = await conn.fetchrow(_FIND, project_no, journey_id, step_id, policy_version)
    return PolicyVersion(**row) if row else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """By arm, in millionths; empty where each subject has shares of its own, and where the document tells none."""

    step_id: str
    policy_version: int
    created_at: datetime
    # shares | context
    kind: str
    ppm: Mapping[str, int]


#: Versions of one branch whose shares are told at most: the first, the newest, and others at equal distances.
MOST_SHARES = 400

# Documents are long, and are read of those alone that are told.
_SHARES = f"""
WITH placed AS (
    SELECT step_id, policy_version, row_number() OVER (PARTITION BY step_id ORDER BY policy_version) AS place,
           count(*) OVER (PARTITION BY step_id) AS total
      FROM policy_versions
     WHERE project_no = $1 AND journey_id = $2
)
SELECT v.step_id, v.policy_version, v.created_at, v.kind,
       coalesce(CASE WHEN v.kind = 'shares' AND jsonb_typeof(v.document -> 'arms') = 'array'
                     THEN (SELECT jsonb_object_agg(a ->> 'arm_id', (a ->> 'ppm')::int)
                             FROM jsonb_array_elements(v.document -> 'arms') AS a) END, '{{}}') AS ppm
  FROM placed AS p
  JOIN policy_versions AS v
    ON v.project_no = $1 AND v.journey_id = $2 AND v.step_id = p.step_id AND v.policy_version = p.policy_version
 WHERE p.place IN (1, p.total) OR p.place * {MOST_SHARES} / p.total > (p.place - 1) * {MOST_SHARES} / p.total
 ORDER BY v.step_id, v.policy_version
"""


async def shares(conn: Connection[Record], project_no: int, journey_id: str) -> list[Shares]:
    """Of versions of the policies of a journey, by step, the oldest first."""
    return [Shares(**row) for row in await conn.fetch(_SHARES, project_no, journey_id)]
