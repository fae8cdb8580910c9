"""Telling Temporal from a process that runs without it, too: at once if it is there, else the workers' sweeper does."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.application.relay import Relay
from orchestrator.application.transactions import Transactions
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.client import missing_search_attributes
from orchestrator.temporal.executions import Executions

logger = logging.getLogger(__name__)


class PromptRelay:
    """`transactions` are those of the workers' role, who own the outbox; `client` may connect when first asked."""

    def __init__(self, transactions: Transactions, client: Client) -> None:
        self._transactions = transactions
        self._client = client
        self._relay: Relay | None = None

    async def tell(self, notices: Sequence[Notice]) -> None:
        """Tell Temporal if that is possible now. What is not told stays where a sweeper finds it; nothing is raised."""
        if not notices:
            return
        if self._relay is None:
            self._relay = await self._open()
        if self._relay is not None:
            await self._relay.tell(notices)

    async def _open(self) -> Relay | None:
        """A relay, once Temporal has said which search attributes there are; without them a start would be refused."""
        try:
            if not await self._client.service_client.check_health():
                return None
        except (RPCError, RuntimeError) as error:
            logger.info("temporal is away, what is to be told waits", extra={"error": type(error).__name__})
            return None
        searchable = not await missing_search_attributes(self._client)
        return Relay(self._transactions, Executions(self._client, eager=False, searchable=searchable))
