"""Temporal's own download of its servers, tried briefly: many networks do not let one reach it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import run_to_end
from orchestrator.devstack.toolbox import Talk

_HOST = "temporal.download"
_CONNECT_TIMEOUT = 5.0
_TIMEOUT = 120.0
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


async def download(which: str, target: Path, *, talk: Talk) -> bool:
    """Tries to get `dev-server` or `time-skipping` as the executable `target`; False, having said why, if it fails."""
    why_not = await _unreachable()
    if why_not is not None:
        talk(f"{_HOST} cannot be reached ({why_not}).")
        return False
    talk(f"Downloading from {_HOST} …")
    staging = target.parent.parent / f"download-{which}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _, output = await run_to_end(
            "the download",
            [sys.executable, "-m", "orchestrator.devstack.sdk_download", which, staging],
            log=staging.with_suffix(".log"),
            timeout=_TIMEOUT,
        )
        # It may have been fetched whole and yet have failed to start, or the process to end well; starting it in
        # earnest is what decides.
        fetched = [path for path in staging.iterdir() if os.access(path, os.X_OK) and path.suffix != ".downloading"]
        if len(fetched) == 1:
            target.parent.mkdir(parents=True, exist_ok=True)
            fetched[0].replace(target)
            return True
        lines = [line for line in output.splitlines() if line.strip()]
        talk(f"The download failed: {lines[-1] if lines else 'no reason given'}")
    except StackFailure as failure:
        talk(str(failure))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return False


async def _unreachable() -> str | None:
    if any(os.environ.get(name) for name in _PROXIES):
        return None  # only the proxy can tell
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(_HOST, 443), _CONNECT_TIMEOUT)
    except TimeoutError:
        return f"no answer within {_CONNECT_TIMEOUT:.0f} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    writer.close()
    return None
