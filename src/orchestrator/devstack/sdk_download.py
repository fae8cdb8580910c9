"""Makes Temporal's SDK download one of its servers into a directory, by starting it there once.

    python -m orchestrator.devstack.sdk_download dev-server|time-skipping <directory>

A process of its own: the SDK offers no timeout for connecting, and a process can be ended.
"""

from __future__ import annotations

import asyncio
import sys

from temporalio.testing import WorkflowEnvironment


async def download(which: str, directory: str) -> None:
    match which:
        case "dev-server":
            environment = await WorkflowEnvironment.start_local(download_dest_dir=directory)
        case "time-skipping":
            environment = await WorkflowEnvironment.start_time_skipping(download_dest_dir=directory)
        case _:
            sys.exit(f"unknown server {which!r}")
    await environment.shutdown()


if __name__ == "__main__":
    asyncio.run(download(*sys.argv[1:]))
