"""Makes many calls at once, in a process of its own, and says how each of them ended.

    python -m tests.faults.callers ADDRESS KEY COUNT

Prints a line once it is connected, and begins when it is sent one; then a line of JSON: for each call its code, after
how many seconds it was told, and whether it was told when to come back.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc

LIST = "/orchestrator.v1.AudienceService/ListAudiences"
#: Seconds that a call has.
PATIENCE = 20.0


async def main(address: str, key: str, count: int) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        call: Any = channel.unary_unary(LIST)
        metadata = (("authorization", f"Bearer {key}"),)
        # Whoever calls for the first time has his key looked up.
        await call(b"", metadata=metadata, timeout=PATIENCE)

        async def one() -> tuple[str, float, bool]:
            began, comes_back = time.perf_counter(), False
            try:
                await call(b"", metadata=metadata, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                names = {name for name, _ in error.trailing_metadata() or ()}
                comes_back = "grpc-retry-pushback-ms" in names
                return error.code().name, time.perf_counter() - began, comes_back
            return "OK", time.perf_counter() - began, comes_back

        sys.stdout.write("connected\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        told = await asyncio.gather(*(one() for _ in range(count)))
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
