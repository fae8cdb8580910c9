"""Calls that are made at a pace, whatever becomes of those before, over several connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from bench.pace import at_pace
from bench.rows import percentile

CONNECTIONS = 16
TIME_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one call: when it began and how long it took, in seconds, and the code it ended with."""

    began: float
    took: float
    code: grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of many."""

    all: Sequence[Outcome]
    #: From the first call's beginning to the end of the last one that succeeded.
    seconds: float

    @property
    def accepted(self) -> list[float]:
        """How long those took that succeeded."""
        return [one.took for one in self.all if one.code is grpc.StatusCode.OK]

    @property
    def turned_away(self) -> list[float]:
        return [one.took for one in self.all if one.code is grpc.StatusCode.RESOURCE_EXHAUSTED]

    @property
    def goodput(self) -> float:
        """Successes a second."""
        return len(self.accepted) / self.seconds

    def p(self, percent: float) -> float:
        """Of those that succeeded."""
        return percentile(self.accepted, percent)


class Caller:
    """Makes one kind of call with one key."""

    def __init__(
        self, channels: Sequence[grpc.aio.Channel], method: str, key: str, request: Callable[[], bytes]
    ) -> None:
        self._calls: list[grpc.aio.UnaryUnaryMultiCallable[Any, Any]] = [
            channel.unary_unary(method, request_serializer=None, response_deserializer=None) for channel in channels
        ]
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._request = request
        self._made = 0

    async def once(self) -> Outcome:
        call = self._calls[self._made % len(self._calls)]
        self._made += 1
        began, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            await call(self._request(), metadata=self._metadata, timeout=TIME_LIMIT)
        except grpc.aio.AioRpcError as error:
            code = error.code()
        return Outcome(began, time.perf_counter() - began, code)

    async def closed_loop(self, at_once: int, seconds: float) -> Outcomes:
        """As many under way all the time."""
        done: list[Outcome] = []
        until = time.perf_counter() + seconds

        async def again() -> None:
            while time.perf_counter() < until:
                done.append(await self.once())

        await asyncio.gather(*(again() for _ in range(at_once)))
        return _outcomes(done)

    async def open_loop(self, a_second: float, seconds: float) -> Outcomes:
        """So many begun every second."""
        done: list[Outcome] = []

        async def one(_: int) -> None:
            done.append(await self.once())

        await at_pace(one, int(a_second * seconds), a_second)
        return _outcomes(done)


def _outcomes(done: list[Outcome]) -> Outcomes:
    done.sort(key=lambda one: one.began)
    ends = [one.began + one.took for one in done if one.code is grpc.StatusCode.OK]
    return Outcomes(done, max(ends, default=float("inf")) - done[0].began)


@asynccontextmanager
async def connections(target: str, count: int = CONNECTIONS) -> AsyncIterator[list[grpc.aio.Channel]]:
    """As many, each of its own."""
    channels = [
        grpc.aio.insecure_channel(target, options=(("grpc.use_local_subchannel_pool", 1),)) for _ in range(count)
    ]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield channels
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
