"""What the README says can be done, is done."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.cli.demo_example import read_example
from orchestrator.cli.demo_recount import recount
from tests.acceptance.command_line import CommandLine
from tests.conftest import StartStack
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_what_the_demo_is_said_to_print_is_what_the_recount_says() -> None:
    example = read_example()
    expected = recount(example.people, example.events)
    visits = Counter((visit[0], visit[1]) for travel in expected.travels.values() for visit in travel.visits)

    printed = {words[0]: [int(word) for word in words[1:]] for words in _numbers(README)}

    results = ("executed", "skipped", "failed")
    assert {step: printed[step] for step in example.steps} == {
        step: [visits[step, result] for result in results] for step in example.steps
    }
    assert printed["completed"] == [len(expected.travels)]
    assert printed["sent"] == [sum(len(travel.sends) for travel in expected.travels.values())]
    assert {reason: printed[reason] for reason in expected.refused} == {
        reason: [count] for reason, count in expected.refused.items()
    }
    assert f"and {sum(expected.refused.values())} refused entries." in README


def _numbers(text: str) -> list[list[str]]:
    """Lines that are a word and numbers."""
    return [line.split() for line in text.splitlines() if re.fullmatch(r"[a-z_-]+( +\d+)+", line)]


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_everything_under_try_it_works_in_order_beside_a_running_stack(
    start_stack: StartStack, session_directory: Path
) -> None:
    place = session_directory / "readme"
    place.mkdir()
    for name in (".venv", "examples"):
        (place / name).symlink_to(ROOT / name)
    stack = await start_stack(
        data_dir=place / ".orchestrator", database_url="", temporal_address="", temporal_namespace=""
    )
    addresses = stack.addresses
    run = CommandLine(environment={"ORCHESTRATOR_DATA_DIR": str(place / ".orchestrator")})
    assert (await run("apply", "-f", str(ROOT / "examples" / "welcome"))).code == 0  # as `make run` has

    script = []
    for language, code in _blocks_of("Try it"):
        here = code.replace("127.0.0.1:50051", addresses.grpc).replace("localhost:8080", addresses.http)
        if language == "python":
            (place / here.partition("\n")[0].removeprefix("# ")).write_text(here)
        else:
            script.append(here.replace("curl ", "curl -sf "))
    # Whoever types takes longer to come to the last line than an event to be looked at.
    waiting = (
        f'until curl -sf "{addresses.http}/v1/executions?subjectId=bert" -H "$key" | grep -q bert; do sleep 0.1; done'
    )
    assert script[-1].count("\ncurl -sf -X POST") == 1
    script[-1] = script[-1].replace("\ncurl -sf -X POST", f"\n{waiting}\ncurl -sf -X POST")
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", "\n".join(script),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=place, env=_bare_environment(),
    )  # fmt: skip
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    said = out.decode()
    assert re.search(r"^disp:welcome__v1__anna__\S+ is at [\w-]+$", said, re.MULTILINE)
    assert '"acceptedCount":1' in said
    assert json.loads(said[said.rindex('{"id":"welcome"') :])["status"] == "paused"

    async def bert_travels() -> bool:
        return bool((await run("executions", "list", "--subject", "bert", "-o", "json")).json)

    await eventually(bert_travels, within=30)


def _blocks_of(heading: str) -> list[tuple[str, str]]:
    """The blocks of code under a heading of the second rank, with their languages."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    blocks: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return blocks


def _bare_environment() -> dict[str, str]:
    """That of somebody who has just come."""
    foreign = ("ORCHESTRATOR_", "DATABASE_", "TEMPORAL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
