"""A message as mail: one text of ASCII lines, with nothing in its headers but what stands there on purpose."""

from __future__ import annotations

import re
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from orchestrator.domain.email_address import Mailbox
from workers.channels.channel import Message

MAX_SUBJECT_LENGTH = 500

# Whatever ends a line for somebody, and what no line shows.
_UNSEEN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")
# Servers that take no more than ASCII are met on the way.
_POLICY = SMTP.clone(cte_type="7bit")


def message_id(message: Message, sender: Mailbox) -> str:
    """The same on every try: who keeps messages by their id keeps one."""
    return f"<{message.idempotency_key}@{sender.domain}>"


def compose(
    message: Message,
    *,
    sender: Mailbox,
    recipient: str,
    reply_to: Mailbox | None,
    unsubscribe_url: str | None,
    now: datetime,
) -> bytes:
    """The mail. The text is the message's body; with the setting `html` it has both forms, the better one last.

    A way out over https takes one click, as RFC 8058 has it.
    """
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = _named(sender)
    mail["To"] = Address(addr_spec=recipient)
    if reply_to is not None:
        mail["Reply-To"] = _named(reply_to)
    mail["Subject"] = subject_line(message.subject)
    mail["Date"] = now
    mail.set_content(_lines(message.body))
    if html := message.settings.get("html"):
        mail.add_alternative(_lines(html), subtype="html")
        mail.set_boundary(f"={message.idempotency_key[:40]}")
    # Written here, since the library would fold them into something else: they have no blanks to fold at.
    head = [f"Message-ID: {message_id(message, sender)}"]
    if unsubscribe_url is not None:
        head.append(f"List-Unsubscribe: <{unsubscribe_url}>")
        if unsubscribe_url.startswith("https://"):
            head.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    return "".join(f"{line}\r\n" for line in head).encode("ascii") + mail.as_bytes()


def subject_line(text: str) -> str:
    """One line, whatever a template has brought into it."""
    line = _UNSEEN.sub(" ", text).strip()
    return line if len(line) <= MAX_SUBJECT_LENGTH else f"{line[: MAX_SUBJECT_LENGTH - 1]}…"


def _lines(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "")


def _named(mailbox: Mailbox) -> Address:
    return Address(display_name=mailbox.name, addr_spec=mailbox.address)
