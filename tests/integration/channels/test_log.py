"""The channel `log`, on a real database."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.scope import SubjectKey
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from tests.integration.channels.messages import MESSAGE
from workers.channels.channel import Accepted, ChannelUnavailable
from workers.channels.log import LogChannel

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@pytest.fixture(autouse=True)
async def _known(owner: Connection[Record]) -> None:
    """Those to whom messages go."""
    await owner.executemany(
        "INSERT INTO subjects (project_no, bucket, subject_no, subject_id, created_at, updated_at)"
        " VALUES (1, 7, $1, $2, now(), now())",
        [(42, "ann"), (43, "bob")],
    )


async def test_fifty_repeats_at_once_leave_one_row_and_one_line(
    worker_pool: Pool[Record], owner: Connection[Record], caplog: pytest.LogCaptureFixture
) -> None:
    channel = LogChannel(pool=worker_pool)

    with caplog.at_level(logging.INFO, logger="workers.channels.log"):
        answers = await asyncio.gather(*(channel.send(MESSAGE) for _ in range(50)))

    assert set(answers) == {Accepted(provider_id=MESSAGE.idempotency_key)}
    rows = await owner.fetch("SELECT * FROM log_messages")
    assert [(row["project_no"], row["bucket"], row["subject_no"]) for row in rows] == [(1, 7, 42)]
    assert (rows[0]["subject_line"], rows[0]["body"]) == (MESSAGE.subject, MESSAGE.body)
    assert abs(rows[0]["logged_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert len(caplog.records) == 1


async def test_the_line_says_which_message_and_nothing_of_whom_or_what(
    worker_pool: Pool[Record], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="workers.channels.log"):
        await LogChannel(pool=worker_pool).send(MESSAGE)

    said = vars(caplog.records[0])
    assert (said["channel"], said["communication_id"], said["revision"]) == ("log", "hi", 2)
    assert (said["execution_id"], said["journey_id"], said["version"]) == (str(MESSAGE.execution_id), "welcome", 3)
    assert not any(personal in str(said) for personal in ("ann@example.com", "Hello Ann", "Ännchen"))


async def test_other_keys_and_other_subjects_have_rows_of_their_own(
    worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    channel = LogChannel(pool=worker_pool)

    await channel.send(MESSAGE)
    await channel.send(replace(MESSAGE, idempotency_key="f" * 64))
    await channel.send(replace(MESSAGE, key=SubjectKey(project_no=1, bucket=7, subject_no=43)))

    assert await owner.fetchval("SELECT count(*) FROM log_messages") == 3


async def test_a_repeat_with_another_text_changes_nothing(worker_pool: Pool[Record], owner: Connection[Record]) -> None:
    channel = LogChannel(pool=worker_pool)

    await channel.send(MESSAGE)
    answer = await channel.send(replace(MESSAGE, body="other"))

    assert isinstance(answer, Accepted)
    assert await owner.fetchval("SELECT body FROM log_messages") == MESSAGE.body


async def test_of_what_goes_to_somebody_who_is_gone_nothing_is_kept(
    worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    gone = replace(MESSAGE, key=SubjectKey(project_no=1, bucket=7, subject_no=44))

    answer = await LogChannel(pool=worker_pool).send(gone)

    assert isinstance(answer, Accepted)
    assert await owner.fetchval("SELECT count(*) FROM log_messages") == 0


async def test_without_a_database_the_message_waits(database: str) -> None:
    pool = await open_pool(database, role=WORKER_ROLE, size=2, application_name="test-worker")
    await pool.close()

    with pytest.raises(ChannelUnavailable) as unavailable:
        await LogChannel(pool=pool).send(MESSAGE)

    assert unavailable.value.reason == "database_unavailable"
