"""What grpc.health.v1 is answered from: who watches is told in their own time, and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from grpc_health.v1.health_pb2 import HealthCheckResponse

Status = HealthCheckResponse.ServingStatus


class HealthService:
    """The status of each service; the empty name is the server itself."""

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses: dict[str, int] = dict.fromkeys(("", *services), Status.NOT_SERVING)
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def statuses(self) -> Mapping[str, int]:
        return self._statuses

    def tell(self, status: int) -> None:
        """All services have this status from now on."""
        self._statuses = dict.fromkeys(self._statuses, status)
        self._wake()

    def end(self) -> None:
        """Let those who watch go."""
        self._ended = True
        self._wake()

    async def watch(self, service: str) -> AsyncIterator[int]:
        """The status now, and each that it changes to while nobody has taken the one before; until `end`."""
        told: int | None = None
        while not self._ended:
            changed = self._changed
            status = self._statuses.get(service, Status.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield status
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
