"""What happened to a subject, newest first, out of the ledgers that are kept anyway."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: What may have happened, in the order in which it stands at one instant: the later ones follow from the earlier.
KINDS = ("event", "opt_out", "suppression", "enrollment", "send", "visit", "end")

#: Where a page ended: the instant, the place of the kind among KINDS, and the item's key within it.
Place = tuple[datetime, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that happened. What its kind does not have is None."""

    at: datetime
    rank: int
    item_key: str
    journey_id: str | None
    version: int | None
    execution_id: UUID | None
    step_id: str | None
    event_name: str | None
    event_id: str | None
    channel: str | None
    category: str | None
    communication_id: str | None
    result: str | None
    reason: str | None

    @property
    def kind(self) -> str:
        return KINDS[self.rank]

    @property
    def place(self) -> Place:
        return self.at, self.rank, self.item_key


# Each kind is read by the subject's part of its own index, and cut to a page. Nothing that happened changes its instant
# or its key, so pages neither repeat nor lose what was there when the first was read.
def _part(rank: int, item_key: str, at: str, source: str, **columns: str) -> str:
    typed = {
        "journey_id": "text", "version": "int", "execution_id": "uuid", "step_id": "text", "event_name": "text",
        "event_id": "text", "channel": "text", "category": "text", "communication_id": "text", "result": "text",
        "reason": "text",
    }  # fmt: skip
    cells = ", ".join(f"{columns.get(name, 'NULL')}::{kind} AS {name}" for name, kind in typed.items())
    return f"""
(SELECT {at} AS at, {rank} AS rank, {item_key} AS item_key, {cells}
   FROM {source}
  WHERE x.project_no = $1 AND x.bucket = $2 AND x.subject_no = $3 AND {_before(rank, item_key, at)}
  ORDER BY at DESC, item_key DESC
  LIMIT $7)"""


def _before(rank: int, item_key: str, at: str) -> str:
    return f'({at} < $4 OR {at} = $4 AND ({rank} < $5 OR {rank} = $5 AND {item_key} < $6::text COLLATE "C"))'


def _text(number: str, digits: int) -> str:
    return f"lpad({number}::text, {digits}, '0') COLLATE \"C\""


_EVENT_KEY = _text("x.event_no", 20)

# Events of one name at a time, since their index has the name before the time: a page of each.
_EVENTS = f"""
(SELECT e.occurred_at AS at, 0 AS rank, e.item_key, NULL::text AS journey_id, NULL::int AS version,
        NULL::uuid AS execution_id, NULL::text AS step_id, n.name AS event_name, e.event_id, NULL::text AS channel,
        NULL::text AS category, NULL::text AS communication_id, NULL::text AS result, NULL::text AS reason
   FROM subject_event_state AS s
   JOIN event_names AS n ON n.project_no = s.project_no AND n.name_no = s.name_no
  CROSS JOIN LATERAL (
        SELECT x.occurred_at, {_EVENT_KEY} AS item_key, x.event_id
          FROM events AS x
         WHERE x.project_no = $1 AND x.bucket = $2 AND x.subject_no = $3 AND x.name_no = s.name_no
           AND x.occurred_at <= $4 AND {_before(0, _EVENT_KEY, "x.occurred_at")}
         ORDER BY x.occurred_at DESC, x.event_no DESC
         LIMIT $7) AS e
  WHERE s.project_no = $1 AND s.bucket = $2 AND s.subject_no = $3
  ORDER BY at DESC, item_key DESC
  LIMIT $7)"""

_EXECUTION = 'x.execution_id::text COLLATE "C"'

_PARTS = (
    _EVENTS,
    _part(
        1, "x.channel || ' ' || x.category", "x.opted_out_at", "opt_outs AS x", channel="x.channel",
        category="x.category",
    ),
    _part(2, "x.channel", "x.suppressed_at", "suppressions AS x", channel="x.channel", reason="x.reason"),
    _part(
        3, "x.enrollment_id::text COLLATE \"C\"", "x.enrolled_at", "enrollments AS x", journey_id="x.journey_id",
        version="x.version", execution_id="x.enrollment_id", result="x.entry_kind",
        reason="'held out by ' || x.held_out_by",
    ),
    _part(
        4, f"{_EXECUTION} || {_text('x.seq', 10)}", "x.reserved_at", "sends AS x", journey_id="x.journey_id",
        version="x.version", execution_id="x.execution_id", step_id="x.step_id", channel="x.channel",
        category="x.category", communication_id="x.communication_id", result="x.state", reason="x.reason",
    ),
    _part(
        5, f"{_EXECUTION} || {_text('x.seq', 10)} || {_text('x.place', 5)}", "x.left_at", "visits AS x",
        journey_id="x.journey_id", version="x.version", execution_id="x.execution_id", step_id="x.step_id",
        result="x.result", reason="x.reason",
    ),
    _part(
        6, _EXECUTION, "x.ended_at", "executions AS x", journey_id="x.journey_id", version="x.version",
        execution_id="x.execution_id", step_id="x.step_id", result="x.outcome", reason="x.reason",
    ),
)  # fmt: skip

_PAGE = f"""
SELECT * FROM ({" UNION ALL ".join(_PARTS)}) AS happened
 ORDER BY at DESC, rank DESC, item_key COLLATE "C" DESC
 LIMIT $7
"""


async def page(conn: Connection[Record], key: SubjectKey, before: Place | None, limit: int) -> list[Item]:
    """At most `limit` things that happened to the subject, newest first: those before this place, or all."""
    at, rank, item_key = before or (None, 0, "")
    rows = await conn.fetch(
        _PAGE, key.project_no, key.bucket, key.subject_no, at or _FAR, rank, item_key, limit
    )  # fmt: skip
    return [Item(**row) for row in rows]


#: Nothing happens later.
_FAR = datetime.fromisoformat("9999-01-01T00:00:00+00:00")
