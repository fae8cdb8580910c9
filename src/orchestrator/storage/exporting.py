"""Everything that is kept about a person, as records that can be read: the counterpart of `erasing.py`.

One table of parts, each of which reads a table and says each of its columns by name. A test holds it against the
database: a table that knows subjects, or a column of one, stands in a part or among what is left out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.audit import SUBJECT_EXPORTED
from orchestrator.domain.scope import SubjectKey

#: Rows that are fetched at once.
_AT_ONCE = 100

_TYPES = {int: "bigint", str: "text", datetime: "timestamptz", date: "date", UUID: "uuid"}

#: What a column that tells records of a kind apart is read as.
KeyPart = int | str | datetime | date | UUID

_OF = "project_no = {project} AND bucket = {bucket} AND subject_no = {subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of record.

    `source` calls the row that is told of `x`, and `columns` says by which name each value is told. `key` has what the
    records of a person are sorted and told apart by: unique, and, where there may be very many, in the order of an
    index. `recorded` is when the record came to be, by the clock of the database: of what a person may do without end,
    that which comes later than the export began is left out. None: what is there is told.
    """

    kind: str
    table: str
    source: str = ""
    whose: str = "x.project_no = {project} AND x.bucket = {bucket} AND x.subject_no = {subject}"
    columns: Mapping[str, str]
    key: Mapping[str, type[KeyPart]]
    recorded: str | None = None

    def text(self) -> str:
        """All that it reads, but for what tells whose it is."""
        return " ".join((self.source, *self.columns.values(), *self.key, self.recorded or ""))

    def statement(self, values: Mapping[str, Any], after: Sequence[KeyPart] | None) -> tuple[str, list[Any]]:
        """The statement that reads the records behind this key, or all, and its arguments."""
        told = [f"{sql} AS key{place}" for place, sql in enumerate(self.key)]
        told += [f'{sql} AS "{name}"' for name, sql in self.columns.items()]
        conditions = [self.whose, *([f"{self.recorded} <= {{at}}"] if self.recorded else [])]
        given = dict(values)
        if after is not None:
            places = [f"{{after{place}}}::{_TYPES[kind]}" for place, kind in enumerate(self.key.values())]
            conditions.append(f"({', '.join(self.key)}) > ({', '.join(places)})")
            given |= {f"after{place}": value for place, value in enumerate(after)}
        numbers = _Numbers()
        text = (
            f"SELECT {', '.join(told)} FROM {self.source or f'{self.table} AS x'} WHERE {' AND '.join(conditions)}"
            f" ORDER BY {', '.join(self.key)} LIMIT {{limit}}"
        ).format_map(numbers)
        return text, [given[name] for name in numbers]


class _Numbers(dict[str, str]):
    """Gives each parameter a number when it is met first."""

    def __missing__(self, name: str) -> str:
        self[name] = f"${len(self) + 1}"
        return self[name]


def _joined(table: str, *joins: str) -> str:
    return " LEFT JOIN ".join((f"{table} AS x", *joins))


_SEGMENT = "segments AS s ON s.project_no = x.project_no AND s.segment_no = x.segment_no"
_EVENT_NAME = "event_names AS n ON n.project_no = x.project_no AND n.name_no = x.name_no"
# What is counted may be a kind of events (`where`), which has a number like a name; 0 are those of every name.
_KIND = "derived_events AS d ON d.project_no = x.project_no AND d.name_no = x.name_no"
_COUNTED_NAME = "event_names AS n ON n.project_no = x.project_no AND n.name_no = coalesce(d.base_no, x.name_no)"

_OF_SEGMENT = {"segmentId": "s.segment_id", "segmentName": "s.name"}
_TRANSITION = "CASE WHEN x.entered THEN 'entered' WHEN NOT x.entered THEN 'left' END"
_COUNTED = {"eventName": "CASE WHEN x.name_no = 0 THEN '*' ELSE n.name END", "where": "d.predicate"}
_STEP = {"executionId": "x.execution_id", "journeyId": "x.journey_id", "version": "x.version", "stepId": "x.step_id"}
_PASS: Mapping[str, type[KeyPart]] = {"x.execution_id": UUID, "x.seq": int}

_SINCE = """
(SELECT t.as_of FROM segment_transitions AS t
  WHERE t.project_no = x.project_no AND t.bucket = x.bucket AND t.subject_no = x.subject_no
    AND t.segment_no = m.segment_no
  ORDER BY t.transition_no DESC LIMIT 1)
"""

_OCCURRED = """
LATERAL (SELECT e.event_id FROM events AS e
          WHERE e.project_no = x.project_no AND e.bucket = x.bucket AND e.subject_no = x.subject_no
            AND e.name_no = x.name_no AND e.occurred_at = x.occurred_at AND e.event_no = x.event_no) AS o ON true
"""

# What was said, before anything of the person was put in: of a provider's messages no more is kept.
_TEMPLATES = f"""
(SELECT DISTINCT communication_id, content_revision FROM sends WHERE {_OF}) AS x
  JOIN communication_revisions AS r
    ON r.project_no = {{project}} AND r.communication_id = x.communication_id
   AND r.content_revision = x.content_revision
  LEFT JOIN communications AS c ON c.project_no = r.project_no AND c.communication_id = r.communication_id
"""

_WAITING = """
executions AS e JOIN waiting_sends AS x ON x.project_no = e.project_no AND x.execution_id = e.execution_id
"""

# The log knows people by their refs, and what was done with one execution by its id.
_AUDITED = f"""
(SELECT * FROM audit_log
  WHERE project_no = {{project}} AND resource_kind = 'subject' AND resource_id = ANY ({{refs}}::text[])
 UNION ALL
 SELECT * FROM audit_log
  WHERE project_no = {{project}} AND resource_kind = 'communication'
    AND metadata ->> 'subjectRef' = ANY ({{refs}}::text[])
 UNION ALL
 SELECT * FROM audit_log
  WHERE project_no = {{project}} AND resource_kind = 'journey'
    AND resource_id IN (SELECT journey_id FROM executions WHERE {_OF})
    AND metadata ->> 'executionId' IN (SELECT execution_id::text FROM executions WHERE {_OF})
 UNION ALL
 SELECT * FROM audit_log
  WHERE project_no = {{project}} AND resource_kind = 'execution'
    AND resource_id IN (SELECT execution_id::text FROM executions WHERE {_OF})) AS x
"""

#: In this order they are exported.
PARTS = (
    Part(
        kind="subject",
        table="subjects",
        columns={
            "subjectId": "x.subject_id", "attributes": "x.attributes", "timeZone": "x.time_zone",
            "createdAt": "x.created_at", "updatedAt": "x.updated_at",
        },
        key={"x.subject_no": int},
    ),
    Part(
        kind="alias",
        table="subject_aliases",
        columns={"subjectId": "x.alias_id", "mergedAt": "x.merged_at"},
        key={"x.alias_id": str},
    ),
    Part(
        kind="opt_out",
        table="opt_outs",
        columns={"channel": "x.channel", "category": "x.category", "optedOutAt": "x.opted_out_at"},
        key={"x.channel": str, "x.category": str},
    ),
    Part(
        kind="suppression",
        table="suppressions",
        columns={"channel": "x.channel", "reason": "x.reason", "suppressedAt": "x.suppressed_at"},
        key={"x.channel": str},
    ),
    Part(
        kind="list_membership",
        table="static_members",
        source=_joined("static_members", _SEGMENT),
        columns={**_OF_SEGMENT, "addedAt": "x.added_at"},
        key={"x.segment_no": int},
    ),
    Part(
        kind="segment_membership",
        table="subject_segments",
        source=(
            "subject_segments AS x CROSS JOIN LATERAL unnest(x.segment_nos) AS m (segment_no) LEFT JOIN segments AS s "
            "ON s.project_no = x.project_no AND s.segment_no = m.segment_no"
        ),
        columns={**_OF_SEGMENT, "since": _SINCE, "asOf": "x.as_of"},
        key={"m.segment_no": int},
    ),
    Part(
        kind="segment_transition",
        table="segment_transitions",
        source=_joined("segment_transitions", _SEGMENT),
        columns={**_OF_SEGMENT, "transition": _TRANSITION, "cause": "x.cause", "at": "x.as_of"},
        key={"x.transition_no": int},
    ),
    Part(
        kind="event",
        table="events",
        source=_joined("events", _EVENT_NAME),
        columns={
            "eventId": "x.event_id", "name": "n.name", "occurredAt": "x.occurred_at", "receivedAt": "x.received_at",
            "properties": "x.properties",
        },
        key={"x.name_no": int, "x.occurred_at": datetime, "x.event_no": int},
        recorded="x.received_at",
    ),
    Part(
        kind="event_count",
        table="subject_event_state",
        source=_joined("subject_event_state", _KIND, _COUNTED_NAME),
        columns={**_COUNTED, "count": "x.total", "firstAt": "x.first_at", "lastAt": "x.last_at"},
        key={"x.name_no": int},
    ),
    Part(
        kind="event_day",
        table="subject_event_days",
        source=_joined("subject_event_days", _KIND, _COUNTED_NAME),
        columns={**_COUNTED, "day": "x.day", "count": "x.total", "firstAt": "x.first_at", "lastAt": "x.last_at"},
        key={"x.name_no": int, "x.day": date},
    ),
    Part(
        kind="enrollment",
        table="enrollments",
        source=_joined(
            "enrollments",
            "journey_goals AS g ON g.project_no = x.project_no AND g.journey_id = x.journey_id "
            "AND g.goal_revision = x.goal_revision",
        ),
        columns={
            "enrollmentId": "x.enrollment_id", "journeyId": "x.journey_id", "version": "x.version",
            "entryKind": "x.entry_kind", "entryKey": "x.entry_key", "entry": "x.entry",
            "triggeredAt": "x.triggered_at", "enrolledAt": "x.enrolled_at", "heldOutBy": "x.held_out_by",
            "globalHoldoutPercent": "x.global_percent", "goalEvent": "g.event_name", "goalWindow": "g.goal_window",
        },
        key={"x.enrollment_id": UUID},
    ),
    Part(
        kind="execution",
        table="executions",
        columns={
            **_STEP, "workflowId": "x.workflow_id", "since": "x.since", "wakesAt": "x.wakes_at", "parked": "x.parked",
            "outcome": "x.outcome", "reason": "x.reason", "startedAt": "x.started_at", "endedAt": "x.ended_at",
            "cancelReason": "x.cancel_reason", "cancelAskedAt": "x.cancel_asked_at", "carryVersion": "x.carry_version",
            "sentBefore": "x.sent_before",
        },
        key={"x.execution_id": UUID},
    ),
    Part(
        kind="visit",
        table="visits",
        columns={
            **_STEP, "stepKind": "x.step_kind", "result": "x.result", "reason": "x.reason",
            "enteredAt": "x.entered_at", "leftAt": "x.left_at",
        },
        key={**_PASS, "x.place": int},
    ),
    Part(
        kind="send",
        table="sends",
        columns={
            **_STEP, "communicationId": "x.communication_id", "contentRevision": "x.content_revision",
            "channel": "x.channel", "category": "x.category", "state": "x.state", "reason": "x.reason",
            "attempts": "x.attempt", "idempotencyKey": "encode(send_key(x.execution_id, x.seq), 'hex')",
            "providerId": "x.provider_id", "reservedAt": "x.reserved_at", "settledAt": "x.settled_at",
            "deliveredAt": "x.delivered_at", "softBouncedAt": "x.soft_bounced_at", "bouncedAt": "x.bounced_at",
            "complainedAt": "x.complained_at", "openedAt": "x.opened_at", "clickedAt": "x.clicked_at",
        },
        key=_PASS,
    ),
    Part(
        kind="template",
        table="sends",
        source=_TEMPLATES,
        whose="true",
        columns={
            "communicationId": "x.communication_id", "contentRevision": "x.content_revision", "name": "c.name",
            "subject": "r.content ->> 'subject'", "body": "r.content ->> 'body'",
        },
        key={"x.communication_id": str, "x.content_revision": int},
    ),
    Part(
        kind="message",
        table="log_messages",
        columns={
            "idempotencyKey": "x.idempotency_key", "subject": "x.subject_line", "body": "x.body",
            "loggedAt": "x.logged_at",
        },
        key={"x.idempotency_key": str},
    ),
    Part(
        kind="webhook_call",
        table="webhook_calls",
        columns={
            **_STEP, "state": "x.state", "status": "x.status", "reason": "x.reason", "answer": "x.answer",
            "attempts": "x.attempt", "reservedAt": "x.reserved_at", "settledAt": "x.settled_at",
        },
        key=_PASS,
    ),
    Part(
        kind="arm_choice",
        table="arm_choices",
        columns={
            **_STEP, "armId": "x.arm_id", "propensity": "x.propensity_ppm / 1e6::float8",
            "propensitiesPpm": "x.propensities", "policyVersion": "x.policy_version", "reason": "x.reason",
            "round": "x.round", "draw": "x.draw::text", "context": "x.context", "chosenAt": "x.chosen_at",
        },
        key=_PASS,
    ),
    Part(
        kind="conversion",
        table="conversions",
        columns={
            "enrollmentId": "x.enrollment_id", "journeyId": "x.journey_id", "stepId": "nullif(x.step_id, '')",
            "occurredAt": "x.occurred_at", "receivedAt": "x.received_at",
        },
        key={"x.enrollment_id": UUID, "x.step_id": str, "x.seq": int},
    ),
    Part(
        kind="waiting_send",
        table="waiting_sends",
        source=_WAITING,
        whose="e.project_no = {project} AND e.bucket = {bucket} AND e.subject_no = {subject}",
        columns={
            "executionId": "x.execution_id", "channel": "x.channel", "since": "x.since", "letOutAt": "x.let_out_at",
        },
        key={"x.waiting_no": int},
    ),
    Part(
        kind="held_entry",
        table="held_entries",
        source=_joined("held_entries", _EVENT_NAME, _SEGMENT),
        columns={
            "journeyId": "x.journey_id", "entryKind": "x.entry_kind", "entryKey": "x.entry_key", "entry": "x.entry",
            "eventName": "n.name", "eventId": "x.event_id", **_OF_SEGMENT, "transition": _TRANSITION,
            "triggeredAt": "x.triggered_at", "heldAt": "x.held_at", "graceUntil": "x.grace_until",
            "looksAt": "x.look_at",
        },
        key={"x.held_no": int},
    ),
    Part(
        kind="refused_entry",
        table="refused_entries",
        source=_joined("refused_entries", _EVENT_NAME, _SEGMENT, _OCCURRED),
        columns={
            "journeyId": "x.journey_id", "reason": "x.reason", "eventName": "n.name", "eventId": "o.event_id",
            **_OF_SEGMENT, "transition": _TRANSITION, "occurredAt": "x.occurred_at", "refusedAt": "x.refused_at",
        },
        key={"x.refused_no": int},
    ),
    Part(
        kind="test_send",
        table="test_sends",
        columns={
            "testSendId": "x.test_send_id", "communicationId": "nullif(x.communication_id, '')",
            "contentRevision": "x.content_revision", "channel": "x.channel", "category": "x.category",
            # Where it went to is somebody else's address.
            "subject": "x.message ->> 'subject'", "body": "x.message ->> 'body'", "results": "x.results",
            "requestedAt": "x.requested_at", "endedAt": "x.ended_at",
        },
        key={"x.test_send_id": str},
    ),
    Part(
        kind="audit_entry",
        table="audit_log",
        source=_AUDITED,
        whose="true",
        columns={
            "at": "x.at", "actor": "x.actor", "action": "x.action", "resourceKind": "x.resource_kind",
            "resourceId": "x.resource_id", "metadata": "x.metadata",
        },
        key={"x.audit_no": int},
    ),
)  # fmt: skip

#: Columns that are in no record, and why: those of each table, and those of all of them.
LEFT_OUT = {
    # Which person: the record is theirs.
    "*": {"project_no", "bucket", "subject_no"},
    # What of the attributes reads as a time, and how often they were changed.
    "subjects": {"attribute_times", "revision"},
    # Which number the alias had.
    "subject_aliases": {"alias_bucket", "alias_no"},
    # When to look again, and which new rules it was held against.
    "subject_segments": {"next_due", "seen"},
    # How far from a first event it was, and the project's setting by which the global holdout draws.
    "enrollments": {"hops", "global_salt"},
    # Where its workflow stands, and what wakes it: both follow from its step and its version.
    "executions": {"seq", "effect", "mark", "awaits", "run_since"},
    # What the next try has to know.
    "sends": {"in_doubt", "retry_at"},
    "webhook_calls": {"in_doubt", "retry_at", "known_as"},
    # For whom the choice holds, and which of the journey's goals it is measured by: its enrollment's.
    "arm_choices": {"unit", "goal_revision"},
    # Numbers of what is told by name, how far from a first event it is, and who goes first.
    "held_entries": {"event_no", "transition_no", "hops"},
    "refused_entries": {"transition_no", "hops"},
    "waiting_sends": {"rank"},
}

#: Tables with rows about subjects of which nothing is exported, and why.
TABLES_LEFT_OUT = {
    # Work that is waiting: numbers of what is exported itself.
    *("inbox", "inbox_dead", "outbox", "outbox_dead"),
    # Who was forgotten or deleted is not found any more.
    *("erasures", "deleted_subjects"),
    # How far something that is done with many has come: who was looked at last, and nothing about them.
    *("derived_events", "journey_closings", "topic_pokes", "enrollment_jobs", "cancellations", "carries"),
}

_BY_KIND = {part.kind: place for place, part in enumerate(PARTS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page ended: behind the record of this kind with this key."""

    kind: str
    key: tuple[KeyPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A record: its values by name, without those that it does not have."""

    place: Place
    values: Mapping[str, Any] = field(default_factory=dict)


def key_types(kind: str) -> tuple[type[KeyPart], ...] | None:
    """What the key of a record of this kind consists of; None: there is no such kind."""
    place = _BY_KIND.get(kind)
    return None if place is None else tuple(PARTS[place].key.values())


async def records(
    conn: Connection[Record], key: SubjectKey, refs: Sequence[str], *, at: datetime, after: Place | None, limit: int
) -> AsyncGenerator[Kept, None]:
    """At most `limit` records about this person, those behind a place, or all; of events those received until `at`.

    `refs` are the subject refs of all their ids. The connection is in a transaction, which should see one state.
    """
    values: dict[str, Any] = {
        "project": key.project_no, "bucket": key.bucket, "subject": key.subject_no, "refs": list(refs), "at": at,
    }  # fmt: skip
    begun = _BY_KIND[after.kind] if after is not None else 0
    for part in PARTS[begun:]:
        behind = after.key if after is not None and after.kind == part.kind else None
        statement, arguments = part.statement({**values, "limit": limit}, behind)
        async for row in conn.cursor(statement, *arguments, prefetch=_AT_ONCE):
            place = Place(kind=part.kind, key=tuple(row[number] for number in range(len(part.key))))
            told = {name: row[name] for name in part.columns if row[name] is not None}
            yield Kept(place=place, values=told)
            limit -= 1
        if limit <= 0:
            return


_GOES_ON = """
SELECT EXISTS (SELECT FROM audit_log
                WHERE project_no = $1 AND resource_kind = $4 AND resource_id = $5 AND action = $6 AND actor = $7
                  AND at = $8)
   AND EXISTS (SELECT FROM subjects WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND created_at <= $8)
   AND NOT EXISTS (SELECT FROM subject_aliases
                    WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND merged_at > $8)
"""


async def goes_on(conn: Connection[Record], key: SubjectKey, ref: str, actor: str, at: datetime) -> bool:
    """Whether this actor began an export of this subject at that instant, and it is the same person since then."""
    action = SUBJECT_EXPORTED
    found: bool = await conn.fetchval(_GOES_ON, *key, action.resource_kind, ref, action.name, actor, at)
    return found
