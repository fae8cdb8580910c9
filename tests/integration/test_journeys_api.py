"""Journeys, executions and the audit log over the API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.audit import AuditHandlers
from orchestrator.api.handlers.executions import ExecutionHandlers
from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.application.executions import Executions
from orchestrator.application.versions import Versions
from orchestrator.domain.scope import Role
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.statuses import Statuses
from tests.integration.journey_world import START, WELCOME, World
from tests.integration.served import Refused, Served
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


class Api:
    """An admin's calls. What Temporal would be told after each is kept in `told`."""

    def __init__(self, world: World, served: Served, key: str, told: list[Notice]) -> None:
        self.world = world
        self.served = served
        self.key = key
        self.told = told

    async def __call__(self, rpc: str, **request: Any) -> dict[str, Any]:
        return await self.served.call(self.key, rpc, **request)

    async def create(self, journey: dict[str, Any]) -> Any:
        return (await self("CreateJourney", journey=journey))["journey"]

    async def patch(self, journey_id: str, journey: dict[str, Any]) -> Any:
        return (await self("UpdateJourney", journey={"id": journey_id, **journey}))["journey"]

    async def get(self, journey_id: str) -> Any:
        return (await self("GetJourney", journeyId=journey_id))["journey"]


def definition_in(document: dict[str, Any]) -> dict[str, Any]:
    """What a journey's document, or a version's, says of the definition."""
    members = ("audienceId", "triggerContractId", "reentry", "maxDurationDays", "steps")
    return {name: document[name] for name in members if name in document}


@pytest.fixture
async def api(owner: Connection[Record], api_pool: Pool[Record]) -> Api:
    """Temporal is away: nothing here needs it."""
    world = await World.make(owner, api_pool)
    await world.furnish()
    told: list[Notice] = []

    async def deliver(entries: Sequence[Notice]) -> None:
        told.extend(entries)

    temporal = await connect(Target(address="127.0.0.1:1"), lazy=True)
    served = await Served.open(
        api_pool,
        JourneyHandlers(Versions(), deliver),
        ExecutionHandlers(Executions(Statuses(temporal)), Versions(), deliver),
        AuditHandlers(),
    )
    return Api(world, served, await served.admit(world.scope, Role.ADMIN), told)


async def test_a_journey_comes_back_as_it_was_sent(api: Api) -> None:
    sent = {
        "id": "welcome",
        "name": "Welcome",
        "goal": {"eventName": "purchase", "window": "36h"},
        **WELCOME,
        "maxDurationDays": 30,
        "reentry": {"policy": "interval", "interval": "P1W"},
    }

    made = await api.create(sent)

    assert made == await api.get("welcome")
    assert made["status"] == "draft"
    assert made["hasDraft"] is True
    assert "latestVersion" not in made
    assert made["goal"] == {"eventName": "purchase", "window": "36h"}
    assert definition_in(made) == {
        **WELCOME,
        "maxDurationDays": 30,
        "reentry": {"policy": "interval", "interval": "1w"},
    }


async def test_a_journey_without_steps_starts_with_an_exit(api: Api) -> None:
    made = await api.create({"name": "Hello", "audienceId": "buyers"})

    assert definition_in(made) == {"audienceId": "buyers", "steps": [{"id": "exit", "exit": {"reason": "finished"}}]}
    assert made["goal"] == {"window": "1w"}


async def test_a_patch_changes_the_members_it_has_and_never_empties_another(api: Api) -> None:
    made = await api.create({"id": "welcome", "name": "Welcome", "description": "Greets", **WELCOME})

    renamed = await api.patch("welcome", {"name": "Hello", "goal": {"eventName": "signup"}})
    limited = await api.patch("welcome", {"maxDurationDays": 9})
    freed = await api.patch("welcome", {"audienceId": None, "maxDurationDays": None})
    emptied = await api.patch("welcome", {"description": "", "steps": []})

    kept = ("description", "status", "createdAt")
    assert [renamed[name] for name in kept] == [made[name] for name in kept]
    assert definition_in(renamed) == WELCOME
    assert (renamed["name"], renamed["goal"]) == ("Hello", {"eventName": "signup", "window": "1w"})
    assert definition_in(limited) == {**WELCOME, "maxDurationDays": 9}
    assert limited["goal"] == renamed["goal"]
    assert definition_in(freed) == {name: member for name, member in WELCOME.items() if name != "audienceId"}
    assert definition_in(emptied) == {"triggerContractId": "bought", "steps": []}
    assert "description" not in emptied


async def test_of_two_who_read_the_same_state_the_second_is_told(api: Api) -> None:
    made = await api.create({"id": "welcome", "name": "Welcome"})
    first = await api.patch("welcome", {"name": "First", "etag": made["etag"]})

    for stale in ({"etag": made["etag"]}, {"updatedAt": made["updatedAt"]}):
        with pytest.raises(Refused) as refused:
            await api.patch("welcome", {"name": "Second", **stale})
        assert (refused.value.code, refused.value.reason) == ("ABORTED", "ETAG_MISMATCH")
    for fresh in ({"etag": first["etag"]}, {"updatedAt": first["updatedAt"]}):
        assert (await api.patch("welcome", {"name": "First", **fresh}))["name"] == "First"


async def test_faults_lead_into_what_was_sent(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", **WELCOME})
    steps = [{"id": "a", "wait": {"duration": "800d"}}, {"id": "a", "exit": {}}]

    for sending in (
        api.create({"name": "Other", "steps": steps}),
        api.patch("welcome", {"steps": steps}),
    ):
        with pytest.raises(Refused) as refused:
            await sending
        assert refused.value.faults == [
            ("steps[0].wait.duration", "OUT_OF_RANGE"),
            ("steps[1].id", "DUPLICATE_ID"),
        ]


async def test_a_journey_lives_from_publish_to_archive(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", **WELCOME})

    published = await api("PublishJourney", journeyId="welcome", requestId="once")
    repeated = await api("PublishJourney", journeyId="welcome", requestId="once")
    paused = (await api("PauseJourney", journeyId="welcome"))["journey"]
    resumed = (await api("ResumeJourney", journeyId="welcome"))["journey"]
    await api.world.lay_execution("user-1")
    foreseen = await api("ArchiveJourney", journeyId="welcome", onArchive="end", validateOnly=True)
    still = await api.get("welcome")
    archived = await api("ArchiveJourney", journeyId="welcome", onArchive="end")

    assert published == {"id": "welcome", "version": 1, "warnings": []}
    assert repeated == published
    assert (paused["status"], resumed["status"], resumed["latestVersion"]) == ("paused", "active", 1)
    assert (foreseen["runningExecutions"], still["status"]) == (1, "active")
    assert archived["runningExecutions"] == 1
    assert (archived["journey"]["status"], archived["journey"]["onArchive"]) == ("archived", "end")


async def test_publishing_tells_every_fault_of_the_draft(api: Api) -> None:
    steps = [{"id": "a", "send": {"communicationId": "receipt"}, "next": "b"}]
    await api.create({"id": "welcome", "name": "Welcome", "audienceId": "nobody", "steps": steps})

    with pytest.raises(Refused) as refused:
        await api("PublishJourney", journeyId="welcome")

    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "INVALID_DEFINITION")
    assert refused.value.faults == [
        ("audienceId", "AUDIENCE_NOT_FOUND"),
        ("steps[0].send.communicationId", "SEND_STEP_USES_TRANSACTIONAL_COMM"),
        ("steps[0].next", "NEXT_NOT_FOUND"),
    ]


async def test_what_only_an_admin_may_do_an_editor_may_not(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome"})
    editor = await api.served.admit(api.world.scope, Role.EDITOR)
    viewer = await api.served.admit(api.world.scope, Role.VIEWER)

    with pytest.raises(Refused) as deleting:
        await api.served.call(editor, "DeleteJourney", journeyId="welcome")
    with pytest.raises(Refused) as reading:
        await api.served.call(viewer, "GetJourney", journeyId="welcome")
    funnel = await api.served.call(viewer, "GetJourneyFunnel", journeyId="welcome")

    assert deleting.value.reason == reading.value.reason == "ROLE_TOO_LOW"
    assert funnel["funnel"]["enrolled"] == 0
    assert "completionRate" not in funnel["funnel"]


async def test_versions_are_listed_without_their_definitions_and_read_with_them(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", **WELCOME})
    await api("PublishJourney", journeyId="welcome")

    listed = (await api("ListJourneyVersions", journeyId="welcome"))["versions"]
    version = (await api("GetJourneyVersion", journeyId="welcome", version="1"))["version"]

    assert [found["version"] for found in listed] == [1]
    assert definition_in(listed[0]) == {}
    assert definition_in(version) == WELCOME
    assert version["communications"] == {"welcome": {"contentRevision": 1, "channel": "log", "category": "marketing"}}
    assert version["publishedBy"].startswith("key:")


async def test_validation_says_what_stands_against_publishing(api: Api) -> None:
    steps = [{"id": "a", "send": {"communicationId": "receipt"}, "next": "b"}, {"id": "z", "exit": {}}]
    await api.create({"id": "welcome", "name": "Welcome", "steps": steps})

    answer = await api("ValidateJourney", journeyId="welcome")

    assert [(fault["path"], fault["reason"]) for fault in answer["faults"]] == [
        ("steps[0].send.communicationId", "SEND_STEP_USES_TRANSACTIONAL_COMM"),
        ("steps[0].next", "NEXT_NOT_FOUND"),
    ]
    assert [fault["path"] for fault in answer["warnings"]] == ["steps[1]"]


async def test_lists_come_in_pages(api: Api) -> None:
    for number in range(5):
        await api.create({"id": f"j{number}", "name": "Journey"})
    listed: list[Any] = []
    token = ""
    while True:
        page = await api("ListJourneys", pageSize=2, pageToken=token)
        listed += page["journeys"]
        if "nextPageToken" not in page:
            break
        token = page["nextPageToken"]

    assert sorted(journey["id"] for journey in listed) == ["j0", "j1", "j2", "j3", "j4"]
    assert all(journey["hasDraft"] and definition_in(journey) == {} for journey in listed)
    with pytest.raises(Refused) as refused:
        await api("ListJourneys", pageSize=2, pageToken=token, status="draft")
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_who_did_what_is_told_newest_first_even_of_a_deleted_journey(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", **WELCOME})
    await api("PublishJourney", journeyId="welcome")
    await api("DeleteJourney", journeyId="welcome")

    of_journey = await api("ListJourneyAuditEntries", journeyId="welcome", pageSize=2)
    of_kind = await api("ListAuditEntries", resourceKind="segment")
    of_all = await api("ListAuditEntries")

    entries = of_journey["auditEntries"]
    assert [entry["action"] for entry in entries] == ["journey_deleted", "journey_published"]
    assert entries[1]["metadata"]["version"] == 1
    assert entries[0]["actor"].startswith("key:")
    rest = await api("ListJourneyAuditEntries", journeyId="welcome", pageSize=2, pageToken=of_journey["nextPageToken"])
    assert [entry["action"] for entry in rest["auditEntries"]] == ["journey_created"]
    assert [entry["action"] for entry in of_kind["auditEntries"]] == ["segment_created"]
    assert len(of_all["auditEntries"]) == 8
    with pytest.raises(Refused) as nothing:
        await api("ListJourneyAuditEntries", journeyId="never")
    assert nothing.value.reason == "JOURNEY_NOT_FOUND"
    with pytest.raises(Refused) as unclear:
        await api("ListAuditEntries", resourceId="welcome")
    assert unclear.value.faults == [("resourceKind", "REQUIRED")]


async def test_stats_count_the_ledgers(api: Api) -> None:
    world = api.world
    await api.create({"id": "welcome", "name": "Welcome", **WELCOME})
    await api("PublishJourney", journeyId="welcome")
    await world.lay_execution("u1", step_id="pause", visits=((1, "hello", "send", "executed"),))
    await world.lay_execution("u2", step_id="pause", visits=((1, "hello", "send", "skipped"),))
    await world.lay_execution(
        "u3",
        step_id="end",
        outcome="completed",
        visits=((1, "hello", "send", "failed"), (2, "gone", "wait", "executed"), (2, "end", "exit", "executed")),
    )
    await world.lay_execution("u4", step_id="end", outcome="expired")
    await world.owner.execute("UPDATE enrollments SET held_out_by = 'journey' WHERE triggered_at > $1", START)
    await world.lay_refusals("re_entry", 3, hour=START)
    await world.lay_refusals("re_entry", 4, hour=START + timedelta(hours=1), shard=2)

    stats = await api("GetStepStats", journeyId="welcome")
    funnel = (await api("GetJourneyFunnel", journeyId="welcome"))["funnel"]

    counted = [
        (step["stepId"], step["stepKind"], *(int(step[name]) for name in ("executed", "skipped", "failed", "active")))
        for step in stats["steps"]
    ]
    assert counted == [
        ("hello", "send", 1, 1, 1, 0),
        ("pause", "wait", 0, 0, 0, 2),
        ("check", "branch", 0, 0, 0, 0),
        ("end", "exit", 1, 0, 0, 0),
        ("gone", "wait", 1, 0, 0, 0),
    ]
    assert funnel["steps"] == stats["steps"]
    assert (int(funnel["enrolled"]), int(funnel["heldOut"]), int(funnel["active"])) == (4, 0, 2)
    assert {name: int(total) for name, total in funnel["completed"].items()} == {"completed": 1, "expired": 1}
    assert funnel["completionRate"] == 0.25
    assert [(v["entryVersion"], v["version"], int(v["active"])) for v in funnel["versions"]] == [(1, 1, 2)]
    assert {name: int(total) for name, total in funnel["refused"].items()} == {"re_entry": 7}


async def test_enrolling_tells_temporal_after_the_commit(api: Api) -> None:
    steps = [{"id": "pause", "wait": {"duration": "3d"}, "next": "end"}, {"id": "end", "exit": {}}]
    await api.create({"id": "welcome", "name": "Welcome", "steps": steps})
    await api("PublishJourney", journeyId="welcome")

    answer = await api("EnrollSubjects", journeyId="welcome", subjectIds=["user-1", "user-2", "user-1"])
    again = await api("EnrollSubjects", journeyId="welcome", subjectIds=["user-1", "user-2"])

    assert answer == {
        "journeyId": "welcome",
        "journeyName": "Welcome",
        "enrolled": 2,
        "skipped": 1,
        "errors": 0,
        "total": 3,
        "refused": {},
        "failedSubjectIds": [],
    }
    assert (again["enrolled"], again["skipped"], again["refused"]) == (0, 2, {"re_entry": 2})
    assert sorted(entry.subject_id for entry in api.told) == ["user-1", "user-2"]


async def test_executions_are_listed_and_looked_at(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", **WELCOME})
    running = await api.world.lay_execution("user-1", step_id="pause", visits=((1, "hello", "send", "executed"),))
    await api.world.lay_send("user-1", running, seq=0)
    ended = await api.world.lay_execution(
        "user-2", step_id="end", outcome="goal_reached", started_at=START + timedelta(hours=1)
    )

    first = await api("ListExecutions", journeyId="welcome", pageSize=1)
    second = await api("ListExecutions", journeyId="welcome", pageSize=1, pageToken=first["nextPageToken"])
    whole = (await api("GetExecution", executionId=str(running)))["execution"]

    assert first["executions"] == [
        {
            "id": str(ended),
            "executionArn": f"disp:{ended}",
            "endUserId": "user-2",
            "journeyId": "welcome",
            "version": 1,
            "status": "SUCCEEDED",
            "statusSource": "LEDGER",
            "outcome": "goal_reached",
            "reason": "why",
            "currentStepId": "end",
            "since": "2026-05-01T13:00:00.000Z",
            "startedAt": "2026-05-01T13:00:00.000Z",
            "endedAt": "2026-05-01T14:00:00.000Z",
            "entryVersion": 1,
        }
    ]
    assert [execution["id"] for execution in second["executions"]] == [str(running)]
    assert (whole["status"], whole["statusSource"], whole["currentStepId"]) == ("RUNNING", "LEDGER", "pause")
    assert [(visit["stepId"], visit["result"]) for visit in whole["visits"]] == [("hello", "executed")]
    assert [(send["communicationId"], send["state"]) for send in whole["sends"]] == [("welcome", "sent")]
    for page_token in ("garbage", first["nextPageToken"][:-2] + "AA"):
        with pytest.raises(Refused) as refused:
            await api("ListExecutions", journeyId="welcome", pageToken=page_token)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_a_funnel_is_of_one_moment(api: Api) -> None:
    """Everybody ends between its first statement and its second one."""
    world = api.world
    await api.create({"id": "welcome", "name": "Welcome", **WELCOME})
    await api("PublishJourney", journeyId="welcome")
    await world.lay_execution("u1", step_id="pause")
    await world.lay_execution("u2", step_id="pause")

    async with world.owner.transaction():
        await world.owner.execute("LOCK TABLE enrollments IN ACCESS EXCLUSIVE MODE")
        asked = asyncio.create_task(api("GetJourneyFunnel", journeyId="welcome"))
        await waits_for_a_lock(asked, world.owner)
        await world.owner.execute("UPDATE executions SET outcome = 'completed', ended_at = now()")
    funnel = (await asked)["funnel"]

    assert int(funnel["active"]) == sum(int(step["active"]) for step in funnel["steps"]) == 2
    assert funnel["completed"] == {}
    assert [int(version["active"]) for version in funnel["versions"]] == [2]
