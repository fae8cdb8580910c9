"""Hands communications that somebody wants to see to their channels: once, and outside of all that is counted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from orchestrator.application.sent_tests import TestsToSend
from orchestrator.domain import channels
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.sent_test import FAILED, SENT, UNKNOWN, Result
from orchestrator.storage.sent_tests import Due
from workers.channels.channel import Accepted, Channel, ChannelUnavailable, Message, Refused

logger = logging.getLogger(__name__)

_NO_EXECUTION = UUID(int=0)


@dataclass(frozen=True)
class SentTestSender:
    tests: TestsToSend
    channels: Mapping[str, Channel]

    async def step(self) -> bool:
        """One address of one test; False when none is due."""
        due = await self.tests.take()
        if due is None:
            return False
        await self.tests.note(due, await self._sent(due))
        return True

    async def _sent(self, due: Due) -> Result:
        channel = self.channels.get(due.test.channel)
        if channel is None:
            return Result(state=FAILED, reason="channel_not_configured")
        try:
            answer = await channel.send(message_of(due))
        except ChannelUnavailable as unavailable:
            # Nobody waits for it: who wants to see it sends another.
            return Result(state=UNKNOWN if unavailable.in_doubt else FAILED, reason=unavailable.reason)
        except Exception:
            logger.exception("a test cannot be sent", extra={"channel": due.test.channel})
            return Result(state=UNKNOWN, reason="internal")
        match answer:
            case Accepted():
                return Result(state=SENT)
            case Refused(reason=reason):
                return Result(state=FAILED, reason=reason)


def message_of(due: Due) -> Message:
    """What the channel is given: the address stands where it looks for one."""
    test, message, address = due.test, due.message, due.message.addresses[due.place]
    settings = dict(message.settings)
    attributes = {}
    match test.channel:
        case channels.EMAIL:
            settings.pop("to", None)
            attributes = {channels.EMAIL_PATH: address}
        case channels.WEBHOOK:
            settings["url"] = address
    return Message(
        idempotency_key=hashlib.sha256(f"{test.test_send_id}/{due.place}".encode()).hexdigest(),
        key=due.key or SubjectKey(project_no=due.project_no, bucket=0, subject_no=0),
        subject_id=message.subject_id,
        execution_id=_NO_EXECUTION,
        journey_id="",
        version=0,
        step_id="",
        communication_id=test.communication_id,
        content_revision=test.content_revision,
        category=test.category,
        settings=settings,
        attributes=attributes,
        unsubscribe_url=None,
        subject=message.subject,
        body=message.body,
        is_test=True,
    )
