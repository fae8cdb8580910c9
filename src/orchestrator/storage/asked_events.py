"""Who counts events over a window, two or more of them, and so needs the events themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg import Connection, Record

from orchestrator.domain.journey_form import stored
from orchestrator.domain.journey_graph import predicates_in
from orchestrator.predicates.check import windowed_counts
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import EventFired, Predicate

# Predicates stand in documents of any shape, so leaves are looked for at every depth. A version is in use while new
# executions take it, or while any are under way on it. Contracts of events ask about one event, and count none.
_DOCUMENTS = """
WITH asks AS (
    SELECT '$.** ? ((@.kind == "event_fired" || @.kind == "event_not_fired") && @.atLeast > 1)'::jsonpath AS leaf
)
SELECT kind, id, document FROM asks CROSS JOIN LATERAL (
    SELECT 'audience' AS kind, a.audience_id AS id, a.predicate AS document FROM audiences AS a
     WHERE a.project_no = $1 AND jsonb_path_exists(a.predicate, leaf)
    UNION ALL
    SELECT 'segment', s.segment_id, s.predicate FROM segments AS s
     WHERE s.project_no = $1 AND jsonb_path_exists(s.predicate, leaf)
    UNION ALL
    SELECT 'trigger_contract', t.trigger_contract_id, t.predicate FROM trigger_contracts AS t
     WHERE t.project_no = $1 AND t.segment_id IS NOT NULL AND jsonb_path_exists(t.predicate, leaf)
    UNION ALL
    SELECT 'journey', j.journey_id, j.draft FROM journeys AS j
     WHERE j.project_no = $1 AND j.status <> 'archived' AND jsonb_path_exists(j.draft, leaf)
    UNION ALL
    SELECT 'journey_version', v.journey_id || '/' || v.version, v.definition FROM journey_versions AS v
      LEFT JOIN journeys AS j ON j.project_no = v.project_no AND j.journey_id = v.journey_id
     WHERE v.project_no = $1
       AND (j.status <> 'archived' AND j.latest_version = v.version
            OR EXISTS (SELECT FROM executions AS e
                        WHERE e.project_no = $1 AND e.journey_id = v.journey_id AND e.outcome IS NULL
                          AND v.version IN (e.version, e.carry_version)))
       AND jsonb_path_exists(v.definition, leaf)
) AS documents
ORDER BY kind, id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A leaf that counts in a window, and whose it is: an audience, a segment, a trigger_contract, a journey (its
    draft), a journey_version (`journey/3`)."""

    kind: str
    id: str
    leaf: EventFired


async def in_use(conn: Connection[Record], project_no: int) -> list[Asked]:
    """All of them, in whatever is saved and may still be asked."""
    return [
        Asked(kind=row["kind"], id=row["id"], leaf=leaf)
        for row in await conn.fetch(_DOCUMENTS, project_no)
        for predicate in _predicates(row)
        for leaf, _ in windowed_counts(predicate)
    ]


def _predicates(row: Record) -> Sequence[Predicate]:
    if row["kind"] in ("journey", "journey_version"):
        return predicates_in(stored(row["document"]))
    predicate, faults = parse(row["document"])
    assert predicate is not None, f"a stored predicate no longer reads: {[(f.path, f.reason) for f in faults]}"
    return [predicate]
