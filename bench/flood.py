"""A caller in a process of its own, so that what it makes of its core delays nobody who measures.

`python -m bench.flood GRPC KEY` begins as many calls a second as it is told.
"""

from __future__ import annotations

import sys

from bench.event_batches import INGEST, batches
from bench.open_loop import Caller, connections
from bench.remote import obey, run


async def main(target: str, key: str) -> None:
    async with connections(target, 4) as channels:
        caller = Caller(channels, INGEST, key, batches())

        async def flood(asked: list[float]) -> list[int]:
            """Calls, and those of them that were served."""
            found = await caller.open_loop(*asked)
            return [len(found.all), len(found.accepted)]

        await obey({"flood": flood})


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
