"""Executions whose subject is merged into another on the way: they travel on, and send once, as that one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio.client import Client

from orchestrator.application import preferences, subjects
from orchestrator.application.advance import Advance
from orchestrator.application.merging import merge
from orchestrator.application.reconciliation import Reconciliation
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sending import Receipt, Reserved, Sending
from orchestrator.application.versions import Versions
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.subject import SubjectPatch
from orchestrator.storage.sends import SENT
from orchestrator.temporal.contract import Effect, Question
from orchestrator.temporal.executions import Executions
from tests.eventually import eventually
from tests.workflows.test_journey_execution import AGAIN, ALL_ENDED, BYE, CHECK, HELLO, pause
from tests.workflows.world import Running
from workers.channels.channel import ChannelUnavailable

if TYPE_CHECKING:
    from temporalio.testing import WorkflowEnvironment

SECRET = b"s" * 48


async def known(running: Running, subject_id: str, **attributes: object) -> None:
    world = running.world
    async with world.transactions.write(world.scope.project_no) as conn:
        await subjects.upsert(
            conn, world.scope.project_no, [SubjectPatch(subject_id=subject_id, attributes=attributes, path="")]
        )


async def merged(running: Running, subject_id: str, into: str) -> None:
    await running.world.do(merge, SECRET, RuleBook(), subject_id, into=into)


async def owners(running: Running, table: str) -> set[str | None]:
    rows = await running.owner.fetch(
        f"SELECT DISTINCT s.subject_id FROM {table} AS t LEFT JOIN subjects AS s USING (project_no, bucket, subject_no)"
    )
    return {row[0] for row in rows}


async def test_an_execution_under_way_goes_on_as_the_survivor(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    await in_time.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    await known(in_time, "bob", tier="pro")
    await known(in_time, "cleo")
    await in_time.enroll("ann")
    await in_time.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")

    await merged(in_time, "ann", "bob")
    await merged(in_time, "bob", "cleo")
    await time_skipping.sleep(timedelta(days=30, seconds=1))
    await in_time.until(ALL_ENDED)

    # The branch asked what is known of the survivor, who has it from one of the others.
    assert [step for step, _, _ in await in_time.visits()] == ["hello", "pause", "check", "again", "bye"]
    assert [message.subject_id for message in in_time.channel.messages] == ["ann", "cleo"]
    for table in ("executions", "visits", "sends", "enrollments"):
        assert await owners(in_time, table) == {"cleo"}
    assert await in_time.owner.fetchval("SELECT outcome FROM executions") == "completed"


async def test_a_send_that_was_reserved_before_is_settled_after(at_work: Running) -> None:
    """The merge comes between the provider's call and its answer."""
    await known(at_work, "bob")
    reached, answered = asyncio.Event(), asyncio.Event()
    send = at_work.channel.send

    async def slow(message: object) -> object:
        reached.set()
        await answered.wait()
        return await send(message)  # type: ignore[arg-type]

    at_work.channel.send = slow  # type: ignore[method-assign,assignment]
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)
    await at_work.enroll("ann")
    await asyncio.wait_for(reached.wait(), 20)

    await merged(at_work, "ann", "bob")
    answered.set()
    await at_work.until(ALL_ENDED)

    assert list(at_work.channel.asked.values()) == [1]
    assert await at_work.owner.fetchval("SELECT (state, attempt)::text FROM sends") == "(sent,1)"
    assert await owners(at_work, "sends") == {"bob"}


async def test_a_send_in_back_off_is_tried_again_as_the_survivors_under_its_key(at_work: Running) -> None:
    at_work.channel.answers = [ChannelUnavailable("503", in_doubt=False, retry_after=timedelta(seconds=3))]
    await at_work.publish(HELLO, pause("1s"), CHECK, AGAIN, BYE)
    await known(at_work, "bob")
    await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM sends WHERE NOT in_doubt)")

    await merged(at_work, "ann", "bob")
    await at_work.until(ALL_ENDED)

    assert list(at_work.channel.asked.values()) == [2]
    assert [message.subject_id for message in at_work.channel.messages] == ["ann", "bob"]
    assert await at_work.owner.fetchval("SELECT (state, attempt)::text FROM sends") == "(sent,2)"


async def test_what_the_survivor_refused_stops_the_sends_of_the_other(at_work: Running) -> None:
    await at_work.publish({**HELLO, "id": "again", "next": "bye"}, BYE, journey_id="other")
    await at_work.publish({"id": "pause", "wait": {"duration": "2s"}, "next": "again"}, AGAIN, BYE)
    await at_work.enroll("ann")
    world = at_work.world
    async with world.transactions.write(world.scope.project_no) as conn:
        change = PreferenceChange(channel="*", category="*", opted_out=True)
        await preferences.update(conn, world.scope.project_no, "bob", [change])

    await merged(at_work, "ann", "bob")
    await at_work.until(ALL_ENDED)

    assert at_work.channel.messages == []


async def test_a_failing_decision_still_records_what_was_sent_of_one_who_was_merged(
    at_work: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is asked by the old key, without a worker: reserve, settle though deciding fails, advance."""
    await at_work.publish(HELLO, pause("1d"), CHECK, AGAIN, BYE)
    await known(at_work, "bob")
    sending = Sending(at_work.transactions, Versions())
    at_work.channel.answers = [ChannelUnavailable("503", in_doubt=False, retry_after=timedelta(hours=1))]
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM sends WHERE NOT in_doubt)")
    question = Question(
        project_no=entry.key.project_no, bucket=entry.key.bucket, subject_no=entry.key.subject_no,
        execution_id=str(entry.execution_id), seq=0, now=time.time() + 7200,
    )  # fmt: skip
    reserved = await sending.reserve(question)
    assert isinstance(reserved, Reserved)
    await merged(at_work, "ann", "bob")
    await sending.note(reserved, None, in_doubt=False)
    assert await at_work.owner.fetchval("SELECT (state, in_doubt)::text FROM sends") == "(dispatching,f)"

    async def fails(*_: object) -> Effect:
        raise ValueError("deciding failed")

    monkeypatch.setattr("orchestrator.application.sending.conclude", fails)
    with pytest.raises(ValueError, match="deciding failed"):
        await sending.settle(question, reserved, Receipt(state=SENT))
    monkeypatch.undo()

    assert await at_work.owner.fetchval("SELECT state FROM sends") == "sent"
    effect = await sending.reserve(question)
    assert isinstance(effect, Effect)
    assert (effect.kind, effect.seq) == ("sleep", 1)
    # Whoever asks about what is decided already looks again.
    told = replace(effect, until=0.0)
    assert await sending.settle(question, reserved, Receipt(state=SENT)) == told
    assert await Advance(at_work.transactions, Versions())(question) == told


async def test_an_execution_that_was_never_told_that_its_journey_ends_it_ends_by_the_merge(at_work: Running) -> None:
    """The journey is as an archiving leaves it, whose pages passed the survivor's key before the merge."""
    await at_work.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    await known(at_work, "bob")
    await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")
    await at_work.owner.execute("UPDATE journeys SET status = 'archived', on_archive = 'end'")

    await merged(at_work, "ann", "bob")
    await at_work.until(ALL_ENDED)

    assert await at_work.owner.fetchval("SELECT (outcome, reason)::text FROM executions") == (
        "(canceled,journey_archived)"
    )
    assert await owners(at_work, "executions") == {"bob"}


async def test_an_execution_ended_in_temporal_is_closed_under_the_survivor(at_work: Running, temporal: Client) -> None:
    await at_work.publish(HELLO, pause("30d"), CHECK, AGAIN, BYE)
    await known(at_work, "bob")
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")
    await merged(at_work, "ann", "bob")

    await temporal.get_workflow_handle(entry.workflow_id).terminate()
    reconciliation = Reconciliation(at_work.transactions, Executions(temporal, eager=False, searchable=False))

    async def closed() -> bool:
        await reconciliation.run()
        outcome: str | None = await at_work.owner.fetchval("SELECT outcome FROM executions")
        return outcome == "canceled"

    await eventually(closed, within=20)
