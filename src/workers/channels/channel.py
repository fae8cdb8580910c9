"""The one interface of channels: a message goes in; accepted, refused, or "ask me later" comes out.

docs/channels.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from orchestrator.domain.scope import SubjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be sent, rendered.

    `idempotency_key`: 64 hexadecimal digits, the same on every try of one pass over one send step. `subject` and `body`
    are rendered by each try, from the same revision and what is known of the subject then.
    `settings` are the communication's, checked when it was saved (orchestrator/domain/channels.py); those that are
    templates are rendered. `attributes` are what is known of the subject: a channel finds the address there.
    `unsubscribe_url` is where the subject can refuse this category on this channel; None: this instance has no place
    for that. `is_test`: somebody wants to see it at an address of their own. No subject is sent it, and it belongs to
    no execution.
    """

    idempotency_key: str
    key: SubjectKey
    subject_id: str
    execution_id: UUID
    journey_id: str
    version: int
    step_id: str
    communication_id: str
    content_revision: int
    category: str
    settings: Mapping[str, Any]
    attributes: Mapping[str, Any]
    unsubscribe_url: str | None
    subject: str
    body: str
    is_test: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider has taken the message, now or on an earlier try. `provider_id`: its name for it, if it said one."""

    provider_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider will never take this message. `reason` is one of the channel's few lower_snake words; `asked`: it is
    the provider who has said so.
    """

    reason: str
    asked: bool = field(default=True, compare=False)


class ChannelUnavailable(Exception):
    """No answer that settles the send: try again, not before `retry_after` if that is set.

    `reason` is one of the channel's few lower_snake words. `in_doubt`: the provider may have taken the message all the
    same; False when it certainly has not. `throttled`: it was sent too much, and takes nothing from
    anybody for now. `unreached`: nobody answered at all, so others need not try either, for a moment.
    """

    def __init__(
        self,
        reason: str,
        *,
        in_doubt: bool,
        retry_after: timedelta | None = None,
        throttled: bool = False,
        unreached: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.in_doubt = in_doubt
        self.retry_after = retry_after
        self.throttled = throttled
        self.unreached = unreached


class OnAmbiguity(Enum):
    """What becomes of a send in doubt at a provider that honours no key, or no longer."""

    #: It ends `unknown` and is never sent again.
    AT_MOST_ONCE = "at_most_once"
    #: It is sent again, and may arrive twice.
    AT_LEAST_ONCE = "at_least_once"


class Channel(Protocol):
    """A way to reach a subject. One instance serves a process; `send` is called by many tasks at once."""

    @property
    def name(self) -> str:
        """As communications name it; one of orchestrator.domain.channels.CHANNELS."""

    @property
    def key_life(self) -> timedelta | None:
        """How long the provider takes a repeat of a key for the same message; None: it knows no keys."""

    @property
    def on_ambiguity(self) -> OnAmbiguity:
        """What to do where `key_life` does not help."""

    @property
    def timeout(self) -> timedelta:
        """The longest that `send` takes."""

    @property
    def html(self) -> bool:
        """Whether bodies are HTML: what variables put there is then escaped."""

    def provider_of(self, message: Message) -> str:
        """Who is called for it, in a few words: those who do not answer take no places from the others."""

    async def send(self, message: Message) -> Accepted | Refused:
        """Hand the message to the provider. A refusal is an outcome; only infrastructure raises (ChannelUnavailable).

        May be repeated with the same key, and cancelled.
        """

    async def close(self) -> None:
        """Give back what the channel holds. No `send` is under way or follows."""
