"""Every statement that the server makes ready or sends, as it comes to the driver."""

from __future__ import annotations

from typing import Any

from orchestrator.storage.pool import ProjectConnection

#: Texts, without their arguments.
heard: set[str] = set()


class HeardConnection(ProjectConnection):
    """Writes down every text, so that new ones are no exception."""

    __slots__ = ()

    async def _get_statement(self, query: str, *arguments: Any, **keywords: Any) -> Any:
        heard.add(query)
        return await super()._get_statement(query, *arguments, **keywords)  # type: ignore[misc]

    async def execute(self, query: str, *arguments: Any, **keywords: Any) -> str:
        # Without arguments it is sent as it is.
        heard.add(query)
        return await super().execute(query, *arguments, **keywords)
