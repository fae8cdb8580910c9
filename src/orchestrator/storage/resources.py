"""What people author, in Postgres: one idiom for all such tables. Callers own the connection and the transaction.

A table has the columns project_no, its id, one for each field of its content, revision, created_at and updated_at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asyncpg import Connection, Record

from orchestrator.domain.resource import Page, Place, Resource

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Content = TypeVar("Content", bound=DataclassInstance)
else:
    Content = TypeVar("Content")

_KEPT = ("revision", "created_at", "updated_at")


class Table(Generic[Content]):
    """Reads and writes the resources of one table. Writers hold the project's definitions (storage/projects.py)."""

    def __init__(self, name: str, *, id_column: str, content: type[Content]) -> None:
        self._content = content
        self._id_column = id_column
        self._fields = tuple(field.name for field in fields(content))
        written = (*self._fields, *_KEPT)
        columns = ", ".join((id_column, *written))
        values = ", ".join(f"${number}" for number in range(1, len(written) + 3))
        assignments = ", ".join(f"{column} = ${number}" for number, column in enumerate(written, start=3))
        self._select = f"SELECT {columns} FROM {name} WHERE project_no = $1"
        self._insert = (
            f"INSERT INTO {name} (project_no, {columns}) VALUES ({values}) "
            f"ON CONFLICT ON CONSTRAINT {name}_pkey DO NOTHING RETURNING true"
        )
        self._update = f"UPDATE {name} SET {assignments} WHERE project_no = $1 AND {id_column} = $2"
        self._delete = f"DELETE FROM {name} WHERE project_no = $1 AND {id_column} = $2 RETURNING true"
        self._find = f"{self._select} AND {id_column} = $2"
        self._find_many = f"{self._select} AND {id_column} = ANY ($2::text[])"
        self._page = (
            f"{self._select} "
            f"AND ($2::timestamptz IS NULL OR (created_at, {id_column}) < ($2, $3)) "
            f"ORDER BY created_at DESC, {id_column} DESC LIMIT $4"
        )

    async def insert(
        self, conn: Connection[Record], project_no: int, resource: Resource[Content]
    ) -> Resource[Content] | None:
        """Write a new resource; None when its id is taken."""
        inserted = await conn.fetchval(self._insert, project_no, resource.id, *self._row(resource))
        return resource if inserted else None

    async def update(self, conn: Connection[Record], project_no: int, resource: Resource[Content]) -> None:
        """Write the resource over what is there under its id."""
        await conn.execute(self._update, project_no, resource.id, *self._row(resource))

    async def delete(self, conn: Connection[Record], project_no: int, resource_id: str) -> bool:
        """Remove the resource; False when there is none."""
        return bool(await conn.fetchval(self._delete, project_no, resource_id))

    async def find(self, conn: Connection[Record], project_no: int, resource_id: str) -> Resource[Content] | None:
        row = await conn.fetchrow(self._find, project_no, resource_id)
        return self._resource(row) if row else None

    async def find_many(
        self, conn: Connection[Record], project_no: int, resource_ids: Iterable[str]
    ) -> dict[str, Resource[Content]]:
        """Those of these resources that exist, by id."""
        rows = await conn.fetch(self._find_many, project_no, sorted(set(resource_ids)))
        return {row[self._id_column]: self._resource(row) for row in rows}

    async def page(self, conn: Connection[Record], project_no: int, after: Place | None, limit: int) -> Page[Content]:
        """At most `limit` (≥ 1) resources, newest first, from where an earlier page ended."""
        return await self._read_page(conn, self._page, project_no, after, limit)

    async def _read_page(
        self, conn: Connection[Record], statement: str, project_no: int, after: Place | None, limit: int
    ) -> Page[Content]:
        created_at, resource_id = (after.created_at, after.id) if after else (None, None)
        rows = await conn.fetch(statement, project_no, created_at, resource_id, limit + 1)
        resources = tuple(self._resource(row) for row in rows[:limit])
        last = resources[-1] if len(rows) > limit else None
        return Page(resources=resources, end=Place(created_at=last.created_at, id=last.id) if last else None)

    def _row(self, resource: Resource[Content]) -> list[Any]:
        content = [getattr(resource.content, name) for name in self._fields]
        return [*content, *(getattr(resource, name) for name in _KEPT)]

    def _resource(self, row: Record) -> Resource[Content]:
        return Resource(
            id=row[self._id_column],
            content=self._content(**{name: row[name] for name in self._fields}),
            revision=row["revision"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
