"""Connections to Postgres: how they are opened, and which project they stand in."""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import Future
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import orjson

from orchestrator.domain.refusals import Unavailable
from orchestrator.storage.connector import Connector
from orchestrator.storage.running_call import caller, is_critical, is_heavy, time_left

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    _Connection = Connection[Record]
else:
    _Connection = asyncpg.Connection

logger = logging.getLogger(__name__)

API_ROLE = "orchestrator_api"
WORKER_ROLE = "orchestrator_worker"

#: How long a call may wait for a free connection before it is told to come back.
PATIENCE = timedelta(seconds=5)


#: A transaction that stands still for so long is ended by Postgres: its process was stopped or cut off, and others wait
#: for what it holds. One that is asked something is not standing still; that ends by `statement_timeout`.
STANDSTILL = timedelta(seconds=60)


#: Who waits for a lock is told so in this share of the time that a statement has: what waits for others is not what
#: takes too long by itself (storage/outages.py).
LOCKS = 0.9


#: How long a user who is through waits for what he had under way to come to its end, before the connection is hung up
#: on: what lies before Postgres may say nothing any more, and nobody is to be held up by that beyond his own time.
LET_GO = timedelta(seconds=3)

#: How much longer than Postgres gives a statement its answer is waited for.
_ON_ITS_WAY = timedelta(seconds=5)

#: What a statement of a call may take, in milliseconds: the first that is not less than the time the call has left. So
#: few that connections seldom have to be told another one.
_RUNGS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 60_000)

#: Of a connection that may have been told anything.
_UNKNOWN = -1


class ProjectConnection(_Connection):
    """A connection that remembers its project and how long a statement may take, so that to enter the same one with as
    much time again costs no round trip.
    """

    __slots__ = ("project_no", "time_limit")

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.project_no: int | None = None
        #: Milliseconds; None: that of the pool.
        self.time_limit: int | None = None

    async def enter(self, project_no: int | None, time_limit: int | None) -> None:
        """Row-level security shows this project alone from here on (None: as before), and Postgres ends statements
        after `time_limit` milliseconds (None: after the pool's). Not to be called inside a transaction.
        """
        # Numbers of our own, so that both fit into one message.
        told = []
        if project_no is not None and project_no != self.project_no:
            told.append(f"SET app.project_no = '{int(project_no)}'")
        if time_limit != self.time_limit:
            told.append(f"SET statement_timeout = {int(time_limit)}" if time_limit else "RESET statement_timeout")
        if not told:
            return
        before = self.project_no
        # Unknown until the answer is here: a cancelled call must not leave a wrong memory behind.
        self.project_no, self.time_limit = None, _UNKNOWN
        await self.execute("; ".join(told))
        self.project_no, self.time_limit = before if project_no is None else project_no, time_limit


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
    Python values. Deadlines cancel their statements themselves; behind them stands Postgres, which ends those of a call
    in its time (`ProjectConnection.enter`), all others after `statement_timeout`: also when this process is stopped. If
    it does not say that it has, the statement raises TimeoutError soon after.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=min(2, size),
        max_size=size,
        max_inactive_connection_lifetime=0,
        connect=Connector(),
        timeout=5,
        command_timeout=(statement_timeout + _ON_ITS_WAY).total_seconds(),
        connection_class=ProjectConnection,
        init=_speak_json,
        reset=_keep_settings,
        server_settings={
            "application_name": application_name,
            "role": role,
            "app.project_no": "",
            "statement_timeout": str(int(statement_timeout.total_seconds() * 1000)),
            "lock_timeout": str(int(statement_timeout.total_seconds() * 1000 * LOCKS)),
            "idle_in_transaction_session_timeout": str(int(STANDSTILL.total_seconds() * 1000)),
            "jit": "off",
            "timezone": "UTC",
        },
    )


#: Seconds after which nobody passes who has fewer places.
FOR_LONG = 1.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """`since`: of the clock."""

    caller: Hashable
    heavy: bool
    since: float


class Places:
    """How many of a pool's connections those have who do not go before others; what is left is for those who do.

    `count` is that number. Fewer may be `allowed` for a while, beside those for what computes for long by itself:
    that is not to hold up everybody else. More wait in line. Next is whoever has waited for long, or else has fewest:
    a caller with many calls does not keep others waiting.
    """

    def __init__(self, count: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = count
        self.allowed = count
        self._clock = clock
        self._line: dict[Future[None], _Waiting] = {}
        # By whether they compute for long, and by whose they are besides.
        self._taken: Counter[bool] = Counter()
        self._taken_by: Counter[tuple[Hashable, bool]] = Counter()
        self._shortest: float | None = None

    def allow(self, many: int) -> None:
        """From now on so many, one at least and no more than there are. Who has one keeps it."""
        self.allowed = max(1, min(many, self.count))
        self._let_in()

    async def take(self, caller: Hashable = None, *, heavy: bool = False) -> None:
        """Wait for one, in line. `heavy`: for what computes for long."""
        one = _Waiting(caller, heavy, self._clock())
        if not self._line and self._has_room(heavy):
            self._enter(one, stood=0.0)
            return
        turn = asyncio.get_running_loop().create_future()
        self._line[turn] = one
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given one at the same moment
                self.give_back(caller, heavy=heavy)
            raise
        finally:
            del self._line[turn]

    def give_back(self, caller: Hashable = None, *, heavy: bool = False) -> None:
        self._taken[heavy] -= 1
        self._taken_by[caller, heavy] -= 1
        if not self._taken_by[caller, heavy]:
            del self._taken_by[caller, heavy]
        self._let_in()

    def taken(self) -> int:
        return self._taken.total()

    def shortest_wait(self) -> float | None:
        """The shortest time in seconds that the first in line had stood there, of all times that somebody was let in
        since this was asked last: more than nothing only while a queue stands. None: nobody came.

        Of those who compute for long it says nothing.
        """
        shortest, self._shortest = self._shortest, None
        return self._stood() if shortest is None else shortest

    def _stood(self) -> float | None:
        """How long the first in line has stood there, of those who do not compute for long. Whose turn has come, or who
        has given up, is in line until he hears it.
        """
        since = (one.since for turn, one in self._line.items() if not one.heavy and not turn.done())
        return next((self._clock() - at for at in since), None)

    def _has_room(self, heavy: bool) -> bool:
        return self.taken() < self.count and (heavy or self._taken[False] < self.allowed)

    def _let_in(self) -> None:
        while turns := [turn for turn, one in self._line.items() if not turn.done() and self._has_room(one.heavy)]:
            now = self._clock()
            turn = min(turns, key=lambda turn: self._rank(self._line[turn], now))
            self._enter(self._line[turn], stood=self._stood() or 0.0)
            turn.set_result(None)

    def _enter(self, one: _Waiting, *, stood: float) -> None:
        """`stood`: for how long the first in line had."""
        if not one.heavy:
            self._shortest = stood if self._shortest is None else min(self._shortest, stood)
        self._taken[one.heavy] += 1
        self._taken_by[one.caller, one.heavy] += 1

    def _rank(self, one: _Waiting, now: float) -> tuple[bool, int]:
        """Of equals, who came first."""
        if now - one.since > FOR_LONG:
            return False, 0
        return True, self._taken_by[one.caller, one.heavy]


class connection:  # noqa: N801  # used as a function; a class, since a generator costs more on the way of every read
    """Borrow a connection that stands in this project (None: for roles that see all of them), and on which statements
    end when the running call does.

    Of `places`, if there are any, it takes one, unless the running call goes before others. Raises Unavailable when
    none becomes free within PATIENCE.
    """

    __slots__ = ("_borrowed", "_caller", "_heavy", "_place", "_places", "_pool", "_project_no")

    def __init__(self, pool: Pool[Record], project_no: int | None = None, places: Places | None = None) -> None:
        self._pool = pool
        self._project_no = project_no
        self._places = places
        self._place: Places | None = None
        self._caller: Hashable = None
        self._heavy = False

    async def __aenter__(self) -> Connection[Record]:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                if self._places is not None and not is_critical():
                    self._caller, self._heavy = caller(), is_heavy()
                    await self._places.take(self._caller, heavy=self._heavy)
                    self._place = self._places
                self._borrowed = await self._pool.acquire()
        except BaseException as error:
            self._give_back()
            if isinstance(error, TimeoutError):
                raise Unavailable("UNAVAILABLE", "all database connections are in use") from None
            raise
        conn = cast("ProjectConnection", self._borrowed)
        try:
            await conn.enter(self._project_no, _rung(time_left()))
        except BaseException:
            await self._release()
            raise
        return conn

    async def __aexit__(self, *raised: object) -> None:
        await self._release()

    async def _release(self) -> None:
        try:
            await self._pool.release(self._borrowed, timeout=LET_GO.total_seconds())
        except TimeoutError:
            # The pool has hung up on it and opens another; what it was in the middle of, Postgres rolls back.
            logger.warning("postgres says nothing, a connection was hung up on")
        finally:
            self._give_back()

    def _give_back(self) -> None:
        if self._place is not None:
            self._place.give_back(self._caller, heavy=self._heavy)
            self._place = None


def _rung(seconds: float | None) -> int | None:
    """How long a statement may take, in milliseconds, of a call that has so much time left; None: as long as any."""
    if seconds is None:
        return None
    return next((rung for rung in _RUNGS if rung >= seconds * 1000), None)


async def _speak_json(conn: Any) -> None:
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary")


def _to_jsonb(value: Any) -> bytes:
    # The binary form of jsonb is its version, 1, and the text. Binary, so that COPY works.
    return b"\x01" + orjson.dumps(value)


def _from_jsonb(data: bytes) -> Any:
    return orjson.loads(data[1:])


async def _keep_settings(conn: Any) -> None:
    """Replaces the RESET ALL by which a pool would forget role and project, at the price of a round trip."""
