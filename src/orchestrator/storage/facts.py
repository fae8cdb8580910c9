"""What predicates ask about subjects, read in one statement for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.gates import Consent
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.facts import EventFacts, Facts, Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One subject: its facts (without `$entry`), and what it refused."""

    subject_id: str
    facts: Facts
    consent: Consent


_SUBJECTS = """
SELECT s.bucket, s.subject_no, s.subject_id, s.attributes,
       ARRAY(SELECT ARRAY[o.channel, o.category] FROM opt_outs AS o
              WHERE o.project_no = $1 AND o.bucket = s.bucket AND o.subject_no = s.subject_no) AS opt_outs,
       ARRAY(SELECT x.channel FROM suppressions AS x
              WHERE x.project_no = $1 AND x.bucket = s.bucket AND x.subject_no = s.subject_no) AS suppressed,
       ARRAY(SELECT ROW (n.name, t.total, t.first_at, t.last_at)
               FROM event_names AS n
               JOIN subject_event_state AS t
                 ON t.project_no = $1 AND t.bucket = s.bucket AND t.subject_no = s.subject_no AND t.name_no = n.name_no
              WHERE n.project_no = $1 AND n.name = ANY ($4::text[])) AS states,
       ARRAY(SELECT ROW (n.name, r.occurred_at)
               FROM unnest($5::text[], $6::int[]) AS d (name, depth)
               JOIN event_names AS n ON n.project_no = $1 AND n.name = d.name
              CROSS JOIN LATERAL (
                    SELECT e.occurred_at FROM events AS e
                     WHERE e.project_no = $1 AND e.bucket = s.bucket AND e.subject_no = s.subject_no
                       AND e.name_no = n.name_no
                     ORDER BY e.occurred_at DESC LIMIT d.depth) AS r) AS recents,
       ARRAY(SELECT g.segment_id FROM static_members AS m
               JOIN segments AS g ON g.project_no = m.project_no AND g.segment_no = m.segment_no
              WHERE m.project_no = $1 AND m.bucket = s.bucket AND m.subject_no = s.subject_no
                AND g.segment_id = ANY ($7::text[])) AS cohorts,
       ARRAY(SELECT g.segment_id FROM segments AS g
              WHERE g.project_no = $1 AND g.segment_id = ANY ($7::text[])) AS known_cohorts
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
  JOIN subjects AS s ON s.project_no = $1 AND s.bucket = w.bucket AND s.subject_no = w.subject_no
"""


async def load(
    conn: Connection[Record], project_no: int, keys: Sequence[SubjectKey], needs: Needs
) -> dict[SubjectKey, Known]:
    """What `needs` asks of these subjects; those that do not exist are missing from the answer.

    A decision takes the subjects' locks first, in a statement of its own.
    """
    deep = {name: depth for name, depth in needs.events.items() if depth > 0}
    rows = await conn.fetch(
        _SUBJECTS, project_no, [k.bucket for k in keys], [k.subject_no for k in keys],
        list(needs.events), list(deep), list(deep.values()), sorted(needs.cohorts),
    )  # fmt: skip
    return {
        SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]): _known(row)
        for row in rows
    }


def _known(row: Record) -> Known:
    recents: dict[str, list[datetime]] = {}
    for name, occurred_at in row["recents"]:
        recents.setdefault(name, []).append(occurred_at)
    return Known(
        subject_id=row["subject_id"],
        facts=Facts(
            attributes=row["attributes"],
            events={
                name: EventFacts(
                    total=total,
                    first_at=first_at,
                    last_at=last_at,
                    recent=tuple(sorted(recents.get(name, ()), reverse=True)),
                )
                for name, total, first_at, last_at in row["states"]
            },
            cohorts=frozenset(row["cohorts"]),
            known_cohorts=frozenset(row["known_cohorts"]),
        ),
        consent=Consent(
            opt_outs=frozenset((channel, category) for channel, category in row["opt_outs"]),
            suppressed=frozenset(row["suppressed"]),
        ),
    )
