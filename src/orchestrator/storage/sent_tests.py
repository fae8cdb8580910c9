"""Communications sent to given addresses: asked for by callers, handed over by workers, who share them by row locks.

What is said and to whom is kept until it has been handed over to the last address, and an hour at most.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.sent_test import (
    EXPIRED,
    FAILED,
    IN_TIME,
    KEPT_FOR,
    UNDER_WAY,
    UNKNOWN,
    WAITING,
    Result,
    SentTest,
    TestMessage,
)

# Class of the advisory locks under which a project's tests are counted.
_COUNTING = 0x7E57

_SENT_SINCE = """
SELECT coalesce(sum(jsonb_array_length(results)), 0)::bigint FROM test_sends
 WHERE project_no = $1 AND requested_at > $2
"""


async def count_alone(conn: Connection[Record], project_no: int, since: datetime) -> int:
    """To how many addresses tests were sent since; nobody else counts, or sends, until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock($1, $2)", _COUNTING, project_no)
    counted: int = await conn.fetchval(_SENT_SINCE, project_no, since)
    return counted


_INSERT = """
INSERT INTO test_sends (project_no, test_send_id, communication_id, content_revision, channel, category, bucket,
                        subject_no, message, results, requested_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


async def insert(
    conn: Connection[Record], project_no: int, test: SentTest, message: TestMessage, key: SubjectKey | None
) -> None:
    """Ask for it: a worker begins after the commit. `key`: with whose attributes it was rendered."""
    await conn.execute(
        _INSERT, project_no, test.test_send_id, test.communication_id, test.content_revision, test.channel,
        test.category, key.bucket if key else None, key.subject_no if key else None, asdict(message),
        [asdict(result) for result in test.results], test.requested_at,
    )  # fmt: skip


_COLUMNS = "test_send_id, communication_id, content_revision, channel, category, results, requested_at, ended_at"

_FIND = f"SELECT {_COLUMNS} FROM test_sends WHERE project_no = $1 AND test_send_id = $2"


async def find(conn: Connection[Record], project_no: int, test_send_id: str) -> SentTest | None:
    row = await conn.fetchrow(_FIND, project_no, test_send_id)
    return _test(row) if row else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A test that is to be handed over to the address at this place, by whoever has this; nobody does it again."""

    project_no: int
    key: SubjectKey | None
    test: SentTest
    message: TestMessage
    place: int


_NEXT = f"""
SELECT project_no, bucket, subject_no, message, {_COLUMNS} FROM test_sends
 WHERE message IS NOT NULL ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

_WRITE = """
UPDATE test_sends SET results = $3, message = CASE WHEN $4 THEN message END, ended_at = $5
 WHERE project_no = $1 AND test_send_id = $2
"""


async def take(conn: Connection[Record], now: datetime) -> Due | None:
    """The next that is due. From the commit on it counts as handed over, whether or not we come to do so.

    Those that are late are given up.
    """
    while (row := await conn.fetchrow(_NEXT)) is not None:
        test = _test(row)
        waiting = [place for place, result in enumerate(test.results) if result.state == WAITING]
        if test.requested_at < now - IN_TIME:
            late = Result(state=FAILED, reason=EXPIRED)
            results = [late if result.state == WAITING else result for result in test.results]
            await _write(conn, row["project_no"], replace(test, results=results), kept=False, now=now)
            continue
        place = waiting[0]
        results = list(test.results)
        results[place] = Result(state=UNKNOWN, reason=UNDER_WAY)
        await _write(conn, row["project_no"], replace(test, results=results), kept=len(waiting) > 1, now=now)
        key = None
        if row["subject_no"] is not None:
            key = SubjectKey(project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"])
        message = TestMessage(**row["message"])
        return Due(project_no=row["project_no"], key=key, test=test, message=message, place=place)
    return None


_HOLD = f"""
SELECT message IS NOT NULL AS kept, {_COLUMNS} FROM test_sends WHERE project_no = $1 AND test_send_id = $2 FOR UPDATE
"""


async def note(conn: Connection[Record], due: Due, result: Result, now: datetime) -> None:
    """What became of it. It may have been forgotten meanwhile, with its subject."""
    row = await conn.fetchrow(_HOLD, due.project_no, due.test.test_send_id)
    if row is None:
        return
    test = _test(row)
    results = list(test.results)
    results[due.place] = result
    await _write(conn, due.project_no, replace(test, results=results), kept=row["kept"], now=now)


async def _write(conn: Connection[Record], project_no: int, test: SentTest, *, kept: bool, now: datetime) -> None:
    open_ones = [result for result in test.results if result.state == WAITING or result.reason == UNDER_WAY]
    await conn.execute(
        _WRITE, project_no, test.test_send_id, [asdict(result) for result in test.results], kept,
        None if open_ones else now,
    )  # fmt: skip


_FORGET = """
DELETE FROM test_sends WHERE (project_no, test_send_id) IN (
    SELECT project_no, test_send_id FROM test_sends WHERE requested_at < $1 LIMIT $2)
"""


async def forget(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` tests that are too old; returns how many."""
    tag = await conn.execute(_FORGET, now - KEPT_FOR, limit)
    return int(tag.rsplit(" ", 1)[1])


def _test(row: Record) -> SentTest:
    return SentTest(
        test_send_id=row["test_send_id"],
        communication_id=row["communication_id"],
        content_revision=row["content_revision"],
        channel=row["channel"],
        category=row["category"],
        results=[Result(**result) for result in row["results"]],
        requested_at=row["requested_at"],
        ended_at=row["ended_at"],
    )
