"""Journeys, executions and the audit log as callers of the API see them: JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from google.protobuf.message import Message

from orchestrator.api.call import Call
from orchestrator.api.handlers.audit import AuditHandlers
from orchestrator.api.handlers.executions import ExecutionHandlers
from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.api.json_codec import read_request, write_response
from orchestrator.application.executions import Executions
from orchestrator.application.versions import Versions
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.storage.outbox import Entry
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.statuses import Statuses
from orchestrator.v1 import audit_service_pb2 as audit_rpc
from orchestrator.v1 import journey_service_pb2 as rpc
from tests.integration.journey_world import START, WELCOME, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection, Pool, Record
    from temporalio.client import Client


class Api:
    """Calls a handler as the HTTP adapter does, without a transport."""

    def __init__(self, world: World, temporal: Client) -> None:
        self.world = world
        self.told: list[Entry] = []
        self.journeys = JourneyHandlers(Versions(), self._deliver)
        self.executions = ExecutionHandlers(Executions(Statuses(temporal)))
        self.audit = AuditHandlers()

    async def _deliver(self, entries: Sequence[Entry]) -> None:
        self.told.extend(entries)

    async def __call__(
        self,
        handler: Callable[[Any, Call], Awaitable[Message]],
        kind: type[Message],
        body: dict[str, Any] | None = None,
        *,
        body_field: str = "",
        answer: str = "",
        **path: str,
    ) -> Any:
        request, faults = read_request(
            kind,
            body_field=body_field,
            body=orjson.dumps(body) if body is not None else b"",
            path={name.replace("__", "."): text for name, text in path.items()},
            query=[],
        )
        if faults:
            raise InvalidArgument(faults)
        call = Call(method="test", scope=self.world.scope, transactions=self.world.transactions)
        if handler.__dict__.get("own_transactions") or getattr(handler, "own_transactions", False):
            response = await handler(request, call)
        else:
            async with self.world.transactions.write(self.world.scope.project_no) as call.connection:
                response = await handler(request, call)
            for callback in call.callbacks:
                await callback()
        return orjson.loads(write_response(response, answer))

    async def create(self, body: dict[str, Any]) -> Any:
        return await self(
            self.journeys.CreateJourney, rpc.CreateJourneyRequest, body, body_field="journey", answer="journey"
        )

    async def patch(self, journey_id: str, body: dict[str, Any]) -> Any:
        return await self(
            self.journeys.UpdateJourney,
            rpc.UpdateJourneyRequest,
            body,
            body_field="journey",
            answer="journey",
            journey__id=journey_id,
        )

    async def get(self, journey_id: str) -> Any:
        return await self(self.journeys.GetJourney, rpc.GetJourneyRequest, answer="journey", journey_id=journey_id)

    async def publish(self, journey_id: str) -> Any:
        return await self(
            self.journeys.PublishJourney, rpc.PublishJourneyRequest, {}, body_field="*", journey_id=journey_id
        )


@pytest.fixture
async def api(owner: Connection[Record], api_pool: Pool[Record]) -> Api:
    """Temporal is away: nothing here needs it."""
    world = await World.make(owner, api_pool)
    await world.furnish()
    return Api(world, await connect(Target(address="127.0.0.1:1"), lazy=True))


async def test_a_journey_comes_back_as_it_was_sent(api: Api) -> None:
    sent = {
        "id": "welcome",
        "name": "Welcome",
        "goal": {"eventName": "purchase", "window": "36h"},
        "definition": {**WELCOME, "maxDurationDays": 30, "reentry": {"policy": "interval", "interval": "P1W"}},
    }

    made = await api.create(sent)

    assert made == await api.get("welcome")
    assert made["status"] == "draft"
    assert made["hasDraft"] is True
    assert "latestVersion" not in made
    assert made["goal"] == {"eventName": "purchase", "window": "36h"}
    assert made["definition"] == {
        **WELCOME,
        "maxDurationDays": 30,
        "reentry": {"policy": "interval", "interval": "1w"},
    }


async def test_a_journey_without_steps_starts_with_an_exit(api: Api) -> None:
    made = await api.create({"name": "Hello", "definition": {"audienceId": "buyers"}})

    assert made["definition"] == {"audienceId": "buyers", "steps": [{"id": "exit", "exit": {"reason": "finished"}}]}
    assert made["goal"] == {"window": "1w"}


async def test_a_patch_changes_the_members_it_has_and_never_empties_another(api: Api) -> None:
    made = await api.create({"id": "welcome", "name": "Welcome", "description": "Greets", "definition": WELCOME})

    renamed = await api.patch("welcome", {"name": "Hello", "goal": {"eventName": "signup"}})
    limited = await api.patch("welcome", {"definition": {"maxDurationDays": 9}})
    freed = await api.patch("welcome", {"definition": {"audienceId": None, "maxDurationDays": None}})
    emptied = await api.patch("welcome", {"description": "", "definition": {"steps": []}})

    kept = ("description", "definition", "status", "createdAt")
    assert [renamed[name] for name in kept] == [made[name] for name in kept]
    assert (renamed["name"], renamed["goal"]) == ("Hello", {"eventName": "signup", "window": "1w"})
    assert limited["definition"] == {**WELCOME, "maxDurationDays": 9}
    assert limited["goal"] == renamed["goal"]
    assert freed["definition"] == {name: member for name, member in WELCOME.items() if name != "audienceId"}
    assert emptied["definition"] == {"triggerContractId": "bought", "steps": []}
    assert "description" not in emptied


async def test_a_whole_definition_can_be_replaced_by_naming_it_in_the_mask(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", "definition": WELCOME})
    request = rpc.UpdateJourneyRequest()
    request.journey.id = "welcome"
    request.journey.definition.trigger_contract_id = "bought"
    request.update_mask.paths.append("definition")

    call = Call(method="test", scope=api.world.scope, transactions=api.world.transactions)
    async with api.world.transactions.write(api.world.scope.project_no) as call.connection:
        answer = await api.journeys.UpdateJourney(request, call)

    assert orjson.loads(write_response(answer.journey))["definition"] == {"triggerContractId": "bought", "steps": []}


async def test_faults_lead_into_what_was_sent(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", "definition": WELCOME})
    steps = [{"id": "a", "wait": {"duration": "800d"}}, {"id": "a", "exit": {}}]

    for sending in (
        api.create({"name": "Other", "definition": {"steps": steps}}),
        api.patch("welcome", {"definition": {"steps": steps}}),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await sending
        assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
            ("definition.steps[0].wait.duration", "OUT_OF_RANGE"),
            ("definition.steps[1].id", "DUPLICATE_ID"),
        ]


async def test_a_journey_lives_from_publish_to_archive(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", "definition": WELCOME})
    named = {"journey_id": "welcome", "body_field": "*"}

    published = await api.publish("welcome")
    paused = await api(api.journeys.PauseJourney, rpc.PauseJourneyRequest, {}, answer="journey", **named)
    resumed = await api(api.journeys.ResumeJourney, rpc.ResumeJourneyRequest, {}, answer="journey", **named)
    await api.world.lay_execution("user-1")
    archived = await api(api.journeys.ArchiveJourney, rpc.ArchiveJourneyRequest, {"onArchive": "end"}, **named)

    assert published == {"id": "welcome", "version": 1, "warnings": []}
    assert (paused["status"], resumed["status"], resumed["latestVersion"]) == ("paused", "active", 1)
    assert archived["journey"]["status"] == "archived"
    assert archived["journey"]["onArchive"] == "end"
    assert archived["runningExecutions"] == "1" or archived["runningExecutions"] == 1


async def test_versions_are_listed_without_their_definitions_and_read_with_them(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", "definition": WELCOME})
    await api.publish("welcome")

    listed = await api(api.journeys.ListJourneyVersions, rpc.ListJourneyVersionsRequest, journey_id="welcome")
    version = await api(
        api.journeys.GetJourneyVersion,
        rpc.GetJourneyVersionRequest,
        answer="version",
        journey_id="welcome",
        version="1",
    )

    assert [found["version"] for found in listed["versions"]] == [1]
    assert "definition" not in listed["versions"][0]
    assert version["definition"] == WELCOME
    assert version["communications"] == {"welcome": {"contentRevision": 1, "channel": "log", "category": "marketing"}}
    assert version["publishedBy"] == "key:test"


async def test_validation_says_what_stands_against_publishing(api: Api) -> None:
    steps = [{"id": "a", "send": {"communicationId": "receipt"}, "next": "b"}, {"id": "z", "exit": {}}]
    await api.create({"id": "welcome", "name": "Welcome", "definition": {"steps": steps}})

    answer = await api(
        api.journeys.ValidateJourney, rpc.ValidateJourneyRequest, {}, body_field="*", journey_id="welcome"
    )

    assert [(fault["path"], fault["reason"]) for fault in answer["faults"]] == [
        ("steps[0].send.communicationId", "SEND_STEP_USES_TRANSACTIONAL_COMM"),
        ("steps[0].next", "NEXT_NOT_FOUND"),
    ]
    assert [fault["path"] for fault in answer["warnings"]] == ["steps[1]"]


async def test_lists_come_in_pages(api: Api) -> None:
    for number in range(5):
        await api.create({"id": f"j{number}", "name": "Journey"})
    listed: list[str] = []
    body: dict[str, Any] = {"pageSize": 2}
    while True:
        page = await api(api.journeys.ListJourneys, rpc.ListJourneysRequest, body, body_field="*")
        listed += [journey["id"] for journey in page["journeys"]]
        if "nextPageToken" not in page:
            break
        body["pageToken"] = page["nextPageToken"]

    assert sorted(listed) == ["j0", "j1", "j2", "j3", "j4"]
    with pytest.raises(InvalidArgument) as refused:
        await api(api.journeys.ListJourneys, rpc.ListJourneysRequest, {**body, "status": "draft"}, body_field="*")
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_who_did_what_is_told_newest_first_even_of_a_deleted_journey(api: Api) -> None:
    await api.create({"id": "welcome", "name": "Welcome", "definition": WELCOME})
    await api.publish("welcome")
    await api(api.journeys.DeleteJourney, rpc.DeleteJourneyRequest, journey_id="welcome")

    of_journey = await api(
        api.journeys.ListJourneyAuditEntries,
        rpc.ListJourneyAuditEntriesRequest,
        {"pageSize": 2},
        body_field="*",
        journey_id="welcome",
    )
    of_kind = await api(
        api.audit.ListAuditEntries, audit_rpc.ListAuditEntriesRequest, {"resourceKind": "segment"}, body_field="*"
    )
    of_all = await api(api.audit.ListAuditEntries, audit_rpc.ListAuditEntriesRequest)

    assert [entry["action"] for entry in of_journey["auditEntries"]] == ["journey_deleted", "journey_published"]
    assert of_journey["auditEntries"][1]["metadata"]["version"] == 1
    assert of_journey["auditEntries"][0]["actor"] == "key:test"
    assert "nextPageToken" in of_journey
    assert [entry["action"] for entry in of_kind["auditEntries"]] == ["segment_created"]
    assert len(of_all["auditEntries"]) == 8
    with pytest.raises(NotFound):
        await api(api.journeys.ListJourneyAuditEntries, rpc.ListJourneyAuditEntriesRequest, journey_id="never")
    with pytest.raises(InvalidArgument):
        await api(
            api.audit.ListAuditEntries, audit_rpc.ListAuditEntriesRequest, {"resourceId": "welcome"}, body_field="*"
        )


async def test_stats_count_the_ledgers(api: Api) -> None:
    world = api.world
    await api.create({"id": "welcome", "name": "Welcome", "definition": WELCOME})
    await api.publish("welcome")
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

    stats = await api(api.journeys.GetStepStats, rpc.GetStepStatsRequest, journey_id="welcome")
    funnel = await api(
        api.journeys.GetJourneyFunnel, rpc.GetJourneyFunnelRequest, answer="funnel", journey_id="welcome"
    )

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
    assert {name: int(total) for name, total in funnel["refused"].items()} == {"re_entry": 7}


async def test_enrolling_tells_temporal_after_the_commit(api: Api) -> None:
    definition = {"steps": [{"id": "pause", "wait": {"duration": "3d"}, "next": "end"}, {"id": "end", "exit": {}}]}
    await api.create({"id": "welcome", "name": "Welcome", "definition": definition})
    await api.publish("welcome")

    answer = await api(
        api.journeys.EnrollSubjects,
        rpc.EnrollSubjectsRequest,
        {"subjectIds": ["user-1", "user-2", "user-1"]},
        body_field="*",
        journey_id="welcome",
    )

    assert answer == {
        "journeyId": "welcome",
        "journeyName": "Welcome",
        "enrolled": 2,
        "skipped": 1,
        "errors": 0,
        "total": 3,
    }
    assert sorted(entry.subject_id for entry in api.told) == ["user-1", "user-2"]
