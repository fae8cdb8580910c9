"""What callers of the documented routes can rely on, beyond the answers that docs/http.md shows."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.scope import Role
from orchestrator.v1 import audience_service_pb2 as audiences
from orchestrator.v1 import journey_pb2 as journeys
from orchestrator.v1 import journey_service_pb2 as rpc
from tests.acceptance.ground import EVERYONE, Ground, Project, served_ground
from tests.acceptance.raw_calls import HttpRequest
from tests.integration.api.callers import Refused

STEPS = [{"id": "rest", "wait": {"duration": "3d"}, "next": "end"}, {"id": "end", "exit": {}}]
GRAPH = {
    "nodes": [{"id": "in", "type": "entry_trigger"}, {"id": "out", "type": "exit", "position": {"x": 1, "y": 2}}],
    "edges": [{"source": "in", "target": "out"}],
}


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    async with served_ground(postgres, template) as ground:
        yield ground


@pytest.fixture(scope="module")
async def http(ground: Ground) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{ground.http.address}", timeout=30) as client:
        yield client


class Client:
    """Calls as the owner of a project; answers are (status, document). `$P` in a path is the project."""

    def __init__(self, http: httpx.AsyncClient, project: Project) -> None:
        self.http = http
        self.project = project

    async def __call__(self, line: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        verb, path = line.replace("$P", self.project.project_id).split(" ", 1)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["X-Api-Key"] = self.project.owner_key
        answer = await self.http.request(verb, path, headers=sent, content=content)
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
async def call(ground: Ground, http: httpx.AsyncClient) -> Client:
    """In a project of this test."""
    return Client(http, await ground.project(f"p-{uuid.uuid4().hex[:8]}", ()))


def told(answer: tuple[int, Any]) -> tuple[int, str, list[tuple[str, str]]]:
    """(status, code, faults) of an error."""
    status, document = answer
    error = document["error"]
    return status, error["code"], [(fault["path"], fault["code"]) for fault in error.get("details", [])]


#: (call, body, (status, code, faults in any order))
FAULTY: list[tuple[str, Any, tuple[int, str, list[tuple[str, str]]]]] = [
    ("POST /audiences", b"{", (400, "VALIDATION_ERROR", [("", "MALFORMED_REQUEST")])),
    ("POST /audiences", b" " * 2_000_000, (400, "VALIDATION_ERROR", [("", "TOO_LARGE")])),
    ("POST /audiences", [], (400, "VALIDATION_ERROR", [("", "INVALID_TYPE")])),
    (
        "POST /audiences",
        {"nmae": "x", "filters": {"city": []}, "segment": ["gone"], "days_back": 0},
        (
            400,
            "VALIDATION_ERROR",
            [
                *[("nmae", "UNKNOWN_FIELD"), ("filters.city", "REQUIRED"), ("name", "REQUIRED")],
                *[("days_back", "INVALID_WINDOW"), ("segment[0]", "COHORT_NOT_FOUND")],
            ],
        ),
    ),
    (
        "POST /audiences",
        {"name": "x", "filters": {}, "segment": None, "days_back": None},
        (400, "VALIDATION_ERROR", [("segment", "INVALID_TYPE"), ("days_back", "INVALID_TYPE")]),
    ),
    ("POST /api/audiences", b"{", (400, "malformed_request", [("", "malformed_request")])),
    (
        "POST /api/audiences",
        {"predicate": {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "gone"}}, "subjectType": "user"},
        (
            400,
            "cohort_not_found",
            [
                *[("name", "required"), ("subjectType", "invalid_value")],
                ("predicate.clause.cohortId", "cohort_not_found"),
            ],
        ),
    ),
    ("GET /api/audiences?limit=3", None, (400, "unknown_field", [("limit", "unknown_field")])),
    ("GET /api/audiences/nobody", None, (404, "audience_not_found", [])),
    ("GET /api/nothing", None, (404, "method_not_found", [])),
    ("PUT /api/audiences", None, (405, "method_not_found", [])),
    (
        "POST /admin/projects/$P/segments",
        {"last_evaluated_at": None, "nmae": 5},
        (400, "REQUIRED", [("nmae", "UNKNOWN_FIELD"), ("rules", "REQUIRED"), ("name", "REQUIRED")]),
    ),
    ("GET /admin/projects/elsewhere/segments", None, (404, "NOT_FOUND", [])),
    ("GET /admin/projects/%ff%00/segments", None, (404, "NOT_FOUND", [])),
    ("GET /admin/projects/$P", None, (404, "METHOD_NOT_FOUND", [])),
    ("GET /audiences", None, (405, "METHOD_NOT_FOUND", [])),
    ("DELETE /admin/projects/$P/segments/everyone", None, (403, "SYSTEM_SEGMENT", [])),
    (
        "POST /api/v1/journeys",
        {"description": "x" * 2001, "maxDurationDays": 366, "status": "active"},
        (
            400,
            "required",
            [
                *[("status", "unknown_field"), ("description", "too_long")],
                *[("maxDurationDays", "out_of_range"), ("name", "required")],
            ],
        ),
    ),
    ("GET /api/v1/journeys?limit=201", None, (400, "out_of_range", [("limit", "out_of_range")])),
    ("GET /api/v1/journeys?limit=00020000", None, (400, "out_of_range", [("limit", "out_of_range")])),
    (
        "GET /api/v1/journeys?limit=0&offset=-1",
        None,
        (400, "out_of_range", [("limit", "out_of_range"), ("offset", "out_of_range")]),
    ),
    ("GET /api/v1/journeys?status=asleep", None, (400, "unknown_enum_value", [("status", "unknown_enum_value")])),
    ("PUT /api/v1/journeys/x", {"status": 5}, (400, "invalid_value", [("status", "invalid_value")])),
    ("POST /api/v1/journeys/x/enroll", {}, (400, "required", [("customerIds", "required")])),
    ("POST /api/v1/journeys/x/enroll", {"customerId": "a b"}, (400, "invalid_id", [("customerId", "invalid_id")])),
    (
        "POST /api/v1/journeys/x/enroll",
        {"customerIds": ["a"] * 1001},
        (400, "too_large", [("customerIds", "too_large")]),
    ),
    ("POST /api/v1/journeys/x/enroll", {"customerIds": ["a"]}, (404, "journey_not_found", [])),
    (
        "POST /api/journeys",
        {"name": "J", "goalEventWindowDays": "7", "steps": [{"id": "a", "wait": {"duration": {"days": 0.5}}}]},
        (
            *(400, "invalid_value"),
            [("goalEventWindowDays", "invalid_type"), ("steps[0].wait.duration", "invalid_value")],
        ),
    ),
    (
        "POST /api/journeys",
        {"name": "J", "goalEventName": "\x00", "goalEventWindowDays": 1e9},
        (400, "invalid_value", [("goalEventWindowDays", "out_of_range"), ("goalEventName", "invalid_value")]),
    ),
    ("POST /api/journeys/x/pause", {"why": 1}, (400, "unknown_field", [("why", "unknown_field")])),
]


async def test_everything_wrong_is_told_in_the_documents_words(call: Client) -> None:
    for line, body, (status, code, faults) in FAULTY:
        answer = told(await call(line, body))

        assert (*answer[:2], sorted(answer[2])) == (status, code, sorted(faults)), line


async def test_the_message_is_of_the_code_and_names_what_there_is(call: Client) -> None:
    empty = {"kind": "or", "clauses": []}
    _, wrong = await call("POST /api/audiences", {"nmae": "A", "predicate": empty})
    _, unknown = await call("POST /audiences", {"name": "A", "filters": {}, "id": "a"})

    assert (wrong["error"]["code"], wrong["error"]["message"]) == (
        "empty_clauses",
        "predicate.clauses: at least one clause is required (and 2 more)",
    )
    assert unknown["error"]["message"] == "id: no such field; there are name, filters, segment, days_back"


async def test_a_journey_is_one_over_every_way_in(ground: Ground, call: Client) -> None:
    _, made = await call("POST /api/v1/journeys", {"id": "j", "name": "J", "definition": GRAPH})
    _, steps = await call("GET /api/journeys/j")
    _, ours = await call("GET /v1/journeys/j")
    typed = (
        await ground.grpc.call(
            rpc.GetJourneyRequest(journey_id="j", form=journeys.DEFINITION_FORM_STEPS), key=call.project.owner_key
        )
    ).journey

    assert made["definition"]["nodes"][1]["position"] == {"x": 1, "y": 2}
    assert [step["id"] for step in steps["steps"]] == [step.id for step in typed.definition.steps] == ["out"]
    assert ours["maxDurationDays"] == made["maxDurationDays"] == typed.definition.max_duration_days == 30
    assert made["etag"] == steps["etag"] == ours["etag"] == typed.etag


async def test_what_was_read_can_be_sent_back_whole(call: Client) -> None:
    await call("POST /api/audiences", {"id": "a", "name": "A", "predicate": EVERYONE})
    await call("POST /admin/projects/$P/segments", {"id": "s", "name": "S", "rules": EVERYONE})
    await call(
        "POST /api/journeys", {"id": "j", "name": "J", "steps": STEPS, "audienceId": "a", "goalEventName": "buy"}
    )
    await call("POST /api/v1/journeys", {"id": "g", "name": "G", "definition": GRAPH})
    for path, verb in (
        ("/api/audiences/a", "PATCH"),
        ("/admin/projects/$P/segments/s", "PATCH"),
        ("/api/journeys/j", "PATCH"),
        ("/api/v1/journeys/g", "PUT"),
    ):
        _, read = await call(f"GET {path}")
        assert await call(f"{verb} {path}", read) == (200, read)
        status, changed = await call(f"{verb} {path}", read | {"name": f"New name of {path}"})
        assert (status, changed["name"]) == (200, f"New name of {path}")
        assert told(await call(f"{verb} {path}", read | {"name": "Late"}))[:2] in (
            (409, "etag_mismatch"),
            (409, "ETAG_MISMATCH"),
        )


async def test_of_two_who_edit_one_draft_the_second_is_told(call: Client) -> None:
    _, read = await call("POST /api/journeys", {"name": "J"})
    seen = {"updatedAt": read["updatedAt"]}

    answers = await asyncio.gather(
        *(call(f"PATCH /api/journeys/{read['id']}", seen | {"name": str(n)}) for n in range(4))
    )

    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]


async def test_a_patch_takes_away_what_is_null_and_leaves_what_is_not_there(call: Client) -> None:
    body = {"name": "J", "goalEventName": "buy", "goalEventWindowDays": 1.5, "description": "D", "steps": STEPS}
    _, made = await call("POST /api/journeys", body)

    _, patched = await call(f"PATCH /api/journeys/{made['id']}", {"goalEventName": None, "goalEventWindowDays": None})

    assert (made["goalEventName"], made["goalEventWindowDays"]) == ("buy", 1.5)
    assert (patched["goalEventName"], patched["goalEventWindowDays"]) == (None, 7)
    assert (patched["description"], patched["steps"]) == ("D", made["steps"])


async def test_the_status_of_a_put_is_the_lifecycle(call: Client) -> None:
    await call("POST /api/v1/journeys", {"id": "j", "name": "J", "definition": GRAPH})

    async def put(status: str, **further: Any) -> tuple[int, Any]:
        answer = await call("PUT /api/v1/journeys/j", {"status": status, **further})
        return answer if answer[0] == 200 else told(answer)[:2]

    assert await put("paused") == (400, "journey_not_active")
    assert (await put("draft"))[1]["status"] == "draft"
    _, active = await put("active")
    assert (active["status"], active["latestVersion"], active["hasDraft"]) == ("active", 1, False)
    _, edited = await put("active", maxDurationDays=5)
    assert (edited["latestVersion"], edited["hasDraft"], edited["maxDurationDays"]) == (1, True, 5)
    assert await put("draft", name="Never") == (400, "journey_was_published")
    assert (await put("paused"))[1]["name"] == "J"
    assert (await put("active"))[1]["latestVersion"] == 1
    assert (await put("archived"))[1]["status"] == "archived"
    assert (await put("archived"))[1]["status"] == "archived"
    assert await put("active") == (400, "journey_archived")
    assert await put("archived", name="Too late") == (400, "journey_archived")


async def test_a_put_does_all_of_it_or_nothing(ground: Ground, call: Client) -> None:
    _, made = await call("POST /api/v1/journeys", {"id": "j", "name": "J"})

    refused = await call("PUT /api/v1/journeys/j", {"name": "Other", "status": "active"})
    request = rpc.UpdateJourneyRequest(
        journey=journeys.Journey(id="j", name="Other"), to_status=journeys.Journey.STATUS_ACTIVE
    )
    with pytest.raises(Refused) as by_grpc:
        await ground.grpc.call(request, key=call.project.owner_key)

    assert told(refused) == (400, "empty_definition", [("definition.nodes", "empty_definition")])
    assert (by_grpc.value.code, by_grpc.value.reason) == ("FAILED_PRECONDITION", "INVALID_DEFINITION")
    assert (await call("GET /api/v1/journeys/j"))[1] == made


async def test_a_transactional_message_is_the_code_of_a_publication_that_is_refused(call: Client) -> None:
    bill = {"id": "bill", "name": "B", "channel": "log", "category": "transactional", "body": "B"}
    await call("POST /v1/communications", bill)
    steps = [
        {"id": "a", "send": {"communicationId": "gone"}},
        {"id": "b", "send": {"communicationId": "bill"}, "next": "b"},
    ]
    await call("POST /api/journeys", {"id": "j", "name": "J", "steps": steps})

    status, code, faults = told(await call("POST /api/journeys/j/publish"))

    assert (status, code) == (400, "send_step_uses_transactional_comm")
    assert {"communication_not_found", "next_not_found", "cycle"} <= {reason for _, reason in faults}


async def test_warnings_of_a_publication_are_spelled_as_faults_are(call: Client) -> None:
    await call("POST /api/journeys", {"id": "j", "name": "J", "steps": STEPS, "entryGrace": "1h"})

    _, published = await call("POST /api/journeys/j/publish")

    (warning,) = published["warnings"]
    assert (warning["path"], warning["code"], set(warning)) == (
        "entryGrace",
        "entry_grace_unused",
        {"path", "code", "message"},
    )


async def test_the_plan_s_limit_is_402(call: Client) -> None:
    await call("PATCH /v1/projects/$P", {"settings": {"maxJourneys": 1}})
    answers = []
    for name in ("one", "two"):
        await call("POST /api/v1/journeys", {"id": name, "name": name, "definition": GRAPH})
        answers.append(await call(f"PUT /api/v1/journeys/{name}", {"status": "active"}))

    assert answers[0][0] == 200
    assert told(answers[1])[:2] == (402, "plan_limit_reached")


async def test_pages_follow_each_other_by_offset(call: Client) -> None:
    for number in range(5):
        await call("POST /api/v1/journeys", {"id": f"j{number}", "name": "J"})

    pages = [(await call(f"GET /api/v1/journeys?limit=2&offset={offset}"))[1] for offset in (0, 2, 4, 6)]

    assert [[journey["id"] for journey in page["journeys"]] for page in pages] == [
        ["j4", "j3"],
        ["j2", "j1"],
        ["j0"],
        [],
    ]
    assert [page["hasMore"] for page in pages] == [True, True, False, False]


async def test_lists_without_pages_are_whole(ground: Ground, call: Client) -> None:
    await call("POST /api/audiences", {"id": "a", "name": "A", "predicate": EVERYONE})
    await ground.owner.execute(
        """INSERT INTO audiences SELECT (jsonb_populate_record(a, jsonb_build_object(
               'audience_id', 'a-' || n, 'created_at', a.created_at + n * interval '1 second'))).*
             FROM audiences AS a, generate_series(1, 2100) AS n WHERE a.project_no = $1""",
        call.project.project_no,
    )

    status, audiences = await call("GET /api/audiences")

    assert status == 200
    assert [audience["id"] for audience in audiences] == [f"a-{n}" for n in range(2100, 0, -1)] + ["a"]


async def test_a_repeat_under_one_key_has_one_effect_and_one_answer(call: Client) -> None:
    body = {"name": "N", "filters": {"city": ["Rome"]}}

    first, second = [await call("POST /audiences", body, Idempotency_Key="k-1") for _ in range(2)]
    other = await call("POST /audiences", body | {"name": "M"}, Idempotency_Key="k-1")

    assert first == second
    assert told(other)[:2] == (400, "VALIDATION_ERROR")
    assert len((await call("GET /api/audiences"))[1]) == 1


async def test_overrides_are_for_owners_and_a_subject_is_real_or_made_up(ground: Ground, call: Client) -> None:
    await call("POST /api/journeys", {"id": "j", "name": "J", "steps": STEPS})
    path, editor = "/api/journeys/j/simulate", await ground.keys.admit(Role.EDITOR, call.project.project_no)

    low = await call.http.post(
        path, headers={"X-Api-Key": editor}, json={"subjectAttributes": {}, "overrides": ["holdout"]}
    )
    both = await call(f"POST {path}", {"subjectId": "ann", "subjectAttributes": {}})
    status, draft = await call(f"POST {path}", {"subjectAttributes": {}, "overrides": ["holdout"]})

    assert (low.status_code, low.json()["error"]["code"]) == (403, "role_too_low")
    assert told(both)[2] == [("subjectAttributes", "invalid_value")]
    assert (status, draft["version"]) == (200, "draft")


async def test_a_session_cookie_opens_for_our_own_pages_only(call: Client) -> None:
    client = call.http
    cookie = {"Cookie": f"session={call.project.owner_key}"}
    own = {**cookie, "Origin": str(client.base_url).rstrip("/")}

    read = await client.get("/api/journeys", headers=cookie)
    written = await client.post("/api/journeys", headers=own, json={"name": "J"})
    forged = await client.post(
        "/api/journeys", headers={**cookie, "Origin": "https://evil.example"}, json={"name": "J"}
    )

    assert (read.status_code, written.status_code, forged.status_code) == (200, 200, 401)


async def test_a_store_that_fails_is_said_by_the_documents_codes(ground: Ground, call: Client) -> None:
    rules, path = {"name": "S", "rules": EVERYONE}, "/admin/projects/$P/segments"
    await call(f"POST {path}", {"id": "s", **rules})
    await ground.owner.execute("ALTER TABLE segments RENAME TO segments_away")
    try:
        answers = [
            told(await call(f"POST {path}", rules)),
            told(await call(f"PATCH {path}/s", {"name": "T"})),
            told(await call(f"DELETE {path}/s")),
            told(await call(f"POST {path}/s/evaluate")),
            told(await call(f"GET {path}/s")),
        ]
    finally:
        await ground.owner.execute("ALTER TABLE segments_away RENAME TO segments")

    codes = ["CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED", "EVALUATE_FAILED", "INTERNAL"]
    assert answers == [(500, code, []) for code in codes]


async def test_one_request_is_refused_and_done_alike_over_every_way_in(ground: Ground, call: Client) -> None:
    key = call.project.owner_key
    faulty = {"predicate": {"kind": "or", "clauses": [{"kind": "event_fired"}, {"kind": "in_cohort", "cohortId": "x"}]}}
    request = audiences.CreateAudienceRequest()
    request.audience.predicate.any_of.clauses.add().event_fired.SetInParent()
    request.audience.predicate.any_of.clauses.add().in_cohort.cohort_id = "x"
    with pytest.raises(Refused) as by_grpc:
        await ground.grpc.call(request, key=key)
    posted = HttpRequest(verb="POST", path="/v1/audiences", body=json.dumps(faulty).encode())
    ours = await ground.http.call("CreateAudience", posted, key)
    theirs = told(await call("POST /api/audiences", faulty))

    assert sorted(by_grpc.value.violations) == sorted(ours.faults)
    assert sorted(ours.faults) == sorted((path, code.upper()) for path, code in theirs[2])

    counts: list[tuple[int, ...]] = []
    ids = ["a", "b", "a"]
    for name in ("g", "o", "t"):
        await call("POST /api/v1/journeys", {"id": name, "name": name, "definition": GRAPH})
        await call(f"PUT /api/v1/journeys/{name}", {"status": "active"})
        match name:
            case "g":
                enrolled = await ground.grpc.call(rpc.EnrollSubjectsRequest(journey_id=name, subject_ids=ids), key=key)
                counts.append((enrolled.enrolled, enrolled.skipped, enrolled.errors, enrolled.total))
            case "o":
                counts.append(_counts(await call(f"POST /v1/journeys/{name}:enroll", {"subjectIds": ids})))
            case _:
                counts.append(_counts(await call(f"POST /api/v1/journeys/{name}/enroll", {"customerIds": ids})))
    assert counts == [(2, 1, 0, 3)] * 3


def _counts(answer: tuple[int, Any]) -> tuple[int, ...]:
    return tuple(answer[1][name] for name in ("enrolled", "skipped", "errors", "total"))
