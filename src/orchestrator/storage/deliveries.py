"""What became of sends at their providers. Whoever writes holds the subjects' rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.delivery import Kind
from orchestrator.domain.scope import SubjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A send, and what has been reported of it. `hops` and `started_at` are its execution's."""

    key: SubjectKey
    execution_id: UUID
    seq: int
    journey_id: str
    version: int
    step_id: str
    communication_id: str
    content_revision: int
    channel: str
    category: str
    reported: frozenset[Kind]
    hops: int
    started_at: datetime


_COLUMNS = """s.bucket, s.subject_no, s.execution_id, s.seq, s.journey_id, s.version, s.step_id, s.communication_id,
    s.content_revision, s.channel, s.category, s.delivered_at, s.soft_bounced_at, s.bounced_at, s.complained_at,
    s.opened_at, s.clicked_at, coalesce(n.hops, 0) AS hops, coalesce(n.enrolled_at, s.reserved_at) AS started_at"""

_ENROLLED = """
LEFT JOIN enrollments AS n ON n.project_no = s.project_no AND n.bucket = s.bucket AND n.subject_no = s.subject_no
    AND n.enrollment_id = s.execution_id
"""

_BY_KEY = f"""
SELECT wanted.key AS name, {_COLUMNS}
FROM sends_by_key($2) AS wanted
JOIN sends AS s ON s.project_no = $1 AND s.bucket = wanted.bucket AND s.subject_no = wanted.subject_no
    AND s.execution_id = wanted.execution_id AND s.seq = wanted.seq
{_ENROLLED.strip()}
"""

# Two are one too many: whose it is then nobody knows.
_BY_PROVIDER = f"""
SELECT wanted.name, {_COLUMNS}
FROM unnest($2::text[]) AS wanted (name)
CROSS JOIN LATERAL (
    SELECT *
    FROM sends
    WHERE project_no = $1 AND provider_id = wanted.name AND provider_id IS NOT NULL AND channel <> 'log'
    LIMIT 2
) AS s
{_ENROLLED.strip()}
"""


async def by_key(conn: Connection[Record], project_no: int, keys: Sequence[str]) -> dict[str, Known]:
    """The sends that their providers were given these keys for, in hexadecimal digits."""
    if not keys:
        return {}
    rows = await conn.fetch(_BY_KEY, project_no, [bytes.fromhex(key) for key in keys])
    return {row["name"].hex(): _known(project_no, row) for row in rows}


async def by_provider_id(conn: Connection[Record], project_no: int, provider_ids: Sequence[str]) -> dict[str, Known]:
    """The sends that providers call so; without those names that more than one goes by."""
    if not provider_ids:
        return {}
    found: dict[str, Known] = {}
    twice: set[str] = set()
    for row in await conn.fetch(_BY_PROVIDER, project_no, provider_ids):
        if row["name"] in found:
            twice.add(row["name"])
        found[row["name"]] = _known(project_no, row)
    return {name: known for name, known in found.items() if name not in twice}


_NOTE = """
UPDATE sends AS s
SET delivered_at = LEAST(s.delivered_at, w.delivered_at),
    soft_bounced_at = LEAST(s.soft_bounced_at, w.soft_bounced_at),
    bounced_at = LEAST(s.bounced_at, w.bounced_at),
    complained_at = LEAST(s.complained_at, w.complained_at),
    opened_at = LEAST(s.opened_at, w.opened_at),
    clicked_at = LEAST(s.clicked_at, w.clicked_at)
FROM unnest($2::smallint[], $3::bigint[], $4::uuid[], $5::int[], $6::timestamptz[], $7::timestamptz[],
        $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[])
    AS w (bucket, subject_no, execution_id, seq, delivered_at, soft_bounced_at, bounced_at, complained_at, opened_at,
        clicked_at)
WHERE s.project_no = $1 AND s.bucket = w.bucket AND s.subject_no = w.subject_no AND s.execution_id = w.execution_id
    AND s.seq = w.seq
"""

#: In the order of the statement's parameters.
_KINDS = (Kind.DELIVERED, Kind.SOFT_BOUNCED, Kind.BOUNCED, Kind.COMPLAINED, Kind.OPENED, Kind.CLICKED)


async def note(
    conn: Connection[Record], project_no: int, times: Mapping[tuple[SubjectKey, UUID, int], Mapping[Kind, datetime]]
) -> None:
    """Remember of each send (subject, execution, seq) when what was reported was true; the earliest time counts."""
    sends = list(times)
    await conn.execute(
        _NOTE,
        project_no,
        [key.bucket for key, _, _ in sends],
        [key.subject_no for key, _, _ in sends],
        [execution_id for _, execution_id, _ in sends],
        [seq for _, _, seq in sends],
        *([times[send].get(kind) for send in sends] for kind in _KINDS),
    )


def _known(project_no: int, row: Record) -> Known:
    return Known(
        key=SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]),
        execution_id=row["execution_id"],
        seq=row["seq"],
        journey_id=row["journey_id"],
        version=row["version"],
        step_id=row["step_id"],
        communication_id=row["communication_id"],
        content_revision=row["content_revision"],
        channel=row["channel"],
        category=row["category"],
        reported=frozenset(kind for kind in _KINDS if row[kind.column] is not None),
        hops=row["hops"],
        started_at=row["started_at"],
    )
