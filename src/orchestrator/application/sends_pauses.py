"""Holding the sends of a journey, or of all, and letting them go on. Callers own the transaction, unless they hand in
what opens one.
"""

from __future__ import annotations

from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application import journeys
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import SENDS_PAUSED, SENDS_RESUMED, Action
from orchestrator.domain.gates import SENDS_PAUSED as PARKED
from orchestrator.domain.scope import Scope
from orchestrator.storage import audit, clock, journey_pokes, send_tallies, sends_pauses
from orchestrator.storage.sends_pauses import ALL, Pause


async def pause(conn: Connection[Record], scope: Scope, journey_id: str) -> Pause:
    """Hold the sends of a journey (of ALL), from the commit on; `await_beginners` before it is answered. Raises
    NotFound.
    """
    await _require(conn, scope, journey_id)
    now = await clock.now(conn)
    if await sends_pauses.pause(conn, scope.project_no, journey_id, now):
        await _record(conn, scope, now, SENDS_PAUSED, journey_id)
    found = await sends_pauses.find(conn, scope.project_no, journey_id)
    return found or Pause(journey_id=journey_id, paused_at=now)


async def await_beginners(transactions: Transactions, scope: Scope) -> None:
    """Returns when every send is in the ledger that was begun before a pause was committed.

    In a transaction of its own, behind that of the pause: which is in force, whoever is waited for and for how long.
    """
    async with transactions.write(scope.project_no) as conn:
        await sends_pauses.await_beginners(conn, scope.project_no)


async def resume(conn: Connection[Record], scope: Scope, journey_id: str) -> None:
    """Let the sends of a journey (of ALL) go on; a worker tells those held, after the commit.

    Raises NotFound where there is neither a pause nor the journey: it may have been deleted while it was being paused.

    What came of its sends before is not held against the journey again.
    """
    if not await sends_pauses.resume(conn, scope.project_no, journey_id):
        await _require(conn, scope, journey_id)
    else:
        await send_tallies.forget(conn, scope.project_no, journey_id)
        now = await clock.now(conn)
        await journey_pokes.request_parked(conn, scope.project_no, journey_id, PARKED, now)
        await _record(conn, scope, now, SENDS_RESUMED, journey_id)


async def paused(conn: Connection[Record], scope: Scope, *, after: str | None, limit: int) -> list[Pause]:
    """At most `limit` pauses (that of ALL first), after that of this journey."""
    return await sends_pauses.paused(conn, scope.project_no, after=after, limit=limit)


async def _require(conn: Connection[Record], scope: Scope, journey_id: str) -> None:
    if journey_id != ALL:
        await journeys.get(conn, scope, journey_id)


async def _record(conn: Connection[Record], scope: Scope, now: datetime, action: Action, journey_id: str) -> None:
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=action,
        resource_id=journey_id or scope.project_id,
        metadata={"whose": "journey" if journey_id else "project"},
    )
