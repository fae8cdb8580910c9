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

from orchestrator.client import OrchestratorClient, messages
from orchestrator.devstack.stack import Stack
from tests.acceptance.command_line import CommandLine

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(name: str, language: str = "") -> list[str]:
    """The blocks of a page in this language, in order; without one they are to be typed."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)
    return [text for written_in, text in found if written_in == language]


@pytest.fixture
def project_id() -> str:
    return f"p-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def typed(shared_stack: Stack, project_id: str) -> CommandLine:
    """What somebody has who types such commands: an address, and the key of the project's owner."""
    async with OrchestratorClient(shared_stack.addresses.grpc, shared_stack.keys.operator) as operator:
        project = messages.Project(id=project_id, name="Of one test")
        key = (await operator.projects.CreateProject(messages.CreateProjectRequest(project=project))).secret
    header = f"Authorization: Bearer {key}"
    return CommandLine(
        environment={
            "ORCHESTRATOR_ADDRESS": shared_stack.addresses.grpc,
            "ORCHESTRATOR_API_KEY": key,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "key": header,
            "owner": header,
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
    typed: CommandLine, shared_stack: Stack, project_id: str
) -> None:
    script = "\n".join(blocks("subjects.md")).replace("/projects/default", f"/projects/{project_id}")

    said = await ran(typed, script, shared_stack)
    anna = (await typed("subjects", "get", "anna", "-o", "json")).json

    assert anna["attributes"] == {"plan": "pro", "address": {"city": "Graz"}}
    assert anna["timeZone"] == "Europe/Vienna"
    assert '"shownFields": ["plan", "address.city"' in said.replace('":[', '": [').replace('","', '", "')
    assert '"optedOutAt"' in said
    assert "hard_bounce" in said
    assert (anna["optOuts"], anna["suppressions"]) == ([], [])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_events_are_taken_and_answered_as_the_page_says(typed: CommandLine, shared_stack: Stack) -> None:
    [sending] = blocks("events.md")
    [told] = blocks("events.md", "json")
    nameless = {"events": [
        {"eventId": "visit-4712", "name": "page_seen", "subjectId": "anna"},
        {"eventId": "order-17", "name": "purchase", "subjectId": "anna"},
        {"eventId": "order-18", "name": "", "subjectId": "anna"},
    ]}  # fmt: skip

    first = json.loads(await ran(typed, sending, shared_stack))
    again = json.loads(await ran(typed, sending, shared_stack))
    command = f"curl localhost:8080/v1/events -H \"$key\" -d '{json.dumps(nameless)}'"
    answered = json.loads(await ran(typed, command, shared_stack))
    timeline = (await typed("subjects", "timeline", "anna", "-o", "json")).json

    assert (first["acceptedCount"], again["duplicateCount"]) == (2, 2)
    assert answered == json.loads(told)
    assert sorted(item["eventName"] for item in timeline) == ["page_seen", "page_seen", "purchase"]


async def test_a_project_is_made_and_changed_as_the_page_says(typed: CommandLine, shared_stack: Stack) -> None:
    acme = f"p-{uuid.uuid4().hex[:12]}"
    making, changing = (block.replace("acme", acme) for block in blocks("projects.md"))

    made = await ran(typed.but(ORCHESTRATOR_OPERATOR_KEY=shared_stack.keys.operator), making, shared_stack)
    [secret] = set(re.findall(r"\borc_\w+", made))
    owner = typed.but(ORCHESTRATOR_API_KEY=secret)
    await ran(owner, changing, shared_stack)
    changed = (await owner("projects", "get", acme, "-o", "json")).json

    assert made.count(acme) == 2
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
    acme = f"p-{uuid.uuid4().hex[:12]}"
    script = re.sub(r"^docker compose exec( -T)? server ", "", typing, flags=re.MULTILINE).replace("acme", acme)
    variables = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["server"]["environment"]
    there = typed.but(ORCHESTRATOR_OPERATOR_KEY=shared_stack.keys.operator)

    said = await ran(there, f"cd {ROOT}\n{script}", shared_stack)

    assert {"ORCHESTRATOR_API_KEY", "ORCHESTRATOR_OPERATOR_KEY"} <= variables.keys()
    assert script.count("orchestrator ") == len(script.splitlines()) == 5
    assert "created, published" in said
    assert acme in said
