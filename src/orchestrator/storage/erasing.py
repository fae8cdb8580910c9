"""What becomes of the rows of a subject that is deleted or forgotten: one table of tables, in which each has its row.

At once goes what could act, or be found; the rest later, some at a time, since nothing writes about a subject that is
gone. Ledgers stay, so that no number changes, without what says whose they are; the subject's number in them leads
nowhere from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: Rows that one statement removes, or changes, of a subject that is gone.
AT_ONCE = 5000

#: Gone with the subject itself, in this order. What is held comes before what was refused: whoever drops the one writes
#: the other, and holds no subject.
AT_ONCE_GONE = (
    "inbox", "inbox_dead", "held_entries", "refused_entries", "test_sends", "static_members", "subject_aliases",
    "subjects",
)  # fmt: skip

#: Gone before that, with what is counted of them (storage/memberships.py, delete).
WITH_MEMBERSHIP = ("subject_segments", "segment_transitions")

#: Gone a while later. Tests were among what went at once: those are looked for again.
LATER_GONE = (
    "outbox", "outbox_dead", "test_sends", "opt_outs", "suppressions", "log_messages", "subject_event_days",
    "subject_event_state", "events",
)  # fmt: skip

#: Ledgers, what of each row goes, and of which rows it has not gone yet: the entry and its key (an event's properties),
#: the id at the provider, what webhooks answered, what arms were chosen by, and the workflow's id, which holds the
#: subject's. Each stays what it was: unique, and not null.
ANONYMIZED = {
    "enrollments": (
        "entry = '{}', entry_key = 'deleted:' || enrollment_id",
        "(entry <> '{}' OR entry_key <> 'deleted:' || enrollment_id)",
    ),
    "executions": ("workflow_id = 'deleted:' || execution_id", "workflow_id <> 'deleted:' || execution_id"),
    "sends": ("provider_id = NULL", "provider_id IS NOT NULL"),
    "webhook_calls": ("answer = NULL", "answer IS NOT NULL"),
    "arm_choices": ("draw = NULL, context = NULL", "num_nonnulls(draw, context) > 0"),
}

#: Ledgers that know of nobody but by the number: steps that were passed, and that somebody converted in time.
KEPT = ("visits", "conversions")

#: Hold the number itself until all is erased (storage/erasures.py, storage/deleted_subjects.py).
OWN = ("erasures", "deleted_subjects")

_OF = "project_no = $1 AND bucket = $2 AND subject_no = $3"


async def take_out(conn: Connection[Record], key: SubjectKey) -> None:
    """Leave nothing that acts for a subject, or by which it is found. The caller holds its row, has held off ingest,
    and has deleted its memberships.
    """
    for table in AT_ONCE_GONE:
        await conn.execute(f"DELETE FROM {table} WHERE {_OF}", *key)


async def erase(conn: Connection[Record], key: SubjectKey, limit: int = AT_ONCE) -> bool:
    """All the rest, of a subject that was taken out, and of which no execution runs; at most so many rows of a table.
    Returns whether that was all.
    """
    gone = [await _delete(conn, table, key, limit) for table in LATER_GONE]
    changed = [await _anonymize(conn, table, key, limit) for table in ANONYMIZED]
    return max(*gone, *changed) < limit


async def some(conn: Connection[Record], key: SubjectKey, limit: int = AT_ONCE) -> dict[str, int]:
    """Some of what is left of a subject that was forgotten: how many rows were met, by table; empty once nothing is."""
    for table in LATER_GONE:
        if gone := await _delete(conn, table, key, limit):
            return {table: gone}
    met = {table: rows for table in ANONYMIZED if (rows := await _anonymize(conn, table, key, limit))}
    return met | await _end_unheard(conn, key)


# Rows of the subject alone, even where two partitions number theirs alike.
_SOME_OF = f"{_OF} AND ctid = ANY (ARRAY(SELECT ctid FROM {{table}} WHERE {_OF} AND {{still}} LIMIT $4))"


async def _delete(conn: Connection[Record], table: str, key: SubjectKey, limit: int) -> int:
    where = _SOME_OF.format(table=table, still="true")
    return _rows(await conn.execute(f"DELETE FROM {table} WHERE {where}", *key, limit))


async def _anonymize(conn: Connection[Record], table: str, key: SubjectKey, limit: int) -> int:
    change, still = ANONYMIZED[table]
    where = _SOME_OF.format(table=table, still=still)
    return _rows(await conn.execute(f"UPDATE {table} SET {change} WHERE {where}", *key, limit))


_UNHEARD = {
    "sends": f"state = 'unknown', reason = 'subject_forgotten', settled_at = clock_timestamp() "
    f"WHERE {_OF} AND state = 'dispatching'",
    "webhook_calls": f"state = 'failed', reason = 'subject_forgotten', settled_at = clock_timestamp() "
    f"WHERE {_OF} AND state = 'calling'",
}


async def _end_unheard(conn: Connection[Record], key: SubjectKey) -> dict[str, int]:
    """Tries whose worker was lost: nobody takes them up."""
    ended: dict[str, int] = {}
    for table, change in _UNHEARD.items():
        if rows := _rows(await conn.execute(f"UPDATE {table} SET {change}", *key)):
            ended[f"{table}_unheard"] = rows
    return ended


def _rows(tag: str) -> int:
    """How many rows a statement has met, as Postgres says it."""
    return int(tag.rsplit(" ", 1)[1])


_WORKFLOWS = f"""
SELECT execution_id, workflow_id FROM executions
 WHERE {_OF} AND workflow_id <> 'deleted:' || execution_id ORDER BY execution_id LIMIT $4
"""


async def workflows(conn: Connection[Record], key: SubjectKey, limit: int) -> dict[str, str]:
    """Executions (by id) whose workflows have still to go from Temporal, and the workflows' ids."""
    return {str(row[0]): row[1] for row in await conn.fetch(_WORKFLOWS, *key, limit)}


_WORKFLOWS_GONE = f"""
UPDATE executions SET workflow_id = 'deleted:' || execution_id
 WHERE {_OF} AND execution_id = ANY ($4::uuid[])
   AND workflow_id <> 'deleted:' || execution_id
"""


async def workflows_gone(conn: Connection[Record], key: SubjectKey, execution_ids: Sequence[str]) -> int:
    """These have gone from Temporal; returns of how many that was not known."""
    return _rows(await conn.execute(_WORKFLOWS_GONE, *key, list(execution_ids)))
