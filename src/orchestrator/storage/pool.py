"""Connections to Postgres: how they are opened, and which project they stand in."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import orjson

from orchestrator.domain.refusals import Unavailable

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    _Connection = Connection[Record]
else:
    _Connection = asyncpg.Connection

API_ROLE = "orchestrator_api"
WORKER_ROLE = "orchestrator_worker"

#: How long a call may wait for a free connection before it is told to come back.
PATIENCE = timedelta(seconds=5)


#: A transaction that stands still for so long is ended by Postgres: its process was stopped or cut off, and others wait
#: for what it holds. One that is asked something is not standing still; that ends by `statement_timeout`.
STANDSTILL = timedelta(seconds=60)


class ProjectConnection(_Connection):
    """A connection that remembers its project, so that entering the same one again costs no round trip."""

    __slots__ = ("project_no",)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.project_no: int | None = None

    async def enter_project(self, project_no: int) -> None:
        """Row-level security shows this project alone from here on. Not to be called inside a transaction."""
        # Unknown until the answer is here: a cancelled call must not leave a wrong memory behind.
        self.project_no = None
        await self.execute("SELECT set_config('app.project_no', $1, false)", str(project_no))
        self.project_no = project_no


async def open_pool(
    dsn: str,
    *,
    role: str,
    size: int,
    application_name: str,
    statement_timeout: timedelta = timedelta(seconds=65),
) -> Pool[Record]:
    """Open a pool of at most `size` connections that run as `role`. Raises OSError or asyncpg's errors.

    Until a connection enters a project, row-level security shows the API's role nothing. `jsonb` comes and goes as
    Python values. `statement_timeout` is the backstop behind deadlines, which cancel their statements themselves.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=min(2, size),
        max_size=size,
        max_inactive_connection_lifetime=0,
        timeout=5,
        connection_class=ProjectConnection,
        init=_speak_json,
        reset=_keep_settings,
        server_settings={
            "application_name": application_name,
            "role": role,
            "app.project_no": "",
            "statement_timeout": str(int(statement_timeout.total_seconds() * 1000)),
            "idle_in_transaction_session_timeout": str(int(STANDSTILL.total_seconds() * 1000)),
            "jit": "off",
            "timezone": "UTC",
        },
    )


class connection:  # noqa: N801  # used as a function; a class, since a generator costs more on the way of every read
    """Borrow a connection that stands in this project (None: for roles that see all of them).

    Raises Unavailable when none becomes free within PATIENCE.
    """

    __slots__ = ("_borrowed", "_pool", "_project_no")

    def __init__(self, pool: Pool[Record], project_no: int | None = None) -> None:
        self._pool = pool
        self._project_no = project_no

    async def __aenter__(self) -> Connection[Record]:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                self._borrowed = await self._pool.acquire()
        except TimeoutError:
            raise Unavailable("UNAVAILABLE", "all database connections are in use") from None
        conn = cast("ProjectConnection", self._borrowed)
        if self._project_no is not None and conn.project_no != self._project_no:
            try:
                await conn.enter_project(self._project_no)
            except BaseException:
                await self._pool.release(self._borrowed)
                raise
        return conn

    async def __aexit__(self, *raised: object) -> None:
        await self._pool.release(self._borrowed)


async def _speak_json(conn: Any) -> None:
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary")


def _to_jsonb(value: Any) -> bytes:
    # The binary form of jsonb is its version, 1, and the text. Binary, so that COPY works.
    return b"\x01" + orjson.dumps(value)


def _from_jsonb(data: bytes) -> Any:
    return orjson.loads(data[1:])


async def _keep_settings(conn: Any) -> None:
    """Replaces the RESET ALL by which a pool would forget role and project, at the price of a round trip."""
