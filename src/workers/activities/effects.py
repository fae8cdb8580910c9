"""The activities of steps that do something besides sending: `update_subject`, `emit_event`, `webhook`, and
`choose_arm` of all steps whose arms learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from temporalio import activity

from orchestrator import traces
from orchestrator.application.calling import Calling, Receipt, Reserved
from orchestrator.application.changing import Changing
from orchestrator.application.choosing import Choosing
from orchestrator.domain.advance import CHOOSE_ARM
from orchestrator.domain.fillings import Source, encoded, fill, is_template, templates_in
from orchestrator.domain.webhook_answer import read_answer
from orchestrator.storage.webhook_calls import ANSWERED, FAILED
from orchestrator.temporal.contract import Effect, Question
from workers.activities.tries import seen_through
from workers.channels.rendering import Renderer, TemplateFailed, Text
from workers.channels.webhook import host_of
from workers.errors import TryAgain, as_failure
from workers.metrics import Metrics
from workers.provider_places import NoPlace, Place, Provider, ProviderPlaces, Task
from workers.step_calls import NotNow, NotTaken, StepCall, StepCalls, Taken


@dataclass(frozen=True)
class EffectActivities:
    """Temporal may run a try again at any point: what was carried out, taken and settled stays so."""

    changing: Changing
    choosing: Choosing
    calling: Calling
    calls: StepCalls
    renderer: Renderer
    metrics: Metrics
    #: At those whom webhooks call.
    places: ProviderPlaces

    @activity.defn(name="update_subject")
    async def update_subject(self, question: Question) -> Effect:
        return await seen_through(self._change(question))

    @activity.defn(name="emit_event")
    async def emit_event(self, question: Question) -> Effect:
        return await seen_through(self._change(question))

    @activity.defn(name="webhook")
    async def webhook(self, question: Question) -> Effect:
        return await seen_through(self._call(question))

    @activity.defn(name=CHOOSE_ARM)
    async def choose_arm(self, question: Question) -> Effect:
        return await seen_through(self._choose(question))

    async def _change(self, question: Question) -> Effect:
        try:
            planned = await self.changing.plan(question)
            while not isinstance(planned, Effect):
                filled, reason = None, ""
                try:
                    filled = await self._filled(planned.filling, planned.source)
                except TemplateFailed as failed:
                    reason = failed.reason
                planned = await self.changing.carry_out(question, planned, filled, reason)
            return planned
        except Exception as error:
            raise as_failure(error, execution_id=question.execution_id) from None

    async def _choose(self, question: Question) -> Effect:
        try:
            return await self.choosing(question)
        except Exception as error:
            raise as_failure(error, execution_id=question.execution_id) from None

    async def _call(self, question: Question) -> Effect:
        task = Task(question.execution_id, question.seq)
        try:
            self.places.look(task)
            reserved = await self.calling.reserve(question)
            if isinstance(reserved, Effect):
                return reserved
            receipt = await self._made(reserved, task)
            return await self.calling.settle(question, reserved, receipt)
        except Exception as error:
            raise as_failure(error, execution_id=question.execution_id) from None

    async def _made(self, reserved: Reserved, task: Task) -> Receipt:
        """What came of this try. Raises TryAgain when nothing did, and there is time for another one."""
        try:
            made = await self._in_place(await self._request(reserved), reserved, task)
        except TemplateFailed as failed:
            return Receipt(state=FAILED, reason=failed.reason, in_doubt=reserved.in_doubt)
        except NotNow as not_now:
            in_doubt = reserved.in_doubt or not_now.in_doubt
            pause = reserved.pause(not_now.retry_after)
            if pause is None:
                self.metrics.called("failed")
                return Receipt(state=FAILED, reason=not_now.reason, status=not_now.status, in_doubt=in_doubt)
            self.metrics.called("not_now")
            await self.calling.note(reserved, not_now.reason, not_now.status, pause, in_doubt=in_doubt)
            raise TryAgain(not_now.reason, pause) from not_now
        match made:
            case Taken(status=status, body=body):
                self.metrics.called("answered")
                answer, reason = read_answer(body)
                return Receipt(state=ANSWERED, reason=reason, status=status, answer=answer)
            case NotTaken(reason=reason, status=status):
                self.metrics.called("failed")
                return Receipt(state=FAILED, reason=reason, status=status, in_doubt=reserved.in_doubt)

    async def _in_place(self, call: StepCall, reserved: Reserved, task: Task) -> Taken | NotTaken:
        """Raises NotNow, also where there is no place for the call."""
        try:
            with self.places.place(task, Provider(reserved.key.project_no, host_of(call.url))) as place:
                return await self._heard(call, reserved, place)
        except NoPlace as no_place:
            raise NotNow("provider_busy", in_doubt=False, retry_after=no_place.retry_after) from None

    async def _heard(self, call: StepCall, reserved: Reserved, place: Place) -> Taken | NotTaken:
        """Raises NotNow."""
        try:
            with traces.part("webhook call", "client", execution_id=str(reserved.execution_id)):
                made = await self.calls.make(call)
        except NotNow as not_now:
            if not_now.unreached:
                place.unreached()
            raise
        if made.status is not None:
            place.reached()
        return made

    async def _request(self, reserved: Reserved) -> StepCall:
        """Raises TemplateFailed."""
        step, source = reserved.step, reserved.source
        body = await self._filled(step.body, source) if step.body is not None else None
        return StepCall(
            idempotency_key=reserved.idempotency_key,
            method=step.method,
            url=await self._url(step.url, source),
            headers=step.headers,
            body=orjson.dumps(body) if body is not None else None,
            timeout=step.timeout,
        )

    async def _url(self, url: str, source: Source) -> str:
        """Raises TemplateFailed."""
        if not is_template(url):
            return url
        (rendered,) = await self.renderer.render([Text(url)], encoded(source.variables))
        return rendered

    async def _filled(self, filling: Mapping[str, Any], source: Source) -> dict[str, Any]:
        """Raises TemplateFailed."""
        templates = list(templates_in(filling))
        texts = await self.renderer.render([Text(template) for template in templates], source.variables)
        return fill(filling, source, dict(zip(templates, texts, strict=True)))
