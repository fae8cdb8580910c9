"""The commands of pages for people who begin work as they stand, in order."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from orchestrator.devstack.stack import Stack
from tests.acceptance.command_line import CommandLine

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(name: str) -> list[str]:
    """What is to be typed, in order."""
    return re.findall(r"^```\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


@pytest.fixture
def typed(shared_stack: Stack, project_key: str) -> CommandLine:
    """What somebody has who types such commands: a key, and an address."""
    return CommandLine(
        environment={
            "ORCHESTRATOR_ADDRESS": shared_stack.addresses.grpc,
            "ORCHESTRATOR_API_KEY": project_key,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "key": f"Authorization: Bearer {project_key}",
        }
    )


async def ran(typing: CommandLine, script: str, stack: Stack) -> str:
    """What it prints. Fails where one of its commands does."""
    script = script.replace("localhost:8080", stack.addresses.http).replace("curl ", "curl -sS --fail-with-body ")
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=typing.environment
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{script}\n{out.decode()}{err.decode()}"
    return out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_a_subject_is_written_opts_out_and_is_suppressed_as_the_page_says(
    typed: CommandLine, shared_stack: Stack, run: CommandLine
) -> None:
    said = [await ran(typed, block, shared_stack) for block in blocks("subjects.md")]
    anna = (await run("subjects", "get", "anna", "-o", "json")).json

    assert len(said) == 3
    assert anna["attributes"] == {"plan": "pro", "address": {"city": "Graz"}}
    assert anna["timeZone"] == "Europe/Vienna"
    assert '"optedOutAt"' in said[1]
    assert "hard_bounce" in said[2]
    assert (anna["optOuts"], anna["suppressions"]) == ([], [])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_events_are_taken_and_answered_as_the_page_says(
    typed: CommandLine, shared_stack: Stack, run: CommandLine
) -> None:
    [sending] = blocks("events.md")
    [told] = re.findall(r"^```json\n(.*?)^```$", page("events.md"), re.MULTILINE | re.DOTALL)
    nameless = {"events": [
        {"eventId": "visit-4712", "name": "page_seen", "subjectId": "anna"},
        {"eventId": "order-17", "name": "purchase", "subjectId": "anna"},
        {"eventId": "order-18", "name": "", "subjectId": "anna"},
    ]}  # fmt: skip

    first = json.loads(await ran(typed, sending, shared_stack))
    again = json.loads(await ran(typed, sending, shared_stack))
    command = f"curl localhost:8080/v1/events -H \"$key\" -d '{json.dumps(nameless)}'"
    answered = json.loads(await ran(typed, command, shared_stack))
    timeline = (await run("subjects", "timeline", "anna", "-o", "json")).json

    assert (first["acceptedCount"], again["duplicateCount"]) == (2, 2)
    assert answered == json.loads(told)
    assert sorted(item["eventName"] for item in timeline) == ["page_seen", "page_seen", "purchase"]


async def test_a_project_is_made_and_changed_as_the_page_says(typed: CommandLine, shared_stack: Stack) -> None:
    project_id = f"p-{uuid.uuid4().hex[:12]}"
    making, changing = (block.replace("acme", project_id) for block in blocks("projects.md"))

    made = await ran(typed.but(ORCHESTRATOR_OPERATOR_KEY=shared_stack.keys.operator), making, shared_stack)
    [secret] = set(re.findall(r"\borc_\w+", made))
    owner = typed.but(ORCHESTRATOR_API_KEY=secret)
    await ran(owner, changing, shared_stack)
    changed = (await owner("projects", "get", project_id, "-o", "json")).json

    assert made.count(project_id) == 2
    assert changed["name"] == "Acme Ltd"
    assert changed["settings"]["timeZone"] == "Europe/Berlin"
    assert changed["settings"]["goalWindow"] == "2w"
    assert "quietHours" not in changed["settings"]


async def test_what_is_typed_beside_containers_works_with_what_their_server_is_told(
    typed: CommandLine, shared_stack: Stack
) -> None:
    """Without the containers: what the command line is told there, and what it is asked for."""
    readme = (ROOT / "README.md").read_text()
    [typing] = re.findall(r"^```\n(docker compose exec.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    project_id = f"p-{uuid.uuid4().hex[:12]}"
    script = re.sub(r"^docker compose exec( -T)? server ", "", typing, flags=re.MULTILINE).replace("acme", project_id)
    variables = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["server"]["environment"]
    there = typed.but(ORCHESTRATOR_OPERATOR_KEY=shared_stack.keys.operator)

    said = await ran(there, f"cd {ROOT}\n{script}", shared_stack)

    assert {"ORCHESTRATOR_API_KEY", "ORCHESTRATOR_OPERATOR_KEY"} <= variables.keys()
    assert script.count("orchestrator ") == len(script.splitlines()) == 5
    assert "created, published" in said
    assert project_id in said
