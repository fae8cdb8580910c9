"""What the README says can be done, is done."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from orchestrator.devstack.stack import Stack
from tests.acceptance.command_line import CommandLine
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
WELCOME = str(ROOT / "examples" / "welcome")


def block(having: str) -> str:
    """The block of code with these words in it."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (found,) = (code for code in blocks if having in code)
    return found


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


async def test_the_commands_work(run: CommandLine, database: str, temporal_address: str) -> None:
    run = run.but(DATABASE_URL=database, TEMPORAL_ADDRESS=temporal_address)
    await run("apply", "-f", WELCOME)
    lines = [shlex.split(line) for line in block("orchestrator journeys list").splitlines()]
    commands = [words[1:] for words in lines if words[0] == "orchestrator"]

    for command in commands:
        ran = await run(*command)
        assert ran.code == 0, ran.err

    assert len(commands) == len(lines) - 1 == 7
    assert (await run("executions", "list", "--subject", "anna", "-o", "json")).json[0]["journeyId"] == "welcome"


async def test_the_ten_lines_of_python_work(run: CommandLine, shared_stack: Stack, project_key: str) -> None:
    await run("apply", "-f", WELCOME)
    program = block("OrchestratorClient").replace("127.0.0.1:50051", shared_stack.addresses.grpc)

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program,
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"ORCHESTRATOR_API_KEY": project_key},
    )  # fmt: skip
    out, _ = await process.communicate()

    assert process.returncode == 0
    assert re.fullmatch(r"p-\w+/disp:welcome__v1__anna__\S+ is at (greet|look-around)\n", out.decode())


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_the_calls_with_curl_work(
    run: CommandLine, shared_stack: Stack, project_key: str, tmp_path: Path
) -> None:
    await run("apply", "-f", WELCOME)
    (tmp_path / ".orchestrator").mkdir()
    (tmp_path / ".orchestrator" / "owner.key").write_text(project_key)
    script = block("curl -X PUT").replace("localhost:8080", shared_stack.addresses.http).replace("curl ", "curl -sf ")

    process = await asyncio.create_subprocess_exec(
        "bash", "-eu", "-c", script, stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    out, _ = await process.communicate()

    assert process.returncode == 0, out
    assert '"acceptedCount":1' in out.decode()
    assert json.loads(out[out.rindex(b'{"id":"welcome"') :])["status"] == "paused"

    async def bert_travels() -> bool:
        found = await run("executions", "list", "--subject", "bert", "-o", "json")
        return bool(found.json)

    await eventually(bert_travels, within=30)
