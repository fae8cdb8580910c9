"""Publishing journeys, and what follows: versions, pause, resume, archive, delete."""

from __future__ import annotations

import asyncio
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, communications, journeys, lifecycle, projects, publishing
from orchestrator.application.communications import Communications
from orchestrator.application.journeys import Changes
from orchestrator.domain.channels import Rules
from orchestrator.domain.etag import Expected, etag_of
from orchestrator.domain.journey import Journey, JourneyStatus, OnArchive, Pinned
from orchestrator.domain.refusals import AlreadyExists, Conflict, FailedPrecondition, NotFound, ResourceExhausted
from orchestrator.storage import journey_versions
from tests.integration.journey_world import ANY_STATE, WELCOME, World
from tests.soak import in_soak_alone

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    return made


def seen(journey: Journey) -> Expected:
    return Expected(etag=etag_of(journey.revision, journey.updated_at))


async def published(world: World, journey_id: str = "welcome") -> Journey:
    await world.draft(journey_id)
    return (await world.do(publishing.publish, journey_id, ANY_STATE)).journey


async def limit_journeys(world: World, most: int) -> None:
    await world.owner.execute("UPDATE projects SET settings = jsonb_build_object('maxJourneys', $1::int)", most)


async def test_publishing_makes_a_version_and_the_journey_active(world: World) -> None:
    made = await world.draft()
    before = await world.definitions_version()

    publication = await world.do(publishing.publish, "welcome", seen(made))

    assert (publication.version, publication.warnings) == (1, ())
    assert publication.journey == replace(
        made,
        status=JourneyStatus.ACTIVE,
        has_draft=False,
        latest_version=1,
        revision=2,
        updated_at=publication.journey.updated_at,
    )
    assert await world.look(journeys.get, "welcome") == publication.journey
    version = await world.look(journeys.version, "welcome", 1)
    assert version.definition == WELCOME
    assert version.pinned == {"welcome": Pinned(content_revision=1, channel="log", category="marketing")}
    assert version.sha256 == publishing.sha256_of(version.definition, version.pinned)
    assert version.published_by == "key:test"
    assert await world.definitions_version() == before + 1
    assert await world.actions() == ["journey_created", "journey_published"]


async def test_a_version_reads_as_executions_need_it(world: World) -> None:
    await published(world)

    async with world.transactions.read(world.scope.project_no) as conn:
        version = await journey_versions.get(conn, world.scope.project_no, "welcome", 1)
        with pytest.raises(NotFound) as refused:
            await journey_versions.get(conn, world.scope.project_no, "welcome", 2)

    assert (version.journey_id, version.version) == ("welcome", 1)
    assert list(version.definition.steps) == ["hello", "pause", "check", "end"]
    assert version.pinned["welcome"].channel == "log"
    assert refused.value.reason == "JOURNEY_VERSION_NOT_FOUND"


async def test_a_version_keeps_the_revision_it_pinned(world: World) -> None:
    await published(world)
    change = Communications(Rules()).update
    await world.do(change, "welcome", {"body": "Something else"}, ANY_STATE)
    await world.do(journeys.update, "welcome", Changes(definition={"maxDurationDays": 30}), ANY_STATE)
    await world.do(publishing.publish, "welcome", ANY_STATE)

    versions, _ = await world.look(journeys.versions, "welcome", None, 10)

    assert [(version.version, version.pinned["welcome"].content_revision) for version in versions] == [(2, 2), (1, 1)]


async def test_everything_that_stands_against_publishing_is_told_together(world: World) -> None:
    steps = [
        {"id": "a", "send": {"communicationId": "receipt"}, "next": "b"},
        {"id": "b", "send": {"communicationId": "unwritten"}, "next": "gone"},
        {"id": "c", "wait": {"duration": "2d"}, "next": "c"},
        {
            "id": "d",
            "branch": {
                "arms": [{"id": "x", "when": {"kind": "in_cohort", "cohortId": "lost"}, "next": "a"}],
                "otherwise": "a",
            },
        },
    ]
    made = await world.draft(definition={"audienceId": "nobody", "triggerContractId": "none", "steps": steps})
    expected = [
        ("audienceId", "AUDIENCE_NOT_FOUND"),
        ("triggerContractId", "TRIGGER_CONTRACT_NOT_FOUND"),
        ("steps[0].send.communicationId", "SEND_STEP_USES_TRANSACTIONAL_COMM"),
        ("steps[1].send.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("steps[1].next", "NEXT_NOT_FOUND"),
        ("steps[3].branch.arms[0].when.cohortId", "COHORT_NOT_FOUND"),
        ("steps[2].next", "CYCLE"),
    ]

    findings = await world.look(publishing.validate, "welcome")
    with pytest.raises(FailedPrecondition) as refused:
        await world.do(publishing.publish, "welcome", ANY_STATE)

    assert [(fault.path, fault.reason) for fault in findings.faults] == expected
    assert [fault.path for fault in findings.warnings] == ["steps[2]", "steps[3]"]
    assert refused.value.reason == "INVALID_DEFINITION"
    assert list(refused.value.faults) == list(findings.faults)
    assert await world.look(journeys.get, "welcome") == made
    assert await world.owner.fetchval("SELECT count(*) FROM journey_versions") == 0


async def test_an_empty_definition_is_not_published(world: World) -> None:
    await world.draft(definition={"steps": []})

    with pytest.raises(FailedPrecondition) as refused:
        await world.do(publishing.publish, "welcome", ANY_STATE)

    assert [fault.reason for fault in refused.value.faults] == ["EMPTY_DEFINITION"]


async def test_warnings_do_not_stand_in_the_way(world: World) -> None:
    steps = [{"id": "end", "exit": {}}, {"id": "alone", "exit": {}}]
    await world.draft(definition={"steps": steps})

    publication = await world.do(publishing.publish, "welcome", ANY_STATE)

    assert [(warning.path, warning.reason) for warning in publication.warnings] == [("steps[1]", "UNREACHABLE_STEP")]


async def test_an_end_with_the_goal_is_warned_of_until_there_is_one(world: World) -> None:
    steps = [{"id": "end", "exit": {}}]
    await world.draft(definition={"steps": steps, "exitOnGoal": True})

    before = await world.do(publishing.validate, "welcome")
    await world.do(journeys.update, "welcome", Changes(goal_event="purchase"), ANY_STATE)
    after = await world.do(publishing.publish, "welcome", ANY_STATE)

    assert [(warning.path, warning.reason) for warning in before.warnings] == [("exitOnGoal", "NO_GOAL")]
    assert (before.faults, after.warnings) == ((), ())


async def test_keys_of_entries_are_warned_of_where_no_event_starts_the_journey(world: World) -> None:
    steps = [{"id": "reply", "waitFor": {"event": {"eventName": "reply", "entryKeyPath": "order"}}, "next": "end"}]
    definition = {"steps": [*steps, {"id": "end", "exit": {}}]}
    await world.draft(definition=definition)
    await world.draft("heard", definition={**definition, "triggerContractId": "bought"})

    by_hand = await world.do(publishing.validate, "welcome")
    by_event = await world.do(publishing.validate, "heard")

    assert [(warning.path, warning.reason) for warning in by_hand.warnings] == [
        ("steps[0].waitFor.event.entryKeyPath", "NO_ENTRY_KEY")
    ]
    assert by_event.warnings == ()


async def test_a_wait_for_events_that_are_removed_meanwhile_is_warned_of(world: World) -> None:
    steps = [
        {"id": "pause", "wait": {"duration": "30d"}, "next": "reply"},
        {"id": "reply", "waitFor": {"event": {"eventName": "reply"}}, "next": "end"},
        {"id": "end", "exit": {}},
    ]
    await world.draft(definition={"steps": steps})
    ample = await world.do(publishing.validate, "welcome")
    await world.do(projects.update, world.scope.project_id, {"event_retention": timedelta(days=20)}, Expected())

    scarce = await world.do(publishing.publish, "welcome", ANY_STATE)

    assert ample.warnings == ()
    assert [(warning.path, warning.reason) for warning in scarce.warnings] == [
        ("steps[1].waitFor.event", "EVENT_RETENTION_TOO_SHORT")
    ]


async def test_segments_that_waits_and_rules_ask_for_have_to_be_there(world: World) -> None:
    in_gone = {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "gone"}}
    steps = [
        {"id": "wait", "waitFor": {"when": in_gone, "timeout": "1d"}, "next": "end"},
        {"id": "end", "exit": {}},
    ]
    await world.draft(definition={"steps": steps, "exitRules": [{"id": "gone", "when": in_gone}]})

    with pytest.raises(FailedPrecondition) as refused:
        await world.do(publishing.publish, "welcome", ANY_STATE)

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("exitRules[0].when.clause.cohortId", "COHORT_NOT_FOUND"),
        ("steps[0].waitFor.when.clause.cohortId", "COHORT_NOT_FOUND"),
        ("steps[0].waitFor.otherwise", "NEXT_NOT_FOUND"),
    ]


async def test_without_a_draft_there_is_nothing_to_publish(world: World) -> None:
    await published(world)

    with pytest.raises(FailedPrecondition) as refused:
        await world.do(publishing.publish, "welcome", ANY_STATE)

    assert refused.value.reason == "NO_DRAFT"


async def reword(world: World, communication_id: str = "welcome", **changes: Any) -> None:
    """Give a communication another content."""
    await world.do(Communications(Rules()).update, communication_id, changes, ANY_STATE)


async def test_a_communication_that_has_changed_is_published_without_a_draft(world: World) -> None:
    first = await published(world)
    await reword(world, "receipt", body="Nobody sends it")
    with pytest.raises(FailedPrecondition, match="nothing to publish"):
        await world.do(publishing.publish, "welcome", ANY_STATE)

    await reword(world, body="Hello again")
    await reword(world, body="And again")
    publication = await world.do(publishing.publish, "welcome", ANY_STATE)
    with pytest.raises(FailedPrecondition, match="nothing to publish"):
        await world.do(publishing.publish, "welcome", ANY_STATE)

    before, after = [await world.look(journeys.version, "welcome", number) for number in (1, 2)]
    assert (publication.version, publication.journey.has_draft) == (2, False)
    assert after.definition == before.definition == first.definition
    assert [version.pinned["welcome"].content_revision for version in (before, after)] == [1, 3]
    assert after.sha256 != before.sha256


async def test_who_follows_communications_live_publishes_anew_only_for_another_channel(world: World) -> None:
    await world.draft(definition=definition_with(followLiveCommunications=True))
    await world.do(publishing.publish, "welcome", ANY_STATE)
    await reword(world, body="Hello again")
    with pytest.raises(FailedPrecondition, match="nothing to publish"):
        await world.do(publishing.publish, "welcome", ANY_STATE)

    await reword(world, channel="webhook", settings={"url": "https://example.com/hook"})
    publication = await world.do(publishing.publish, "welcome", ANY_STATE)

    newest = await world.look(journeys.version, "welcome", publication.version)
    assert newest.pinned["welcome"] == Pinned(content_revision=3, channel="webhook", category="marketing")


async def test_without_a_draft_the_newest_version_is_validated_as_things_stand_today(world: World) -> None:
    await published(world)
    await world.do(audiences.delete, "buyers", ANY_STATE)

    findings = await world.look(publishing.validate, "welcome")

    assert [fault.reason for fault in findings.faults] == ["AUDIENCE_NOT_FOUND"]


@pytest.mark.parametrize("rounds", [6, pytest.param(20, marks=[pytest.mark.faults, in_soak_alone])])
async def test_fifty_publishers_of_one_state_have_one_winner_in_every_round(world: World, rounds: int) -> None:
    journey = await world.draft()
    torn: list[int] = []
    done = asyncio.Event()

    async def watch() -> None:
        """Readers meanwhile: whatever is newest is whole, and is what its digest says."""
        while not done.is_set():
            async with world.transactions.read(world.scope.project_no) as conn:
                row = await conn.fetchrow("SELECT latest_version FROM journeys WHERE latest_version IS NOT NULL")
                if row is not None:
                    version = await journey_versions.find(conn, world.scope.project_no, "welcome", row[0])
                    if version is None or version.sha256 != publishing.sha256_of(version.definition, version.pinned):
                        torn.append(row[0])
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    for number in range(1, rounds + 1):
        edited = Changes(definition={"maxDurationDays": 10 + number})
        journey = await world.do(journeys.update, "welcome", edited, ANY_STATE)
        results = await asyncio.gather(
            *(world.do(publishing.publish, "welcome", seen(journey)) for _ in range(50)), return_exceptions=True
        )
        outcomes = Counter("won" if not isinstance(result, BaseException) else type(result) for result in results)
        assert outcomes == {"won": 1, Conflict: 49}
        assert [result.version for result in results if not isinstance(result, BaseException)] == [number]
    done.set()
    await watching

    assert torn == []
    numbers = range(1, rounds + 1)
    versions = [await world.look(journeys.version, "welcome", number) for number in numbers]
    assert [version.definition["maxDurationDays"] for version in versions] == [10 + number for number in numbers]


async def test_of_publishers_without_an_etag_one_wins_and_the_rest_find_nothing_to_publish(world: World) -> None:
    await world.draft()

    results = await asyncio.gather(
        *(world.do(publishing.publish, "welcome", ANY_STATE) for _ in range(20)), return_exceptions=True
    )

    reasons = Counter(result.reason for result in results if isinstance(result, FailedPrecondition))
    assert reasons == {"NO_DRAFT": 19}


async def test_versions_come_in_pages_newest_first(world: World) -> None:
    await world.draft()
    for days in range(1, 6):
        await world.do(journeys.update, "welcome", Changes(definition={"maxDurationDays": 10 + days}), ANY_STATE)
        await world.do(publishing.publish, "welcome", ANY_STATE)

    first, end = await world.look(journeys.versions, "welcome", None, 3)
    second, last = await world.look(journeys.versions, "welcome", end, 3)

    assert [version.version for version in first + second] == [5, 4, 3, 2, 1]
    assert last is None


async def test_the_plan_limits_published_journeys(world: World) -> None:
    await limit_journeys(world, 2)
    for journey_id in ("a", "b", "c"):
        await world.draft(journey_id)
    await world.do(publishing.publish, "a", ANY_STATE)
    await world.do(publishing.publish, "b", ANY_STATE)
    await world.do(lifecycle.pause, "a", ANY_STATE)

    with pytest.raises(ResourceExhausted) as refused:
        await world.do(publishing.publish, "c", ANY_STATE)
    assert refused.value.reason == "PLAN_LIMIT_REACHED"

    await world.do(journeys.update, "a", Changes(definition={"maxDurationDays": 30}), ANY_STATE)
    assert (await world.do(publishing.publish, "a", ANY_STATE)).version == 2
    await world.do(lifecycle.archive, "a", OnArchive.FINISH, ANY_STATE)
    assert (await world.do(publishing.publish, "c", ANY_STATE)).version == 1


async def test_the_plan_limit_holds_against_publishers_at_once(world: World) -> None:
    await limit_journeys(world, 3)
    for number in range(8):
        await world.draft(f"j{number}")

    results = await asyncio.gather(
        *(world.do(publishing.publish, f"j{number}", ANY_STATE) for number in range(8)), return_exceptions=True
    )

    assert sum(isinstance(result, ResourceExhausted) for result in results) == 5
    assert await world.owner.fetchval("SELECT count(*) FROM journeys WHERE status = 'active'") == 3


async def test_pause_and_resume_switch_and_are_content_with_what_they_find(world: World) -> None:
    await published(world)

    paused = await world.do(lifecycle.pause, "welcome", ANY_STATE)
    again = await world.do(lifecycle.pause, "welcome", ANY_STATE)
    resumed = await world.do(lifecycle.resume, "welcome", ANY_STATE)
    active = await world.do(lifecycle.resume, "welcome", ANY_STATE)

    assert paused.status is JourneyStatus.PAUSED
    assert again == paused
    assert resumed.status is JourneyStatus.ACTIVE
    assert active == resumed
    assert await world.actions() == ["journey_created", "journey_published", "journey_paused", "journey_resumed"]


async def test_a_paused_journey_stays_paused_when_it_is_published(world: World) -> None:
    await published(world)
    await world.do(lifecycle.pause, "welcome", ANY_STATE)
    await world.do(journeys.update, "welcome", Changes(definition={"maxDurationDays": 30}), ANY_STATE)

    publication = await world.do(publishing.publish, "welcome", ANY_STATE)

    assert publication.version == 2
    assert publication.journey.status is JourneyStatus.PAUSED


async def test_what_was_never_published_is_neither_paused_nor_resumed(world: World) -> None:
    await world.draft()

    for use_case in (lifecycle.pause, lifecycle.resume):
        with pytest.raises(FailedPrecondition) as refused:
            await world.do(use_case, "welcome", ANY_STATE)
        assert refused.value.reason == "JOURNEY_NOT_ACTIVE"


async def test_nothing_brings_an_archived_journey_back(world: World) -> None:
    await published(world)
    await world.do(journeys.update, "welcome", Changes(definition={"maxDurationDays": 30}), ANY_STATE)
    await world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)

    for use_case in (lifecycle.pause, lifecycle.resume, publishing.publish):
        with pytest.raises(FailedPrecondition) as refused:
            await world.do(use_case, "welcome", ANY_STATE)
        assert refused.value.reason == "JOURNEY_ARCHIVED"


async def test_archiving_lets_executions_finish_or_tells_them_to_end(world: World) -> None:
    await published(world)
    running = {await world.lay_execution(f"user-{number}") for number in range(3)}
    await world.lay_execution("user-9", outcome="completed")

    finishing = await world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)
    assert await world.pokes() == set()
    ending = await world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)
    again = await world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)

    assert (finishing.running, finishing.journey.on_archive) == (3, OnArchive.FINISH)
    assert (ending.running, ending.journey.on_archive) == (3, OnArchive.END)
    assert again == ending
    assert await world.pokes() == running
    assert await world.owner.fetchval("SELECT count(*) FROM outbox WHERE leased_until <= clock_timestamp()") == 3
    with pytest.raises(FailedPrecondition) as refused:
        await world.do(lifecycle.archive, "welcome", OnArchive.FINISH, ANY_STATE)
    assert refused.value.reason == "JOURNEY_ARCHIVED"


async def test_whoever_is_being_let_in_while_a_journey_is_closed_is_told_to_end_too(
    world: World, worker_pool: Pool[Record]
) -> None:
    await published(world)
    async with worker_pool.acquire() as conn:
        admission = conn.transaction()
        await admission.start()
        await conn.execute("SELECT 1 FROM journeys WHERE journey_id = 'welcome' FOR KEY SHARE")
        archiving = asyncio.create_task(world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE))
        await _until_somebody_waits(world)
        await conn.execute(
            """
            INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)
            VALUES ($1, 0, 'late', now(), now())
            """,
            world.scope.project_no,
        )
        await conn.execute(
            """
            INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq,
                                    step_id, since, effect, started_at)
            SELECT project_no, bucket, subject_no, gen_random_uuid(), 'welcome', 1, 'disp:late', 0, 'hello', now(),
                   '{}', now()
              FROM subjects WHERE subject_id = 'late'
            """
        )
        await admission.commit()

    archived = await archiving

    assert archived.running == 1
    assert len(await world.pokes()) == 1


async def _until_somebody_waits(world: World) -> None:
    waiting = """
        SELECT EXISTS (
            SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
    """
    async with asyncio.timeout(10):
        while True:
            if await world.owner.fetchval(waiting):
                return
            await asyncio.sleep(0.01)


async def test_a_journey_with_running_executions_is_deleted_by_force_only(world: World) -> None:
    journey = await published(world)
    running = await world.lay_execution("user-1")

    with pytest.raises(FailedPrecondition) as refused:
        await world.do(lifecycle.delete, "welcome", ANY_STATE)
    assert refused.value.reason == "JOURNEY_HAS_RUNNING_EXECUTIONS"
    assert refused.value.metadata["runningExecutions"] == "1"
    with pytest.raises(Conflict):
        await world.do(lifecycle.delete, "welcome", replace(seen(journey), etag="stale"), force=True)
    await world.do(lifecycle.delete, "welcome", seen(journey), force=True)

    assert await world.pokes() == {running}
    with pytest.raises(NotFound):
        await world.look(journeys.get, "welcome")
    assert await world.owner.fetchval("SELECT count(*) FROM executions") == 1
    assert await world.owner.fetchval("SELECT count(*) FROM journey_versions") == 1
    assert (await world.actions())[-1] == "journey_deleted"


async def test_the_id_of_a_deleted_journey_is_free_again_if_nobody_ever_came_to_it(world: World) -> None:
    await published(world)
    await world.do(journeys.update, "welcome", Changes(goal_event="purchase"), ANY_STATE)
    await world.do(lifecycle.delete, "welcome", ANY_STATE)

    made = await world.draft()
    publication = await world.do(publishing.publish, "welcome", ANY_STATE)

    assert made.goal.revision == 3
    assert publication.version == 2, "versions are never changed, not even by a namesake: numbers are not given twice"
    versions, _ = await world.look(journeys.versions, "welcome", None, 10)
    assert [version.version for version in versions] == [2]
    with pytest.raises(NotFound):
        await world.look(journeys.version, "welcome", 1)


async def test_a_journey_that_somebody_came_to_keeps_its_id_for_ever(world: World) -> None:
    for journey_id in ("running", "over", "refusing"):
        await world.draft(journey_id, WELCOME)
    await world.lay_execution("user-1", journey_id="running")
    await world.lay_execution("user-1", journey_id="over", outcome="completed")
    await world.owner.execute("INSERT INTO refusal_counts VALUES (1, 'refusing', 'audience', now(), 0, 1)")

    for journey_id in ("running", "over", "refusing"):
        await world.do(lifecycle.delete, journey_id, ANY_STATE, force=True)
        with pytest.raises(AlreadyExists) as refused:
            await world.draft(journey_id, WELCOME)
        assert refused.value.metadata == {"journeyId": journey_id}


HOUR = timedelta(hours=1)


async def test_a_journey_shows_why_entries_are_refused_until_that_is_mended(world: World) -> None:
    journey = await published(world)
    hour = journey.updated_at.replace(minute=0, second=0, microsecond=0)
    await world.lay_refusals("audience_not_found", 5, hour=hour - HOUR)
    await world.lay_refusals("audience_not_found", 2, hour=hour)
    await world.lay_refusals("audience_not_found", 1, hour=hour + HOUR, shard=3)
    await world.lay_refusals("audience_not_found", 1, hour=hour + HOUR, shard=4)
    await world.lay_refusals("re_entry", 7, hour=hour)

    async def problems() -> list[tuple[str, int, datetime | None]]:
        refused = (await world.look(journeys.view, "welcome")).problems
        return [(problem.reason, problem.total, problem.last_hour) for problem in refused]

    assert await problems() == [], "the audience is there"
    await world.do(audiences.delete, "buyers", ANY_STATE)
    assert await problems() == [("audience_not_found", 4, hour + HOUR)]
    await world.do(lifecycle.pause, "welcome", ANY_STATE)
    assert await problems() == [], "a paused journey takes nobody in anyway"


async def test_a_published_communication_may_go_and_the_version_stays_what_it_was(world: World) -> None:
    await published(world)
    await world.do(communications.delete, "welcome", ANY_STATE)

    version = await world.look(journeys.version, "welcome", 1)
    findings = await world.look(publishing.validate, "welcome")

    assert version.pinned["welcome"].content_revision == 1
    assert [fault.reason for fault in findings.faults] == ["COMMUNICATION_NOT_FOUND"]


def definition_with(**members: Any) -> dict[str, Any]:
    return {**deepcopy(WELCOME), **members}


async def test_a_wait_that_does_not_fit_is_refused_when_published(world: World) -> None:
    await world.draft(definition=definition_with(maxDurationDays=3))

    with pytest.raises(FailedPrecondition) as refused:
        await world.do(publishing.publish, "welcome", ANY_STATE)

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("steps[1].wait.duration", "WAIT_EXCEEDS_MAX_DURATION")
    ]
