"""Which journeys of a project start on what, as the definitions stand now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.project import ProjectSettings, stored_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A journey and the contract it listens through. `audience` None with an `audience_id`: it was deleted.

    The contract names an event or a segment; `segment_no` None with a `segment_id`: the segment was deleted. It is one
    that any journey may name, or, without a `trigger_contract_id`, the version's own, of which what is not here stands
    in its definition.
    """

    journey_id: str
    latest_version: int
    goal_revision: int
    audience_id: str | None
    audience: Any | None
    trigger_contract_id: str | None
    event_name: str | None
    segment_id: str | None
    segment_no: int | None
    entered: bool
    include_definition_changes: bool
    predicate: Any | None
    entry_key_path: str | None
    max_event_age: timedelta | None


_PROJECTS = """
SELECT project_no, project_id, definitions_version, clock_timestamp() AS now,
       (SELECT count(*) FROM derived_events AS d WHERE d.project_no = p.project_no AND d.ready_at IS NULL) AS uncounted,
       (SELECT count(*) FROM segments AS s WHERE s.project_no = p.project_no AND s.predicate IS NOT NULL
                                             AND s.built_revision IS DISTINCT FROM s.rules_revision) AS unbuilt,
       settings, ARRAY(SELECT h.journey_id FROM sends_pauses AS h WHERE h.project_no = p.project_no) AS sends_paused
  FROM projects AS p WHERE project_no = ANY ($1::int[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """A project's definitions, by the number that every change of them raises; `now` is the database's clock.

    `uncounted` are kinds of events that are asked about and not all counted yet, `unbuilt` segments whose rules not
    everybody has been held against; both only rise with a change of definitions. `sends_paused` has the journeys that
    send nothing for now (storage/sends_pauses.py).
    """

    project_no: int
    project_id: str
    definitions_version: int
    now: datetime
    uncounted: int
    unbuilt: int
    settings: ProjectSettings
    sends_paused: Collection[str]


async def current(conn: Connection[Record], project_nos: Sequence[int]) -> dict[int, Current]:
    rows = await conn.fetch(_PROJECTS, list(project_nos))
    return {row["project_no"]: Current(**{**row, "settings": stored_settings(row["settings"])}) for row in rows}


_HEARS = """
SELECT j.journey_id, j.latest_version, j.goal_revision, v.definition ->> 'audienceId' AS audience_id,
       a.predicate AS audience, t.trigger_contract_id, coalesce(t.event_name, own ->> 'eventName') AS event_name,
       coalesce(t.segment_id, own ->> 'segmentId') AS segment_id, s.segment_no,
       coalesce(t.transition, own ->> 'transition', 'entered') = 'entered' AS entered,
       coalesce(t.include_definition_changes, (own ->> 'includeDefinitionChanges')::boolean, false)
           AS include_definition_changes,
       t.predicate, t.entry_key_path, t.max_event_age
  FROM journeys AS j
  JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
 CROSS JOIN LATERAL (SELECT v.definition -> 'entryCondition' AS own) AS condition
  LEFT JOIN trigger_contracts AS t
    ON t.project_no = j.project_no AND t.trigger_contract_id = v.definition ->> 'triggerContractId'
  LEFT JOIN segments AS s
    ON s.project_no = j.project_no AND s.segment_id = coalesce(t.segment_id, own ->> 'segmentId')
  LEFT JOIN audiences AS a
    ON a.project_no = j.project_no AND a.audience_id = v.definition ->> 'audienceId'
"""

_SOMETHING = "(t.trigger_contract_id IS NOT NULL OR jsonb_typeof(own) = 'object')"

_LISTENING = f"""
{_HEARS.rstrip()}
 WHERE j.project_no = $1 AND j.status IN ('active', 'paused') AND {_SOMETHING}
 ORDER BY j.created_at, j.journey_id
"""

_LISTENS = f"{_HEARS.rstrip()} WHERE j.project_no = $1 AND j.journey_id = $2 AND {_SOMETHING}"


async def listening(conn: Connection[Record], project_no: int) -> list[Listening]:
    """The journeys that start on something and are active, or were if they were not paused; oldest first: in this order
    a subject enters them.
    """
    return [Listening(**row) for row in await conn.fetch(_LISTENING, project_no)]


async def listens(conn: Connection[Record], project_no: int, journey_id: str) -> Listening | None:
    """How the newest version of this journey listens, active or not; None where it starts on nothing."""
    row = await conn.fetchrow(_LISTENS, project_no, journey_id)
    return Listening(**row) if row else None


def heard(rows: Iterable[Listening]) -> dict[tuple[int, bool], bool]:
    """The ways in and out of segments, (segment, entered), that any of these listens to; and whether any of them also
    takes those who move because the rules are new.
    """
    ways: dict[tuple[int, bool], bool] = {}
    for row in rows:
        if row.segment_no is not None:
            way = row.segment_no, row.entered
            ways[way] = ways.get(way, False) or row.include_definition_changes
    return ways


_ENTERED_BY_HAND = """
SELECT j.name, j.status, j.latest_version, j.goal_revision, v.definition ->> 'audienceId' AS audience_id,
       a.predicate AS audience,
       (SELECT p.settings FROM projects AS p WHERE p.project_no = $1) AS settings,
       ARRAY(SELECT h.journey_id FROM sends_pauses AS h WHERE h.project_no = $1) AS sends_paused
  FROM journeys AS j
  LEFT JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
  LEFT JOIN audiences AS a
    ON a.project_no = j.project_no AND a.audience_id = v.definition ->> 'audienceId'
 WHERE j.project_no = $1 AND j.journey_id = $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnteredByHand:
    name: str
    status: str
    latest_version: int | None
    goal_revision: int
    audience_id: str | None
    audience: Any | None
    # the project's
    settings: ProjectSettings
    sends_paused: Collection[str]


async def entered_by_hand(
    conn: Connection[Record], project_no: int, journey_id: str, *, hold: bool = True
) -> EnteredByHand | None:
    """What a call to enroll needs to know of a journey; if held, it is not shut before this transaction has ended."""
    lock = "FOR KEY SHARE OF j" if hold else ""
    row = await conn.fetchrow(f"{_ENTERED_BY_HAND.rstrip()} {lock}", project_no, journey_id)
    return EnteredByHand(**{**row, "settings": stored_settings(row["settings"])}) if row else None
