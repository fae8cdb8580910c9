"""Versions of policies, as they are read by people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A version, without what it was learned from. `version` and `goal_revision` are the journey's."""

    policy_version: int
    version: int
    goal_revision: int
    kind: str
    document: Mapping[str, Any]
    fingerprint: str
    data_cutoff_at: datetime
    created_at: datetime


_PAGE = """
SELECT policy_version, version, goal_revision, kind, document, fingerprint, data_cutoff_at, created_at
  FROM policy_versions
 WHERE project_no = $1 AND journey_id = $2 AND step_id = $3 AND ($4::int IS NULL OR policy_version < $4)
 ORDER BY policy_version DESC
 LIMIT $5
"""


async def page(
    conn: Connection[Record], project_no: int, journey_id: str, step_id: str, below: int | None, limit: int
) -> list[Told]:
    """At most `limit` versions of a branch's policy, the newest first: those below this number."""
    return [Told(**row) for row in await conn.fetch(_PAGE, project_no, journey_id, step_id, below, limit)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """By arm, in millionths; empty where each subject has shares of its own."""

    step_id: str
    policy_version: int
    created_at: datetime
    ppm: Mapping[str, int]


_SHARES = """
SELECT v.step_id, v.policy_version, v.created_at,
       CASE WHEN v.kind = 'shares'
            THEN (SELECT jsonb_object_agg(a ->> 'arm_id', (a ->> 'ppm')::int)
                    FROM jsonb_array_elements(v.document -> 'arms') AS a)
            ELSE '{}' END AS ppm
  FROM policy_versions AS v
 WHERE v.project_no = $1 AND v.journey_id = $2
 ORDER BY v.step_id, v.policy_version
"""


async def shares(conn: Connection[Record], project_no: int, journey_id: str) -> list[Shares]:
    """Of all versions of the policies of a journey, by step, the oldest first."""
    return [Shares(**row) for row in await conn.fetch(_SHARES, project_no, journey_id)]
