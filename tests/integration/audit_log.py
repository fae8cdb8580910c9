"""An audit log that is written to and sealed, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.application.audit_sealing import AuditSealing
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import JOURNEY_PUBLISHED
from orchestrator.domain.audit_chain import Seal
from orchestrator.storage import audit, audit_seals
from tests.integration.projects import make_project

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def write(conn: Connection[Record], project_no: int, journey_id: str, version: int = 1) -> None:
    """An entry, in whatever transaction the connection is."""
    await audit.append(
        conn,
        project_no=project_no,
        at=START,
        actor="key:k1",
        action=JOURNEY_PUBLISHED,
        resource_id=journey_id,
        metadata={"version": version, "carry": "none", "sha256": "é\n\"'\\"},
    )


async def written(api_pool: Pool[Record], counts: Iterable[int]) -> list[int]:
    """The numbers of new projects with so many entries each, written in turns."""
    wanted = list(counts)
    projects = [(await make_project(api_pool, f"project-{n}")).project_no for n in range(len(wanted))]
    for number in range(max(wanted)):
        for project_no, count in zip(projects, wanted, strict=True):
            if number < count:
                async with Transactions(api_pool).write(project_no) as conn:
                    await write(conn, project_no, f"journey-{number}", number)
    return projects


async def seal_all(transactions: Transactions) -> int:
    """Seal all that waits; how many."""
    sealing, sealed = AuditSealing(transactions), 0
    while new := await sealing.seal():
        sealed += new
    return sealed


async def chain(conn: Connection[Record], project_no: int) -> list[Seal]:
    """The seals as they are kept."""
    return [Seal(seq=kept.seq, hash=kept.hash) for kept in await audit_seals.sealed(conn, project_no, 0, 1_000_000)]
