"""The numbers that stand for events in the hot tables. What has a number keeps it for ever."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from asyncpg import Connection, Record

from orchestrator.predicates.tree import Source, Where

#: Stands for events of every name. It is counted in subject_event_state alone.
ANY_EVENT_NO = 0

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


_NAMES = "SELECT name_no, name FROM event_names WHERE project_no = $1 AND name_no = ANY($2::int[])"


async def names(conn: Connection[Record], project_no: int, numbers: Iterable[int]) -> dict[int, str]:
    """What these numbers of names stand for."""
    rows = await conn.fetch(_NAMES, project_no, list(numbers))
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


def where_hash(where: Where) -> bytes:
    """By which derived events of one name are told apart."""
    return sha256(where.text.encode("utf-8", "surrogatepass")).digest()


#: Joined to rows `w (name, where_hash)`: the numbers of sources. `d.ready_at` says whether a kind is counted in full.
SOURCE_NUMBERS = """
  LEFT JOIN event_names AS n ON n.project_no = $1 AND n.name = w.name
  LEFT JOIN derived_events AS d ON d.project_no = $1 AND d.base_no = n.name_no AND d.where_sha256 = w.where_hash
"""

_NUMBERS = f"""
SELECT w.place - 1, CASE WHEN w.where_hash IS NULL THEN n.name_no ELSE d.name_no END AS name_no
  FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS w (name, where_hash, place)
{SOURCE_NUMBERS.rstrip()}
"""


async def numbers_of(conn: Connection[Record], project_no: int, sources: Iterable[Source]) -> dict[Source, int]:
    """The numbers of those sources that have one: nothing of the others has ever been counted.

    What a kind of event (a source with `where`) has been counted to is complete once it is not among
    `derived_events.uncounted`.
    """
    wanted = list(sources)
    named = [source for source in wanted if source.name is not None]
    numbers = {source: ANY_EVENT_NO for source in wanted if source.name is None}
    if named:
        hashes = [where_hash(source.where) if source.where is not None else None for source in named]
        rows = await conn.fetch(_NUMBERS, project_no, [source.name for source in named], hashes)
        numbers |= {named[place]: name_no for place, name_no in rows if name_no is not None}
    return numbers
