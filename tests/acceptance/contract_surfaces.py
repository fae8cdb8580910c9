"""The three ways to make a call, and one form of what comes back, in which they are compared.

How a document's answer is told in the words of `/v1` is written here once more, and backwards: the server's own
translations go the other way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.api.annotations_pb2 import http
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from orchestrator.api.json_encode import encode
from tests.acceptance.contract_cases.case import Case, Json
from tests.acceptance.ground import Ground
from tests.acceptance.http_requests import good_http
from tests.acceptance.raw_calls import HttpRequest
from tests.acceptance.request_fields import message_of
from tests.integration.api.callers import RPCS, Refused

OK = "OK"

_STATUS_OF = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a call ended. `status` is that of HTTP; `code` the documented code, or else the reason."""

    status: int
    code: str = ""
    faults: tuple[tuple[str, str], ...] = ()
    answer: Any = None


def expected_status(case: Case) -> int:
    if case.refused is not None:
        return _STATUS_OF[case.refused.code]
    return _SUCCESS.get(route_of(case), 200)


async def by_grpc(ground: Ground, case: Case, key: str | None, project_id: str) -> Result:
    rpc = RPCS[case.rpc]
    message = _message(rpc, _in_project(case.request, project_id))
    try:
        response = GetMessageClass(rpc.output_type).FromString(await ground.grpc.raw(rpc, message, key=key))
    except Refused as refused:
        return Result(status=_STATUS_OF[refused.code], code=refused.reason, faults=tuple(sorted(refused.violations)))
    shown = rpc.GetOptions().Extensions[http].response_body
    return Result(status=200, answer=encode(getattr(response, shown) if shown else response))


def _message(rpc: MethodDescriptor, request: Json) -> bytes:
    """The request; ids beyond what a list may have are put in afterwards, since no document with them can be read."""
    many = {name: value for name, value in request.items() if isinstance(value, list) and len(value) > 1}
    message: Any = message_of(rpc, {**request, **{name: value[:1] for name, value in many.items()}})
    for name, value in many.items():
        getattr(message, re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)).extend(value[1:])
    content: bytes = message.SerializeToString()
    return content


async def by_v1(ground: Ground, case: Case, key: str | None, project_id: str) -> Result:
    outcome = await ground.http.call(case.rpc, good_http(RPCS[case.rpc], _in_project(case.request, project_id)), key)
    if outcome.code == OK:
        return Result(status=200, answer=outcome.response)
    return Result(status=_STATUS_OF[outcome.code], code=outcome.reason, faults=tuple(sorted(outcome.faults)))


async def by_document(ground: Ground, case: Case, key: str | None, project_id: str) -> Result:
    verb, path = case.documented.replace("$P", project_id).split(" ")
    body = None if case.body is None else json.dumps(_in_project(case.body, project_id)).encode()
    status, headers, text = await ground.http.send(HttpRequest(verb=verb, path=path, body=body), key)
    document = json.loads(text) if text else {}
    if status < 400:
        assert (status == 204) == (not text)
        return Result(status=status, answer=_AS_V1[route_of(case)](document))
    assert headers["content-type"] == "application/json"
    error = document["error"]
    places = _PLACES.get(route_of(case), {})
    faults = [(_place(places, fault["path"]), fault["code"].upper()) for fault in error.get("details", [])]
    return Result(status=status, code=error["code"], faults=tuple(sorted(faults)))


def _in_project(document: Any, project_id: str) -> Any:
    return json.loads(json.dumps(document).replace("$P", project_id))


def leaves_out(case: Case) -> frozenset[str]:
    """Members of `/v1` that the document does not have."""
    return _LEFT_OUT.get(route_of(case), frozenset())


def comparable(value: Any, project_id: str) -> Any:
    """Without what no two calls have alike (instants, etags, ids that the server makes), and what is empty: `/v1`
    leaves it out, and documents say null.
    """
    match value:
        case dict():
            found = {name: comparable(member, project_id) for name, member in value.items()}
            counted = _COUNTERS if isinstance(found.get("id"), int) else _COUNTERS - {"id"}
            return {name: member for name, member in found.items() if name not in counted and member not in (None, "")}
        case list():
            return [comparable(element, project_id) for element in value]
        case str():
            text = value.replace(project_id, "<project>")
            for pattern, instead in _MADE:
                text = pattern.sub(instead, text)
            return text
        case _:
            return value


#: Numbers that go on from project to project.
_COUNTERS = frozenset({"id", "runId"})
_MADE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<instant>"),
    (re.compile(r"^\d+-[0-9a-f]{11}$"), "<etag>"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}(?![0-9a-f])"), "<made>"),
)


def route_of(case: Case) -> str:
    """The documented call, with a star for each name."""
    path = case.documented.split("?")[0].replace("$P", "*")
    return re.sub(r"(?<=audiences/|.segments/|.journeys/)(?!\*|internal)[a-z]+", "*", path)


def _place(places: Mapping[str, str], path: str) -> str:
    for theirs, ours in places.items():
        if path == theirs or path.startswith((f"{theirs}.", f"{theirs}[")):
            return ours + path[len(theirs) :]
    return path


def _same(document: Any) -> Any:
    return document


def _in(member: str, element: Callable[[Any], Any] = _same) -> Callable[[Any], Json]:
    """A bare list."""
    return lambda document: {member: [element(each) for each in document]}


def _filtered(document: Json) -> Json:
    return {"id": document["audienceId"]}


def _segment(document: Json) -> Json:
    assert document.pop("is_system") == (document["kind"] == "system")
    return {re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name): value for name, value in document.items()}


def _evaluation(document: Json) -> Json:
    assert document.pop("segment_id") == "everyone"
    return {"runId": document["run_id"]}


def _journey(document: Json) -> Json:
    assert document.pop("version") == ("draft" if document["hasDraft"] else document["latestVersion"])
    days = document.pop("goalEventWindowDays")
    goal = {"eventName": document.pop("goalEventName"), "window": f"{days // 7}w"}
    return {**document, "goal": goal}


def _archived(document: Json) -> Json:
    return {"runningExecutions": document.pop("runningExecutions"), "journey": _journey(document)}


def _published(document: Json) -> Json:
    warnings = [{**warning, "reason": warning.pop("code").upper()} for warning in document["warnings"]]
    return {**document, "warnings": warnings}


def _branch(document: Json) -> Json:
    for arm in document["arms"]:
        assert ("credibleInterval95" in arm) != ("coldStart" in arm)
        arm.setdefault("credibleInterval95", [])
        arm.setdefault("coldStart", False)
    return document


def _page(document: Json) -> Json:
    assert (document["limit"], document["offset"]) == (1, 1)
    # That there are more is said by a token there.
    return {"journeys": document["journeys"], "hasMore": document["hasMore"]}


def _simulated(document: Json) -> Json:
    return {**document, "version": 0 if document["version"] == "draft" else document["version"]}


_STEP_KINDS = {"condition_split": "branch", "channel_action": "send"}


def _tried(document: Json) -> Json:
    entered, *nodes = document.pop("trace")
    assert (entered["type"], entered["result"]) == ("entry_trigger", "executed")
    steps = []
    for node in nodes:
        kind = node.pop("type")
        step_id = node.pop("nodeId")
        steps.append({**node, "stepId": step_id, "stepKind": _STEP_KINDS.get(kind, kind)})
    identity = {name: document.pop(name) for name in ("journeyId", "version")}
    return {**identity, "simulation": {**document, "startedAt": entered["enteredAt"], "steps": steps}}


def _dispatched(document: Json) -> Json:
    counts = {name: document.pop(name) for name in ("endUsers", "entries", "started", "poked", "failed")}
    told = {"endUsers": "subject", "entries": "entry"}
    return {**document, **{f"{told.get(name, name)}Count": count for name, count in counts.items()}}


def _imported(document: Json) -> Json:
    assert document.pop("dryRun") in (True, False)
    counts = {name: document.pop(name) for name in ("created", "updated", "unchanged", "published")}
    return {**document, **{f"{name}Count": count for name, count in counts.items()}}


_AS_V1: Mapping[str, Callable[[Any], Any]] = {
    "POST /audiences": _filtered,
    "GET /api/audiences": _in("audiences"),
    "POST /api/audiences": _same,
    "GET /api/audiences/*": _same,
    "PATCH /api/audiences/*": _same,
    "DELETE /api/audiences/*": _same,
    "GET /admin/projects/*/segments": _in("segments", _segment),
    "POST /admin/projects/*/segments": _segment,
    "GET /admin/projects/*/segments/*": _segment,
    "PATCH /admin/projects/*/segments/*": _segment,
    "DELETE /admin/projects/*/segments/*": _same,
    "POST /admin/projects/*/segments/*/evaluate": _evaluation,
    "GET /api/journeys": _in("journeys", _journey),
    "POST /api/journeys": _journey,
    "GET /api/journeys/*": _journey,
    "PATCH /api/journeys/*": _journey,
    "POST /api/journeys/*/publish": _published,
    "POST /api/journeys/*/pause": _journey,
    "POST /api/journeys/*/resume": _journey,
    "POST /api/journeys/*/archive": _archived,
    "GET /api/journeys/*/audit": _in("auditEntries"),
    "GET /api/journeys/*/executions": _in("executions"),
    "GET /api/journeys/*/branch-performance": _in("branches", _branch),
    "GET /api/journeys/*/calibrated-impact": _same,
    "GET /api/journeys/*/step-stats": _in("steps"),
    "POST /api/journeys/*/simulate": _simulated,
    "POST /api/journeys/internal/dispatch": _dispatched,
    "POST /api/journeys/internal/start-execution": _same,
    "POST /api/journeys/internal/forget-end-user": _same,
    "POST /api/journeys/internal/translate-pinpoint": _same,
    "POST /api/journeys/internal/import-bundle": _imported,
    "GET /api/v1/journeys": _page,
    "POST /api/v1/journeys": _same,
    "GET /api/v1/journeys/*": _same,
    "PUT /api/v1/journeys/*": _same,
    "DELETE /api/v1/journeys/*": _same,
    "POST /api/v1/journeys/*/enroll": _same,
    "POST /api/v1/journeys/*/test": _tried,
    "GET /api/v1/journeys/*/analytics": _same,
}
_SUCCESS = {
    "POST /admin/projects/*/segments": 201,
    "POST /api/v1/journeys": 201,
    "POST /api/v1/journeys/*/enroll": 201,
    "DELETE /api/v1/journeys/*": 204,
}

#: The document's place, and that of `/v1`. Longer ones go first.
_PLACES: Mapping[str, Mapping[str, str]] = {
    "POST /audiences": {
        "segment[0]": "predicate.clauses[0].clauses[0].cohortId",
        "days_back": "predicate.clauses[1].window.days",
    },
    "POST /api/journeys": {"goalEventName": "goal.eventName", "goalEventWindowDays": "goal.window"},
    "POST /api/v1/journeys/*/enroll": {"customerIds": "subjectIds"},
    "POST /api/journeys/internal/start-execution": {"endUserId": "subjectId"},
    "POST /api/journeys/internal/forget-end-user": {"endUserId": "subjectId"},
    "POST /api/journeys/internal/import-bundle": {"bundle.audiences": "audiences"},
}

_OF_A_GOAL = frozenset({"goal", "onArchive"})
_LEFT_OUT: Mapping[str, frozenset[str]] = {
    "POST /audiences": frozenset({"projectKey", "name", "subjectType", "predicate", "createdAt", "updatedAt", "etag"}),
    "GET /api/v1/journeys": frozenset({"nextPageToken", *_OF_A_GOAL}),
    **{f"{verb} /api/v1/journeys{path}": _OF_A_GOAL for verb, path in (("POST", ""), ("GET", "/*"), ("PUT", "/*"))},
}
