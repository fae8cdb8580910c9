"""The command line as people and scripts have it: a process with arguments, an exit code and two streams."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """Runs commands with these settings and none of ours."""

    environment: dict[str, str] = field(default_factory=dict)

    def but(self, **environment: str) -> CommandLine:
        """The same with other settings."""
        return CommandLine(environment=self.environment | environment)

    async def __call__(self, *arguments: str, stdin: str | bytes = "", pipe: str = "cat") -> Ran:
        """`pipe` is the program that reads what comes out."""
        foreign = ("ORCHESTRATOR_", "DATABASE_", "TEMPORAL_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        command = shlex.join([sys.executable, "-m", "orchestrator.cli", *arguments])
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", f"{command} | {pipe}; exit ${{PIPESTATUS[0]}}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment | self.environment,
        )  # fmt: skip
        out, err = await process.communicate(stdin if isinstance(stdin, bytes) else stdin.encode())
        assert process.returncode is not None
        assert "Traceback" not in err.decode(), err.decode()
        return Ran(code=process.returncode, out=out.decode(), err=err.decode())
