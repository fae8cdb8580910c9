"""Starts a provider, tells it how to behave, reads what it wrote down."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from tests.provider.provider import Mode

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One request that reached the provider. `at` in epoch seconds; `text` is the message's, or a call's body. A call
    does not say whose it is.
    """

    key: str
    at: float
    accepted: bool
    subject_id: str
    execution_id: str = ""
    step_id: str = ""
    text: str = ""


class RunningProvider:
    """A provider process of this test."""

    def __init__(self, process: Process, port: int, file: Path) -> None:
        self._process = process
        self._file = file
        self._address = f"http://127.0.0.1:{port}"
        self.port = port

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        """Where messages go."""
        return f"{self._address}/hook"

    @property
    def step_url(self) -> str:
        """Where webhook steps call."""
        return f"{self._address}/step"

    async def set_mode(self, mode: Mode) -> None:
        async with httpx.AsyncClient() as client:
            answer = await client.put(f"{self._address}/mode", json=asdict(mode))
        answer.raise_for_status()

    def receipts(self) -> list[Receipt]:
        """Every request so far, in its order."""
        return [Receipt(**json.loads(line)) for line in self._file.read_text().splitlines()]

    def accepted(self) -> list[Receipt]:
        """The requests whose message it took."""
        return [receipt for receipt in self.receipts() if receipt.accepted]

    async def stop(self) -> None:
        """Ends the process; its file stays."""
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


@asynccontextmanager
async def running_provider(
    directory: Path, *, port: int = 0, honours_keys: bool = True
) -> AsyncIterator[RunningProvider]:
    """A provider with its receipts in `directory`, until the end of the block."""
    file = directory / "receipts.jsonl"
    arguments = ["--port", str(port), "--receipts", str(file)] + ([] if honours_keys else ["--no-keys"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.provider.provider", *arguments, stdout=PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    provider = RunningProvider(process, int(await process.stdout.readline()), file)
    try:
        yield provider
    finally:
        await provider.stop()
