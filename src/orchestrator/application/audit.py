"""Reading the audit log. It is written by the use cases themselves, in their transactions."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.application.journeys import not_found
from orchestrator.domain.audit import Entry
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Scope
from orchestrator.storage import audit, journeys


async def page(
    conn: Connection[Record], scope: Scope, resource_kind: str, resource_id: str, before: int | None, limit: int
) -> tuple[list[Entry], int | None]:
    """Entries about one thing, about things of a kind, or ("" and "") all; newest first, and where the page ends.

    Raises InvalidArgument for an id without a kind.
    """
    if resource_id and not resource_kind:
        raise InvalidArgument.of("resourceKind", "REQUIRED", "an id needs the kind of thing it belongs to")
    found = await audit.newest(
        conn, scope.project_no, resource_kind or None, resource_id or None, before=before, limit=limit + 1
    )
    return found[:limit], found[limit - 1].audit_no if len(found) > limit else None


async def journey_page(
    conn: Connection[Record], scope: Scope, journey_id: str, before: int | None, limit: int
) -> tuple[list[Entry], int | None]:
    """What was done with a journey, also with a deleted one. Raises NotFound when there never was one."""
    entries, end = await page(conn, scope, "journey", journey_id, before, limit)
    if not entries and before is None and not await journeys.exists(conn, scope.project_no, journey_id):
        raise not_found(journey_id)
    return entries, end
