"""The channel `email`: one mail to the address that the subject's attributes have, by way of an SMTP server.

What the server's answers mean is in docs/channels.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.domain import channels
from orchestrator.domain.communication import MARKETING
from orchestrator.domain.email_address import Mailbox, parse_address, parse_mailbox
from orchestrator.predicates.paths import find, split_path
from workers.channels.channel import Accepted, ChannelUnavailable, Message, OnAmbiguity, Refused
from workers.channels.mime import compose, message_id
from workers.channels.smtp import LONGEST, SmtpConnections

#: Until an operator has set what is missing.
_PAUSE = timedelta(minutes=1)


class EmailChannel:
    """Hands mail over. Without a server, or without a sender, messages wait; so does marketing without a way out of it.

    SMTP knows no keys, so `on_ambiguity` says what becomes of a message whose answer was lost. Refuses with
    `address_missing`, `address_invalid`, `settings_invalid`, and what SmtpConnections refuses with.
    """

    name = channels.EMAIL
    key_life = None
    timeout = LONGEST
    html = False

    def __init__(
        self,
        connections: SmtpConnections | None,
        *,
        sender: Mailbox | None = None,
        on_ambiguity: OnAmbiguity = OnAmbiguity.AT_MOST_ONCE,
    ) -> None:
        self.on_ambiguity = on_ambiguity
        self._connections = connections
        self._sender = sender

    def provider_of(self, message: Message) -> str:
        return self.name

    async def send(self, message: Message) -> Accepted | Refused:
        settings = message.settings
        try:
            sender = parse_mailbox(settings["from"]) if settings.get("from") is not None else self._sender
            reply_to = parse_mailbox(settings["replyTo"]) if settings.get("replyTo") is not None else None
            path = split_path(settings.get("to") or channels.EMAIL_PATH)
        except ValueError:
            return Refused(reason="settings_invalid", asked=False)
        address = find(message.attributes, path)
        if address is None or address == "":
            return Refused(reason="address_missing", asked=False)
        try:
            recipient = parse_address(address) if isinstance(address, str) else ""
        except ValueError:
            recipient = ""
        if not recipient:
            return Refused(reason="address_invalid", asked=False)
        if self._connections is None:
            raise ChannelUnavailable("smtp_server_missing", in_doubt=False, retry_after=_PAUSE)
        if sender is None:
            raise ChannelUnavailable("sender_missing", in_doubt=False, retry_after=_PAUSE)
        # Of what somebody asked for, a button of their mail program must not relieve them.
        link = message.unsubscribe_url if message.category == MARKETING else None
        if link is None and message.category == MARKETING and not message.is_test:
            raise ChannelUnavailable("public_url_missing", in_doubt=False, retry_after=_PAUSE)
        mail = compose(
            message,
            sender=sender,
            recipient=recipient,
            reply_to=reply_to,
            unsubscribe_url=link,
            now=datetime.now(UTC),
        )
        answer = await self._connections.hand_over(sender.address, recipient, mail)
        if isinstance(answer, Accepted):
            return Accepted(provider_id=answer.provider_id or message_id(message, sender)[1:-1])
        return answer

    async def close(self) -> None:
        if self._connections is not None:
            await self._connections.close()
