"""A Temporal development server of our own: a file database, tuned as measured, with our search attributes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import Process, start_process
from orchestrator.temporal.client import Target, connect, missing_search_attributes
from orchestrator.temporal.contract import SEARCH_ATTRIBUTES

_START_TIMEOUT = 60.0
_CONNECT_TIMEOUT = 10.0

#: Without the first two the file database does 18 workflows a second, with them 109.
_PRAGMAS = ("journal_mode=wal", "synchronous=1")
#: As in deploy/temporal.yaml, with reasons.
DYNAMIC_CONFIG: Mapping[str, bool | int | str] = {
    "system.enableActivityEagerExecution": True,
    "matching.useNewMatcher": True,
    "history.workflowTaskRetryMaxInterval": "10s",
    "history.transferProcessorMaxPollRPS": 200,
    "history.timerProcessorMaxPollRPS": 200,
    "history.transferProcessorUpdateAckInterval": "2s",
    "history.visibilityProcessorUpdateAckInterval": "2s",
}


class EmbeddedTemporal:
    """Temporal on 127.0.0.1, its state in the file `database`. `ui_port=None` starts it without its pages; these ask
    `codec` what encrypted payloads say, if it is not empty.
    """

    def __init__(
        self, program: Path, *, database: Path, log: Path, port: int, ui_port: int | None, codec: str = ""
    ) -> None:
        self._program = program
        self._database = database
        self._log = log
        self._port = port
        self._ui_port = ui_port
        self._codec = codec

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> Process:
        """Starts the server and returns once it answers with our search attributes; its process is the caller's.

        Raises StackFailure with the server's own last words.
        """
        process = await start_process("temporal", self._command(), log=self._log, env=_environment())
        try:
            client = await self._answers(process)
            missing = await missing_search_attributes(client)
            if missing:
                raise StackFailure(f"Temporal started without the search attributes {', '.join(missing)}.")
        except BaseException:
            await process.stop(grace=10)
            raise
        return process

    def _command(self) -> list[str | Path]:
        ui = ["--headless"] if self._ui_port is None else ["--ui-port", str(self._ui_port)]
        if self._codec:
            ui += ["--ui-codec-endpoint", self._codec]
        return [
            self._program, "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self._port), *ui,
            "--db-filename", self._database, "--log-level", "warn",
            *(f"--sqlite-pragma={pragma}" for pragma in _PRAGMAS),
            *(f"--dynamic-config-value={name}={json.dumps(value)}" for name, value in DYNAMIC_CONFIG.items()),
            *(f"--search-attribute={name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()),
        ]  # fmt: skip

    async def _answers(self, process: Process) -> Client:
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT
        while True:
            if process.returncode is not None:
                raise StackFailure(f"Temporal did not start: {process.last_words()} (log: {self._log}).")
            try:
                # A plain connection first: the SDK's own attempts are slow to fail and loud.
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                return await asyncio.wait_for(Client.connect(self.address), _CONNECT_TIMEOUT)
            except (OSError, TimeoutError, RuntimeError, RPCError):
                if asyncio.get_running_loop().time() > deadline:
                    raise StackFailure(
                        f"Temporal did not answer within {_START_TIMEOUT:.0f} s (log: {self._log})."
                    ) from None
                await asyncio.sleep(0.05)


async def connect_elsewhere(target: Target) -> Client:
    """A client of a Temporal that is not ours to start. Raises StackFailure if it does not answer."""
    try:
        return await asyncio.wait_for(connect(target), _CONNECT_TIMEOUT)
    except (OSError, TimeoutError, RuntimeError, ValueError, RPCError) as error:
        why = str(error).splitlines()[0] if str(error) else f"no answer within {_CONNECT_TIMEOUT:.0f} s"
        raise StackFailure(
            f"Temporal at {target.address} (TEMPORAL_ADDRESS) cannot be reached: {why}. "
            "Start it, mend the address, or unset the variable to have one started here."
        ) from error


def _environment() -> dict[str, str]:
    """The user's own Temporal settings are for the user's own Temporal, and our keys for us."""
    foreign = ("TEMPORAL_", "ORCHESTRATOR_", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
