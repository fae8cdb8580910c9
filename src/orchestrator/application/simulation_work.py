"""What workers would do in a simulated execution, as far as nothing is done by it, and what of it is shown."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

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
from orchestrator.predicates.reveal import Reveal


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
        reveal: Reveal | None,
    ) -> None:
        """`room` is in bytes. `reveal`: which values are shown; None: all."""
        self._version = version
        self._world = world
        self._contents = contents
        self._answers = answers
        self._arms = arms
        self._room = room
        self._reveal = reveal
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

        try:
            texts = {
                name: render(source, variables, escape_html=is_html, reveal=self._reveal)
                for name, (source, is_html) in templates.items()
            }
        except TemplateFailed as failed:
            return Done(result=Result.FAILED, reason=failed.reason), replace(message, failed=failed.reason)
        self._world.sent(pinned.channel, pinned.category, now)
        if self._has_room_for(texts):
            message = replace(message, shown=put_together(found.content, found.revision, texts))
        return Done(result=Result.EXECUTED), message

    def _change(self, step: UpdateSubject | EmitEvent, known: Known, now: datetime) -> tuple[Done, Change | Emission]:
        """What happens by it is supposed to happen."""
        source, shown = source_of(known), None
        filling = step.attributes if isinstance(step, UpdateSubject) else step.properties
        supposed = suppose(step, known, now, self._hurry)
        if supposed.happening is not None:
            self._world.suppose(supposed.happening)
            made = filled(filling, source, self._hurry, reveal=self._reveal)
            shown = made if self._has_room_for(made) else None
        if isinstance(step, UpdateSubject):
            return supposed.done, Change(attributes=shown)
        return supposed.done, Emission(event_name=step.event_name, properties=shown)

    def _call(self, step: Webhook, known: Known) -> tuple[Done, Call]:
        """A webhook is filled in, and taken as answered."""
        source, reveal, body = source_of(known), self._reveal, None
        call = Call(method=step.method, url="", body=None, is_answered=False)
        try:
            if step.body is not None:
                body = filled(step.body, source, self._hurry, reveal=reveal)
            self._hurry()
            url = render_url(step.url, source, reveal=reveal)
        except TemplateFailed as failed:
            return Done(result=Result.FAILED, reason=failed.reason), call
        if self._has_room_for({"body": body, "url": url}):
            call = replace(call, url=url, body=body)
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

    def _has_room_for(self, made: Mapping[str, Any]) -> bool:
        """Takes the room, or notes that it is left out."""
        size = len(json.dumps(made, ensure_ascii=False).encode(errors="surrogatepass"))
        if size > self._room:
            self.left_out = True
            return False
        self._room -= size
        return True

    def _hurry(self) -> None:
        if time.monotonic() >= self._deadline:
            raise TimeIsUp
