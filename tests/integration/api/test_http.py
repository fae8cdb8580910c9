"""What only HTTP has: headers, verbs, bodies, cookies, and what stands beside the API."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.integration.api.callers import refused_by
from tests.integration.api.conftest import OWNER_KEY, Serve, Served

KEY = {"X-Api-Key": OWNER_KEY}
EVERYONE = {"kind": "everyone"}
BUYERS = {"id": "buyers", "name": "Buyers", "description": "Who bought", "predicate": EVERYONE}


@pytest.fixture
def http(served: Served) -> httpx.AsyncClient:
    return served.http.client


async def create(http: httpx.AsyncClient, **further: Any) -> httpx.Response:
    return await http.post("/v1/audiences", headers=KEY, json={**BUYERS, **further})


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Api-Key": OWNER_KEY},
        {"Authorization": f"Bearer {OWNER_KEY}"},
        {"Authorization": f"bearer {OWNER_KEY}"},
        {"Authorization": f"Bearer {OWNER_KEY}", "X-Api-Key": "another"},
    ],
)
async def test_a_key_comes_in_either_header(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await http.get("/v1/audiences", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Basic {OWNER_KEY}"}, {"Authorization": OWNER_KEY}])
async def test_without_a_key_the_answer_says_how_to_bring_one(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await http.get("/v1/audiences", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert refused_by(answer).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("verb", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, 401),
        ("GET", {"Origin": "https://evil.example"}, 401),
        ("GET", {"Origin": "null"}, 401),
        ("POST", {"Origin": "{own}"}, 200),
        ("POST", {"Origin": "https://pages.example"}, 200),
        ("POST", {"Origin": "https://evil.example"}, 401),
        ("POST", {}, 401),
    ],
)
async def test_the_session_cookie_opens_for_our_own_pages_only(
    serve: Serve, verb: str, headers: dict[str, str], status: int
) -> None:
    async with serve(allowed_origins=("https://pages.example",)) as served:
        own = str(served.http.client.base_url).rstrip("/")
        sent = {name: value.format(own=own) for name, value in headers.items()}

        answer = await served.http.client.request(
            verb,
            "/v1/audiences",
            headers={**sent, "Cookie": f"session={OWNER_KEY}"},
            content=json.dumps(BUYERS) if verb == "POST" else None,
        )

        assert answer.status_code == status


async def test_a_key_in_a_header_goes_before_the_cookie(http: httpx.AsyncClient) -> None:
    headers = {"Authorization": "Bearer nobody-knows-it", "Cookie": f"session={OWNER_KEY}"}

    assert (await http.get("/v1/audiences", headers=headers)).status_code == 401


async def test_a_patch_changes_the_members_it_has_and_no_others(http: httpx.AsyncClient) -> None:
    await create(http)

    renamed = await http.patch("/v1/audiences/buyers", headers=KEY, json={"name": "Renamed"})
    cleared = await http.patch("/v1/audiences/buyers", headers=KEY, json={"description": None})

    assert (renamed.json()["name"], renamed.json()["description"]) == ("Renamed", "Who bought")
    assert cleared.json()["name"] == "Renamed"
    assert not cleared.json().get("description")


async def test_an_update_mask_says_more_than_the_body(http: httpx.AsyncClient) -> None:
    await create(http)

    answer = await http.patch(
        "/v1/audiences/buyers",
        headers=KEY,
        params={"updateMask": "description"},
        json={"name": "Renamed", "description": "New"},
    )

    assert (answer.json()["name"], answer.json()["description"]) == ("Buyers", "New")


async def test_an_etag_goes_out_as_a_header_and_comes_back_as_one(http: httpx.AsyncClient) -> None:
    made = await create(http)
    etag = made.headers["ETag"]

    changed = await http.patch("/v1/audiences/buyers", headers={**KEY, "If-Match": etag}, json={"name": "Other"})
    stale = await http.patch("/v1/audiences/buyers", headers={**KEY, "If-Match": etag}, json={"name": "Third"})
    not_deleted = await http.delete("/v1/audiences/buyers", headers={**KEY, "If-Match": etag})
    deleted = await http.delete("/v1/audiences/buyers", headers={**KEY, "If-Match": changed.headers["ETag"]})

    assert etag == f'"{made.json()["etag"]}"'
    assert changed.status_code == 200
    assert (stale.status_code, refused_by(stale).reason) == (409, "ETAG_MISMATCH")
    assert not_deleted.status_code == 409
    assert deleted.status_code == 200


@pytest.mark.parametrize("condition", ["*", 'W/"{etag}"', "{etag}"])
async def test_other_spellings_of_a_condition_are_understood(http: httpx.AsyncClient, condition: str) -> None:
    etag = (await create(http)).json()["etag"]
    headers = {**KEY, "If-Match": condition.format(etag=etag)}

    assert (await http.patch("/v1/audiences/buyers", headers=headers, json={"name": "B"})).status_code == 200


async def test_the_time_of_the_last_change_in_the_body_is_a_condition(http: httpx.AsyncClient) -> None:
    seen = (await create(http)).json()["updatedAt"]

    changed = await http.patch("/v1/audiences/buyers", headers=KEY, json={"name": "B", "updatedAt": seen})
    stale = await http.patch("/v1/audiences/buyers", headers=KEY, json={"name": "C", "updatedAt": seen})

    assert changed.status_code == 200
    assert (stale.status_code, refused_by(stale).reason) == (409, "ETAG_MISMATCH")
    assert (await http.get("/v1/audiences/buyers", headers=KEY)).json()["name"] == "B"


async def test_an_idempotency_key_makes_repeats_safe(http: httpx.AsyncClient) -> None:
    headers = {**KEY, "Idempotency-Key": "once"}
    body = {"name": "Buyers", "predicate": EVERYONE}

    first = await http.post("/v1/audiences", headers=headers, json=body)
    second = await http.post("/v1/audiences", headers=headers, json=body)
    other = await http.post("/v1/audiences", headers=headers, json={**body, "name": "Sellers"})

    assert first.content == second.content
    assert refused_by(other).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"Idempotency-Key": "with space"}, "Idempotency-Key"),
        ({"Idempotency-Key": "x" * 129}, "Idempotency-Key"),
        ({"Idempotency-Key": ""}, "Idempotency-Key"),
        ({"X-Timeout-Ms": "soon"}, "X-Timeout-Ms"),
        ({"X-Timeout-Ms": "0"}, "X-Timeout-Ms"),
        ({"X-Timeout-Ms": "-5"}, "X-Timeout-Ms"),
    ],
)
async def test_a_header_that_makes_no_sense_is_a_fault(
    http: httpx.AsyncClient, headers: dict[str, str], path: str
) -> None:
    answer = await http.post("/v1/audiences", headers={**KEY, **headers}, json=BUYERS)

    assert (answer.status_code, refused_by(answer).violations) == (400, [(path, "INVALID_VALUE")])


async def test_two_etags_are_no_condition(http: httpx.AsyncClient) -> None:
    await create(http)

    answer = await http.patch("/v1/audiences/buyers", headers={**KEY, "If-Match": '"a", "b"'}, json={"name": "B"})

    assert refused_by(answer).violations == [("If-Match", "INVALID_VALUE")]


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("PATCH", "/v1/subjects/ann/preferences", {"changes": [{"channel": "log", "optedOut": True}]}),
        ("POST", "/v1/journeys/welcome:enroll", {"subjectIds": ["ann"]}),
        ("POST", "/v1/audiences", BUYERS),
        ("POST", "/v1/subjects:batchUpsert", {"subjects": [{"id": "ann"}]}),
        ("GET", "/v1/audiences", None),
    ],
)
@pytest.mark.parametrize("condition", ['"an-etag"', "nonsense", "*"])
async def test_a_condition_that_nobody_would_check_is_refused(
    http: httpx.AsyncClient, verb: str, path: str, body: Any, condition: str
) -> None:
    answer = await http.request(verb, path, headers={**KEY, "If-Match": condition}, json=body)

    assert (answer.status_code, refused_by(answer).violations) == (400, [("If-Match", "INVALID_VALUE")])


@pytest.mark.parametrize("header", ["If-None-Match", "If-Unmodified-Since"])
async def test_conditions_of_another_kind_are_refused_where_something_changes(
    http: httpx.AsyncClient, header: str
) -> None:
    headers = {**KEY, header: "*"}

    changed = await http.put("/v1/subjects/ann", headers=headers, json={})
    read = await http.get("/v1/subjects", headers=headers)

    assert (changed.status_code, refused_by(changed).violations) == (400, [(header, "INVALID_VALUE")])
    assert read.status_code == 200


async def test_a_subject_that_is_put_may_bring_a_condition(http: httpx.AsyncClient) -> None:
    made = await http.put("/v1/subjects/ann", headers=KEY, json={})

    headers = {**KEY, "If-Match": made.headers["ETag"]}
    first = await http.put("/v1/subjects/ann", headers=headers, json={"attributes": {"plan": "pro"}})
    second = await http.put("/v1/subjects/ann", headers=headers, json={"attributes": {"plan": "free"}})

    assert (first.status_code, second.status_code) == (200, 409)


async def test_what_a_put_would_make_cannot_be_said_to_be_there(http: httpx.AsyncClient) -> None:
    answer = await http.put("/v1/subjects/nobody", headers={**KEY, "If-Match": "*"}, json={})

    assert (answer.status_code, refused_by(answer).violations) == (400, [("If-Match", "INVALID_VALUE")])
    assert (await http.get("/v1/subjects/nobody", headers=KEY)).status_code == 404


@pytest.mark.parametrize(
    ("verb", "path", "key", "status"),
    [
        ("GET", "/v1/audiences", OWNER_KEY, 200),
        ("GET", "/v1/audiences/nobody", OWNER_KEY, 404),
        ("GET", "/v1/audiences", "nobody-knows-it", 401),
        ("POST", "/v1/audiences", OWNER_KEY, 400),
        ("PUT", "/v1/audiences", OWNER_KEY, 405),
        ("OPTIONS", "/v1/audiences", OWNER_KEY, 204),
        ("GET", "/v1/no/such/path", OWNER_KEY, 404),
        ("GET", "/v1", OWNER_KEY, 404),
    ],
)
async def test_no_cache_keeps_an_answer(http: httpx.AsyncClient, verb: str, path: str, key: str, status: int) -> None:
    answer = await http.request(verb, path, headers={"X-Api-Key": key})

    assert (answer.status_code, answer.headers["Cache-Control"]) == (status, "no-store")


PAGES = "https://pages.example"


async def test_a_browser_may_show_answers_to_pages_of_the_origins_that_are_allowed(serve: Serve) -> None:
    async with serve(allowed_origins=(PAGES,)) as served:
        http = served.http.client
        asked = {
            "Origin": PAGES,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,if-match,x-api-key",
        }
        preflight = await http.options("/v1/audiences/buyers", headers=asked)
        answer = await http.get("/v1/audiences", headers={**KEY, "Origin": PAGES})
        refusal = await http.get("/v1/audiences", headers={"Origin": PAGES})

    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    for told in (preflight, answer, refusal):
        assert told.headers["Access-Control-Allow-Origin"] == PAGES
        assert told.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in told.headers["Vary"]
    assert {"ETag", "X-Request-Id", "Retry-After"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))


@pytest.mark.parametrize("allowed", [(), (PAGES,)])
async def test_and_to_no_others(serve: Serve, allowed: tuple[str, ...]) -> None:
    async with serve(allowed_origins=allowed) as served:
        http = served.http.client
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
        preflight = await http.options("/v1/audiences", headers=asked)
        answer = await http.get("/v1/audiences", headers={**KEY, "Origin": "https://evil.example"})

    assert "Access-Control-Allow-Origin" not in preflight.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_the_request_id_comes_back(http: httpx.AsyncClient) -> None:
    given = await http.get("/v1/audiences", headers={**KEY, "X-Request-Id": "my-call.7"})
    made = await http.get("/v1/audiences", headers={**KEY, "X-Request-Id": "no\ttab"})

    assert given.headers["X-Request-Id"] == "my-call.7"
    assert len(made.headers["X-Request-Id"]) == 32


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "MALFORMED_REQUEST"),
        (b"[]", "INVALID_TYPE"),
        (b"\xff\xfe", "MALFORMED_REQUEST"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "TOO_DEEP"),
    ],
)
async def test_a_body_that_is_no_object_is_refused(http: httpx.AsyncClient, body: bytes, reason: str) -> None:
    answer = await http.post("/v1/audiences", headers=KEY, content=body)

    assert (answer.status_code, refused_by(answer).reason) == (400, reason)


async def test_a_body_that_is_too_large_is_not_read_to_its_end(http: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65_536

    announced = await http.post("/v1/audiences", headers=KEY, content=b" " * (1024 * 1024 + 1))
    assert (announced.status_code, refused_by(announced).reason) == (413, "TOO_LARGE")

    with suppress(httpx.WriteError, httpx.ReadError):  # cut off in mid-sentence: as good an answer
        streamed = await http.post("/v1/audiences", headers=KEY, content=endless())
        assert streamed.status_code == 413
    with suppress(httpx.WriteError, httpx.ReadError):
        streamed = await http.post("/v1/audiences", content=endless())
        assert streamed.status_code == 401


async def test_every_fault_is_told_however_many(http: httpx.AsyncClient) -> None:
    clauses = [{"kind": "event_fired", "eventName": ""} for _ in range(60)]

    answer = await create(http, predicate={"kind": "or", "clauses": clauses})

    failure = refused_by(answer)
    assert failure.violations == [(f"predicate.clauses[{n}].eventName", "EVENT_NAME_REQUIRED") for n in range(60)]
    assert "violationsOmitted" not in failure.metadata


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("PUT", "/v1/audiences", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/v1/audiences/buyers", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("GET", "/v1/subjects:batchUpsert", "OPTIONS, POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_verb_is_told_the_right_ones(http: httpx.AsyncClient, verb: str, path: str, allowed: str) -> None:
    answer = await http.request(verb, path, headers=KEY)

    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert answer.json()["error"]["code"] == 405


async def test_a_path_may_be_asked_what_it_can_do(http: httpx.AsyncClient) -> None:
    answer = await http.options("/v1/audiences")

    assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")


async def test_head_is_get_without_a_body(http: httpx.AsyncClient) -> None:
    answer = await http.head("/v1/audiences", headers=KEY)

    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/nope", "/v1", "/v1/", "/v1/nope", "/v2/audiences", "/v1/audiences/a/b"])
async def test_a_path_that_does_not_exist_is_json_too(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path, headers=KEY)

    assert (answer.status_code, refused_by(answer).reason) == (404, "METHOD_NOT_FOUND")


async def test_an_id_with_a_colon_or_a_slash_can_be_written(http: httpx.AsyncClient) -> None:
    made = await http.put("/v1/subjects/tenant:ann%3Amerge", headers=KEY, json={"attributes": {"plan": "pro"}})
    slash = await http.get("/v1/subjects/a%2Fb", headers=KEY)

    assert made.json()["id"] == "tenant:ann:merge"
    assert refused_by(slash).violations == [("subjectId", "INVALID_ID")]


async def test_parameters_of_a_list_stand_in_the_query(http: httpx.AsyncClient) -> None:
    for number in range(3):
        await create(http, id=f"a{number}")

    first = (await http.get("/v1/audiences", headers=KEY, params={"pageSize": 2})).json()
    rest = (
        await http.get("/v1/audiences", headers=KEY, params={"page_size": 2, "pageToken": first["nextPageToken"]})
    ).json()
    wrong = await http.get("/v1/audiences", headers=KEY, params={"pageSize": "many", "colour": "red"})

    assert [len(first["audiences"]), len(rest["audiences"])] == [2, 1]
    assert "nextPageToken" not in rest
    assert sorted(refused_by(wrong).violations) == [("colour", "UNKNOWN_FIELD"), ("pageSize", "INVALID_TYPE")]


async def test_health_metrics_and_contract_need_no_key(http: httpx.AsyncClient) -> None:
    alive, metrics, contract = [await http.get(path) for path in ("/healthz", "/metrics", "/openapi.json")]

    assert alive.json() == {"status": "alive"}
    assert contract.json()["openapi"].startswith("3.")
    assert "grpc_server_in_flight" in metrics.text


async def test_calls_are_counted_by_method_and_code(served: Served, http: httpx.AsyncClient) -> None:
    await create(http)
    await create(http)
    await http.get("/v1/audiences/buyers", headers=KEY)

    lines = (await http.get("/metrics")).text.splitlines()
    counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    labels = 'grpc_method="CreateAudience",grpc_service="orchestrator.v1.AudienceService",grpc_type="unary"'
    assert counted[f"grpc_server_started_total{{{labels}}}"] == 2
    assert counted[f'grpc_server_handled_total{{grpc_code="AlreadyExists",{labels}}}'] == 1
    assert counted[f'grpc_server_handled_total{{grpc_code="OK",{labels}}}'] == 1
    assert counted[f"grpc_server_handling_seconds_count{{{labels}}}"] == 2
    assert counted["grpc_server_in_flight"] == 0
