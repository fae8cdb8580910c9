from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.temporal import EmbeddedTemporal, connect_elsewhere
from orchestrator.devstack.temporal_cli import ensure_temporal
from orchestrator.temporal.client import Target, missing_search_attributes


@workflow.defn(sandboxed=False)
class Sleeper:
    @workflow.run
    async def run(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"


async def server_in(directory: Path, port: int) -> EmbeddedTemporal:
    program = await ensure_temporal(talk=lambda sentence: None)
    database, log = directory / "temporal.db", directory / "log"
    return EmbeddedTemporal(program, database=database, log=log, port=port, ui_port=None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_waits_goes_on_after_the_server_was_stopped_or_killed(
    tmp_path: Path, number: signal.Signals
) -> None:
    server = await server_in(tmp_path, free_ports(1)[0])
    process = await server.start()
    client = await Client.connect(server.address)
    started: WorkflowHandle[Sleeper, str] = await client.start_workflow(
        Sleeper.run, 0.5, id="sleeper", task_queue="sleepers"
    )

    process.send(number)
    await process.wait()
    process = await server.start()
    client = await Client.connect(server.address)
    async with Worker(client, task_queue="sleepers", workflows=[Sleeper]):
        result = await client.get_workflow_handle(started.id, result_type=str).result()

    assert result == "slept"
    await process.stop(grace=10)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").write_text("this is no database")

    with pytest.raises(StackFailure, match=r"Temporal did not start: .*\(log: .*log\)"):
        await (await server_in(tmp_path, free_ports(1)[0])).start()


async def test_each_test_has_a_namespace_of_its_own_with_our_search_attributes(temporal: Client) -> None:
    project = SearchAttributePair(SearchAttributeKey.for_keyword("OrchestratorProject"), "default")

    async with Worker(temporal, task_queue="sleepers", workflows=[Sleeper]):
        result = await temporal.execute_workflow(
            Sleeper.run, 0, id="sleeper", task_queue="sleepers", search_attributes=TypedSearchAttributes([project])
        )

    assert result == "slept"
    assert await missing_search_attributes(temporal) == []


async def test_a_temporal_elsewhere_that_does_not_answer_is_named() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"

    with pytest.raises(StackFailure, match=rf"Temporal at {address} \(TEMPORAL_ADDRESS\) cannot be reached"):
        await connect_elsewhere(Target(address=address))


async def test_a_month_passes_in_a_moment(time_skipping: WorkflowEnvironment) -> None:
    month = timedelta(days=30)
    async with Worker(time_skipping.client, task_queue="sleepers", workflows=[Sleeper]):
        started = await time_skipping.client.start_workflow(
            Sleeper.run, month.total_seconds(), id="sleeper", task_queue="sleepers"
        )
        before = await time_skipping.get_current_time()
        await time_skipping.sleep(month)
        assert await started.result() == "slept"

    assert await time_skipping.get_current_time() - before >= month


async def test_where_it_can_be_neither_downloaded_nor_built_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")

    with pytest.raises(StackFailure, match=r"install Go or the temporal command .* or set TEMPORAL_ADDRESS"):
        await ensure_temporal(talk=said.append, tools=tmp_path / "tools")

    assert any("download failed" in sentence for sentence in said)
    assert said[-1] == "Go is not installed, so Temporal cannot be built from source either."
    assert not list((tmp_path / "tools").glob("bin/*"))


async def test_the_program_on_the_path_comes_before_the_one_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, installed = tmp_path / "tools" / "bin" / "temporal", tmp_path / "bin" / "temporal"
    for program in (fetched, installed):
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)

    monkeypatch.setenv("PATH", str(installed.parent))
    assert await ensure_temporal(talk=sys.exit, tools=tmp_path / "tools") == installed

    monkeypatch.setenv("PATH", str(tmp_path))
    assert await ensure_temporal(talk=sys.exit, tools=tmp_path / "tools") == fetched
