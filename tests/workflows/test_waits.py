"""What executions wait for and leave for, on real servers: what wakes them, how soon, and what the step records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from orchestrator.application import segments, trigger_contracts
from orchestrator.application.enrollment import enroll
from orchestrator.application.ingest import Ingest
from orchestrator.application.journeys import Changes, update
from orchestrator.application.subjects import upsert
from orchestrator.application.versions import Versions
from orchestrator.domain.event import Event
from orchestrator.domain.segment import DYNAMIC, Segment
from orchestrator.domain.subject import SubjectPatch
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import inbox_entries
from orchestrator.temporal.contract import PHASE_ATTRIBUTE
from tests.eventually import eventually
from tests.integration.journey_world import ANY_STATE, IN_VIP, World
from tests.integration.road import BYE, LATE, MONTH, event, wait_for, when
from tests.workflows.world import Running, Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Pool, Record

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
ENDED = "NOT EXISTS (SELECT FROM executions WHERE outcome IS NULL)"
PAID = event("paid")
PRO = {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"}
HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"}
AGAIN = {"id": "again", "send": {"communicationId": "welcome"}, "next": "bye"}

_ids = count()


async def happen(
    running: Running, name: str, subject_id: str = "ann", *, backfill: bool = False, **properties: Any
) -> None:
    """Accepted as the server accepts it: stored, and the inbox rung."""
    world = running.world
    one = Event(
        event_id=f"e{next(_ids)}",
        name=name,
        subject_id=subject_id,
        occurred_at=datetime.now(UTC) if backfill else None,
        properties=json.dumps(properties).encode(),
    )
    await Ingest(world.transactions).take(world.scope.project_no, [one], backfill=backfill)
    await ring(running)


async def known(running: Running, subject_id: str = "ann", *, time_zone: str | None = None, **attributes: Any) -> None:
    world = running.world
    async with world.transactions.write(world.scope.project_no) as conn:
        patch = SubjectPatch(subject_id=subject_id, attributes=attributes, time_zone=time_zone)
        await upsert(conn, world.scope.project_no, [patch])
    await ring(running)


async def ring(running: Running) -> None:
    async with running.world.transactions.read(running.world.scope.project_no) as conn:
        await inbox_entries.ring(conn)


async def is_quiet(running: Running) -> None:
    """All that has happened was worked on, and told."""
    await running.until("NOT EXISTS (SELECT FROM inbox) AND NOT EXISTS (SELECT FROM outbox)")


async def pokes(workflow: WorkflowHandle[Any, Any]) -> int:
    history = await workflow.fetch_history()
    return sum(one.HasField("workflow_execution_signaled_event_attributes") for one in history.events)


async def waits(running: Running, *subject_ids: str) -> WorkflowHandle[Any, Any]:
    """Let them in, and wait until all is quiet; the workflow of the first."""
    told = await running.enroll(*(subject_ids or ("ann",)))
    await is_quiet(running)
    return running.client.get_workflow_handle(told[0].workflow_id)


async def ends(running: Running) -> tuple[str, str]:
    await running.until(ENDED)
    row = await running.owner.fetchrow("SELECT outcome, reason FROM executions ORDER BY ended_at DESC LIMIT 1")
    assert row is not None
    return row["outcome"], row["reason"]


@pytest.mark.parametrize(
    "condition",
    [PAID, event("paid", after="step"), event("paid", where=PRO)],
    ids=["since-the-entry", "since-the-step", "matching"],
)
async def test_an_event_wakes_whoever_waits_for_it(at_work: Running, condition: dict[str, Any]) -> None:
    await at_work.publish(wait_for(condition), LATE, BYE)
    workflow = await waits(at_work, "ann", "bob")

    await happen(at_work, "visit")
    await happen(at_work, "paid", plan="pro")

    assert await workflow.result() == "completed"
    assert await at_work.visits() == [("await", "executed", "came"), ("bye", "executed", None)]
    assert await pokes(workflow) == 1
    assert await at_work.owner.fetchval("SELECT count(*) FROM executions WHERE outcome IS NULL") == 1  # bob's


async def test_an_event_that_was_there_on_arrival_is_not_waited_for(at_work: Running) -> None:
    await at_work.publish(
        {**MONTH, "id": "first", "wait": {"duration": "2s"}, "next": "await"}, wait_for(PAID), LATE, BYE
    )
    workflow = await waits(at_work)

    await happen(at_work, "paid")

    assert await workflow.result() == "completed"
    assert [step for step, _, _ in await at_work.visits()] == ["first", "await", "bye"]
    assert await pokes(workflow) == 0  # a wait for time alone is not disturbed


async def test_an_event_that_comes_before_temporal_was_told_of_the_execution_wakes_it_all_the_same(
    at_work: Running,
) -> None:
    await at_work.publish(wait_for(PAID), LATE, BYE)
    async with at_work.transactions.write(None) as conn:
        await enroll(conn, at_work.world.scope, Versions(), "welcome", ["ann"])
    await happen(at_work, "paid")
    await at_work.until("EXISTS (SELECT FROM outbox WHERE kind = 'poke' AND last_error = 'NOT_STARTED')")

    await at_work.owner.execute("UPDATE outbox SET leased_until = now() WHERE kind = 'start'")

    assert await ends(at_work) == ("completed", "finished")
    await is_quiet(at_work)


async def test_an_event_of_another_entry_lets_nobody_go_on(at_work: Running) -> None:
    contract = Contract(name="Order", event_name="ordered", predicate=None, entry_key_path="order")
    await at_work.world.do(trigger_contracts.create, "ordered", contract)
    await at_work.publish(wait_for(event("paid", entryKeyPath="order")), LATE, BYE, triggerContractId="ordered")
    await happen(at_work, "ordered", order="o-1")
    await happen(at_work, "ordered", order="o-2")
    await at_work.until("(SELECT count(*) FROM executions) = 2")
    await is_quiet(at_work)

    await happen(at_work, "paid", order="o-2")

    assert await at_work.client.get_workflow_handle("disp:welcome__v1__ann__o-2").result() == "completed"
    await is_quiet(at_work)
    still = await at_work.owner.fetchval("SELECT workflow_id FROM executions WHERE outcome IS NULL")
    assert still == "disp:welcome__v1__ann__o-1"


@pytest.mark.parametrize("condition", [{"changed": {"fieldPath": "plan"}}, {"when": PRO}], ids=["changed", "predicate"])
async def test_an_attribute_wakes(at_work: Running, condition: dict[str, Any]) -> None:
    await known(at_work, plan="free")
    await at_work.publish(wait_for(condition), LATE, BYE)
    workflow = await waits(at_work)

    await known(at_work, plan="pro")

    assert await workflow.result() == "completed"
    assert (await at_work.visits())[0] == ("await", "executed", "came")


async def test_lists_and_segments_wake(at_work: Running) -> None:
    lately = {"kind": "event_fired", "eventName": "visit", "window": {"type": "last_n_days", "days": 7}}
    await at_work.world.do(
        segments.create, "visitors", Segment(kind=DYNAMIC, name="Visitors", description="", predicate=lately)
    )
    await at_work.publish(
        wait_for({"when": IN_VIP}) | {"next": "then"},
        {**wait_for(when(kind="in_cohort", cohortId="visitors")), "id": "then"},
        LATE,
        BYE,
    )
    workflow = await waits(at_work)

    await at_work.world.do(segments.add_members, "vip", ["ann"])
    await ring(at_work)
    await at_work.until("(SELECT step_id = 'then' FROM executions)")
    await is_quiet(at_work)
    await happen(at_work, "visit")

    assert await workflow.result() == "completed"
    assert [(step, reason) for step, _, reason in await at_work.visits()][:2] == [("await", "came"), ("then", "came")]


@pytest.mark.parametrize(
    ("rules", "name", "ending"),
    [
        ({"exitRules": [{"id": "gone", **event("canceled")}]}, "canceled", ("exited", "gone")),
        ({"exitOnGoal": True}, "bought", ("goal_reached", "goal")),
    ],
    ids=["rule", "goal"],
)
async def test_in_the_middle_of_a_long_wait_an_execution_leaves_within_two_seconds(
    at_work: Running, rules: dict[str, Any], name: str, ending: tuple[str, str]
) -> None:
    await at_work.world.draft("welcome", {"steps": [HELLO, MONTH, BYE], **rules})
    await at_work.world.do(update, "welcome", Changes(goal_event="bought"), ANY_STATE)
    await at_work.publish_draft()
    await waits(at_work)
    await at_work.until("(SELECT step_id = 'pause' FROM executions)")

    await happen(at_work, name)
    accepted_at = datetime.now(UTC)

    assert await ends(at_work) == ending
    ended_at = await at_work.owner.fetchval("SELECT ended_at FROM executions")
    assert ended_at - accepted_at < 2 * SECOND
    assert [step for step, _, _ in await at_work.visits()] == ["hello"]


async def test_an_exit_rule_between_two_sends_keeps_the_second_from_going_out(at_work: Running) -> None:
    await at_work.publish(
        HELLO, {**MONTH, "wait": {"duration": "3s"}, "next": "again"}, AGAIN, BYE,
        exitRules=[{"id": "pro", "when": PRO}],
    )  # fmt: skip
    await waits(at_work)
    await at_work.until("(SELECT step_id = 'pause' FROM executions)")

    await known(at_work, plan="pro")

    assert await ends(at_work) == ("exited", "pro")
    assert len(at_work.channel.messages) == 1


async def test_a_rule_about_a_segment_that_is_gone_parks_and_goes_on_when_that_is_mended(at_work: Running) -> None:
    await at_work.publish(MONTH, BYE, exitRules=[{"id": "vip", "when": IN_VIP}])
    await waits(at_work)

    await at_work.world.do(segments.delete, "vip", ANY_STATE, force=True)
    await at_work.until("(SELECT parked = 'segment_not_found' FROM executions)")
    await at_work.world.do(segments.create, "vip", Segment(kind="static", name="VIP", description="", predicate=None))
    await at_work.until("(SELECT parked IS NULL FROM executions)")
    await at_work.world.do(segments.add_members, "vip", ["ann"])
    await ring(at_work)

    assert await ends(at_work) == ("exited", "vip")


async def test_a_storm_of_other_events_signals_nobody(at_work: Running) -> None:
    await at_work.publish(wait_for(PAID), LATE, BYE)
    workflow = await waits(at_work)

    for number in range(200):
        await happen(at_work, f"visit-{number}")
    await is_quiet(at_work)
    await known(at_work, plan="pro")
    await happen(at_work, "paid", backfill=True)
    await is_quiet(at_work)

    assert await pokes(workflow) == 0
    await workflow.signal("poke")  # who looks sees what was backfilled
    assert await workflow.result() == "completed"


async def test_events_that_come_twice_or_together_take_the_step_once(at_work: Running) -> None:
    await at_work.publish(wait_for(PAID) | {"next": "again"}, LATE, AGAIN, BYE)
    workflow = await waits(at_work)

    for _ in range(5):
        await happen(at_work, "paid")

    assert await workflow.result() == "completed"
    assert [step for step, _, _ in await at_work.visits()] == ["await", "again", "bye"]
    assert list(at_work.channel.asked.values()) == [1]


async def test_whom_nothing_wakes_goes_the_other_way_exactly_at_the_timeout(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    await in_time.publish(wait_for(PAID), LATE, BYE)
    await in_time.enroll("ann")

    await time_skipping.sleep(30 * DAY - timedelta(minutes=1))
    still = await in_time.owner.fetchval("SELECT outcome FROM executions")
    await time_skipping.sleep(timedelta(minutes=1) + SECOND)
    await in_time.until(ENDED)

    assert still is None
    assert await in_time.visits() == [("await", "executed", "timeout"), ("late", "executed", None)]
    waited = await in_time.owner.fetchval("SELECT left_at - entered_at FROM visits WHERE step_id = 'await'")
    assert timedelta(0) <= waited - 30 * DAY < timedelta(minutes=1)


async def test_the_last_look_at_the_timeout_finds_what_nobody_told_of(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    await in_time.publish(wait_for(PAID), LATE, BYE)
    await in_time.enroll("ann")
    await happen(in_time, "paid", backfill=True)
    await is_quiet(in_time)
    asleep = await in_time.owner.fetchval("SELECT outcome FROM executions")

    await time_skipping.sleep(30 * DAY + SECOND)
    await in_time.until(ENDED)

    assert asleep is None
    assert (await in_time.visits())[0] == ("await", "executed", "came")


async def test_a_segment_that_time_alone_changes_wakes_by_its_own_timer(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    lately = {"kind": "event_fired", "eventName": "visit", "window": {"type": "last_n_days", "days": 7}}
    quiet = Segment(kind=DYNAMIC, name="Quiet", description="", predicate={"kind": "not", "clause": lately})
    await in_time.world.do(segments.create, "quiet", quiet)
    await happen(in_time, "visit")
    await in_time.publish(wait_for(when(kind="in_cohort", cohortId="quiet")), LATE, BYE)
    await in_time.enroll("ann")

    await time_skipping.sleep(6 * DAY + timedelta(hours=23))
    still = await in_time.owner.fetchval("SELECT outcome FROM executions")
    await time_skipping.sleep(timedelta(hours=1))
    await in_time.until(ENDED)

    assert still is None
    assert (await in_time.visits())[0] == ("await", "executed", "came")
    waited = await in_time.owner.fetchval("SELECT left_at - entered_at FROM visits WHERE step_id = 'await'")
    assert 7 * DAY - timedelta(minutes=1) < waited < 7 * DAY + timedelta(minutes=1)


async def test_a_time_of_day_is_waited_for_over_the_change_of_clocks(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    """A year of Sundays at nine in Berlin: seven days lie between two of them, once an hour less and once one more."""
    await known(in_time, time_zone="Europe/Berlin")
    nine = {"wait": {"timeOfDay": {"time": "09:00", "weekdays": ["sunday"]}}}
    weeks = [{"id": f"week-{n}", **nine, "next": f"day-{n}"} for n in range(53)]
    days = [{"id": f"day-{n}", "wait": {"duration": "1d"}, "next": f"week-{n + 1}"} for n in range(53)]
    days[-1]["next"] = "bye"
    await in_time.publish(*(step for pair in zip(weeks, days, strict=True) for step in pair), BYE)
    await in_time.enroll("ann")
    await is_quiet(in_time)

    await time_skipping.sleep(375 * DAY)
    await in_time.until(ENDED, within=60)

    rows = await in_time.owner.fetch(
        "SELECT left_at AS at, left_at AT TIME ZONE 'Europe/Berlin' AS shown FROM visits WHERE step_id LIKE 'week-%'"
        " ORDER BY left_at"
    )
    assert len(rows) == 53
    assert {(row["shown"].weekday(), row["shown"].hour, row["shown"].minute) for row in rows} == {(6, 9, 0)}
    gaps = [round((after["at"] - before["at"]) / timedelta(hours=1)) for before, after in pairwise(rows)]
    assert sorted(set(gaps)) == [167, 168, 169]


async def test_a_time_zone_that_changes_is_waited_for_anew(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    await known(in_time, time_zone="America/New_York")
    await in_time.publish({"id": "ten", "wait": {"timeOfDay": {"time": "10:00"}}, "next": "bye"}, BYE)
    await in_time.enroll("ann")
    await is_quiet(in_time)

    await known(in_time, time_zone="Asia/Tokyo")
    await in_time.until("(SELECT (wakes_at AT TIME ZONE 'Asia/Tokyo')::time = '10:00' FROM executions)")
    await is_quiet(in_time)
    await time_skipping.sleep(DAY + SECOND)
    await in_time.until(ENDED)

    left = await in_time.owner.fetchval("SELECT (left_at AT TIME ZONE 'Asia/Tokyo') FROM visits WHERE step_id = 'ten'")
    assert (left.hour, left.minute) == (10, 0)


async def test_a_date_that_is_moved_while_somebody_waits_is_kept(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + 20 * DAY
    await known(in_time, due=due.isoformat())
    await in_time.publish({"id": "then", "wait": {"date": {"fieldPath": "due", "before": "2d"}}, "next": "bye"}, BYE)
    await in_time.enroll("ann")
    await is_quiet(in_time)

    await known(in_time, due=(due - 10 * DAY).isoformat())
    await in_time.until("(SELECT wakes_at = $1 FROM executions)", due - 12 * DAY)
    await is_quiet(in_time)
    await time_skipping.sleep(9 * DAY)
    await in_time.until(ENDED)

    left = await in_time.owner.fetchval("SELECT left_at FROM visits WHERE step_id = 'then'")
    assert due - 12 * DAY <= left < due - 12 * DAY + timedelta(minutes=1)


async def test_whoever_waits_long_for_something_is_found_by_that_phase(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    channel = Switchboard()
    async with worker(temporal, database, worker_pool, channel, searchable=True):
        running = Running(furnished, temporal, worker_pool, channel, searchable=True)
        await running.publish(wait_for(PAID), LATE, BYE)
        (entry,) = await running.enroll("ann")
        workflow = temporal.get_workflow_handle(entry.workflow_id)

        async def is_waiting() -> bool:
            return (await workflow.describe()).typed_search_attributes.get(PHASE_ATTRIBUTE) == "wait_for"

        await eventually(is_waiting)
        await is_quiet(running)
        await happen(running, "paid")
        assert await workflow.result() == "completed"
