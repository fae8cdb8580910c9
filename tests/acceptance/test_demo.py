"""The demo, and that it notices what is wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.cli.demo import judge, run_example
from orchestrator.cli.demo_example import read_example
from orchestrator.cli.kinds import JOURNEY
from orchestrator.client import OrchestratorClient
from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.stack import Stack
from tests.acceptance.command_line import CommandLine

if TYPE_CHECKING:
    from asyncpg import Connection, Record

pytestmark = pytest.mark.timeout(420)

TITLES = ("executions by outcome", "visits by step", "sends by outcome", "refused by reason", "wall time")


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    grpc, http, metrics = free_ports(3)
    return [
        "--data-dir", str(tmp_path / "data"), "--grpc-port", str(grpc), "--http-port", str(http),
        "--metrics-port", str(metrics), "--workers", "1",
    ]  # fmt: skip


@pytest.fixture
def elsewhere(database: str, temporal_address: str, temporal_namespace: str) -> CommandLine:
    """Postgres and Temporal are there already."""
    return CommandLine(
        environment={
            "DATABASE_URL": database,
            "TEMPORAL_ADDRESS": temporal_address,
            "TEMPORAL_NAMESPACE": temporal_namespace,
        }
    )


async def test_the_demo_holds_what_it_promises_and_so_it_does_again_in_the_same_place(
    elsewhere: CommandLine, flags: list[str], owner: Connection[Record]
) -> None:
    first = await elsewhere("demo", *flags)
    second = await elsewhere("demo", *flags)
    diagnosis = await elsewhere("doctor")

    for ran in (first, second):
        assert ran.code == 0, ran.out + ran.err
        assert all(title in ran.out for title in TITLES)
        assert "The ledgers equal the recount: 200 people" in ran.out
        assert "in Temporal: workflow disp:welcome__v1__u" in ran.out
    assert await owner.fetchval("SELECT count(*) FROM journey_versions") == 1
    assert await owner.fetchval("SELECT count(DISTINCT subject_id) FROM subjects") == 400
    assert diagnosis.code == 0, diagnosis.out


async def test_kept_it_serves_until_it_is_told_to_stop(
    elsewhere: CommandLine, flags: list[str], tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator.cli", "demo", "--keep", *flags,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment | elsewhere.environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines = []
        while "ready" not in lines and (line := await process.stdout.readline()):
            lines.append(line.decode().rstrip())
        run = CommandLine(
            environment={
                "ORCHESTRATOR_ADDRESS": f"127.0.0.1:{flags[flags.index('--grpc-port') + 1]}",
                "ORCHESTRATOR_DATA_DIR": str(tmp_path / "data"),
            }
        )
        journeys = await run("journeys", "list", "-o", "json")
    finally:
        process.send_signal(signal.SIGTERM)
    code = await process.wait()

    assert any(line.startswith("The ledgers equal") for line in lines)
    assert [journey["id"] for journey in journeys.json] == ["welcome"]
    assert code == 0


async def test_one_step_changed_in_the_ledger_makes_it_fail(
    running_stack: Stack, owner: Connection[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    async with OrchestratorClient(running_stack.addresses.grpc, running_stack.keys.owner) as client:
        done = await run_example(client, read_example())
        before = await judge(client, done, temporal_ui="", namespace="")
        told_before = capsys.readouterr().out

        subject_id = await owner.fetchval(
            """
            UPDATE visits AS v SET reason = 'bought' FROM subjects AS s
             WHERE (s.project_no, s.bucket, s.subject_no) = (v.project_no, v.bucket, v.subject_no)
               AND v.execution_id = (SELECT execution_id FROM visits WHERE reason = 'otherwise' LIMIT 1)
               AND v.reason = 'otherwise'
            RETURNING s.subject_id
            """
        )
        await owner.execute(
            """
            UPDATE refusal_counts SET total = total + 1
             WHERE reason = 'audience' AND shard = (SELECT min(shard) FROM refusal_counts WHERE reason = 'audience')
            """
        )
        after = await judge(client, done, temporal_ui="", namespace="")
        told_after = capsys.readouterr().out

    assert before == 0, told_before
    assert after == 1
    assert "The ledgers differ from the recount in 2 places" in told_after
    difference = next(line for line in told_after.splitlines() if line.startswith(f"{subject_id} "))
    assert difference.split() == [
        subject_id, "visit", "bought-something", "executed", "otherwise", "bought-something", "executed", "bought",
    ]  # fmt: skip
    assert "refused: audience" in told_after


async def test_a_branch_that_leads_elsewhere_makes_it_fail(
    running_stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_example()
    people = whole.people[:40]
    ids = {person["id"] for person in people}
    example = replace(whole, people=people, events=[event for event in whole.events if event["subjectId"] in ids])
    (journey,) = (document for document in example.documents if document.kind is JOURNEY)
    branch = next(step.branch for step in journey.resource.definition.steps if step.id == "bought-something")
    branch.otherwise = "done"

    async with OrchestratorClient(running_stack.addresses.grpc, running_stack.keys.owner) as client:
        done = await run_example(client, example)
        code = await judge(client, done, temporal_ui="http://127.0.0.1:1", namespace="default")
    told = capsys.readouterr().out

    assert code == 1
    assert "nudge executed" in told
    assert "http://127.0.0.1:1/namespaces/default/workflows/disp%3Awelcome__v1__u0" in told
