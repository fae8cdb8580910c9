"""Fetches ahead of time what would be fetched at first use: `python -m orchestrator.devstack.fetch [time-skipping]`."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.temporal_cli import ensure_temporal
from orchestrator.devstack.time_skipping import ensure_time_skipping_server


def talk(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


async def fetch(what: list[str]) -> None:
    if "time-skipping" in what:
        await ensure_time_skipping_server(talk=talk)
    else:
        await ensure_temporal(talk=talk)


if __name__ == "__main__":
    try:
        asyncio.run(fetch(sys.argv[1:]))
    except StackFailure as failure:
        sys.exit(f"orchestrator: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
