"""What the five documents show is sent as it stands and answered as they say.

documents.json has each block in their order, with what had to be repaired: host, keys, placeholders, what was lost when
they were copied. An answer may have more members than its document shows; those that it shows have its types.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.documented.rows import ROWS
from orchestrator.devstack.postgres import EmbeddedPostgres
from tests.acceptance.ground import EVERYONE, Ground, served_ground
from tests.acceptance.raw_calls import HttpRequest

BLOCKS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "documents.json").read_text())
#: What the blocks name and do not make.
COHORTS = ("100073", "power-users", "trial", "active", "churned", "suppressed")


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    async with served_ground(postgres, template) as ground:
        yield ground


async def test_every_block_of_the_documents_is_answered_as_they_say(ground: Ground) -> None:
    project = await ground.project("documents", ())
    for name in COHORTS:
        await ground.http.document(project.owner_key, "POST", "/v1/segments", {"id": name, "name": name})
    audience = {"id": "aud-1", "name": "A", "predicate": EVERYONE}
    await ground.http.document(project.owner_key, "POST", "/v1/audiences", audience)
    for block in BLOCKS:
        verb, path = block["call"].replace("{project}", project.project_id).split(" ")
        body = json.dumps(block["body"]).encode() if "body" in block else None
        cookie = (("Cookie", f"session={project.owner_key}"),) if block.get("cookie") else ()
        request = HttpRequest(verb=verb, path=path, body=body, headers=cookie)

        status, _, answer = await ground.http.send(request, None if cookie else project.owner_key)

        assert status == block["status"], (block["block"], answer)
        if "answer" in block:
            document = json.loads(answer)
            _assert_shown(block["answer"], document, block["block"])
            assert document["error"]["code"] == block["code"] if "code" in block else True, block["block"]


def test_blocks_come_from_every_document_and_say_what_was_repaired() -> None:
    assert {block["document"] for block in BLOCKS} == {
        *("audience-filters", "audiences", "segments", "journeys", "journeys-v1"),
    }
    assert all(block["repairs"] for block in BLOCKS)
    assert len(BLOCKS) > len(ROWS)


def _assert_shown(shown: Any, found: Any, where: str) -> None:
    """All that is shown is there, with the same types."""
    match shown:
        case dict():
            assert isinstance(found, dict), where
            for name, member in shown.items():
                assert name in found, (where, name)
                _assert_shown(member, found[name], f"{where}: {name}")
        case list():
            assert isinstance(found, list), where
            assert len(found) >= len(shown), where
            for element, other in zip(shown, found, strict=False):
                _assert_shown(element, other, where)
        case bool() | None:
            assert found is shown, where
        case int() | float():
            assert isinstance(found, int | float), where
        case _:
            assert isinstance(found, str), where
