"""What predicates ask about subjects, read in one statement for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
       ARRAY(SELECT ROW (t.name_no, t.total, t.first_at, t.last_at) FROM subject_event_state AS t
              WHERE t.project_no = $1 AND t.bucket = s.bucket AND t.subject_no = s.subject_no
                AND t.name_no = ANY ($4::int[])) AS states,
       ARRAY(SELECT ROW (d.name_no, r.occurred_at)
               FROM unnest($5::int[], $6::int[]) AS d (name_no, depth)
              CROSS JOIN LATERAL (
                    SELECT e.occurred_at FROM events AS e
                     WHERE e.project_no = $1 AND e.bucket = s.bucket AND e.subject_no = s.subject_no
                       AND e.name_no = d.name_no
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

_NAMES = "SELECT name, name_no FROM event_names WHERE project_no = $1 AND name = ANY ($2::text[])"


async def name_numbers(conn: Connection[Record], project_no: int, names: Sequence[str]) -> dict[str, int]:
    """The numbers of those event names that have ever been seen."""
    rows = await conn.fetch(_NAMES, project_no, list(names)) if names else []
    return {row["name"]: row["name_no"] for row in rows}


async def load(
    conn: Connection[Record],
    project_no: int,
    keys: Sequence[SubjectKey],
    needs: Needs,
    names: Mapping[str, int] | None = None,
) -> dict[SubjectKey, Known]:
    """What `needs` asks of these subjects; those that do not exist are missing from the answer.

    `names` are the numbers of the needed event names, where the caller knows them all. A decision takes the subjects'
    locks first, in a statement of its own.
    """
    if names is None:
        names = await name_numbers(conn, project_no, sorted(needs.events))
    numbers = {number: name for name, number in names.items() if name in needs.events}
    deep = {number: needs.events[name] for number, name in numbers.items() if needs.events[name] > 0}
    rows = await conn.fetch(
        _SUBJECTS, project_no, [k.bucket for k in keys], [k.subject_no for k in keys],
        list(numbers), list(deep), list(deep.values()), sorted(needs.cohorts),
    )  # fmt: skip
    return {
        SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]): _known(row, numbers)
        for row in rows
    }


def _known(row: Record, numbers: Mapping[int, str]) -> Known:
    recents: dict[int, list[Any]] = {}
    for name_no, occurred_at in row["recents"]:
        recents.setdefault(name_no, []).append(occurred_at)
    return Known(
        subject_id=row["subject_id"],
        facts=Facts(
            attributes=row["attributes"],
            entry={},
            events={
                numbers[name_no]: EventFacts(
                    total=total,
                    first_at=first_at,
                    last_at=last_at,
                    recent=tuple(sorted(recents.get(name_no, ()), reverse=True)),
                )
                for name_no, total, first_at, last_at in row["states"]
            },
            cohorts=frozenset(row["cohorts"]),
            known_cohorts=frozenset(row["known_cohorts"]),
        ),
        consent=Consent(
            opt_outs=frozenset((channel, category) for channel, category in row["opt_outs"]),
            suppressed=frozenset(row["suppressed"]),
        ),
    )
