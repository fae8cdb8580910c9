"""Delivery by a process that runs without Temporal, too: at once if Temporal is there, else by the workers' sweeper."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.application.delivery import Delivery
from orchestrator.application.transactions import Transactions
from orchestrator.storage.outbox import Entry
from orchestrator.temporal.client import missing_search_attributes
from orchestrator.temporal.executions import Executions

logger = logging.getLogger(__name__)


class PromptDelivery:
    """`transactions` are those of the workers' role, who own the outbox; `client` may connect when first asked."""

    def __init__(self, transactions: Transactions, client: Client) -> None:
        self._transactions = transactions
        self._client = client
        self._delivery: Delivery | None = None

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """Deliver if that is possible now. What is not delivered stays where a sweeper finds it; nothing is raised."""
        if not entries:
            return
        if self._delivery is None:
            self._delivery = await self._open()
        if self._delivery is not None:
            await self._delivery.deliver(entries)

    async def _open(self) -> Delivery | None:
        """Delivery, once Temporal has said which search attributes there are; without them a start would be refused."""
        try:
            if not await self._client.service_client.check_health():
                return None
        except (RPCError, RuntimeError) as error:
            logger.info("temporal is away, delivery waits", extra={"error": type(error).__name__})
            return None
        searchable = not await missing_search_attributes(self._client)
        return Delivery(self._transactions, Executions(self._client, eager=False, searchable=searchable))
