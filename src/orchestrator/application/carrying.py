"""Carrying executions under way over to a version that is published: each is marked under its subject's lock and poked,
and goes over at that look (application/advance.py). So going over and a decision of its own never cross.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application.canceling import BACKLOG, PAGE, hold_subjects
from orchestrator.application.journeys import get as get_journey
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import EXECUTIONS_CARRIED, RUNTIME
from orchestrator.domain.carrying import Order, Stays, landing
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Scope
from orchestrator.storage import audit, carries, clock, outbox
from orchestrator.storage.carries import Carry, UnderWay


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A carry, and how many of those who were told to go over have not looked since: they finish a send first."""

    carry: Carry
    pending: int


async def begin(
    conn: Connection[Record], scope: Scope, journey_id: str, version: int, order: Order, now: datetime
) -> Carry:
    """Have workers carry executions over to this version, once it is published."""
    there = await carries.standing(conn, scope.project_no, journey_id, version)
    carry = Carry(
        journey_id=journey_id,
        version=version,
        order=order,
        matched=sum(crowd.count for crowd in there),
        requested_at=now,
    )
    await carries.insert(conn, scope.project_no, carry)
    return carry


async def get(conn: Connection[Record], scope: Scope, journey_id: str, version: int) -> Progress:
    """Raises NotFound: JOURNEY_NOT_FOUND, CARRY_NOT_FOUND."""
    journey = await get_journey(conn, scope, journey_id)
    carry = await carries.find(conn, scope.project_no, journey_id, version)
    if carry is None or carry.requested_at < journey.created_at:
        message = f"nobody was carried over to version {version} of journey {journey_id}"
        raise NotFound("CARRY_NOT_FOUND", message, journeyId=journey_id, version=str(version))
    pending = await carries.pending(conn, scope.project_no, journey_id, [version])
    return Progress(carry=carry, pending=pending.get(version, 0))


async def page(
    conn: Connection[Record], scope: Scope, journey_id: str, before: int | None, limit: int
) -> tuple[list[Progress], int | None]:
    """Carries of a journey, those to the newest version first, to versions below `before` if it is given, and where the
    page ends. Raises NotFound.
    """
    journey = await get_journey(conn, scope, journey_id)
    found = await carries.page(
        conn, scope.project_no, journey_id, since=journey.created_at, before=before, limit=limit + 1
    )
    shown = found[:limit]
    pending = await carries.pending(conn, scope.project_no, journey_id, [carry.version for carry in shown])
    end = shown[-1].version if len(found) > limit else None
    return [Progress(carry=carry, pending=pending.get(carry.version, 0)) for carry in shown], end


class Carries:
    """Works through what publishing leaves behind. Processes share the work by locks."""

    def __init__(
        self, transactions: Transactions, versions: Versions, *, page: int = PAGE, backlog: int = BACKLOG
    ) -> None:
        self._transactions = transactions
        self._versions = versions
        self._page = page
        self._backlog = backlog

    async def step(self) -> bool:
        """One page; False when there is nothing to do yet."""
        async with self._transactions.write(None) as conn:
            under_way = await carries.take(conn)
            if under_way is None:
                return False
            now = await clock.now(conn)
            if under_way.barrier is None:
                await carries.raise_barrier(conn, under_way, now)
                return True
            if await outbox.is_backlog(conn, "poke", self._backlog):
                return False
            place = under_way.place or await carries.begin(conn, under_way, now)
            await self._tell(conn, under_way, place)
            return True

    async def _tell(self, conn: Connection[Record], under_way: UnderWay, place: tuple[datetime, UUID]) -> None:
        carry, project_no = under_way.carry, under_way.project_no
        looked = await carries.look(conn, under_way, place, self._page)
        await hold_subjects(conn, project_no, looked.meant, looked.keys)
        now = await clock.now(conn)
        goes: list[UUID] = []
        stays: Counter[str] = Counter()
        to = (await self._versions.get(conn, project_no, carry.journey_id, carry.version)).version.definition
        for execution_id, version, step_id in await carries.places(conn, under_way, looked.meant):
            of = (await self._versions.get(conn, project_no, carry.journey_id, version)).version.definition
            landed = landing(of.steps[step_id], to, carry.order.mapping)
            if isinstance(landed, Stays):
                stays[landed.value] += 1
            else:
                goes.append(execution_id)
        await carries.mark_and_poke(conn, under_way, goes, now)
        stayed = dict(Counter(carry.stayed) + stays)
        await carries.go_on(conn, under_way, told=len(goes), stayed=stayed, place=looked.place, now=now)
        if looked.place is None:
            await audit.append(
                conn,
                project_no=project_no,
                at=now,
                actor=RUNTIME,
                action=EXECUTIONS_CARRIED,
                resource_id=carry.journey_id,
                metadata={"version": carry.version, "carried": carry.told + len(goes), "stayed": sum(stayed.values())},
            )
