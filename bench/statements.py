"""Which statements Postgres is busy with, and what they wait for: looked at so many times a second."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import asyncpg

from orchestrator import application, storage

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Seconds between two looks.
EVERY = 0.01

#: Characters of a statement that is named by itself.
_LONGEST = 72
#: Postgres shows so many bytes of a statement, unless it is told otherwise.
_SHOWN = 1_000

# Idle within a transaction: its process thinks, and holds what it holds. Without a name are those of a bench that looks
# whether it is time to go on.
_ACTIVE = """
SELECT query, state = 'active' AS runs, coalesce(wait_event_type || ' ' || wait_event, '') AS waits_for
  FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> ''
   AND state IN ('active', 'idle in transaction')
"""

ON_A_CORE = "nothing: on a core, or about to be"
BETWEEN = "its process, in the middle of a transaction"


class Watch:
    """Looks until it is ended; then knows how often each statement was met, and each thing that is waited for."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._queries: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.looks = 0
        self._watching: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        conn = await asyncpg.connect(self._dsn)
        self._watching = asyncio.create_task(self._watch(conn), name="statements")

    async def end(self) -> None:
        assert self._watching is not None
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    @property
    def statements(self) -> Counter[str]:
        """By name."""
        named: Counter[str] = Counter()
        names = _names()
        for query, count in self._queries.items():
            named[name_of(query, names)] += count
        return named

    async def _watch(self, conn: Connection[Record]) -> None:
        try:
            while True:
                for query, runs, waits_for in await conn.fetch(_ACTIVE):
                    self.waits[(waits_for or ON_A_CORE) if runs else BETWEEN] += 1
                    if runs:
                        self._queries[query] += 1
                self.looks += 1
                await asyncio.sleep(EVERY)
        finally:
            conn.terminate()


def name_of(query: str, names: Mapping[str, str]) -> str:
    """The constant that holds it, by `names`, a constant's name by its text; else how it begins."""
    text = _plain(query)
    if (name := names.get(text)) is not None:
        return name
    if len(text) > _SHOWN // 2:  # it may have been cut off, or put together of parts
        begun = text[: _SHOWN // 2]
        same = {name for known, name in names.items() if known.startswith(begun)}
        if len(same) == 1:
            return same.pop()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _names() -> dict[str, str]:
    """Of all statements that stand in a constant of the product's."""
    return {
        _plain(text): f"{module.__name__.removeprefix('orchestrator.')}.{name}"
        for module in _modules()
        for name, text in vars(module).items()
        if isinstance(text, str) and " " in text.strip()
    }


def _modules() -> Iterator[ModuleType]:
    for package in (application, storage):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)


def _plain(query: str) -> str:
    return " ".join(query.split()).rstrip(";")
