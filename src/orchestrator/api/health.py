"""Whether this server can do its work: it can while Postgres answers. Without Temporal it can, with delay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from orchestrator.api.health_service import HealthService, Status

logger = logging.getLogger(__name__)

PROBE_EVERY = timedelta(seconds=1)
PROBE_TIMEOUT = timedelta(seconds=3)

#: How a database that is away shows itself.
_AWAY = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its last words have come, and the end of the connection has not yet
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`ready`: send calls here. `degraded`: ready, and a part is away that is made up for later."""

    ready: bool
    degraded: bool


class Health:
    """Probes the parts in the background and answers for them, in gRPC and to whoever asks `state`.

    Postgres is asked on a connection of its own: a busy pool is no reason to send calls elsewhere.
    """

    def __init__(
        self, dsn: str, services: Sequence[str], *, temporal_answers: Callable[[], Awaitable[bool]] | None
    ) -> None:
        self.servicer = HealthService(services)
        self.state = State(ready=False, degraded=False)
        self._dsn = dsn
        self._temporal_answers = temporal_answers
        self._draining = False
        self._temporal_is_away = False
        self._conn: asyncpg.Connection[asyncpg.Record] | None = None

    async def look(self) -> None:
        """Probe Postgres and answer for it from now on."""
        self._show(State(ready=await self._probe_postgres(), degraded=self._temporal_is_away))

    async def watch(self) -> None:
        """Probe until cancelled. Temporal, which may take its time, does not hold up Postgres.

        Nobody waits for this to end: so it goes on after errors nobody has foreseen, and says so each time.
        """
        await asyncio.gather(self._every_second(self.look), self._every_second(self._look_at_temporal))

    async def drain(self) -> None:
        """Not ready from now on, whatever the parts say."""
        self._draining = True
        self.state = State(ready=False, degraded=False)
        self.servicer.tell(Status.NOT_SERVING)

    async def _every_second(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await look()
            except Exception:
                logger.exception("a probe failed, the next one tries again")
            await asyncio.sleep(PROBE_EVERY.total_seconds())

    async def _look_at_temporal(self) -> None:
        self._temporal_is_away = not await self._probe_temporal()

    async def _probe_postgres(self) -> bool:
        """Whether it answers, on the connection there is or on a new one."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT.total_seconds()):
                if self._conn is None or self._conn.is_closed():
                    settings = {"application_name": "orchestrator-health"}
                    self._conn = await asyncpg.connect(self._dsn, server_settings=settings)
                await self._conn.execute("SELECT 1")
                return True
        except _AWAY:
            self.close()
            return False
        except Exception:
            logger.exception("postgres was asked in vain")
            self.close()
            return False

    def close(self) -> None:
        """Hang up."""
        if self._conn is not None:
            self._conn.terminate()
            self._conn = None

    async def _probe_temporal(self) -> bool:
        if self._temporal_answers is None:
            return True
        try:
            async with asyncio.timeout(PROBE_TIMEOUT.total_seconds()):
                return await self._temporal_answers()
        except TimeoutError:
            return False
        except Exception:
            logger.exception("temporal was asked in vain")
            return False

    def _show(self, state: State) -> None:
        if self._draining:
            return
        if state != self.state:
            logger.info("health changed", extra={"state": _word(state)})
        self.state = state
        self.servicer.tell(Status.SERVING if state.ready else Status.NOT_SERVING)


def _word(state: State) -> str:
    if not state.ready:
        return "not ready"
    return "degraded" if state.degraded else "ready"
