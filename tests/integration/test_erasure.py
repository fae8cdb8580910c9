"""Deleting a subject: nothing in any table says any more who it was."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from orchestrator.application import preferences, publishing, segments, subjects, trigger_contracts
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.remains import Remains
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.subject import SubjectPatch
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import erasing
from tests.integration.journey_world import ANY_STATE, World
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

#: Stands in everything that is known of the subject, its id included.
CANARY = "canary"
WHO = f"ann.{CANARY}"

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    return made


async def live(world: World, pool: Pool[Record]) -> None:
    """All that can be known of a subject, by the ways on which it becomes known; two journeys are over."""
    owner, project_no = world.owner, world.scope.project_no
    contract = Contract(name="Ordered", event_name="order", predicate=None, entry_key_path="email")
    await world.do(trigger_contracts.create, "ordered", contract)
    for journey_id, steps in (("short", [BYE]), ("long", [HELLO, BYE])):
        await world.draft(journey_id, {"triggerContractId": "ordered", "steps": steps})
        await world.do(publishing.publish, journey_id, ANY_STATE)
    async with world.transactions.write(project_no) as conn:
        await subjects.upsert(conn, project_no, [SubjectPatch(subject_id=WHO, attributes={"name": f"A {CANARY}"})])
        await preferences.update(
            conn, project_no, WHO, [PreferenceChange(channel="webhook", category="marketing", opted_out=True)]
        )
    await world.do(segments.add_members, "vip", [WHO])
    properties = json.dumps({"email": f"{CANARY}@example.com"}).encode()
    event = Event(event_id=f"e-{CANARY}", name="order", subject_id=WHO, occurred_at=None, properties=properties)
    await Ingest(world.transactions).take(project_no, [event], backfill=False)
    inbox = Inbox(Transactions(pool), Versions())
    while keys := await inbox.waiting():
        await inbox.work(keys)
    # What workers leave behind: a send with its receipt, its end, and what neither could be told nor worked on.
    await owner.execute(
        f"""
        INSERT INTO sends (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                           communication_id, content_revision, channel, category, state, attempt, provider_id,
                           reserved_at, settled_at)
        SELECT project_no, bucket, subject_no, execution_id, 0, 'hello', journey_id, version, 'welcome', 1, 'log',
               'marketing', 'sent', 1, 'to-{CANARY}', now(), now()
          FROM executions WHERE journey_id = 'long';
        INSERT INTO webhook_calls (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                                   state, attempt, answer, reserved_at, settled_at)
        SELECT project_no, bucket, subject_no, execution_id, 5, 'ask', journey_id, version, 'answered', 1,
               '{{"who": "{CANARY}"}}', now(), now()
          FROM executions WHERE journey_id = 'long';
        INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                 goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, draw,
                                 context, chosen_at)
        SELECT project_no, bucket, subject_no, execution_id, 6, journey_id, 'arm', version, 1, '', 0, 'a', 500000,
               '{{"a": 500000, "b": 500000}}', 'thompson', 1, '{{"name": "{CANARY}"}}', now()
          FROM executions WHERE journey_id = 'long';
        INSERT INTO log_messages SELECT project_no, bucket, subject_no, 'k', 'Hello {CANARY}', 'x', now() FROM subjects;
        UPDATE executions SET outcome = 'completed', reason = 'done', ended_at = now() WHERE outcome IS NULL;
        INSERT INTO outbox_dead
        SELECT 1000000 + outbox_no, project_no, bucket, subject_no, execution_id, 'poke', workflow_id, 1, now(), 'X',
               now(), now()
          FROM outbox;
        INSERT INTO inbox_dead (inbox_no, project_no, bucket, subject_no, kind, attempts, received_at, error, died_at)
        SELECT 1000000, project_no, bucket, subject_no, 'attributes', 11, now(), 'X', now() FROM subjects;
        INSERT INTO held_entries (project_no, bucket, subject_no, journey_id, entry_key, entry_kind, triggered_at,
                                  held_at, event_no, name_no)
        SELECT project_no, bucket, subject_no, 'short', 'to-{CANARY}', 'event', now(), now(), 1, 1 FROM subjects;
        INSERT INTO conversions (project_no, bucket, subject_no, enrollment_id, step_id, seq, journey_id, occurred_at,
                                 received_at)
        SELECT project_no, bucket, subject_no, execution_id, '', 0, journey_id, now(), now() FROM executions;
        INSERT INTO refused_entries (project_no, journey_id, reason, refused_at, bucket, subject_no, occurred_at,
                                     event_no, name_no)
        SELECT project_no, 'short', 'audience', now(), bucket, subject_no, now(), 1, 1 FROM subjects;
        INSERT INTO test_sends (project_no, bucket, subject_no, test_send_id, communication_id, content_revision,
                                channel, category, message, results, requested_at)
        SELECT project_no, bucket, subject_no, 't', 'welcome', 1, 'log', 'marketing', '{{"body": "{CANARY}"}}', '[]',
               now()
          FROM subjects;
        """
    )


async def tables(owner: Connection[Record], condition: str, *, column: str | None = None) -> set[str]:
    """The tables with rows of which this holds."""
    names = await owner.fetch(
        """
        SELECT c.relname FROM pg_class AS c
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
           AND ($1::text IS NULL OR EXISTS (SELECT FROM pg_attribute AS a
                                             WHERE a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped))
        """,
        column,
    )
    found = set()
    for (name,) in names:
        if await owner.fetchval(f"SELECT EXISTS (SELECT FROM {name} AS a_row WHERE {condition})"):
            found.add(name)
    return found


async def test_what_is_left_of_a_subject_that_was_deleted_is_nobodys(world: World, worker_pool: Pool[Record]) -> None:
    owner = world.owner
    await live(world, worker_pool)
    key = await world.subject(WHO)
    says_who = f"a_row::text LIKE '%{CANARY}%'"
    is_theirs = f"subject_no = {key.subject_no}"
    before = await tables(owner, says_who), await tables(owner, is_theirs, column="subject_no")

    await world.do(subjects.delete, b"s" * 32, WHO, ANY_STATE)

    assert before[0] >= {
        "subjects",
        "events",
        "enrollments",
        "executions",
        "outbox",
        "outbox_dead",
        "log_messages",
        "sends",
        "test_sends",
        "held_entries",
        "webhook_calls",
        "arm_choices",
    }
    assert before[1] >= before[0] | {
        "refused_entries",
        "opt_outs",
        "static_members",
        "inbox_dead",
        "subject_event_state",
        "visits",
    }
    assert await tables(owner, says_who) == set()
    # So that numbers stay what they were.
    left = {"enrollments", "executions", "visits", "sends", "webhook_calls", "arm_choices", "conversions"}
    assert await tables(owner, is_theirs, column="subject_no") == left
    assert await owner.fetchval("SELECT count(DISTINCT entry_key) FROM enrollments WHERE entry = '{}'") == 2
    assert await owner.fetchval("SELECT count(DISTINCT workflow_id) FROM executions") == 2
    assert await owner.fetchval("SELECT bool_and(draw IS NULL) FROM arm_choices")


async def test_of_a_subject_with_very_many_events_the_rest_goes_in_the_background(
    world: World, worker_pool: Pool[Record]
) -> None:
    await live(world, worker_pool)
    key = await world.subject(WHO)
    await world.owner.execute(
        """
        INSERT INTO events (occurred_at, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
        SELECT now(), $1, 1, $3, $2, now(), 'more-' || n, '{}' FROM generate_series(1, 2 * $4) AS n
        """,
        *key,
        erasing.AT_ONCE,
    )
    remains = Remains(Transactions(worker_pool))

    await world.do(subjects.delete, b"s" * 32, WHO, ANY_STATE)
    left = await world.owner.fetchval("SELECT count(*) FROM events WHERE subject_no = $1", key.subject_no)
    steps = 0
    while await remains.step():
        steps += 1

    assert erasing.AT_ONCE <= left < 2 * erasing.AT_ONCE
    assert steps == 2
    theirs = await tables(world.owner, f"subject_no = {key.subject_no}", column="subject_no")
    assert theirs == {*erasing.ANONYMIZED, *erasing.KEPT}
    assert await tables(world.owner, f"a_row::text LIKE '%{CANARY}%'") == set()


async def test_a_subject_is_deleted_while_an_entry_of_it_is_being_delivered(
    world: World, worker_pool: Pool[Record], database: str
) -> None:
    await live(world, worker_pool)
    async with Transactions(worker_pool).write(None) as sweeper:
        await sweeper.fetch("SELECT FROM outbox FOR UPDATE")
        deleting = asyncio.create_task(world.do(subjects.delete, b"s" * 32, WHO, ANY_STATE))
        await waits_for_a_lock(deleting, world.owner)
        await sweeper.execute("DELETE FROM outbox")
    await deleting

    assert await world.owner.fetchval("SELECT count(*) FROM subjects") == 0
