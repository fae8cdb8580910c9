"""What communications say, revision by revision. A revision never changes, so a process keeps those it has used."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from asyncpg import Connection, Record

from orchestrator.storage import communications

#: More than a worker sends in a while; one content is some kilobytes.
KEPT = 256


class Contents:
    """The contents a process has used lately (domain/communication.py: CONTENT). Not to be written to."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str, int], dict[str, Any]] = OrderedDict()

    async def get(
        self, conn: Connection[Record], project_no: int, communication_id: str, content_revision: int
    ) -> dict[str, Any]:
        at = (project_no, communication_id, content_revision)
        if at not in self._kept:
            self._kept[at] = await communications.content(conn, *at)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(at)
        return self._kept[at]
