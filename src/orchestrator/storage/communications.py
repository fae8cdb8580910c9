"""Communications and their revisions in Postgres. Callers own the connection and the transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.communication import Communication, Revision, content_of
from orchestrator.domain.journey import Pinned
from orchestrator.domain.resource import Page, Place, Resource, holding
from orchestrator.storage.resources import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What the table of communications keeps; the rest stands in the revision."""

    name: str
    channel: str
    category: str
    content_revision: int


_heads = Table("communications", id_column="communication_id", content=_Head)

_HIGHEST = """
SELECT coalesce(max(content_revision), 0) FROM communication_revisions WHERE project_no = $1 AND communication_id = $2
"""

_ADD_REVISION = """
INSERT INTO communication_revisions (project_no, communication_id, content_revision, content, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT communication_revisions_pkey DO NOTHING
"""


async def insert(
    conn: Connection[Record], project_no: int, resource: Resource[Communication]
) -> Resource[Communication] | None:
    """Write a new communication and its first revision; None when its id is taken.

    Revisions outlive their communication, so one made anew under an old id goes on counting.
    """
    highest: int = await conn.fetchval(_HIGHEST, project_no, resource.id)
    made = holding(resource, replace(resource.content, content_revision=highest + 1))
    if await _heads.insert(conn, project_no, _head(made)) is None:
        return None
    await _add_revision(conn, project_no, made)
    return made


async def update(conn: Connection[Record], project_no: int, resource: Resource[Communication]) -> None:
    """Write the communication over what is there; its revision too, if it is a new one."""
    await _heads.update(conn, project_no, _head(resource))
    await _add_revision(conn, project_no, resource)


async def delete(conn: Connection[Record], project_no: int, communication_id: str) -> bool:
    """Remove the communication, but not its revisions; False when there is none."""
    return await _heads.delete(conn, project_no, communication_id)


async def find(conn: Connection[Record], project_no: int, communication_id: str) -> Resource[Communication] | None:
    head = await _heads.find(conn, project_no, communication_id)
    return (await _complete(conn, project_no, [head]))[0] if head else None


async def page(conn: Connection[Record], project_no: int, after: Place | None, limit: int) -> Page[Communication]:
    """At most `limit` (≥ 1) communications, newest first, from where an earlier page ended."""
    heads = await _heads.page(conn, project_no, after, limit)
    return Page(resources=tuple(await _complete(conn, project_no, heads.resources)), end=heads.end)


async def pins(conn: Connection[Record], project_no: int, communication_ids: Iterable[str]) -> dict[str, Pinned]:
    """What a journey published now would pin: the newest revisions of those that exist, by id."""
    heads = await _heads.find_many(conn, project_no, communication_ids)
    return {
        communication_id: Pinned(
            content_revision=head.content.content_revision,
            channel=head.content.channel,
            category=head.content.category,
        )
        for communication_id, head in heads.items()
    }


_CONTENTS = """
SELECT r.content FROM unnest($2::text[], $3::int[]) WITH ORDINALITY AS w (communication_id, content_revision, no)
  JOIN communication_revisions AS r USING (communication_id, content_revision)
 WHERE r.project_no = $1
 ORDER BY w.no
"""


async def content(
    conn: Connection[Record], project_no: int, communication_id: str, content_revision: int
) -> dict[str, Any]:
    """What a revision says (domain/communication.py: CONTENT). It is there as long as anything names it."""
    row = await conn.fetchrow(_CONTENTS, project_no, [communication_id], [content_revision])
    assert row is not None, "revisions are never deleted"
    found: dict[str, Any] = row["content"]
    return found


_SAYING = """
SELECT max(content_revision) FROM communication_revisions
 WHERE project_no = $1 AND communication_id = $2 AND content = $3::jsonb
"""


async def revision_saying(
    conn: Connection[Record], project_no: int, communication_id: str, content: Mapping[str, Any]
) -> int | None:
    """The newest revision that says exactly this; None: it never did."""
    revision: int | None = await conn.fetchval(_SAYING, project_no, communication_id, dict(content))
    return revision


_SEVERAL = """
SELECT communication_id, content_revision, r.content
  FROM unnest($2::text[], $3::int[]) AS w (communication_id, content_revision)
  JOIN communication_revisions AS r USING (communication_id, content_revision)
 WHERE r.project_no = $1
"""


async def contents(
    conn: Connection[Record], project_no: int, wanted: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], dict[str, Any]]:
    """What these revisions say, by communication and number."""
    pairs = sorted(set(wanted))
    rows = await conn.fetch(_SEVERAL, project_no, [one for one, _ in pairs], [number for _, number in pairs])
    return {(row["communication_id"], row["content_revision"]): row["content"] for row in rows}


_NEWEST_LIKE = """
SELECT content_revision FROM communication_revisions
 WHERE project_no = $1 AND communication_id = $2 AND content ->> 'channel' = $3 AND content ->> 'category' = $4
 ORDER BY content_revision DESC
 LIMIT 1
"""


async def newest_like(conn: Connection[Record], project_no: int, communication_id: str, pinned: Pinned) -> int:
    """The newest revision in the channel and category of the one that is pinned, also of a deleted communication."""
    newest: int | None = await conn.fetchval(
        _NEWEST_LIKE, project_no, communication_id, pinned.channel, pinned.category
    )
    assert newest is not None, "the pinned revision is one of them, and revisions are never deleted"
    return newest


_REVISIONS = """
SELECT communication_id, content_revision, content, created_at FROM communication_revisions
 WHERE project_no = $1 AND communication_id = $2 AND ($3::int IS NULL OR content_revision < $3)
 ORDER BY content_revision DESC
 LIMIT $4
"""


async def revisions(
    conn: Connection[Record], project_no: int, communication_id: str, *, before: int | None, limit: int
) -> list[Revision]:
    """What a communication said, newest first; the revisions below `before`, if it is given. Also of a deleted one."""
    rows = await conn.fetch(_REVISIONS, project_no, communication_id, before, limit)
    return [Revision(**row) for row in rows]


async def _add_revision(conn: Connection[Record], project_no: int, resource: Resource[Communication]) -> None:
    content = resource.content
    await conn.execute(
        _ADD_REVISION, project_no, resource.id, content.content_revision, content_of(content), resource.updated_at
    )


async def _complete(
    conn: Connection[Record], project_no: int, heads: Sequence[Resource[_Head]]
) -> list[Resource[Communication]]:
    """The communications of these heads. In a statement of its own: what a head names never changes."""
    rows = await conn.fetch(
        _CONTENTS, project_no, [head.id for head in heads], [head.content.content_revision for head in heads]
    )
    return [
        holding(
            head,
            Communication(**row["content"], name=head.content.name, content_revision=head.content.content_revision),
        )
        for head, row in zip(heads, rows, strict=True)
    ]


def _head(resource: Resource[Communication]) -> Resource[_Head]:
    content = resource.content
    return holding(
        resource,
        _Head(
            name=content.name,
            channel=content.channel,
            category=content.category,
            content_revision=content.content_revision,
        ),
    )
