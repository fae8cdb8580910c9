"""Where programs that are not Python packages are kept once fetched."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import platformdirs

import orchestrator
from orchestrator.devstack.failure import StackFailure

#: Tells a person what is going on; one sentence at a time.
Talk = Callable[[str], None]


def tools_directory() -> Path:
    """`.tools` at the root of a checkout, else a directory of the user's cache."""
    root = Path(orchestrator.__file__).parent.parent.parent
    if (root / "pyproject.toml").is_file() and (root / "migrations").is_dir():
        return root / ".tools"
    return platformdirs.user_cache_path("orchestrator") / "tools"


@asynccontextmanager
async def fetching(tools: Path, talk: Talk) -> AsyncIterator[None]:
    """One at a time, over all processes of the machine: the second finds what the first has fetched."""
    descriptor = _open_lock(tools)
    try:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    talk("Another process is fetching; waiting for it.")
                    told = True
                await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _open_lock(tools: Path) -> int:
    try:
        tools.mkdir(parents=True, exist_ok=True)
        return os.open(tools / "fetch.lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise StackFailure(f"Cannot write to {tools}: {error.strerror}.") from error
