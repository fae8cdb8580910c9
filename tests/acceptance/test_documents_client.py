"""What a new user does who has read one of the five documents, with a client written from it alone.

The client knows a host and a key. What its document takes for granted (a workspace with communications and subjects in
it) is made by this project's own client beforehand.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from orchestrator.client import OrchestratorClient, messages
from orchestrator.devstack.stack import Stack
from tests.acceptance.documents_client import ApiError, AudienceLab, Audiences, Journeys, JourneysV1, Segments
from tests.eventually import eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """What a user is given."""

    host: str
    key: str
    project_id: str


@pytest.fixture
async def workspace(shared_stack: Stack) -> Workspace:
    """A project of this test."""
    addresses = shared_stack.addresses
    project = messages.Project(id=f"p-{uuid.uuid4().hex[:12]}", name="Of one test")
    async with OrchestratorClient(addresses.grpc, shared_stack.keys.operator) as operator:
        made = await operator.projects.CreateProject(messages.CreateProjectRequest(project=project))
    return Workspace(host=addresses.http, key=made.secret, project_id=project.id)


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def lab(workspace: Workspace, opened: AsyncExitStack) -> AudienceLab:
    return await opened.enter_async_context(AudienceLab(workspace.host, workspace.key))


@pytest.fixture
async def audiences(workspace: Workspace, opened: AsyncExitStack) -> Audiences:
    return await opened.enter_async_context(Audiences(workspace.host, workspace.key))


@pytest.fixture
async def segments(workspace: Workspace, opened: AsyncExitStack) -> Segments:
    return await opened.enter_async_context(Segments(workspace.host, workspace.key, workspace.project_id))


@pytest.fixture
async def journeys(workspace: Workspace, opened: AsyncExitStack) -> Journeys:
    return await opened.enter_async_context(Journeys(workspace.host, workspace.key))


@pytest.fixture
async def v1(workspace: Workspace, opened: AsyncExitStack) -> JourneysV1:
    return await opened.enter_async_context(JourneysV1(workspace.host, workspace.key))


async def _communication(shared_stack: Stack, workspace: Workspace, category: messages.Category.ValueType) -> str:
    communication = messages.Communication(
        id="a-message", name="A message", channel="log", category=category, body="Hello {{ tier }}"
    )
    async with OrchestratorClient(shared_stack.addresses.grpc, workspace.key) as client:
        request = messages.CreateCommunicationRequest(communication=communication)
        return (await client.communications.CreateCommunication(request)).communication.id


@pytest.fixture
async def nudge(shared_stack: Stack, workspace: Workspace) -> str:
    return await _communication(shared_stack, workspace, messages.CATEGORY_MARKETING)


@pytest.fixture
async def receipt(shared_stack: Stack, workspace: Workspace) -> str:
    return await _communication(shared_stack, workspace, messages.CATEGORY_TRANSACTIONAL)


PRO_AND_ACTIVE = {
    "kind": "and",
    "clauses": [
        {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"},
        {
            "kind": "event_fired",
            "eventName": "feature.used",
            "window": {"type": "last_n_days", "days": 7},
            "atLeast": 2,
        },
        {
            "kind": "not",
            "clause": {"kind": "event_fired", "eventName": "subscription.upgraded", "window": {"type": "ever"}},
        },
    ],
}


async def test_an_audience_of_the_filters_document_is_created_as_its_example_says(lab: AudienceLab) -> None:
    audience_id = await lab.create_audience(
        name="My Test Audience",
        filters={
            "age": {"minAge": 25, "maxAge": 45},
            "city": ["New York", "San Francisco"],
            "businessProfile": {"industry": ["Software Development"]},
        },
        days_back=7,
    )

    assert audience_id
    with pytest.raises(ApiError) as refused:
        await lab.create_audience(name="My Test Audience", filters=[])  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.code) == (400, "VALIDATION_ERROR")


async def test_an_audience_is_created_listed_changed_and_deleted(audiences: Audiences) -> None:
    made = await audiences.create("Pro tier, active in last 7d", PRO_AND_ACTIVE, description="Used for upgrade nudges")
    assert made["subjectType"] == "end_user"

    changed = await audiences.update(made["id"], description="Used for feature announcements")
    [listed] = [audience for audience in await audiences.all() if audience["id"] == made["id"]]

    assert listed.keys() >= {
        "id", "projectKey", "name", "description", "subjectType", "predicate", "createdAt", "updatedAt",
    }  # fmt: skip
    assert listed["predicate"] == changed["predicate"] == PRO_AND_ACTIVE
    assert listed["name"] == "Pro tier, active in last 7d"
    assert listed["description"] == "Used for feature announcements"
    assert listed["updatedAt"] > made["updatedAt"]

    await audiences.delete(made["id"])
    assert made["id"] not in [audience["id"] for audience in await audiences.all()]


@pytest.mark.parametrize(
    ("predicate", "code"),
    [
        ({"kind": "event_fired", "window": {"type": "ever"}}, "event_name_required"),
        ({"kind": "attribute", "operator": "equals", "value": "pro"}, "field_path_required"),
        ({"kind": "in_cohort", "cohortId": "nobody-made-this"}, "cohort_not_found"),
        ({"kind": "and", "clauses": []}, "empty_clauses"),
        ({"kind": "or", "clauses": []}, "empty_clauses"),
    ],
)
async def test_a_predicate_that_is_refused_is_refused_by_the_code_of_the_document(
    audiences: Audiences, predicate: dict[str, object], code: str
) -> None:
    with pytest.raises(ApiError) as refused:
        await audiences.create("Refused", predicate)

    assert (refused.value.status, refused.value.code) == (400, code)


async def test_a_segment_is_made_read_changed_evaluated_and_deleted(segments: Segments) -> None:
    rules = {
        "kind": "and",
        "clauses": [
            {"kind": "attribute", "fieldPath": "plan", "operator": "eq", "value": "pro"},
            {"kind": "attribute", "fieldPath": "last_seen", "operator": "within", "value": {"days": 3}},
            {"kind": "attribute", "fieldPath": "trial_ends", "operator": "not_within", "value": "3d"},
        ],
    }
    made = await segments.create("Pros who are about", rules, description="and whose trial is long over")

    changed = await segments.update(made["id"], name="Pros")
    assert changed["name"] == "Pros"
    assert changed["description"] == "and whose trial is long over"
    assert changed["rules"] == (await segments.get(made["id"]))["rules"]

    asked = await segments.get(made["id"])
    await segments.evaluate(made["id"])

    async def evaluated() -> bool:
        advanced: bool = (await segments.get(made["id"]))["last_evaluated_at"] != asked["last_evaluated_at"]
        return advanced

    await eventually(evaluated)

    await segments.delete(made["id"])
    with pytest.raises(ApiError) as missing:
        await segments.get(made["id"])
    assert (missing.value.status, missing.value.code) == (404, "NOT_FOUND")


async def test_a_cohort_of_an_audience_is_a_segment_that_was_made(audiences: Audiences, segments: Segments) -> None:
    power = await segments.create(
        "Power users", {"kind": "attribute", "fieldPath": "logins", "operator": "gte", "value": 100}
    )

    made = await audiences.create("Power users of the pro tier", {"kind": "in_cohort", "cohortId": power["id"]})

    assert made["predicate"] == {"kind": "in_cohort", "cohortId": power["id"]}


# open: what a step looks like. The documents name kinds and `next`; the rest is docs/journeys.md.
async def test_a_journey_is_drafted_published_watched_and_archived(journeys: Journeys, nudge: str) -> None:
    draft = await journeys.create(
        "Activate onboarding",
        description="Who has signed up and not come back",
        goalEventName="feature.used",
        steps=[
            {"id": "wait-3d", "wait": {"duration": "3d"}, "next": "wait-more"},
            {"id": "wait-more", "wait": {"duration": {"days": 3}}, "next": "wait-on"},
            {"id": "wait-on", "wait": {"duration": "PT36H"}, "next": "nudge"},
            {"id": "nudge", "send": {"communicationId": nudge}, "next": "done"},
            {"id": "done", "exit": {}},
        ],
    )
    assert draft["version"] == "draft"
    assert draft["goalEventWindowDays"] == 7

    described = await journeys.update(draft["id"], description="Who has signed up", updatedAt=draft["updatedAt"])
    with pytest.raises(ApiError) as stale:
        await journeys.update(draft["id"], description="Who is late", updatedAt=draft["updatedAt"])
    assert stale.value.status == 409
    assert described["description"] == "Who has signed up"

    published = await journeys.publish(draft["id"])
    assert (published["id"], published["version"]) == (draft["id"], 1)
    assert draft["id"] in [journey["id"] for journey in await journeys.all()]

    trace = await journeys.simulate(draft["id"], subjectAttributes={"tier": "pro"})
    assert trace
    await journeys.pause(draft["id"])
    await journeys.resume(draft["id"])

    assert await journeys.executions(draft["id"]) == []
    assert await journeys.branch_performance(draft["id"]) == []
    assert (await journeys.calibrated_impact(draft["id"])).keys() >= {
        "triggered", "converted", "exposureRate", "holdoutRate", "lift", "underpowered", "dailyTrend",
    }  # fmt: skip
    await journeys.step_stats(draft["id"])
    await journeys.archive(draft["id"])
    audit = await journeys.audit(draft["id"])
    assert all(entry.keys() >= {"timestamp", "actor", "action"} for entry in audit)
    assert len(audit) >= 5


async def test_a_journey_of_a_name_alone_is_one_exit(journeys: Journeys) -> None:
    draft = await journeys.create("To be drawn")

    assert ["exit" in step for step in draft["steps"]] == [True]


async def test_an_execution_is_followed_until_it_has_ended(journeys: Journeys, v1: JourneysV1) -> None:
    draft = await journeys.create("One exit")
    await journeys.publish(draft["id"])
    await v1.enroll(draft["id"], customerId="usr_a")

    async def ended() -> bool:
        [execution] = await journeys.executions(draft["id"])
        assert execution.keys() >= {"executionArn", "endUserId", "status", "startedAt", "currentStepId"}
        assert execution["endUserId"] == "usr_a"
        assert execution["currentStepId"] == draft["steps"][0]["id"]
        status: str = execution["status"]
        return status == "SUCCEEDED"

    await eventually(ended)


async def test_a_journey_that_sends_what_is_transactional_is_not_published(journeys: Journeys, receipt: str) -> None:
    draft = await journeys.create(
        "Receipts",
        steps=[
            {"id": "send", "send": {"communicationId": receipt}, "next": "done"},
            {"id": "done", "exit": {}},
        ],
    )

    with pytest.raises(ApiError) as refused:
        await journeys.publish(draft["id"])

    assert (refused.value.status, refused.value.code) == (400, "send_step_uses_transactional_comm")


FLOW = {
    "nodes": [
        {"id": "entry", "type": "entry_trigger"},
        {"id": "pause", "type": "wait", "data": {"duration": {"days": 3}}},
        {
            "id": "is-pro",
            "type": "condition_split",
            "data": {
                "condition": {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"},
            },
        },
        {"id": "done", "type": "exit"},
        {"id": "lost", "type": "exit"},
    ],
    "edges": [
        {"source": "entry", "target": "pause"},
        {"source": "pause", "target": "is-pro"},
        {"source": "is-pro", "target": "done", "sourceHandle": "true"},
        {"source": "is-pro", "target": "lost", "sourceHandle": "false"},
    ],
}


async def test_customers_are_enrolled_into_a_flow_that_was_drawn_tested_and_activated(v1: JourneysV1) -> None:
    made = await v1.create("Drawn", description="A flow", definition=FLOW)
    assert (made["status"], made["maxDurationDays"]) == ("draft", 30)
    with pytest.raises(ApiError) as inactive:
        await v1.enroll(made["id"], customerId="anna")
    assert inactive.value.status == 400

    assert await v1.test(made["id"], customerAttributes={"tier": "pro"})
    changed = await v1.update(made["id"], status="active", maxDurationDays=60)
    assert (changed["status"], changed["maxDurationDays"]) == ("active", 60)

    counts = await v1.enroll(made["id"], customerId="anna")
    assert counts.items() >= {
        "journeyId": made["id"], "journeyName": "Drawn", "enrolled": 1, "skipped": 0, "errors": 0, "total": 1,
    }.items()  # fmt: skip
    counts = await v1.enroll(made["id"], customerIds=["anna", "bert", "carl"])
    assert counts.items() >= {
        "journeyId": made["id"], "journeyName": "Drawn", "enrolled": 2, "skipped": 1, "errors": 0, "total": 3,
    }.items()  # fmt: skip
    with pytest.raises(ApiError) as both:
        await v1.enroll(made["id"], customerId="anna", customerIds=["bert"])
    assert both.value.status == 400
    with pytest.raises(ApiError) as missing:
        await v1.enroll("nobody-made-this", customerId="anna")
    assert missing.value.status == 404
    assert await v1.analytics(made["id"])


async def test_journeys_are_paged_by_offset_changed_paused_and_deleted(v1: JourneysV1) -> None:
    made = [await v1.create(f"Journey {number}") for number in range(3)]

    first, rest = await v1.page(status="draft", limit=2), await v1.page(status="draft", limit=2, offset=2)
    names = [journey["name"] for page in (first, rest) for journey in page["journeys"]]
    assert sorted(names) == ["Journey 0", "Journey 1", "Journey 2"]

    changed = await v1.update(made[0]["id"], name="Renamed")
    assert (await v1.get(made[0]["id"]))["name"] == changed["name"] == "Renamed"
    assert changed["definition"] == {"nodes": [], "edges": []}
    await v1.delete(made[0]["id"])
    with pytest.raises(ApiError) as missing:
        await v1.get(made[0]["id"])
    assert missing.value.status == 404
    with pytest.raises(ApiError) as too_many:
        await v1.page(limit=201)
    assert too_many.value.status == 400
