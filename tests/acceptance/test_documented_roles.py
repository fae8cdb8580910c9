"""Every documented route × every kind of caller. The roles are the documents' own, written down once more."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orchestrator.api.documented.rows import ROWS
from orchestrator.api.openapi import document_path
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.scope import Role
from tests.acceptance.ground import DEFINITION, EVERYONE, Ground, Project, served_ground
from tests.acceptance.openapi_contract import answer_faults
from tests.acceptance.raw_calls import HttpRequest
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY

_PREDICATE = {"kind": "attribute", "fieldPath": "tier", "operator": "eq", "value": "pro"}
_STEPS = DEFINITION["steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A good call. `names` says whether it is about something that only its project has."""

    verb: str
    path: str
    lowest: Role
    body: Any = None
    status: int = 200
    names: bool = True

    @property
    def place(self) -> str:
        return f"{self.verb} {self.path}"


def _route(line: str, lowest: Role, body: Any = None, status: int = 200, *, names: bool = True) -> Route:
    verb, path = line.split(" ")
    return Route(verb=verb, path=path, lowest=lowest, body=body, status=status, names=names)


_VIEWER, _EDITOR, _ADMIN, _INTERNAL = Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.INTERNAL
#: Stands for the project that a body names.
_PROJECT = "the-project"
_EXPORTS = [{"SMSTemplateResponse": {"TemplateName": "hello", "TemplateType": "SMS", "Body": "Hello"}}]
_BUNDLE = {"formatVersion": 1, "audiences": [{"id": "all", "name": "All", "predicate": EVERYONE}]}
_SEGMENTS = "/admin/projects/{project_id}/segments"
ROUTES = (
    _route("POST /audiences", _EDITOR, {"name": "A", "filters": {"city": ["Rome"]}}, names=False),
    _route("GET /api/audiences", _EDITOR, names=False),
    _route("POST /api/audiences", _EDITOR, {"name": "A", "predicate": EVERYONE}, names=False),
    _route("GET /api/audiences/{audience_id}", _EDITOR),
    _route("PATCH /api/audiences/{audience.id}", _EDITOR, {"name": "B"}),
    _route("DELETE /api/audiences/{audience_id}", _ADMIN),
    _route(f"POST {_SEGMENTS}", _EDITOR, {"name": "S", "rules": _PREDICATE}, 201),
    _route(f"GET {_SEGMENTS}", _EDITOR),
    _route(f"GET {_SEGMENTS}/{{segment_id}}", _EDITOR),
    _route(f"PATCH {_SEGMENTS}/{{segment.id}}", _EDITOR, {"name": "T"}),
    _route(f"DELETE {_SEGMENTS}/{{segment_id}}", _ADMIN),
    _route(f"POST {_SEGMENTS}/{{segment_id}}/evaluate", _EDITOR),
    _route("GET /api/v1/journeys", _EDITOR, names=False),
    _route("POST /api/v1/journeys", _EDITOR, {"name": "J"}, 201, names=False),
    _route("GET /api/v1/journeys/{journey_id}", _EDITOR),
    _route("PUT /api/v1/journeys/{journey.id}", _EDITOR, {"name": "K", "status": "paused"}),
    _route("DELETE /api/v1/journeys/{journey_id}", _ADMIN, status=204),
    _route("POST /api/v1/journeys/{journey_id}/enroll", _EDITOR, {"customerId": "ann"}, 201),
    _route("POST /api/v1/journeys/{journey_id}/test", _EDITOR, {"customerAttributes": {"tier": "pro"}}),
    _route("GET /api/v1/journeys/{journey_id}/analytics", _VIEWER),
    _route("GET /api/journeys", _EDITOR, names=False),
    _route("POST /api/journeys", _EDITOR, {"name": "J", "steps": _STEPS}, names=False),
    _route("GET /api/journeys/{journey_id}", _EDITOR),
    _route("PATCH /api/journeys/{journey.id}", _EDITOR, {"name": "K", "goalEventName": "bought"}),
    _route("POST /api/journeys/{journey_id}/publish", _EDITOR),
    _route("POST /api/journeys/{journey_id}/pause", _EDITOR),
    _route("POST /api/journeys/{journey_id}/resume", _EDITOR),
    _route("POST /api/journeys/{journey_id}/archive", _EDITOR),
    _route("GET /api/journeys/{journey_id}/audit", _EDITOR),
    _route("GET /api/journeys/{journey_id}/executions", _EDITOR),
    _route("GET /api/journeys/{journey_id}/branch-performance", _VIEWER),
    _route("GET /api/journeys/{journey_id}/calibrated-impact", _VIEWER),
    _route("GET /api/journeys/{journey_id}/step-stats", _VIEWER),
    _route("POST /api/journeys/{journey_id}/simulate", _EDITOR, {"subjectAttributes": {"tier": "pro"}}),
    _route("POST /api/journeys/internal/dispatch", _INTERNAL, {"projectKey": _PROJECT, "endUserIds": ["ann"]}),
    _route(
        "POST /api/journeys/internal/start-execution",
        _INTERNAL,
        {"projectKey": _PROJECT, "journeyId": "journey-0", "endUserId": "ann", "entryKey": "order-7"},
    ),
    _route("POST /api/journeys/internal/forget-end-user", _INTERNAL, {"projectKey": _PROJECT, "endUserId": "ann"}),
    _route("POST /api/journeys/internal/translate-pinpoint", _INTERNAL, {"projectKey": _PROJECT, "exports": _EXPORTS}),
    _route("POST /api/journeys/internal/import-bundle", _INTERNAL, {"projectKey": _PROJECT, "bundle": _BUNDLE}),
)
_ORDER = (Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.OWNER)
_INSTANCE = {Role.OPERATOR: OPERATOR_KEY, Role.INTERNAL: INTERNAL_TOKEN}


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    async with served_ground(postgres, template) as ground:
        yield ground


def test_the_table_has_every_route() -> None:
    assert [route.place for route in ROUTES] == [f"{row.verb} {row.path}" for row in ROWS]


def test_the_contract_has_every_route_and_takes_what_is_sent() -> None:
    contract = json.loads(document_path().read_text(encoding="utf-8"))
    for route in ROUTES:
        operation = contract["paths"][re.sub(r"\.(?=id\})", "_", route.path)][route.verb.lower()]
        assert str(route.status) in operation["responses"]
        if route.body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            validator = Draft202012Validator({**schema, "components": contract["components"]})
            assert list(validator.iter_errors(route.body)) == [], route.place
            assert not validator.is_valid({**route.body, next(iter(route.body)): []}), route.place


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.place)
async def test_each_caller_may_do_what_the_documents_say_and_no_more(ground: Ground, route: Route) -> None:
    name = f"d-{ROUTES.index(route)}"
    project = await ground.project(name, ("audience", "segment", "draft", "journey"))
    stranger = (await ground.project(f"not-{name}", ())).owner_key
    keys = _INSTANCE | {role: await ground.keys.admit(role, project.project_no) for role in _ORDER}
    allowed = _ORDER[_ORDER.index(route.lowest) :] if route.lowest in _ORDER else (route.lowest,)
    ended = await _ended_keys(ground, project)
    denied: list[tuple[str | None, int, str]] = [
        (key, 401, "unauthenticated") for key in (None, "nobody-knows", "", *ended)
    ]
    denied += [(key, 403, "role_too_low") for role, key in keys.items() if role not in allowed]
    if route.lowest is _INTERNAL:
        denied.append((stranger, 403, "role_too_low"))
    elif route.names:
        denied.append((stranger, 404, "not_found"))
    before = await ground.checksums(project.project_no)

    for key, status, code in denied:
        told, headers, body = await ground.http.send(_request(route, project), key)
        error = json.loads(body)["error"]
        assert (told, headers["content-type"]) == (status, "application/json"), (key, body)
        assert error["code"].lower().endswith(code), (key, error)
        assert ("www-authenticate" in headers) == (status == 401)
        assert _faults(route, told, body) == []
    if not route.names:
        # What names nothing does for a stranger what it does for anybody: in his own project.
        told, _, body = await ground.http.send(_request(route, project), stranger)
        assert told == route.status, body
        assert not [name for name in _THINGS if f'"{name}"' in body.decode()]
    assert await ground.checksums(project.project_no) == before

    for role in allowed:
        told, _, body = await ground.http.send(_request(route, project), keys[role])
        assert _faults(route, told, body) == []
        if role is route.lowest:
            assert told == route.status, body
        else:
            assert told in (200, 201, 204, 400, 404), (role, body)


#: That the project has, and no other.
_THINGS = ("audience-0", "segment-0", "draft-0", "journey-0")


async def _ended_keys(ground: Ground, project: Project) -> list[str]:
    """An owner's keys that have expired, and that were revoked."""
    ended = datetime.now(UTC) - timedelta(seconds=1)
    keys = []
    for column in ("expires_at", "revoked_at"):
        key = f"{column}-of-{project.project_id}"
        await ground.admit(key, project.project_no)
        await ground.owner.execute(f"UPDATE api_keys SET {column} = $1 WHERE name = $2", ended, key)
        keys.append(key)
    return keys


def _faults(route: Route, status: int, body: bytes) -> list[str]:
    """What of an answer is not as docs/openapi.json says."""
    path = re.sub(r"\.(?=id\})", "_", route.path)
    return answer_faults(route.verb, path, status, json.loads(body)) if body else []


def _request(route: Route, project: Project) -> HttpRequest:
    journey = "draft-0" if route.path.endswith("publish") else "journey-0"
    segment = "everyone" if route.path.endswith("evaluate") else "segment-0"
    names = {"project_id": project.project_id, "audience": "audience-0", "segment": segment, "journey": journey}
    path = route.path
    for name, value in names.items():
        for variable in (f"{{{name}}}", f"{{{name}_id}}", f"{{{name}.id}}"):
            path = path.replace(variable, value)
    body = None if route.body is None else json.dumps(_in_project(route.body, project)).encode()
    return HttpRequest(verb=route.verb, path=path, body=body)


def _in_project(body: Any, project: Project) -> Any:
    """A body that names its project."""
    return {name: project.project_id if value == _PROJECT else value for name, value in body.items()}


#: In place of any member.
_HOSTILE = (
    *("null", "true", "-1", "1e400", "NaN", '""', '"x"', r'"\u0000"', r'"\ud800"', "[]", "{}", "[null]"),
    *('{"": 1}', '{"a": 1, "a": 2}', "[" * 50 + "]" * 50, '{"nodes": 5, "edges": [{}]}', '{"kind": "not"}'),
)
_BODIES = ("{", "5", "null", "\xff", "{" * 5000)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.body is not None], ids=lambda route: route.place)
async def test_no_body_does_anything_but_be_read_or_be_refused(ground: Ground, route: Route) -> None:
    project = await ground.project(f"h-{ROUTES.index(route)}", ("audience", "segment", "draft", "journey"))
    good = _request(route, project)
    texts = list(_BODIES)
    for name in ("id", "updatedAt", *route.body):
        rest = {other: value for other, value in _in_project(route.body, project).items() if other != name}
        texts += [json.dumps({**rest, name: "@here@"}).replace('"@here@"', hostile) for hostile in _HOSTILE]
    for text in texts:
        request = HttpRequest(verb=good.verb, path=good.path, body=text.encode("latin-1"))

        status, _, body = await ground.http.send(request, _INSTANCE.get(route.lowest, project.owner_key))

        # A project, or a journey, of another name is not there.
        assert status in ((200, 400, 404) if route.lowest is _INTERNAL else (200, 201, 400, 409)), (text, body)
        if status >= 400:
            assert json.loads(body)["error"]["code"], text


#: (body, path and code of its one fault).
_NO_REQUESTS: tuple[tuple[bytes, str, str], ...] = (
    (b"{", "", "malformed_request"),
    (b'{"name": "\xff"}', "", "malformed_request"),
    (b"[]", "", "invalid_type"),
    (b'"name"', "", "invalid_type"),
    (b'{"a": "' + b"x" * 2_000_000 + b'"}', "", "too_large"),
    (b" " * 2_000_000, "", "too_large"),
)


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.verb in ("POST", "PUT", "PATCH")], ids=lambda r: r.place
)
async def test_what_is_no_request_is_told_in_the_document_s_form(ground: Ground, route: Route) -> None:
    project = await ground.project(f"n-{ROUTES.index(route)}", ("audience", "segment", "draft", "journey"))
    good = _request(route, project)
    before = await ground.checksums(project.project_no)
    for body, path, code in _NO_REQUESTS:
        # A bundle, and what becomes one, may have twice as much as the largest of them.
        times = 3 if code == "too_large" and route.path.endswith(("-bundle", "-pinpoint")) else 1
        request = HttpRequest(verb=good.verb, path=good.path, body=body * times)

        status, headers, answer = await ground.http.send(request, _INSTANCE.get(route.lowest, project.owner_key))

        error = json.loads(answer)["error"]
        assert (status, headers["content-type"]) == (400, "application/json"), body[:20]
        assert [(fault["path"], fault["code"].lower()) for fault in error["details"]] == [(path, code)], body[:20]
        assert error["code"] == _spelled(route, code)
    assert await ground.checksums(project.project_no) == before


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.verb in ("POST", "PUT", "PATCH")], ids=lambda r: r.place
)
async def test_members_and_parameters_that_there_are_not_are_told_together(ground: Ground, route: Route) -> None:
    project = await ground.project(f"u-{ROUTES.index(route)}", ("audience", "segment", "draft", "journey"))
    good = _request(route, project)
    body = json.dumps({**_in_project(route.body or {}, project), "nmae": 1, "": None, "a.b": {}}).encode()
    request = HttpRequest(verb=good.verb, path=f"{good.path}?dryRun=true", body=body)

    status, _, answer = await ground.http.send(request, _INSTANCE.get(route.lowest, project.owner_key))

    error = json.loads(answer)["error"]
    assert status == 400
    assert error["code"] == _spelled(route, "unknown_field")
    told = [(fault["path"], fault["code"].lower()) for fault in error["details"]]
    assert [code for _, code in told] == ["unknown_field"] * 4
    assert {"nmae", "dryRun"} <= {path for path, _ in told}


def _spelled(route: Route, code: str) -> str:
    if route.path == "/audiences":
        return "VALIDATION_ERROR"
    return code.upper() if route.path.startswith("/admin") else code
