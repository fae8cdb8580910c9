"""Opens very many streams to a server and asks nothing on them, and sends it requests byte by byte, in a process of its
own.

    python -m tests.faults.idlers GRPC-ADDRESS STREAMS HTTP-URL REQUESTS

Prints a line of JSON once all streams are open or were turned away: how many of each. Goes on until it is sent a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

#: Each with its share of the streams.
CONNECTIONS = 16
#: Streams that are being opened at once.
AT_ONCE = 64


async def drip(host: str, port: int) -> None:
    """Sends a request, five bytes a second, and begins another where it is cut off."""
    while True:
        _, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET /v1/audiences HTTP/1.1\r\nHost: x\r\nX-Much: ")
            while not writer.is_closing():
                writer.write(b"X")
                await writer.drain()
                await asyncio.sleep(0.2)
        except OSError:
            pass
        finally:
            writer.close()


async def main(address: str, count: int, http: str, requests: int) -> None:
    place = urlsplit(http)
    drips = [asyncio.create_task(drip(place.hostname or "", place.port or 0)) for _ in range(requests)]
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CONNECTIONS)]
    stubs = [health_pb2_grpc.HealthStub(channel) for channel in channels]
    turn = asyncio.Semaphore(AT_ONCE)
    held = []

    async def open_one(number: int) -> str:
        async with turn:
            stream = stubs[number % CONNECTIONS].Watch(health_pb2.HealthCheckRequest())
            try:
                await stream.read()
            except grpc.aio.AioRpcError as error:
                return error.code().name
            held.append(stream)
            return "OPEN"

    told = Counter(await asyncio.gather(*(open_one(number) for number in range(count))))
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    for one in drips:
        one.cancel()
    await asyncio.gather(*drips, return_exceptions=True)
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
