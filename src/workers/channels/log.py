"""The channel `log`: a line in the worker's log, and the message as a row that can be looked at."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from orchestrator.domain import channels
from orchestrator.domain.refusals import Unavailable
from orchestrator.storage import log_messages
from orchestrator.storage.pool import connection
from workers.channels.channel import Accepted, ChannelUnavailable, Message, OnAmbiguity, Refused

if TYPE_CHECKING:
    from asyncpg import Pool, Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChannel:
    """Accepts everything, each key once. The line says which message it was, the row (workers' role) what it said."""

    pool: Pool[Record]

    name = channels.LOG
    # The row is there as long as its subject is.
    key_life = timedelta(days=3650)
    on_ambiguity = OnAmbiguity.AT_LEAST_ONCE
    timeout = timedelta(seconds=15)
    html = False

    def provider_of(self, message: Message) -> str:
        return self.name

    async def send(self, message: Message) -> Accepted | Refused:
        if message.is_test:  # there is nobody with whom its row would go
            logger.info(
                "test sent",
                extra={
                    "channel": self.name,
                    "communication_id": message.communication_id,
                    "revision": message.content_revision,
                },
            )
            return Accepted(provider_id=message.idempotency_key)
        try:
            async with connection(self.pool) as conn:
                inserted = await log_messages.insert_once(
                    conn, message.key, message.idempotency_key, message.subject, message.body
                )
        except (OSError, Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ChannelUnavailable("database_unavailable", in_doubt=True) from error
        if inserted:
            logger.info(
                "message sent",
                extra={
                    "channel": self.name,
                    "communication_id": message.communication_id,
                    "revision": message.content_revision,
                    "execution_id": str(message.execution_id),
                    "journey_id": message.journey_id,
                    "step_id": message.step_id,
                    "version": message.version,
                },
            )
        return Accepted(provider_id=message.idempotency_key)

    async def close(self) -> None:
        """The pool is not ours to close."""
