"""Communications: made, changed, deleted; each change of content makes a revision. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import authoring
from orchestrator.domain import audit as actions
from orchestrator.domain.channels import Rules
from orchestrator.domain.communication import Communication, Revision, changed_by, faults_in
from orchestrator.domain.etag import Expected
from orchestrator.domain.resource import Page, Place, Resource
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import communications

COMMUNICATION = authoring.Noun(
    name="communication",
    prefix="com",
    store=communications,
    created=actions.COMMUNICATION_CREATED,
    updated=actions.COMMUNICATION_UPDATED,
    deleted=actions.COMMUNICATION_DELETED,
)


class Communications:
    """Use cases; `rules` are what this instance allows channels."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    async def create(
        self, conn: Connection[Record], scope: Scope, communication_id: str, communication: Communication
    ) -> Resource[Communication]:
        """Make a communication and its first revision. Raises InvalidArgument with all faults, and AlreadyExists."""
        return await authoring.create(conn, scope, COMMUNICATION, communication_id, communication, self._check)

    async def update(
        self,
        conn: Connection[Record],
        scope: Scope,
        communication_id: str,
        changes: Mapping[str, Any],
        expected: Expected,
    ) -> Resource[Communication]:
        """Set the named fields; published journeys go on sending what they pinned.

        Raises NotFound, Conflict, InvalidArgument.
        """
        return await authoring.update(
            conn,
            scope,
            COMMUNICATION,
            communication_id,
            lambda before: changed_by(before, changes),
            expected,
            self._check,
            told=lambda communication: {"contentRevision": communication.content_revision},
        )

    async def _check(
        self, conn: Connection[Record], project_no: int, communication: Communication, changed: Collection[str]
    ) -> list[Fault]:
        return faults_in(communication, "", self._rules)


async def get(conn: Connection[Record], scope: Scope, communication_id: str) -> Resource[Communication]:
    """Raises NotFound."""
    return await authoring.get(conn, scope, COMMUNICATION, communication_id)


async def page(conn: Connection[Record], scope: Scope, after: Place | None, limit: int) -> Page[Communication]:
    """Newest first."""
    return await authoring.page(conn, scope, COMMUNICATION, after, limit)


async def delete(conn: Connection[Record], scope: Scope, communication_id: str, expected: Expected) -> None:
    """Its revisions stay, for journeys that pinned them. Raises NotFound, Conflict."""
    await authoring.delete(conn, scope, COMMUNICATION, communication_id, expected)


async def revisions(
    conn: Connection[Record], scope: Scope, communication_id: str, *, before: int | None, limit: int
) -> tuple[list[Revision], int | None]:
    """What a communication said, newest first, and before which revision the list goes on; None: nowhere.

    Those of a deleted communication stay readable. Raises NotFound where there never was one.
    """
    found = await communications.revisions(conn, scope.project_no, communication_id, before=before, limit=limit + 1)
    if not found and before is None:
        raise COMMUNICATION.not_found(communication_id)
    return found[:limit], found[limit - 1].content_revision if len(found) > limit else None
