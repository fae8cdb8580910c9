"""Whatever is sent to an operation of docs/openapi.json, the answer is one that it has: status, type, body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from orchestrator.devstack.postgres import EmbeddedPostgres
from tests.acceptance.ground import Ground, Project, served_ground
from tests.acceptance.openapi_cases import ALL_NOUNS, OPERATIONS, answered_as_documented

#: Of each operation. `tests/faults/test_openapi.py` makes more.
CALLS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnished:
    ground: Ground
    project: Project


@pytest.fixture(scope="module")
async def furnished(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Furnished]:
    async with served_ground(postgres, template) as ground:
        yield Furnished(ground=ground, project=await ground.project("made-up-calls", ALL_NOUNS))


@pytest.mark.parametrize("label", OPERATIONS)
async def test_made_up_calls_are_answered_as_the_document_says(furnished: Furnished, label: str) -> None:
    await answered_as_documented(furnished.ground, furnished.project, label, calls=CALLS, fixed=True)
