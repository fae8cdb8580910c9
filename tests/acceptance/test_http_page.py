"""Every curl of docs/http.md is run, in order, and answers as the page says: status, members, types.

In a list of the page, "…" stands for elements like that before it or that after it.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.documented.rows import ROWS
from orchestrator.devstack.postgres import EmbeddedPostgres
from tests.acceptance.ground import served_ground
from tests.integration.api.conftest import INTERNAL_TOKEN, OWNER_KEY

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
#: (command, status, answer)
CALLS = re.findall(r"^```sh\n(curl [^\n]*)\n```\n\n```json (\d+)\n(.*?)```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_route_has_a_line_in_the_tables_and_a_curl() -> None:
    lines = {line for line in PAGE.splitlines() if line.startswith("| `")}
    for row in ROWS:
        path = re.sub(r"\{(audience|journey)[._]id\}", "{id}", re.sub(r"\{segment[._]id\}", "{segmentId}", row.path))
        told = path.replace("/admin/projects/{project_id}", "…")
        verb = {"pause": "pause`, `/resume", "resume": "pause`, `/resume"}.get(row.path.rpartition("/")[2])
        told = told.rpartition("/")[0] + "/" + verb if verb else told
        assert any(line.startswith(f"| `{row.verb} {told}") for line in lines), row
        assert any(_is_of(row.verb, row.path, command) for command, _, _ in CALLS), row


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_every_curl_answers_as_the_page_says(postgres: EmbeddedPostgres, template: str) -> None:
    assert len(CALLS) == PAGE.count("\n```sh\n")
    async with served_ground(postgres, template) as ground:
        for command, status, answer in CALLS:
            here = command.replace("localhost:8080", ground.http.address)
            process = await asyncio.create_subprocess_shell(
                here.replace("curl ", r"curl -s -w '\n%{http_code}' ", 1),
                stdout=asyncio.subprocess.PIPE,
                env={"KEY": OWNER_KEY, "TOKEN": INTERNAL_TOKEN, "PATH": "/usr/local/bin:/usr/bin:/bin"},
            )
            out, _ = await process.communicate()
            body, _, told = out.decode().rpartition("\n")

            assert told == status, (command, body)
            assert (body == "") == (answer == ""), command
            if body:
                assert _shape(_as_short(json.loads(body), json.loads(answer))) == _shape(json.loads(answer)), command


def _is_of(verb: str, path: str, command: str) -> bool:
    pattern = re.sub(r"\\\{.*?\\\}", "[^/ ?']+", re.escape(path))
    sent = re.search(r"-X (\w+)", command)
    return (sent[1] if sent else "GET") == verb and bool(re.search(rf"8080{pattern}[ ?']", command))


def _as_short(found: Any, told: Any) -> Any:
    """What was found, with "…" in each list where the page has it, for elements that are like those beside it."""
    match found, told:
        case dict(), dict():
            return {name: _as_short(member, told.get(name)) for name, member in found.items()}
        case list(), list() if "…" in told:
            before, after = told.index("…"), told[::-1].index("…")
            left_out = found[before : len(found) - after]
            assert len(left_out) > 1
            shapes = [_shape(told[before - 1]), _shape(told[-after])]
            assert all(_shape(element) in shapes for element in left_out)
            return [*found[:before], "…", *found[len(found) - after :]]
        case _:
            return found


def _shape(value: Any) -> Any:
    """The members and their types; of numbers and texts, that they are such."""
    match value:
        case dict():
            return {name: _shape(member) for name, member in value.items()}
        case list():
            return [_shape(element) for element in value]
        case bool() | None:
            return value
        case int() | float():
            return "a number"
        case _:
            return "a text"
