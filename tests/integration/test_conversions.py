"""Who converted: whenever events come in, in whichever order and however often, as a plain recount has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest

from orchestrator.application import merging, subjects
from orchestrator.application.crediting import credit
from orchestrator.application.journeys import Changes, update
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.event import Event
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import conversions
from orchestrator.storage.conversions import GoalEvent
from orchestrator.storage.inbox import Entry
from tests.integration.journey_world import ANY_STATE, START
from tests.integration.road import BYE, MONTH, Road

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
WINDOW = 48 * HOUR

Credited = dict[tuple[UUID, str, int], tuple[datetime, datetime]]


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    """A journey whose goal is `paid` within two days, and one that has none."""
    road = await Road.make(owner, api_pool, worker_pool)
    await road.publish(MONTH, BYE, goal="paid")
    await road.crowd.world.do(update, "welcome", Changes(goal_window=WINDOW), ANY_STATE)
    return road


@dataclass(frozen=True, slots=True, kw_only=True)
class Traveller:
    """`at`: when the execution was triggered; its arm was chosen half a day later."""

    subject_id: str
    execution_id: UUID
    at: datetime


async def travels(road: Road, subject_id: str, *, after: timedelta = timedelta(0)) -> Traveller:
    at = START + after
    world, owner = road.crowd.world, road.owner
    execution_id = await world.lay_execution(subject_id, started_at=at)
    key = await world.subject(subject_id)
    goal_revision = await owner.fetchval("SELECT goal_revision FROM journeys WHERE journey_id = 'welcome'")
    await owner.execute(
        "UPDATE enrollments SET goal_revision = $2 WHERE enrollment_id = $1", execution_id, goal_revision
    )
    await owner.execute(
        """
        INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                 goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, chosen_at)
        VALUES ($1, $2, $3, $4, 2, 'welcome', 'pick', 1, $5, $6, 0, 'a', 500000, '{"a": 500000, "b": 500000}',
                'fallback', $7)
        """,
        key.project_no, key.bucket, key.subject_no, execution_id, goal_revision, str(execution_id), at + 12 * HOUR,
    )  # fmt: skip
    return Traveller(subject_id=subject_id, execution_id=execution_id, at=at)


async def happened(
    road: Road, subject_id: str, events: Sequence[tuple[str, datetime]], *, backfill: bool = False
) -> None:
    """(event's name, when) of each. One of the same name and time is the same event."""
    batch = [
        Event(
            event_id=f"{subject_id}-{name}-{at.timestamp()}",
            name=name,
            subject_id=subject_id,
            occurred_at=at,
            properties=json.dumps({}).encode(),
        )
        for name, at in events
    ]
    await road.crowd.ingest.take(road.crowd.project_no, batch, backfill=backfill)


async def credited(road: Road) -> Credited:
    rows = await road.owner.fetch("SELECT * FROM conversions")
    return {
        (row["enrollment_id"], row["step_id"], row["seq"]): (row["occurred_at"], row["received_at"]) for row in rows
    }


async def recounted(road: Road) -> Credited:
    """What the events that there are and the ledgers say, in plain Python."""
    owner = road.owner
    goals = {
        (row["journey_id"], row["goal_revision"]): (row["event_name"], row["goal_window"])
        for row in await owner.fetch("SELECT * FROM journey_goals")
    }
    events = await owner.fetch("SELECT e.*, n.name FROM events AS e JOIN event_names AS n USING (project_no, name_no)")
    measured = [
        (row, row["enrollment_id"], "", 0, row["triggered_at"])
        for row in await owner.fetch("SELECT * FROM enrollments")
    ] + [
        (row, row["execution_id"], row["step_id"], row["seq"], row["chosen_at"])
        for row in await owner.fetch("SELECT * FROM arm_choices")
    ]
    found: Credited = {}
    for row, execution_id, step_id, seq, since in measured:
        name, window = goals[row["journey_id"], row["goal_revision"]]
        within = [
            event
            for event in events
            if event["subject_no"] == row["subject_no"]
            and event["name"] == name
            and since < event["occurred_at"] <= since + window
        ]
        if within:
            earliest = min(event["occurred_at"] for event in within)
            found[execution_id, step_id, seq] = earliest, min(event["received_at"] for event in within)
    return found


async def test_whatever_the_order_in_which_events_come_in_the_credits_are_those_of_a_recount(road: Road) -> None:
    """Each subject has one history, which comes to it in an order, in batches and with repeats of its own."""
    dice = Random(6)
    stories = []
    for story in range(6):
        names = ["paid", "paid", "paid", "visited"]
        history = [(dice.choice(names), START + dice.randrange(-4, 90) * HOUR) for _ in range(dice.randrange(1, 7))]
        if story == 0:  # the edges of both windows
            history = [("paid", START + moment) for moment in (timedelta(0), WINDOW, WINDOW + 12 * HOUR)]
        stories.append(history)
    told: dict[tuple[int, int], Traveller] = {}
    for story, history in enumerate(stories):
        for order in range(4):
            traveller = told[story, order] = await travels(road, f"s{story}-{order}")
            arrivals = dice.sample(history * dice.randrange(1, 3), k=len(history)) + history
            while arrivals:
                size = dice.randrange(1, 4)
                batch, arrivals = arrivals[:size], arrivals[size:]
                await happened(road, traveller.subject_id, batch, backfill=dice.random() < 0.3)
                if dice.random() < 0.5:
                    await road.crowd.settle()
    await road.crowd.settle()

    credits = await credited(road)
    assert credits == await recounted(road)
    for story in range(len(stories)):
        for step in (("", 0), ("pick", 2)):
            same = {credits.get((told[story, order].execution_id, *step), (None,))[0] for order in range(4)}
            assert len(same) == 1
    assert len(credits) > 20


async def test_an_earlier_event_that_comes_late_takes_the_place_of_a_later_one_and_of_when_it_came_in_nothing_changes(
    road: Road,
) -> None:
    ann = await travels(road, "ann")
    await happened(road, "ann", [("paid", ann.at + 20 * HOUR)])
    await road.crowd.settle()
    before = (await credited(road))[ann.execution_id, "", 0]

    await happened(road, "ann", [("paid", ann.at + 2 * HOUR)])
    await road.crowd.settle()

    after = (await credited(road))[ann.execution_id, "", 0]
    assert (before[0], after[0]) == (ann.at + 20 * HOUR, ann.at + 2 * HOUR)
    assert before[1] == after[1]
    assert (await credited(road))[ann.execution_id, "pick", 2][0] == ann.at + 20 * HOUR  # it was chosen in between


async def test_whoever_comes_in_after_the_event_has_converted_all_the_same_and_so_has_whoever_is_held_out(
    road: Road,
) -> None:
    contract = await road.starts_on("signup")
    people = [f"p{number}" for number in range(12)]
    await road.publish(
        MONTH, BYE, journey_id="half", triggerContractId=contract, goal="paid", holdout={"percent": 50}
    )  # fmt: skip
    noon = await road.owner.fetchval("SELECT date_trunc('second', now()) - interval '6 hours'")
    for who in people:
        await happened(road, who, [("paid", noon + HOUR), ("paid", noon)])
    await road.crowd.settle()
    assert await credited(road) == {}

    for who in people:
        await happened(road, who, [("signup", noon)])
    await road.crowd.settle()

    credits = await credited(road)
    assert credits == await recounted(road)
    assert {at for at, _ in credits.values()} == {noon + HOUR}
    sides = await road.owner.fetchval("SELECT count(DISTINCT coalesce(held_out_by, '')) FROM enrollments")
    assert (len(credits), sides) == (len(people), 2)


async def test_everybody_is_measured_by_the_goal_under_which_he_came_in(road: Road) -> None:
    ann = await travels(road, "ann")
    await road.crowd.world.do(update, "welcome", Changes(goal_event="visited"), ANY_STATE)

    await happened(road, "ann", [("visited", ann.at + HOUR), ("paid", ann.at + 13 * HOUR)])
    await road.crowd.settle()

    assert {at for at, _ in (await credited(road)).values()} == {ann.at + 13 * HOUR}


async def test_credits_outlive_the_events_and_go_on_without_them(road: Road) -> None:
    ann = await travels(road, "ann")
    await happened(road, "ann", [("paid", ann.at + 20 * HOUR)])
    await road.crowd.settle()
    before = await credited(road)
    await road.owner.execute("DELETE FROM events")

    await happened(road, "ann", [("paid", ann.at + 30 * HOUR)], backfill=True)
    await road.crowd.settle()
    assert await credited(road) == before

    await happened(road, "ann", [("paid", ann.at + HOUR)])
    await road.crowd.settle()
    assert (await credited(road))[ann.execution_id, "", 0][0] == ann.at + HOUR


async def test_of_two_subjects_that_become_one_what_either_did_counts_for_the_entries_of_both(road: Road) -> None:
    ann, bob = await travels(road, "ann"), await travels(road, "bob", after=HOUR)
    await happened(road, "ann", [("paid", START + 2 * HOUR)])
    await happened(road, "bob", [("paid", START + 20 * HOUR)])
    await road.crowd.settle()

    await road.crowd.world.do(merging.merge, b"s" * 32, RuleBook(), "ann", into="bob")
    await road.crowd.settle()

    credits = await credited(road)
    assert credits == await recounted(road)
    assert credits[bob.execution_id, "", 0][0] == credits[ann.execution_id, "", 0][0] == START + 2 * HOUR
    assert credits[ann.execution_id, "pick", 2][0] == START + 20 * HOUR


async def test_of_a_subject_that_is_deleted_the_counts_stay(road: Road) -> None:
    ann = await travels(road, "ann")
    await happened(road, "ann", [("paid", ann.at + 20 * HOUR)])
    await road.crowd.settle()
    await road.owner.execute("UPDATE executions SET outcome = 'completed', reason = 'x', ended_at = now()")
    before = await credited(road)

    await road.crowd.world.do(subjects.delete, b"s" * 32, "ann", ANY_STATE)

    assert await credited(road) == before
    assert len(before) == 2


async def many(road: Road, subject_id: str, enrollments: int, *, apart: timedelta) -> SubjectKey:
    """A subject that came in so often, at such a distance, by the goal that there is now."""
    key = await road.crowd.world.subject(subject_id)
    await road.owner.execute(
        """
        INSERT INTO enrollments (project_no, bucket, subject_no, enrollment_id, journey_id, version, goal_revision,
                                 entry_kind, entry_key, triggered_at, enrolled_at)
        SELECT $1, $2, $3, gen_random_uuid(), 'welcome', 1,
               (SELECT goal_revision FROM journeys WHERE journey_id = 'welcome'), 'event', n::text, at, at
          FROM generate_series(1, $4::int) AS n, LATERAL (SELECT $5::timestamptz + n * $6::interval AS at) AS t
        """,
        key.project_no, key.bucket, key.subject_no, enrollments, START, apart,
    )  # fmt: skip
    return key


async def test_events_of_one_batch_are_credited_as_a_recount_has_it_wherever_windows_begin_and_end(
    road: Road,
) -> None:
    """Windows are two days; the events of a batch are spread over ten, and come in at instants of their own."""
    dice = Random(11)
    key = await many(road, "ann", 200, apart=timedelta(minutes=97))
    batch = []
    for number in range(60):
        occurred_at = START + dice.randrange(-24, 240) * HOUR + dice.choice([0, 0, 1]) * SECOND
        received_at = START + dice.randrange(1000) * HOUR
        batch.append(GoalEvent(key=key, event_name="paid", occurred_at=occurred_at, received_at=received_at))
        await road.owner.execute(
            """
            INSERT INTO event_names (project_no, name) VALUES ($1, 'paid') ON CONFLICT DO NOTHING
            """,
            key.project_no,
        )
        await road.owner.execute("SELECT ensure_events_month($1::date)", occurred_at)
        await road.owner.execute(
            """
            INSERT INTO events (occurred_at, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
            SELECT $1, $2, name_no, $3, $4, $5, $6, '{}' FROM event_names WHERE name = 'paid'
            """,
            occurred_at, key.project_no, key.subject_no, key.bucket, received_at, f"e-{number}",
        )  # fmt: skip

    for _ in range(2):  # again, and nothing changes
        async with road.crowd.transactions.write(None) as conn:
            await conversions.credit(conn, key.project_no, batch)

        credits = await credited(road)
        assert credits == await recounted(road)
        assert 100 < len(credits) < 200


async def test_a_batch_of_goal_events_meets_each_enrollment_once(road: Road) -> None:
    key = await many(road, "ann", 400, apart=SECOND)
    events = 100
    ats = [START + HOUR + number * SECOND for number in range(events)]
    columns = [key.bucket] * events, [key.subject_no] * events, ["paid"] * events, ats, ats

    async with road.crowd.transactions.write(None) as conn:
        plan = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {conversions._CREDIT}", key.project_no, *columns)
    met: list[int] = []

    def walk(node: dict[str, Any]) -> None:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
        met.append((node["Actual Rows"] + removed) * node["Actual Loops"])
        for child in node.get("Plans", []):
            walk(child)

    walk(json.loads(plan)[0]["Plan"])
    assert await road.owner.fetchval("SELECT count(*) FROM conversions") == 400
    assert max(met) <= 1000


async def test_an_event_that_is_nobodys_goal_asks_nothing_of_the_database(road: Road) -> None:
    entry = Entry(
        inbox_no=1,
        key=await road.crowd.world.subject("ann"),
        kind="events",
        name_nos=(7,),
        event_nos=(1,),
        occurred_ats=(START,),
        transition_nos=(),
        received_at=START,
    )
    nothing = cast("Any", None)

    await credit(nothing, road.crowd.project_no, {8: "paid"}, [entry])
