"""Writing journeys: what is created, read, listed and changed, and what is refused."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import journeys, lifecycle, publishing
from orchestrator.application.journeys import Changes
from orchestrator.domain.etag import Expected, etag_of
from orchestrator.domain.journey import Goal, JourneyStatus, OnArchive
from orchestrator.domain.refusals import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from tests.integration.journey_world import ANY_STATE, WELCOME, World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    from orchestrator.domain.journey import Journey


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    return made


def seen(journey: Journey) -> Expected:
    return Expected(etag=etag_of(journey.revision, journey.updated_at))


async def test_a_new_journey_is_a_draft_with_the_defaults(world: World) -> None:
    before = await world.definitions_version()

    made = await world.do(journeys.create, name="Hello")

    assert made.status is JourneyStatus.DRAFT
    assert made.journey_id.startswith("jrn-")
    assert made.definition == {"steps": [{"id": "exit", "exit": {"reason": "finished"}}]}
    assert (made.has_draft, made.latest_version) == (True, None)
    assert made.goal == Goal(revision=1, event_name=None, window=timedelta(days=7))
    assert await world.look(journeys.get, made.journey_id) == made
    assert await world.definitions_version() == before + 1
    assert await world.actions(made.journey_id) == ["journey_created"]


async def test_the_goal_window_comes_from_the_project(world: World) -> None:
    await world.owner.execute("""UPDATE projects SET settings = '{"goalWindow": "3d"}'""")

    made = await world.do(journeys.create, name="Hello", goal_event="purchase")

    assert made.goal == Goal(revision=1, event_name="purchase", window=timedelta(days=3))


async def test_a_definition_is_kept_as_it_was_written(world: World) -> None:
    written = deepcopy(WELCOME)
    written["steps"][1]["wait"]["duration"] = "P3D"
    written["steps"][2]["branch"]["arms"][0]["when"] = {
        "kind": "attribute",
        "fieldPath": "plan",
        "operator": "in",
        "value": "pro, team",
    }

    await world.draft(definition=written)

    assert (await world.look(journeys.get, "welcome")).definition == written


async def test_an_empty_definition_is_kept_as_such(world: World) -> None:
    made = await world.do(journeys.create, name="Empty", definition={"steps": []})

    assert (await world.look(journeys.get, made.journey_id)).definition == {"steps": []}


async def test_an_id_is_taken_once(world: World) -> None:
    await world.draft()

    with pytest.raises(AlreadyExists) as refused:
        await world.draft()

    assert refused.value.reason == "ALREADY_EXISTS"


async def test_an_id_is_taken_in_one_project_only(
    world: World, owner: Connection[Record], api_pool: Pool[Record]
) -> None:
    other = await World.make(owner, api_pool, "other")
    await world.draft()

    with pytest.raises(NotFound):
        await other.look(journeys.get, "welcome")
    await other.do(journeys.create, journey_id="welcome", name="Mine")

    assert (await world.look(journeys.get, "welcome")).name == "Welcome"
    assert (await other.look(journeys.get, "welcome")).name == "Mine"


async def test_all_faults_of_a_new_journey_are_told_together(world: World) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await world.do(
            journeys.create,
            journey_id="has space",
            name=" ",
            description="x" * 2001,
            goal_event="\t",
            goal_window=timedelta(days=366),
            definition={"steps": [{"id": "a"}]},
        )

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("id", "INVALID_ID"),
        ("name", "REQUIRED"),
        ("description", "TOO_LONG"),
        ("goal.eventName", "INVALID_VALUE"),
        ("goal.window", "OUT_OF_RANGE"),
        ("steps[0]", "REQUIRED"),
    ]
    assert await world.owner.fetchval("SELECT count(*) FROM journeys") == 0


async def test_a_journey_that_is_not_there_is_not_found(world: World) -> None:
    for use_case in (journeys.get, journeys.view, publishing.validate):
        with pytest.raises(NotFound) as refused:
            await world.look(use_case, "nobody")
        assert refused.value.reason == "JOURNEY_NOT_FOUND"


CHANGES: list[tuple[Changes, dict[str, Any]]] = [
    (Changes(name="Renamed"), {"name": "Renamed"}),
    (Changes(description="What for"), {"description": "What for"}),
    (Changes(goal_event="signup"), {"goal": Goal(revision=2, event_name="signup", window=timedelta(days=2))}),
    (Changes(goal_event=""), {"goal": Goal(revision=2, event_name=None, window=timedelta(days=2))}),
    (
        Changes(goal_window=timedelta(days=1)),
        {"goal": Goal(revision=2, event_name="purchase", window=timedelta(days=1))},
    ),
    (
        Changes(project_goal_window=True),
        {"goal": Goal(revision=2, event_name="purchase", window=timedelta(days=7))},
    ),
    (Changes(definition={"audienceId": "others"}), {"definition": {**WELCOME, "audienceId": "others"}}),
    (Changes(definition={"maxDurationDays": 9}), {"definition": {**WELCOME, "maxDurationDays": 9}}),
    (Changes(definition={"steps": []}), {"definition": {**WELCOME, "steps": []}}),
    (
        Changes(definition={"audienceId": None}),
        {"definition": {name: member for name, member in WELCOME.items() if name != "audienceId"}},
    ),
]


@pytest.mark.parametrize(("changes", "differs"), CHANGES, ids=lambda value: str(value)[:60])
async def test_a_change_touches_what_it_names_and_nothing_else(
    world: World, changes: Changes, differs: dict[str, Any]
) -> None:
    made = await world.do(
        journeys.create,
        journey_id="welcome",
        name="Welcome",
        description="Greets",
        goal_event="purchase",
        goal_window=timedelta(days=2),
        definition=WELCOME,
    )

    after = await world.do(journeys.update, "welcome", changes, ANY_STATE)

    assert after == replace(made, revision=2, updated_at=after.updated_at, **differs)
    assert await world.look(journeys.get, "welcome") == after


async def test_a_change_that_changes_nothing_writes_nothing(world: World) -> None:
    made = await world.draft()

    same = Changes(name="Welcome", description="", goal_event="", definition=dict(reversed(WELCOME.items())))
    after = await world.do(journeys.update, "welcome", same, ANY_STATE)

    assert after == made
    assert await world.actions() == ["journey_created"]


async def test_faults_of_a_change_are_told_together_and_nothing_is_written(world: World) -> None:
    made = await world.draft()
    wrong = Changes(name="", goal_window=timedelta(0), definition={"steps": [{"id": "a", "wait": {}}], "note": 1})

    with pytest.raises(InvalidArgument) as refused:
        await world.do(journeys.update, "welcome", wrong, ANY_STATE)

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("name", "REQUIRED"),
        ("goal.window", "OUT_OF_RANGE"),
        ("note", "UNKNOWN_FIELD"),
        ("steps[0].wait", "REQUIRED"),
    ]
    assert await world.look(journeys.get, "welcome") == made


async def test_a_draft_may_name_what_does_not_exist_yet(world: World) -> None:
    steps = [{"id": "later", "send": {"communicationId": "unwritten"}, "next": "nowhere"}]

    made = await world.draft(definition={"audienceId": "unthought", "steps": steps})

    assert made.definition["audienceId"] == "unthought"


async def test_a_change_of_a_published_definition_makes_a_draft_of_the_newest_version(world: World) -> None:
    await world.draft()
    await world.do(publishing.publish, "welcome", ANY_STATE)

    renamed = await world.do(journeys.update, "welcome", Changes(name="Still published"), ANY_STATE)
    edited = await world.do(journeys.update, "welcome", Changes(definition={"maxDurationDays": 30}), ANY_STATE)

    assert (renamed.has_draft, renamed.definition) == (False, WELCOME)
    assert (edited.has_draft, edited.definition) == (True, {**WELCOME, "maxDurationDays": 30})
    assert (await world.look(journeys.version, "welcome", 1)).definition == WELCOME


async def test_an_archived_journey_is_not_changed(world: World) -> None:
    await world.draft()
    await world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)

    with pytest.raises(FailedPrecondition) as refused:
        await world.do(journeys.update, "welcome", Changes(name="Back"), ANY_STATE)

    assert refused.value.reason == "JOURNEY_ARCHIVED"


async def test_of_two_who_read_the_same_state_one_is_refused_and_loses_nothing(world: World) -> None:
    made = await world.draft()
    await world.do(journeys.update, "welcome", Changes(name="First"), seen(made))

    with pytest.raises(Conflict) as by_etag:
        await world.do(journeys.update, "welcome", Changes(description="Second"), seen(made))
    with pytest.raises(Conflict) as by_time:
        await world.do(journeys.update, "welcome", Changes(description="Second"), Expected(updated_at=made.updated_at))

    assert by_etag.value.reason == by_time.value.reason == "ETAG_MISMATCH"
    now = await world.look(journeys.get, "welcome")
    assert (now.name, now.description) == ("First", "")


async def test_the_time_of_change_rises_by_a_millisecond_at_least_whatever_the_clock_says(world: World) -> None:
    made = await world.draft()
    far = made.updated_at + timedelta(days=3650)
    await world.owner.execute("UPDATE journeys SET updated_at = $1", far)

    times = [
        (await world.do(journeys.update, "welcome", Changes(name=f"Name {number}"), ANY_STATE)).updated_at
        for number in range(3)
    ]

    assert times == [far + timedelta(milliseconds=number) for number in (1, 2, 3)]


async def test_concurrent_changes_of_different_members_are_all_kept(world: World) -> None:
    await world.draft()
    changes = [Changes(name="Name"), Changes(description="About"), Changes(goal_event="purchase")]
    changes += [Changes(definition={"maxDurationDays": 5}), Changes(definition={"audienceId": "else"})]

    results = await asyncio.gather(*(world.do(journeys.update, "welcome", change, ANY_STATE) for change in changes))

    now = await world.look(journeys.get, "welcome")
    assert (now.name, now.description, now.goal.event_name) == ("Name", "About", "purchase")
    assert now.definition == {**WELCOME, "maxDurationDays": 5, "audienceId": "else"}
    assert sorted(result.revision for result in results) == [2, 3, 4, 5, 6]


async def test_each_change_of_the_goal_is_a_revision_of_its_own(world: World) -> None:
    await world.draft()
    for event in ("purchase", "signup", "signup", ""):
        await world.do(journeys.update, "welcome", Changes(goal_event=event), ANY_STATE)

    rows = await world.owner.fetch("SELECT goal_revision, event_name FROM journey_goals ORDER BY 1")

    assert [tuple(row) for row in rows] == [(1, None), (2, "purchase"), (3, "signup"), (4, None)]


async def test_pages_show_every_journey_once_newest_first(world: World) -> None:
    made = [await world.do(journeys.create, name=f"Journey {number}") for number in range(7)]

    listed: list[Journey] = []
    place = None
    while True:
        journeys_of_page, place = await world.look(journeys.page, [], place, 3)
        listed += journeys_of_page
        if place is None:
            break

    newest_first = sorted(made, key=lambda journey: (-journey.created_at.timestamp(), journey.journey_id))
    assert listed == [replace(journey, definition={}) for journey in newest_first]


async def test_a_list_can_be_limited_to_a_status(world: World) -> None:
    for journey_id in ("a", "b", "c"):
        await world.draft(journey_id)
    await world.do(publishing.publish, "b", ANY_STATE)
    await world.do(lifecycle.archive, "c", OnArchive.FINISH, ANY_STATE)

    async def ids(*statuses: JourneyStatus) -> list[str]:
        found, _ = await world.look(journeys.page, statuses, None, 10)
        return [journey.journey_id for journey in found]

    assert await ids(JourneyStatus.DRAFT) == ["a"]
    assert await ids(JourneyStatus.ACTIVE) == ["b"]
    assert await ids(JourneyStatus.ARCHIVED) == ["c"]
    assert await ids(JourneyStatus.PAUSED) == []
    assert sorted(await ids(JourneyStatus.DRAFT, JourneyStatus.ACTIVE)) == ["a", "b"]
