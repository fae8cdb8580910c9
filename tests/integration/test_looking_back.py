"""What has happened since the entry, as whoever decides sees it: on arrival, at every look, and at the entry itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application.advance import Ready, ready
from orchestrator.application.journeys import Changes, update
from orchestrator.application.looking_back import FEW, MANY
from orchestrator.application.subjects import upsert
from orchestrator.domain.subject import SubjectPatch
from orchestrator.temporal.contract import Question
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, LATE, MONTH, Road, event, wait_for, when

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HOUR = timedelta(hours=1)
NOON = datetime.now(UTC).replace(microsecond=0) - 12 * HOUR
PAID = event("paid")
OVER_10 = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 10}
BY_ORDER: dict[str, Any] = {"reentry": {"policy": "entry_key"}}


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    return await Road.make(owner, api_pool, worker_pool)


async def test_an_event_since_the_entry_is_found_at_the_next_look(road: Road) -> None:
    await road.publish(wait_for(PAID), LATE, BYE)
    await road.crowd.happened(("ann", "paid", NOON))  # before the entry
    await road.enroll("ann")

    before = await road.ask()
    await road.crowd.happened(("ann", "paid", None))
    after = await road.ask()

    assert (before.kind, before.why, before.seq) == ("sleep", "wait_for", 0)
    assert (after.kind, after.outcome) == ("end", "completed")
    visit = await road.owner.fetchval("SELECT (step_id, result, reason)::text FROM visits WHERE step_kind = 'wait_for'")
    assert visit == "(await,executed,came)"


async def test_after_the_step_only_what_occurred_there_counts(road: Road) -> None:
    contract = await road.starts_on("signup")
    await road.publish(wait_for(event("paid", after="step")), LATE, BYE, triggerContractId=contract)
    await road.crowd.happened(("ann", "signup", NOON), ("ann", "paid", NOON + HOUR))
    await road.crowd.settle()

    asleep = await road.ask()
    await road.crowd.happened(("ann", "paid", NOON + 2 * HOUR))  # comes late, occurred before
    still = await road.ask()
    await road.crowd.happened(("ann", "paid", None))

    assert asleep == still
    assert (await road.ask()).outcome == "completed"


async def test_who_comes_in_late_is_met_by_what_has_happened_since_the_trigger(road: Road) -> None:
    contract = await road.starts_on("signup")
    await road.publish(
        MONTH, BYE, triggerContractId=contract, exitRules=[{"id": "gone", **event("canceled")}], goal="paid",
        exitOnGoal=True,
    )  # fmt: skip
    await road.crowd.happened(
        ("ann", "canceled", NOON), ("bob", "canceled", NOON - HOUR), ("cleo", "paid", NOON), ("dora", "visit", NOON)
    )
    await road.crowd.happened(*((who, "signup", NOON - HOUR) for who in ("ann", "bob", "cleo", "dora")))

    await road.crowd.settle()

    assert await road.ended("ann") == ("exited", "gone")
    assert await road.ended("bob") == (None, None)  # at the trigger, and not after it
    assert await road.ended("cleo") == ("goal_reached", "goal")
    assert await road.ended("dora") == (None, None)
    assert await road.awaits("dora") == ["event:canceled", "event:paid"]


async def test_a_goal_counts_within_its_window_and_under_the_revision_of_the_enrollment(road: Road) -> None:
    contract = await road.starts_on("signup")
    await road.publish(MONTH, BYE, triggerContractId=contract, goal="paid", exitOnGoal=True)
    await road.crowd.world.do(update, "welcome", Changes(goal_window=2 * HOUR), ANY_STATE)
    await road.crowd.happened(("ann", "signup", NOON), ("bob", "signup", NOON), ("cleo", "signup", NOON))
    await road.crowd.settle()
    await road.crowd.world.do(update, "welcome", Changes(goal_event="visited"), ANY_STATE)

    await road.crowd.happened(
        ("ann", "paid", NOON + 2 * HOUR), ("bob", "paid", NOON + 2 * HOUR + timedelta(seconds=1)),
        ("cleo", "visited", NOON + HOUR),
    )  # fmt: skip

    assert (await road.ask("ann")).outcome == "goal_reached"
    assert (await road.ask("bob")).kind == "sleep"
    assert (await road.ask("cleo")).kind == "sleep"


async def test_only_events_that_match_count_and_only_those_of_this_entry(road: Road) -> None:
    contract = await road.starts_on("ordered", entry_key_path="order")
    await road.publish(
        wait_for(event("paid", where=OVER_10, entryKeyPath="order")), LATE, BYE, triggerContractId=contract, **BY_ORDER
    )
    await road.crowd.happened(("ann", "ordered", None), order="o-1")
    await road.crowd.settle()

    await road.crowd.happened(("ann", "paid", None), order="o-1", amount=10)
    small = await road.ask()
    await road.crowd.happened(("ann", "paid", None), order="o-2", amount=11)
    another = await road.ask()
    await road.crowd.happened(("ann", "paid", None), order="o-1", amount=11)

    assert small == another
    assert small.kind == "sleep"
    assert (await road.ask()).outcome == "completed"


@pytest.mark.parametrize("behind", [0, FEW - 1, FEW, FEW + 1, FEW + MANY, FEW + MANY + 1])
async def test_an_event_counts_however_many_came_after_it(road: Road, behind: int) -> None:
    await road.publish(wait_for(event("paid", where=OVER_10)), LATE, BYE)
    await road.enroll("ann")

    at = datetime.now(UTC)
    await road.crowd.happened(("ann", "paid", at), amount=11)
    # Many at one instant, too.
    await road.crowd.happened(*(("ann", "paid", at) for _ in range(behind)), amount=1)

    assert (await road.ask()).outcome == "completed"


async def test_what_was_backfilled_counts_when_somebody_looks(road: Road) -> None:
    contract = await road.starts_on("signup")
    await road.publish(wait_for(PAID), LATE, BYE, triggerContractId=contract)
    await road.crowd.happened(("ann", "signup", NOON))
    await road.crowd.settle()
    await road.forget_told()

    await road.crowd.happened(("ann", "paid", NOON + HOUR), backfill=True)

    assert await road.news() == []
    assert (await road.ask()).outcome == "completed"


async def test_the_mark_of_an_attribute_is_kept_from_arrival_on(road: Road) -> None:
    await road.crowd.known(ann={"plan": "free"})
    await road.publish(wait_for({"changed": {"fieldPath": "plan"}}), LATE, BYE)
    await road.enroll("ann")
    marked = await road.owner.fetchval("SELECT mark FROM executions")

    await road.crowd.known(ann={"plan": "free", "name": "Ann"})
    await road.ask()
    again = await road.owner.fetchval("SELECT mark FROM executions")
    await road.crowd.known(ann={"plan": "pro"})

    assert marked is not None
    assert marked == again
    assert (await road.ask()).outcome == "completed"
    assert await road.owner.fetchval("SELECT mark FROM executions") is None


async def test_what_has_ended_keeps_nothing_that_was_made_of_an_attribute(road: Road) -> None:
    await road.crowd.known(ann={"plan": "free"})
    rules = [{"id": "gone", **event("canceled")}]
    await road.publish(wait_for({"changed": {"fieldPath": "plan"}}), LATE, BYE, exitRules=rules)
    await road.enroll("ann")
    await road.crowd.happened(("ann", "canceled", None))

    assert (await road.ask()).outcome == "exited"
    assert await road.owner.fetchval("SELECT (step_id, mark, awaits)::text FROM executions") == "(await,,)"


@pytest.mark.parametrize(("own", "project", "hour"), [("Asia/Tokyo", "Europe/Berlin", 1), (None, "Asia/Tokyo", 1)])
async def test_the_time_of_day_is_the_subjects_else_the_projects(
    road: Road, own: str | None, project: str, hour: int
) -> None:
    await road.owner.execute(
        "UPDATE projects SET settings = settings || jsonb_build_object('timeZone', $1::text)", project
    )
    async with road.crowd.world.transactions.write(road.crowd.project_no) as conn:
        await upsert(conn, road.crowd.project_no, [SubjectPatch(subject_id="ann", attributes={}, time_zone=own)])
    await road.publish({"id": "ten", "wait": {"timeOfDay": {"time": "10:00"}}, "next": "bye"}, BYE)
    await road.enroll("ann")

    effect = await road.ask()

    asleep_until = datetime.fromtimestamp(effect.until, UTC)
    assert (asleep_until.hour, asleep_until.minute) == (hour, 0)
    assert asleep_until == await road.owner.fetchval("SELECT wakes_at FROM executions")


async def test_a_split_goes_by_the_subject_at_the_entry_and_later(road: Road) -> None:
    split = {
        "id": "halves",
        "split": {
            "salt": "s",
            "arms": [{"id": "a", "weight": 1, "next": "bye"}, {"id": "b", "weight": 1, "next": "bye"}],
        },
    }
    ids = [f"s{n}" for n in range(40)]
    await road.publish(split, BYE, journey_id="first")
    await road.publish(wait_for(PAID) | {"next": "halves"}, LATE, split, BYE, journey_id="second")
    await road.enroll(*ids, journey_id="first")
    await road.enroll(*ids, journey_id="second")
    await road.crowd.happened(*((subject_id, "paid", None) for subject_id in ids))
    for subject_id in ids:
        await road.ask(subject_id)

    rows = await road.owner.fetch(
        "SELECT v.journey_id, s.subject_id, v.reason FROM visits AS v JOIN subjects AS s USING (project_no, bucket,"
        " subject_no) WHERE v.step_kind = 'split'"
    )

    taken = {journey_id: {row[1]: row[2] for row in rows if row[0] == journey_id} for journey_id in ("first", "second")}
    assert len(taken["first"]) == 40
    assert taken["first"] == taken["second"]
    assert set(taken["first"].values()) == {"a", "b"}


async def test_a_wait_for_a_segment_that_time_alone_changes_ends_at_that_instant(road: Road) -> None:
    lately = {"kind": "event_fired", "eventName": "visit", "window": {"type": "last_n_days", "days": 7}}
    await road.crowd.segment("quiet", {"kind": "not", "clause": lately})
    last = NOON - timedelta(days=1)
    await road.crowd.happened(("ann", "visit", last))
    await road.publish(wait_for(when(kind="in_cohort", cohortId="quiet"), timeout=None), BYE)
    await road.enroll("ann")

    effect = await road.ask()

    assert datetime.fromtimestamp(effect.until, UTC) == last + timedelta(days=7)
    assert (await road.ask(now=last + timedelta(days=7))).outcome == "completed"


async def test_who_waits_for_nothing_that_happens_costs_no_statement_more(road: Road) -> None:
    """Beside one who does, whom it costs one."""
    await road.publish(MONTH, BYE, journey_id="plain")
    await road.publish(
        wait_for(event("paid", where=OVER_10)), LATE, BYE, journey_id="waiting", goal="bought", exitOnGoal=True,
        exitRules=[{"id": "gone", **event("canceled")}],
    )  # fmt: skip
    await road.enroll("ann", journey_id="plain")
    await road.enroll("bob", journey_id="waiting")

    assert await statements(road, "bob") == await statements(road, "ann") + 1


async def statements(road: Road, subject_id: str) -> int:
    """How many it takes to know all about an execution, once its version is known."""
    row = await road.owner.fetchrow(
        "SELECT e.* FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)"
        " WHERE s.subject_id = $1",
        subject_id,
    )
    assert row is not None
    question = Question(
        project_no=row["project_no"],
        bucket=row["bucket"],
        subject_no=row["subject_no"],
        execution_id=str(row["execution_id"]),
        seq=row["seq"],
        now=0.0,
    )
    asked: list[str] = []
    async with road.crowd.transactions.write(None) as conn:
        assert isinstance(await ready(conn, road.versions, question), Ready)
        with conn.query_logger(lambda record: asked.append(record.query)):
            await ready(conn, road.versions, question)
    return len(asked)
