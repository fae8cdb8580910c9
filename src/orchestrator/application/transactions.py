"""The ways into the database that every use case has: read, write, and write once for each request."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future, ensure_future, get_running_loop, shield, wait, wait_for
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from asyncpg import Connection, InterfaceError, InternalClientError, Pool, PostgresError, Record

from orchestrator import traces
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument
from orchestrator.domain.scope import Scope
from orchestrator.storage import idempotency
from orchestrator.storage.idempotency import Answered, RequestKey
from orchestrator.storage.pool import LET_GO, Places, connection

logger = logging.getLogger(__name__)

Work = Callable[["Connection[Record]"], Awaitable[bytes]]


class Transactions:
    """Opens transactions on one pool. One of these per process, for all callers."""

    def __init__(self, pool: Pool[Record], places: Places | None = None) -> None:
        """`places`: how many of the pool's connections those take who do not go before others; None: all."""
        self._pool = pool
        self._places = places
        # Requests being carried out by this process. Their twins wait here and not on a connection each,
        # so that a crowd of repeats cannot use up the pool.
        self._running: dict[RequestKey, Future[Answered | None]] = {}

    def read(self, project_no: int | None) -> AbstractAsyncContextManager[Connection[Record]]:
        """A connection in this project, every statement for itself (None: the workers' role, which sees all)."""
        return connection(self._pool, project_no, self._places)

    @asynccontextmanager
    async def write(
        self, project_no: int | None, *, committed: Callable[[], None] | None = None
    ) -> AsyncIterator[Connection[Record]]:
        """A transaction in this project: committed at the end of the block, rolled back by any exception.

        A commit that has begun is seen through, even if the caller is cancelled meanwhile; `committed` is called when
        it has succeeded, cancelled or not.
        """
        with traces.part("transaction", "client", database="postgresql"):
            async with self._write(project_no, committed) as conn:
                yield conn

    @asynccontextmanager
    async def _write(
        self, project_no: int | None, committed: Callable[[], None] | None
    ) -> AsyncIterator[Connection[Record]]:
        async with connection(self._pool, project_no, self._places) as conn:
            transaction = conn.transaction()
            await transaction.start()
            try:
                yield conn
            except BaseException:
                await _roll_back(transaction)
                raise
            canceled = await _see_through(transaction.commit())
            if committed is not None:
                committed()
            if canceled is not None:
                raise canceled

    @asynccontextmanager
    async def snapshot(self, project_no: int) -> AsyncIterator[Connection[Record]]:
        """A transaction in this project that sees one state of it and can change nothing: Postgres refuses."""
        async with (
            connection(self._pool, project_no, self._places) as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield conn

    async def once(
        self,
        scope: Scope,
        method: str,
        request_id: str,
        fingerprint: bytes,
        work: Work,
        *,
        committed: Callable[[], None] | None = None,
    ) -> bytes:
        """Do `work` in a transaction and return its answer; the same request again gets the first one's answer.

        The answer is stored with the effect, so neither exists without the other; a refusal stores nothing. Without a
        `request_id` every call is a new request. Raises InvalidArgument REQUEST_ID_REUSED when the id has come with
        another fingerprint, and FailedPrecondition ANSWER_ERASED. `committed` as in `write`.
        """
        if not request_id:
            async with self.write(scope.project_no, committed=committed) as conn:
                return await work(conn)
        key = RequestKey(
            project_no=scope.project_no, principal=scope.principal or scope.actor, method=method, request_id=request_id
        )
        while (twin := self._running.get(key)) is not None:
            await wait([twin])
            if (answered := twin.result()) is not None:
                return _same_request(answered, fingerprint)
        ours: Future[Answered | None] = get_running_loop().create_future()
        self._running[key] = ours
        answered = None
        try:
            answered = await self._claimed(key, fingerprint, work, committed)
        finally:
            del self._running[key]
            ours.set_result(answered)
        return _same_request(answered, fingerprint)

    async def rehearse(self, project_no: int, work: Work) -> bytes:
        """Do `work` in a transaction that is rolled back in any case: `validate_only`."""
        async with connection(self._pool, project_no, self._places) as conn:
            transaction = conn.transaction()
            await transaction.start()
            try:
                return await work(conn)
            finally:
                await _roll_back(transaction)

    async def _claimed(
        self, key: RequestKey, fingerprint: bytes, work: Work, committed: Callable[[], None] | None
    ) -> Answered:
        async with self.write(key.project_no, committed=committed) as conn:
            if (earlier := await idempotency.claim(conn, key, fingerprint)) is not None:
                return earlier
            if await idempotency.was_erased(conn, key):
                raise _answer_erased()
            response = await work(conn)
            await idempotency.settle(conn, key, response)
            return Answered(fingerprint=fingerprint, response=response)


def _answer_erased() -> FailedPrecondition:
    return FailedPrecondition(
        "ANSWER_ERASED", "it took effect, and its answer was erased: it spoke of somebody who was forgotten"
    )


def _same_request(answered: Answered, fingerprint: bytes) -> bytes:
    if answered.response is None:
        raise _answer_erased()
    if answered.fingerprint != fingerprint:
        raise InvalidArgument.of("requestId", "REQUEST_ID_REUSED", "this id has come with another request before")
    return answered.response


async def _roll_back(transaction: Any) -> None:
    """Undo. On a broken connection Postgres does so by itself, and on one that is hung up on since it says nothing."""
    try:
        canceled = await _see_through(wait_for(transaction.rollback(), LET_GO.total_seconds()))
    except (PostgresError, InterfaceError, InternalClientError, OSError) as error:
        logger.info("rolled back by the loss of the connection", extra={"error": type(error).__name__})
    else:
        if canceled is not None:
            raise canceled


async def _see_through(step: Awaitable[None]) -> asyncio.CancelledError | None:
    """Await `step` to its end, also when cancelled meanwhile; returns the cancellation, for the caller to raise."""
    running = ensure_future(step)
    canceled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await shield(running)
        except asyncio.CancelledError as error:
            if running.cancelled():
                raise
            canceled = error
    # Its own failure says more than the cancellation.
    running.result()
    return canceled
