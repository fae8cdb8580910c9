"""The `send` activity: reserve, render, hand to the channel, settle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity

from orchestrator import traces
from orchestrator.application.sending import Receipt, Reserved, Sending
from orchestrator.domain.channels import HTML_TEMPLATES
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks, Unsubscription
from orchestrator.storage.sends import FAILED, SENT, UNKNOWN
from orchestrator.temporal.contract import Effect, Question
from workers.activities.tries import seen_through
from workers.channels.channel import Accepted, Channel, ChannelUnavailable, Message, OnAmbiguity, Refused
from workers.channels.rendering import Renderer, TemplateFailed, Text
from workers.errors import as_failure
from workers.metrics import Metrics
from workers.provider_places import NoPlace, Place, Provider, ProviderPlaces, Task

#: How long a provider is left alone that does not say for how long.
THROTTLED = timedelta(seconds=1)


@dataclass(frozen=True)
class SendActivities:
    """Sends messages. Temporal may run a try again at any point: what was reserved, accepted and settled stays so."""

    sending: Sending
    channels: Mapping[str, Channel]
    renderer: Renderer
    links: UnsubscribeLinks
    metrics: Metrics
    #: By channel.
    places: Mapping[str, ProviderPlaces]

    @activity.defn(name="send")
    async def send(self, question: Question) -> Effect:
        """One try."""
        return await seen_through(self._try(question))

    async def _try(self, question: Question) -> Effect:
        try:
            for places in self.places.values():
                places.look(Task(question.execution_id, question.seq))
            reserved = await self.sending.reserve(question)
            if isinstance(reserved, Effect):
                return reserved
            receipt = await self._dispatch(reserved)
            if receipt is None:
                return await self.sending.give_way(question, reserved)
            return await self.sending.settle(question, reserved, receipt)
        except Exception as error:
            raise as_failure(error, execution_id=question.execution_id) from None

    async def _dispatch(self, reserved: Reserved) -> Receipt | None:
        """What came of this try; None: it was not made, since the channel is crowded. Raises ChannelUnavailable when
        nothing did, and the send is to be tried again.

        Who cannot send now cannot know what became of an earlier try that is in doubt. That holds for a refusal, too:
        a provider may refuse the repeat of a key because it has taken the message, or since the message has changed
        (attributes are read anew by each try).
        """
        not_sent = UNKNOWN if reserved.in_doubt else FAILED
        channel = self.channels.get(reserved.channel)
        if channel is None:
            return Receipt(state=not_sent, reason="channel_not_configured")
        ambiguous = reserved.in_doubt and not _honours_key(channel, reserved)
        if ambiguous and channel.on_ambiguity is OnAmbiguity.AT_MOST_ONCE:
            return Receipt(state=UNKNOWN, reason="in_doubt")
        try:
            message = await self._message(reserved, channel)
        except TemplateFailed as failed:
            return Receipt(state=not_sent, reason=failed.reason)
        task = Task(str(reserved.execution_id), reserved.seq)
        provider = Provider(reserved.key.project_no, channel.provider_of(message))
        try:
            with self.places[reserved.channel].place(task, provider) as place:
                return await self._call(reserved, channel, message, not_sent, place)
        except NoPlace:
            self.metrics.gave_way(reserved.channel)
            if not reserved.in_doubt:
                await self.sending.note(reserved, None, in_doubt=False)
            raise

    async def _call(
        self, reserved: Reserved, channel: Channel, message: Message, not_sent: str, place: Place
    ) -> Receipt | None:
        # As late as can be: what the provider sees of us is when it is called.
        wait = await self.sending.take_turn(reserved)
        if wait is None:
            self.metrics.gave_way(reserved.channel)
            return None
        await asyncio.sleep(wait.total_seconds())
        started = time.monotonic()
        try:
            with traces.part("provider", "client", channel=reserved.channel, execution_id=str(reserved.execution_id)):
                answer = await channel.send(message)
        except ChannelUnavailable as unavailable:
            self.metrics.tried(reserved.channel, "unavailable", time.monotonic() - started)
            if unavailable.unreached:
                place.unreached()
            if unavailable.throttled:  # at once: others are on their way
                await self.sending.close_channel(reserved, unavailable.retry_after or THROTTLED)
            in_doubt = unavailable.in_doubt or reserved.in_doubt
            if not in_doubt or unavailable.retry_after is not None:
                await self.sending.note(reserved, unavailable.retry_after, in_doubt=in_doubt)
            raise
        if isinstance(answer, Accepted) or answer.asked:
            place.reached()
        match answer:
            case Accepted(provider_id=provider_id):
                receipt = Receipt(state=SENT, provider_id=provider_id)
            case Refused(reason=reason):
                receipt = Receipt(state=not_sent, reason=reason)
        self.metrics.tried(reserved.channel, receipt.state, time.monotonic() - started)
        return receipt

    async def _message(self, reserved: Reserved, channel: Channel) -> Message:
        content = reserved.content
        category: str = content["category"]
        link = self.links.url(Unsubscription(key=reserved.key, channel=reserved.channel, category=category))
        variables: dict[str, Any] = {
            "subject": {"id": reserved.subject_id, "attributes": reserved.attributes},
            "entry": reserved.entry,
            "steps": reserved.steps,
            "unsubscribe_url": link,
        }
        settings: dict[str, Any] = content["settings"]
        html = [name for name in HTML_TEMPLATES.get(reserved.channel, ()) if settings.get(name) is not None]
        subject, body, *rest = await self.renderer.render(
            [
                Text(content["subject"]),
                Text(content["body"], escape_html=channel.html),
                *(Text(settings[name], escape_html=True) for name in html),
            ],
            variables,
        )
        return Message(
            idempotency_key=reserved.idempotency_key,
            key=reserved.key,
            subject_id=reserved.subject_id,
            execution_id=reserved.execution_id,
            journey_id=reserved.journey_id,
            version=reserved.version,
            step_id=reserved.step_id,
            communication_id=reserved.communication_id,
            content_revision=reserved.content_revision,
            category=category,
            settings=settings | dict(zip(html, rest, strict=True)),
            attributes=reserved.attributes,
            unsubscribe_url=link,
            subject=subject,
            body=body,
        )


def _honours_key(channel: Channel, reserved: Reserved) -> bool:
    """Whether a repeat of the key is still taken for the same message."""
    age: timedelta = reserved.now - reserved.reserved_at
    return channel.key_life is not None and age < channel.key_life
