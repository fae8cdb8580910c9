"""What workers would do in a simulated execution, as far as nothing is done by it, and what of it is shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from orchestrator.application.previews import Preview, put_together, templates_in, variables_of
from orchestrator.domain.advance import Known
from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arms import Arms
from orchestrator.domain.execution import Done, Result, Run
from orchestrator.domain.journey import (
    AdaptiveBranch,
    AdaptiveStep,
    EmitEvent,
    JourneyVersion,
    NbaDecision,
    Send,
    UpdateSubject,
    Webhook,
)
from orchestrator.domain.simulation import World
from orchestrator.domain.supposed_effects import chooser_of, filled, render_url, source_of, suppose
from orchestrator.domain.templates import TemplateFailed, render

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What would have been sent. `shown` None: it was left out, or its templates `failed` for that reason."""

    communication_id: str
    content_revision: int
    channel: str
    category: str
    shown: Preview | None
    failed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What would have been changed; `attributes` None: it was left out, or could not be filled in."""

    attributes: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """What would have been let happen; `properties` None: they were left out, or could not be filled in."""

    event_name: str
    properties: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Whom a webhook would have called: nobody was. `url` "": it was left out, or could not be filled in; `body` None:
    so, or there is none. `is_answered`: with the answer that was given.
    """

    method: str
    url: str
    body: Mapping[str, Any] | None
    is_answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Why an arm is gone by. `share`: of all like the subject, the part that does; None: an earlier choice holds."""

    share: float | None
    reason: str = ""
    policy_version: int | None = None


Deed = Message | Change | Emission | Call | Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The revision of a communication that would be sent."""

    revision: int
    content: Mapping[str, Any]


class TimeIsUp(Exception):
    """It takes too long."""


class StandIn:
    """Stands in for the workers of one simulation. `left_out`: some of what it shows had no room."""

    def __init__(
        self,
        version: JourneyVersion,
        world: World,
        contents: Mapping[str, Content],
        answers: Mapping[str, Mapping[str, Any]],
        arms: Arms,
        *,
        room: int,
        masked: bool,
    ) -> None:
        """`room` is in bytes. `masked`: no values are shown."""
        self._version = version
        self._world = world
        self._contents = contents
        self._answers = answers
        self._arms = arms
        self._room = room
        self._masked = masked
        self._deadline = 0.0
        self._done: tuple[str, Deed] | None = None
        self.left_out = False

    def carry_out(self, run: Run, known: Known, now: datetime, entry_key: str, deadline: float) -> Done:
        """What comes of it. `entry_key`: of the execution. Raises TimeIsUp."""
        self._deadline = deadline
        deed: Deed
        match self._version.definition.steps[run.step_id]:
            case Send() as step:
                done, deed = self._send(step, known, now)
            case UpdateSubject() | EmitEvent() as step:
                done, deed = self._change(step, known, now)
            case Webhook() as step:
                done, deed = self._call(step, known)
            case AdaptiveBranch() | NbaDecision() as step:
                done, deed = self._choose(step, known, entry_key)
            case _:
                raise AssertionError("nothing else is carried out in the world")
        self._done = run.step_id, deed
        return done

    def take(self, step_id: str) -> Deed | None:
        """What was carried out there last, once."""
        if self._done is None or self._done[0] != step_id:
            return None
        (_, deed), self._done = self._done, None
        return deed

    def _send(self, step: Send, known: Known, now: datetime) -> tuple[Done, Message]:
        """A message is rendered, and taken as sent."""
        pinned = self._version.pinned[step.communication_id]
        found = self._contents[step.communication_id]
        message = Message(
            communication_id=step.communication_id,
            content_revision=found.revision,
            channel=pinned.channel,
            category=pinned.category,
            shown=None,
        )
        variables, templates = variables_of(source_of(known)), templates_in(found.content)

        def texts(masked: bool) -> dict[str, str]:
            return {
                name: render(source, variables, escape_html=is_html, masked=masked)
                for name, (source, is_html) in templates.items()
            }

        try:
            shown = self._shown(texts)
        except TemplateFailed as failed:
            return Done(result=Result.FAILED, reason=failed.reason), replace(message, failed=failed.reason)
        self._world.sent(pinned.channel, pinned.category, now)
        if shown is not None:
            message = replace(message, shown=put_together(found.content, found.revision, shown))
        return Done(result=Result.EXECUTED), message

    def _change(self, step: UpdateSubject | EmitEvent, known: Known, now: datetime) -> tuple[Done, Change | Emission]:
        """What happens by it is supposed to happen."""
        source, shown = source_of(known), None
        filling = step.attributes if isinstance(step, UpdateSubject) else step.properties
        supposed = suppose(step, known, now, self._hurry)
        if supposed.happening is not None:
            self._world.suppose(supposed.happening)
            shown = self._shown(lambda masked: filled(filling, source, self._hurry, masked=masked))
        if isinstance(step, UpdateSubject):
            return supposed.done, Change(attributes=shown)
        return supposed.done, Emission(event_name=step.event_name, properties=shown)

    def _call(self, step: Webhook, known: Known) -> tuple[Done, Call]:
        """A webhook is filled in, and taken as answered."""
        source = source_of(known)

        def request(masked: bool) -> dict[str, Any]:
            body = filled(step.body, source, self._hurry, masked=masked) if step.body is not None else None
            self._hurry()
            return {"body": body, "url": render_url(step.url, source, masked=masked)}

        call = Call(method=step.method, url="", body=None, is_answered=False)
        try:
            shown = self._shown(request)
        except TemplateFailed as failed:
            return Done(result=Result.FAILED, reason=failed.reason), call
        if shown is not None:
            call = replace(call, url=shown["url"], body=shown["body"])
        return Done(result=Result.EXECUTED), replace(call, is_answered=step.id in self._answers)

    def _choose(self, step: AdaptiveStep, known: Known, entry_key: str) -> tuple[Done, Choice]:
        chooser = chooser_of(self._arms, self._version.journey_id, known, entry_key)
        arm_id, chosen = self._arms.choose(step, chooser)
        choice = Choice(share=None)
        if chosen is not None:
            made = chosen.choice
            share = made.propensity_ppm / WHOLE
            choice = Choice(share=share, reason=made.reason.value, policy_version=chosen.policy_version)
        return Done(result=Result.EXECUTED, reason=arm_id), choice

    def _shown(self, make: Callable[[bool], dict[str, T]]) -> dict[str, T] | None:
        """What it makes, masked or not; None if there is no room for it. Raises TemplateFailed if it cannot be made as
        it is: with masks, which are longer than some values, a text may be too long that is not.
        """
        try:
            made = make(self._masked)
        except TemplateFailed:
            if self._masked:
                make(False)
                self.left_out = True
                return None
            raise
        size = len(json.dumps(made, ensure_ascii=False).encode(errors="surrogatepass"))
        if size > self._room:
            self.left_out = True
            return None
        self._room -= size
        return made

    def _hurry(self) -> None:
        if time.monotonic() >= self._deadline:
            raise TimeIsUp
