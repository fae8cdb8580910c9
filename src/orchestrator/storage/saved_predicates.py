"""Whatever is saved with predicates in it and may still be asked: of one project, document by document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.journey_form import stored
from orchestrator.domain.journey_graph import predicates_in
from orchestrator.predicates.faults import Unreadable
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import derived_events

# Predicates stand in documents of any shape, so leaves are looked for at every depth. A version is in use while new
# executions take it, or while any are under way on it. Contracts of events ask about one event, and count none.
_DOCUMENTS = """
WITH asks AS (SELECT $2::text::jsonpath AS leaf)
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
class Saved:
    """A document, and whose it is: an audience, a segment, a trigger_contract, a journey (its draft), a journey_version
    (`journey/3`)."""

    kind: str
    id: str
    document: Any

    def predicates(self) -> Sequence[Predicate]:
        """Those in it. Raises Unreadable."""
        if self.kind in ("journey", "journey_version"):
            return predicates_in(stored(self.document))
        predicate, faults = parse(self.document)
        if predicate is None:
            raise Unreadable("a stored predicate", faults)
        return [predicate]


async def saved(conn: Connection[Record], project_no: int, leaf: str) -> list[Saved]:
    """Those in which the JSON path `leaf` finds something. Contracts of events are not among them."""
    return [Saved(**row) for row in await conn.fetch(_DOCUMENTS, project_no, leaf)]


_OF_EVENTS = """
SELECT trigger_contract_id, predicate FROM trigger_contracts
 WHERE project_no = $1 AND segment_id IS NULL AND predicate IS NOT NULL ORDER BY 1
"""


async def unreadable(conn: Connection[Record], project_no: int) -> list[str]:
    """Which of them do not read, contracts of events and kinds of events included."""
    found = [f"{one.kind} {one.id}" for one in await saved(conn, project_no, "$") if not _reads(one)]
    for contract_id, predicate in await conn.fetch(_OF_EVENTS, project_no):
        if parse(predicate, about=About.EVENT)[0] is None:
            found.append(f"trigger_contract {contract_id}")
    return found + [f"kind of events {number}" for number in await derived_events.unreadable(conn, project_no)]


def _reads(one: Saved) -> bool:
    try:
        one.predicates()
    except Unreadable:
        return False
    return True
