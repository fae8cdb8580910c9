"""The `temporal` program, which contains the development server: found, downloaded, or built."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

from orchestrator.devstack.download import download
from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import Process, start_process
from orchestrator.devstack.toolbox import Talk, fetching, tools_directory

#: The last version that `go install` can build; later ones have replace directives.
_MODULE = "github.com/temporalio/cli/cmd/temporal@v1.5.1"
_BUILD_TIMEOUT = 40 * 60.0
_PROGRESS_EVERY = 10.0


def find_temporal(tools: Path) -> Path | None:
    """The program on PATH, else the one fetched earlier."""
    on_path = shutil.which("temporal")
    if on_path is not None:
        return Path(on_path)
    fetched = tools / "bin" / "temporal"
    return fetched if os.access(fetched, os.X_OK) else None


async def ensure_temporal(*, talk: Talk, tools: Path | None = None) -> Path:
    """The program, fetched if it must be: at once, or in seconds, or built with Go in a few minutes.

    Raises StackFailure with what was tried and what a person can do.
    """
    tools = tools_directory() if tools is None else tools
    found = find_temporal(tools)
    if found is not None:
        return found
    async with fetching(tools, talk):
        found = find_temporal(tools)
        if found is not None:
            return found
        talk("Temporal is not on this machine yet.")
        target = tools / "bin" / "temporal"
        if await download("dev-server", target, talk=talk) or await _build(target, talk=talk):
            talk(f"Temporal is in {target}.")
            return target
    raise StackFailure(
        "Temporal could be neither downloaded nor built (see above): install Go or the temporal command "
        "(https://docs.temporal.io/cli), or set TEMPORAL_ADDRESS to a Temporal that runs elsewhere."
    )


async def _build(target: Path, *, talk: Talk) -> bool:
    go = shutil.which("go")
    if go is None:
        talk("Go is not installed, so Temporal cannot be built from source either.")
        return False
    talk("Building Temporal with Go: 2 to 5 minutes, once.")
    staging = target.parent.parent / "build"
    log = target.parent.parent / "build.log"
    shutil.rmtree(staging, ignore_errors=True)
    log.unlink(missing_ok=True)
    process = await start_process(
        "go install",
        [go, "install", "-v", "-trimpath", "-ldflags=-s -w", _MODULE],
        log=log,
        env=_go_environment(staging, target.parent.parent),
    )
    try:
        code = await _watch(process, talk)
        if code == 0:
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / "temporal").replace(target)
            return True
        talk(f"The build failed: {process.last_words()} (log: {log})")
    except TimeoutError:
        talk(f"The build took longer than {_BUILD_TIMEOUT / 60:.0f} minutes and was given up (log: {log}).")
    finally:
        await process.stop(grace=5)
        shutil.rmtree(staging, ignore_errors=True)
    return False


async def _watch(process: Process, talk: Talk) -> int:
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < _BUILD_TIMEOUT:
        try:
            return await asyncio.wait_for(process.wait(), _PROGRESS_EVERY)
        except TimeoutError:
            with process.log.open("rb") as log:
                packages = sum(1 for line in log if b": downloading" not in line)
            talk(f"  {elapsed + _PROGRESS_EVERY:.0f} s: {packages} packages compiled")
    raise TimeoutError


def _go_environment(staging: Path, tools: Path) -> dict[str, str]:
    environment = dict(os.environ)
    # No C compiler is needed, and a cross-compiling user gets a program for this machine.
    environment |= {"GOBIN": str(staging), "CGO_ENABLED": "0", "GO111MODULE": "on", "GOWORK": "off"}
    for name in ("GOOS", "GOARCH"):
        environment.pop(name, None)
    if not environment.get("HOME"):
        environment.setdefault("GOPATH", str(tools / "go"))
        environment.setdefault("GOCACHE", str(tools / "go-build"))
    return environment
