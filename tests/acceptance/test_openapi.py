"""Whatever is sent to an operation of docs/openapi.json, the answer is one that it has: status, type, body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from orchestrator.devstack.postgres import EmbeddedPostgres
from tests.acceptance.ground import Ground, Project, served_ground
from tests.acceptance.openapi_cases import ALL_NOUNS, answered_as_documented, labels

#: Of each operation. `tests/faults/test_openapi.py` makes more; what good calls are answered is looked at in
#: `test_roles.py`, too.
CALLS_OF_V1, CALLS_OF_DOCUMENTS = 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnished:
    ground: Ground
    project: Project


@pytest.fixture(scope="module")
async def furnished(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Furnished]:
    async with served_ground(postgres, template) as ground:
        yield Furnished(ground=ground, project=await ground.project("made-up-calls", ALL_NOUNS))


@pytest.mark.parametrize("label", labels(documented=False))
async def test_made_up_calls_of_v1_are_answered_as_the_document_says(furnished: Furnished, label: str) -> None:
    await answered_as_documented(furnished.ground, furnished.project, label, calls=CALLS_OF_V1, fixed=True)


@pytest.mark.parametrize("label", labels(documented=True))
async def test_made_up_documented_calls_are_answered_as_the_document_says(furnished: Furnished, label: str) -> None:
    await answered_as_documented(furnished.ground, furnished.project, label, calls=CALLS_OF_DOCUMENTS, fixed=True)
