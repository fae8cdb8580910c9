"""What tests/acceptance/test_openapi.py does with few calls, with many; with very many, and others, in `make soak`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.devstack.postgres import EmbeddedPostgres
from tests.acceptance.ground import Ground, served_ground
from tests.acceptance.openapi_cases import ALL_NOUNS, answered_as_documented, labels, told
from tests.soak import SOAK

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200 if SOAK else 900)]

#: Of each operation.
CALLS = 300 if SOAK else 3


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    async with served_ground(postgres, template) as ground:
        yield ground


@pytest.mark.parametrize("documented", [False, True], ids=["v1", "documented"])
async def test_many_made_up_calls_are_answered_as_the_document_says(ground: Ground, documented: bool) -> None:
    project = await ground.project(f"made-up-{documented}".lower(), ALL_NOUNS)
    findings: list[str] = []
    for label in labels(documented=documented):
        try:
            await answered_as_documented(ground, project, label, calls=CALLS, fixed=not SOAK)
        except Exception as failure:  # All of them are told together.
            findings += [f"{label}: {finding}" for finding in told(failure)]

    assert findings == []
