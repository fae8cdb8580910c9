"""What happened to a subject."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Scope
from orchestrator.storage import subjects, timelines
from orchestrator.storage.timelines import Item, Place


async def page(
    conn: Connection[Record], scope: Scope, subject_id: str, before: Place | None, limit: int
) -> tuple[list[Item], Place | None]:
    """Newest first, and where the page ends. Of an id that was merged into another subject, that one's.

    Raises NotFound SUBJECT_NOT_FOUND.
    """
    key = (await subjects.find_keys(conn, scope.project_no, [subject_id])).get(subject_id)
    if key is None:
        raise NotFound("SUBJECT_NOT_FOUND", "there is no such subject", subjectId=subject_id)
    found = await timelines.page(conn, key, before, limit + 1)
    return found[:limit], found[limit - 1].place if len(found) > limit else None
