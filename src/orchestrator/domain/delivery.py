"""What a provider reports of a message that it has taken, and what that means for whom it was sent to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from orchestrator.predicates.faults import Fault, under

MAX_BATCH = 1000
MAX_REPORT_ID_LENGTH = 256
MAX_LINK_LENGTH = 2_048

_KEY = re.compile(r"[0-9a-f]{64}")
# The Message-ID of our mail, as providers quote it.
_MESSAGE_ID = re.compile(r"([0-9a-f]{64})@[^@]*")
# As `event_id` makes it.
_EVENT_ID = re.compile(r"delivery:([0-9a-f]{64}):")


class Kind(Enum):
    """What happened to a message. `column` is where a send keeps when; `event` is the event of its subject."""

    DELIVERED = "delivered"
    SOFT_BOUNCED = "soft_bounced"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"

    @property
    def column(self) -> str:
        return f"{self.value}_at"

    @property
    def event(self) -> str:
        return "message_bounced" if self is Kind.SOFT_BOUNCED else f"message_{self.value}"

    @property
    def suppresses(self) -> str | None:
        """The reason why nothing more may go to the subject by this channel; None where more may."""
        return _SUPPRESSES.get(self)

    @property
    def recurs(self) -> bool:
        """Whether it may happen to a message more than once."""
        return self in (Kind.SOFT_BOUNCED, Kind.OPENED, Kind.CLICKED)


_SUPPRESSES = {Kind.BOUNCED: "bounced", Kind.COMPLAINED: "complained"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One thing that happened to one message, which `key` or `provider_id` names.

    `report_id` tells reports of a kind that recurs apart; without it `occurred_at` and `link` do. `occurred_at` None
    means: now.
    """

    kind: Kind
    key: str
    provider_id: str
    report_id: str
    occurred_at: datetime | None
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Of:
    """The send that a report is about. `key` is what the provider was given."""

    key: str
    execution_id: str
    journey_id: str
    version: int
    step_id: str
    communication_id: str
    content_revision: int
    channel: str
    category: str


def names_of(key: str, provider_id: str) -> tuple[str, str]:
    """(our key, the provider's name) by which a message is looked for: one of them, the other empty.

    A provider's name that is the Message-ID of our mail holds the key.
    """
    if key:
        return key, ""
    provider_id = provider_id.strip().removeprefix("<").removesuffix(">")
    ours = _MESSAGE_ID.fullmatch(provider_id)
    return (ours[1], "") if ours else ("", provider_id)


def faults_in(key: str, provider_id: str, path: str) -> list[Fault]:
    """What is wrong with the names of a message. `path` leads to the report."""
    at = under(path, "idempotencyKey")
    if not key and not provider_id.strip():
        return [Fault(path=at, reason="REQUIRED", message="a message is named by its key or the provider's id")]
    if key and _KEY.fullmatch(key) is None:
        return [Fault(path=at, reason="INVALID_VALUE", message="must be 64 hexadecimal digits, in small letters")]
    return []


def event_id(report: Report, send: Of) -> str:
    """The same for every repeat of a report, and no other's."""
    base = f"delivery:{send.key}:{report.kind.value}"
    if not report.kind.recurs:
        return base
    told = report.report_id or f"{report.occurred_at.isoformat() if report.occurred_at else ''} {report.link}"
    return f"{base}:{hashlib.sha256(told.encode(errors='surrogatepass')).hexdigest()[:24]}"


def key_in(event_id: str) -> str | None:
    """The key of the message that an event of this id is a report of; None: it is none."""
    told = _EVENT_ID.match(event_id)
    return told[1] if told is not None else None


def event_properties(report: Report, send: Of) -> dict[str, Any]:
    """What the event says. docs/channels.md documents it."""
    properties: dict[str, Any] = {
        "channel": send.channel,
        "category": send.category,
        "communicationId": send.communication_id,
        "contentRevision": send.content_revision,
        "journeyId": send.journey_id,
        "journeyVersion": send.version,
        "executionId": send.execution_id,
        "stepId": send.step_id,
    }
    if report.kind in (Kind.BOUNCED, Kind.SOFT_BOUNCED):
        properties["bounce"] = "hard" if report.kind is Kind.BOUNCED else "soft"
    if report.link:
        properties["link"] = report.link
    return properties
