"""Calls that schemathesis makes up of docs/openapi.json, on a ground where what they name often exists."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.acceptance.good_calls import OPERATORS_OWN
from tests.acceptance.ground import NOUNS, Ground, Project
from tests.acceptance.openapi_contract import closed
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: What is about something else, which has to be there first.
_LATER = ("suppression", "execution", "cancellation", "replay", "test_send", "job", "paused_job")
_ANY = {noun for nouns in NOUNS.values() for noun in nouns}
#: Everything that any call may name.
ALL_NOUNS = (*sorted(_ANY - {*_LATER}), *_LATER)

_SCHEMA = schemathesis.openapi.from_dict(closed(), config=SchemathesisConfig())
OPERATIONS: Mapping[str, Any] = {
    found.ok().label: found.ok() for found in _SCHEMA.get_all_operations() if isinstance(found, Ok)
}


def labels(*, documented: bool) -> list[str]:
    """Of the calls of `/v1`, or of the documented ones."""
    return [label for label in OPERATIONS if label.split(" ")[1].startswith("/v1/") != documented]


async def answered_as_documented(ground: Ground, project: Project, label: str, *, calls: int, fixed: bool) -> None:
    """Make so many calls of one operation, half of them wrong, and hold the answers against the document.

    `fixed`: the same calls every time. Raises what schemathesis says of the smallest call that is answered otherwise.
    """
    # Hypothesis blocks; the server that it calls is in this loop.
    await asyncio.to_thread(_run, ground, project, label, calls, fixed)


def _run(ground: Ground, project: Project, label: str, calls: int, fixed: bool) -> None:
    operation = OPERATIONS[label]
    with httpx.Client(base_url=f"http://{ground.http.address}", timeout=30) as client:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
            @settings(
                max_examples=max(1, calls // 2),
                derandomize=fixed,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            def answers(case: Any, data: st.DataObject) -> None:
                for name, ids in _ids(project).items():
                    if name in case.path_parameters and data.draw(st.integers(0, 3)):
                        case.path_parameters[name] = data.draw(st.sampled_from(ids))
                response = client.request(**_request(case, project))
                case.validate_response(response, checks=CHECKS)

            answers()


def _request(case: Any, project: Project) -> dict[str, Any]:
    """What httpx sends for a case."""
    sent: dict[str, Any] = case.as_transport_kwargs(base_url="")
    headers = {name: value for name, value in sent["headers"].items() if name.lower() not in _OUR_HEADERS}
    return {
        "method": sent["method"],
        "url": sent["url"],
        "headers": {**headers, "Authorization": f"Bearer {_key(case, project)}"},
        "params": sent.get("params"),
        "content": sent.get("data"),
        "json": sent.get("json"),
    }


def _key(case: Any, project: Project) -> str:
    if "/internal/" in case.operation.path:
        return INTERNAL_TOKEN
    rpc = case.operation.definition.raw["operationId"].partition("_")[0]
    if rpc in OPERATORS_OWN:
        return OPERATOR_KEY
    return project.owner_key


_OUR_HEADERS = ("authorization", "x-api-key", "cookie", "user-agent")


def _ids(project: Project) -> dict[str, list[str]]:
    """By parameter of a path: what there is."""

    def each(*nouns: str) -> list[str]:
        return [f"{noun}-{number}" for noun in nouns for number in range(2)]

    journeys = each("draft", "journey", "paused", "listening", "learning")
    return {
        "api_key_id": project.api_keys,
        "audience_id": each("audience"),
        "cancellation_id": project.cancellations,
        "communication_id": each("communication"),
        "enrollment_job_id": each("job", "paused_job"),
        "entry_replay_id": project.replays,
        "execution_id": project.executions,
        "journey_id": journeys,
        "policy_version": ["1"],
        "project_id": [project.project_id],
        "segment_id": [*each("segment"), "everyone"],
        "step_id": ["choose", "pause"],
        "subject_id": [*each("subject", "survivor"), "member-0"],
        "test_send_id": project.test_sends,
        "trigger_contract_id": each("trigger_contract"),
        "version": ["1", "2"],
    }


def told(failure: BaseException) -> Iterator[str]:
    """Every finding of a failure, on lines of their own."""
    if isinstance(failure, BaseExceptionGroup):
        for each in failure.exceptions:
            yield from told(each)
    else:
        yield f"{type(failure).__name__}: {failure}"
