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
from tests.acceptance.contract_cases import CASES
from tests.acceptance.contract_cases.case import Case
from tests.acceptance.contract_surfaces import (
    Result,
    by_document,
    by_grpc,
    by_v1,
    comparable,
    expected_status,
    leaves_out,
    route_of,
)
from tests.acceptance.ground import Ground, served_ground
from tests.integration.api.conftest import INTERNAL_TOKEN

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
    keys["internal"] = INTERNAL_TOKEN
    for role in (Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.OWNER):
        keys[role.name.lower()] = await ground.keys.admit(role, project.project_no)
    return Side(project_id=project.project_id, keys=keys)


def test_every_documented_route_has_a_case_that_succeeds() -> None:
    routes = {re.sub(r"\{[a-z_.]+\}", "*", f"{row.verb} {row.path}") for row in ROWS}

    assert {route_of(case) for case in CASES if case.refused is None} == routes


async def test_every_case_ends_alike_on_every_surface(ground: Ground) -> None:
    sides = {surface: await _side(ground, surface) for surface in _SURFACES}
    differing: list[str] = []
    for case in CASES:
        results = await _results(ground, sides, case)
        differing += [f"{case.name}: {text}" for text in _differences(case, results, sides)]

    assert not differing, "\n".join(differing)


async def _results(ground: Ground, sides: dict[str, Side], case: Case) -> dict[str, Result]:
    ways = {"v1": by_v1, "documented": by_document}
    if not case.only_json:
        ways["grpc"] = by_grpc
    return {
        surface: await make(ground, case, sides[surface].keys[case.by], sides[surface].project_id)
        for surface, make in ways.items()
    }


def _differences(case: Case, results: dict[str, Result], sides: dict[str, Side]) -> list[str]:
    """What is not as the table says, or on one surface not as on the others."""
    refused = case.refused
    found: list[str] = []
    for surface, result in results.items():
        is_document = surface == "documented"
        status = expected_status(case) if is_document or refused is not None else 200
        faults = () if refused is None else tuple(sorted(refused.faults))
        if (result.status, result.faults) != (status, faults) or result.code != _code(case, is_document):
            found.append(f"{surface}: {result} instead of {status}, {_code(case, is_document)}, {faults}")
    if found or refused is not None:
        return found
    shown = {surface: comparable(result.answer, sides[surface].project_id) for surface, result in results.items()}
    left_out = leaves_out(case)
    ours, typed = _without(shown["v1"], left_out & _TOKENS), _without(shown["grpc"], left_out & _TOKENS)
    if ours != typed:
        found.append(f"grpc {typed} and v1 {ours}")
    if _without(shown["v1"], left_out) != shown["documented"]:
        found.append(f"v1 {_without(shown['v1'], left_out)} and documented {shown['documented']}")
    return found


def _code(case: Case, is_document: bool) -> str:
    """The reason of the refusal, or what the document says instead."""
    refused = case.refused
    if refused is None:
        return ""
    if not is_document:
        return refused.reason
    if refused.told:
        return refused.told
    reason = refused.faults[0][1] if refused.faults else refused.reason
    return reason if case.documented.split(" ")[1].startswith(("/audiences", "/admin")) else reason.lower()


#: What says that there is more: no two lists have the same.
_TOKENS = frozenset({"nextPageToken"})


def _without(answer: Any, names: frozenset[str]) -> Any:
    """Of a page: of its elements, and whether there is more."""
    if names >= _TOKENS:
        journeys = [_without(each, names - _TOKENS) for each in answer["journeys"]]
        return {"journeys": journeys, "hasMore": bool(answer.get("nextPageToken"))}
    return {name: value for name, value in answer.items() if name not in names}
