"""One clock for a database and a Temporal that skips time: both stand where a test puts them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from temporalio.testing import WorkflowEnvironment

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Temporal's clock runs on, and is so far behind the database's: the later of both, which decides, is the database's.
LATE = timedelta(seconds=60)

# Found before Postgres' own by sessions that begin afterwards.
_INSTALL = """
CREATE SCHEMA virtual;
CREATE TABLE virtual.clock (at timestamptz NOT NULL);
INSERT INTO virtual.clock VALUES (now());
CREATE FUNCTION virtual.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT at FROM virtual.clock';
GRANT USAGE ON SCHEMA virtual TO PUBLIC;
GRANT SELECT ON virtual.clock TO PUBLIC;
CREATE TABLE IF NOT EXISTS events_of_other_months PARTITION OF events DEFAULT;
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = virtual, pg_catalog, public', current_database());
END $$;
"""


class VirtualClock:
    """`late`: how long after a timer its workflow looks."""

    def __init__(self, owner: Connection[Record], temporal: WorkflowEnvironment) -> None:
        self._owner = owner
        self._temporal = temporal

    async def install(self, start: datetime) -> None:
        """Before anybody else connects to the database."""
        await self._owner.execute(_INSTALL)
        await self.set(start)

    async def set(self, at: datetime) -> None:
        """The database's clock stands there; Temporal's is not moved."""
        await self._owner.execute("UPDATE virtual.clock SET at = $1", at)

    async def move(self, to: datetime) -> None:
        """Both: what wakes up to LATE before `to` does so, and finds that it is late."""
        await self.set(to)
        behind = to - LATE + timedelta(milliseconds=1) - await self._temporal.get_current_time()
        if behind > timedelta(0):
            await self._temporal.sleep(behind)
