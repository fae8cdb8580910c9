"""The same calls over gRPC, `/v1` and at documented paths: the same answers, the same refusals at the same places.

Each surface has a project of its own, in which the cases are done in order.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.api.documented.rows import ROWS
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.scope import Role
from tests.acceptance.contract_cases import CASES, Case
from tests.acceptance.contract_surfaces import (
    ROUTES,
    Result,
    by_document,
    by_grpc,
    by_v1,
    comparable,
    expected_status,
    leaves_out,
)
from tests.acceptance.ground import Ground, served_ground

#: No document has a call for these; `audience`, `segment`: read by `GET` in their documents' words, too.
_SURFACES = ("grpc", "v1", "documented")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One surface: its project, and the keys to call with."""

    project_id: str
    keys: dict[str, str | None]


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    async with served_ground(postgres, template) as ground:
        yield ground


async def _side(ground: Ground, surface: str) -> Side:
    project = await ground.project(f"side-{surface}", ())
    stranger = await ground.project(f"stranger-of-{surface}", ())
    keys: dict[str, str | None] = {"nobody": None, "wrong": "nobody-knows-this-key", "stranger": stranger.owner_key}
    for role in (Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.OWNER):
        keys[role.name.lower()] = await ground.keys.admit(role, project.project_no)
    return Side(project_id=project.project_id, keys=keys)


def test_every_documented_route_has_a_case_that_succeeds() -> None:
    routes = {re.sub(r"\{[a-z_.]+\}", "*", f"{row.verb} {row.path}") for row in ROWS}

    assert routes == ROUTES


async def test_every_case_ends_alike_on_every_surface(ground: Ground) -> None:
    sides = {surface: await _side(ground, surface) for surface in _SURFACES}
    differing: list[str] = []
    for case in CASES:
        results = await _results(ground, sides, case)
        differing += [f"{case.name}: {text}" for text in _differences(case, results, sides)]

    assert differing == []


async def _results(ground: Ground, sides: dict[str, Side], case: Case) -> dict[str, Result]:
    found = {
        "v1": await by_v1(ground, case, sides["v1"].keys[case.by]),
        "documented": await by_document(
            ground, case, sides["documented"].keys[case.by], sides["documented"].project_id
        ),
    }
    if not case.only_json:
        found["grpc"] = await by_grpc(ground, case, sides["grpc"].keys[case.by])
    return found


def _differences(case: Case, results: dict[str, Result], sides: dict[str, Side]) -> list[str]:
    """What is not as the table says, or on one surface not as on the others."""
    found: list[str] = []
    reason, faults = ("", ()) if case.refused is None else (case.refused.reason, tuple(sorted(case.refused.faults)))
    for surface, result in results.items():
        is_document = surface == "documented"
        status = expected_status(case) if is_document or case.refused is not None else 200
        code = (_told(case) if is_document else reason) if reason else ""
        if (result.status, result.code, result.faults) != (status, code, faults):
            found.append(
                f"{surface}: {(result.status, result.code, result.faults)} instead of {(status, code, faults)}"
            )
    if found or case.refused is not None:
        return found
    shown = {surface: comparable(result.answer, sides[surface].project_id) for surface, result in results.items()}
    if shown["grpc"] != shown["v1"]:
        found.append(f"grpc {shown['grpc']} and v1 {shown['v1']}")
    ours = _without(shown["v1"], leaves_out(case))
    if ours != shown["documented"]:
        found.append(f"v1 {ours} and documented {shown['documented']}")
    return found


def _told(case: Case) -> str:
    """The documented code."""
    assert case.refused is not None
    if case.refused.told:
        return case.refused.told
    reason = case.refused.faults[0][1] if case.refused.faults else case.refused.reason
    return reason if case.documented.split(" ")[1].startswith(("/audiences", "/admin")) else reason.lower()


def _without(answer: Any, names: frozenset[str]) -> Any:
    if "nextPageToken" in names:
        return {
            "journeys": [
                {name: value for name, value in each.items() if name != "goal"} for each in answer["journeys"]
            ],
            "hasMore": bool(answer.get("nextPageToken")),
        }
    return {name: value for name, value in answer.items() if name not in names}
