"""Pokes for all executions of a project that await something (domain/conditions.py: topics) which has changed for all
of them at once: asked for with the change, told in pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.storage import barriers
from orchestrator.storage.poke_pages import page_of

# What is asked for before the first look at a round belongs to it, the rest to the next one.
_REQUEST = """
INSERT INTO topic_pokes AS t (project_no, topics, moved_at) VALUES ($1, $2, $3)
ON CONFLICT (project_no) DO UPDATE
   SET topics = CASE WHEN t.barrier IS NULL
                     THEN ARRAY(SELECT unnest(t.topics) UNION SELECT unnest(excluded.topics) ORDER BY 1)
                     ELSE t.topics END,
       next_topics = CASE WHEN t.barrier IS NOT NULL
                          THEN ARRAY(SELECT unnest(t.next_topics) UNION SELECT unnest(excluded.topics) ORDER BY 1) END
"""


async def request(conn: Connection[Record], project_no: int, topics: Iterable[str], now: datetime) -> None:
    """Have every execution of the project look again, soon after the commit, that awaits one of these by then."""
    await conn.execute(_REQUEST, project_no, sorted(topics), now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A project's round that this transaction works on. `barrier` None: nobody has looked yet who may still be going by
    what was so before. `place`: bucket, subject and execution up to which it has come.
    """

    project_no: int
    topics: Sequence[str]
    next_topics: Sequence[str] | None
    barrier: int | None
    place: tuple[int, int, UUID]


_NEXT = f"""
SELECT project_no, topics, next_topics, barrier, bucket, subject_no, execution_id
  FROM topic_pokes
 WHERE {barriers.PASSED}
 ORDER BY moved_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""


async def take(conn: Connection[Record]) -> Round | None:
    """The one whose last page is the longest ago; None when there is none, or somebody else is at it. One whose barrier
    stands is left alone until all transactions from before it have ended: then nobody decides by what was so before.
    """
    row = await conn.fetchrow(_NEXT)
    if row is None:
        return None
    return Round(
        project_no=row["project_no"],
        topics=row["topics"],
        next_topics=row["next_topics"],
        barrier=row["barrier"],
        place=(row["bucket"], row["subject_no"], row["execution_id"]),
    )


_RAISE_BARRIER = f"""
UPDATE topic_pokes SET barrier = {barriers.RAISED}, moved_at = $2 WHERE project_no = $1
"""


async def raise_barrier(conn: Connection[Record], one: Round, now: datetime) -> None:
    """Note which transactions may have begun before the change: those of smaller numbers than this one, which has met
    the change committed. Whoever decides about an execution has taken its subject's lock, and so has a number, before
    they read what is so.
    """
    await conn.execute(_RAISE_BARRIER, one.project_no, now)


_POKE = page_of("awaits IS NOT NULL", meant="awaits && $2::text[]")

_GO_ON = """
UPDATE topic_pokes SET bucket = $2, subject_no = $3, execution_id = $4, moved_at = $5 WHERE project_no = $1
"""

_BEGIN_AGAIN = """
UPDATE topic_pokes
   SET topics = next_topics, next_topics = NULL, barrier = NULL, moved_at = $2, bucket = DEFAULT, subject_no = DEFAULT,
       execution_id = DEFAULT
 WHERE project_no = $1
"""

_DONE = "DELETE FROM topic_pokes WHERE project_no = $1"


async def poke_some(conn: Connection[Record], one: Round, now: datetime, limit: int) -> None:
    """The next page of a round, `limit` (≥ 1) executions looked at. One that is cut off is begun again, and no other.

    Subjects that are merged meanwhile are poked by that (application/merging.py).
    """
    last = await conn.fetchrow(_POKE, one.project_no, one.topics, *one.place, now, limit)
    if last is not None:
        await conn.execute(_GO_ON, one.project_no, *last, now)
    elif one.next_topics is not None:
        await conn.execute(_BEGIN_AGAIN, one.project_no, now)
    else:
        await conn.execute(_DONE, one.project_no)
