"""The numbers that stand for event names in the hot tables. A name keeps its number for ever."""

from __future__ import annotations

from collections.abc import Iterable

from asyncpg import Connection, Record

_FIND = "SELECT name, name_no FROM event_names WHERE project_no = $1 AND name = ANY($2::text[])"

# In order, so that two writers of the same new names wait for each other in one direction only.
_ADD = """
INSERT INTO event_names (project_no, name)
SELECT $1, name FROM unnest($2::text[]) AS wanted (name) ORDER BY name
ON CONFLICT ON CONSTRAINT event_names_name_key DO NOTHING
"""


async def find(conn: Connection[Record], project_no: int, names: Iterable[str]) -> dict[str, int]:
    """The numbers of those names that have one."""
    rows = await conn.fetch(_FIND, project_no, list(names))
    return {row[0]: row[1] for row in rows}


async def ensure(conn: Connection[Record], project_no: int, names: Iterable[str]) -> dict[str, int]:
    """The numbers of all these names; new ones are given one."""
    wanted = set(names)
    numbers = await find(conn, project_no, wanted)
    if missing := wanted - numbers.keys():
        await conn.execute(_ADD, project_no, sorted(missing))
        # A statement of its own: it sees the rows of writers who came first, for whom the insert has waited.
        numbers |= await find(conn, project_no, missing)
    return numbers
