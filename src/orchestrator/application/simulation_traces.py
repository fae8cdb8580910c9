"""What a simulated execution does, step by step, with the evidence: made of its looks, and bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import count
from typing import Any

import orjson

from orchestrator.application.condition_truths import Asking, Truth, truth_of
from orchestrator.application.previews import Preview, put_together, templates_in, variables_of
from orchestrator.domain.advance import Known, step_kind
from orchestrator.domain.execution import Done, End, Outcome, Position, Result, Run, Sleep, Visit, Why
from orchestrator.domain.fillings import Source
from orchestrator.domain.journey import (
    Branch,
    Changed,
    Condition,
    EmitEvent,
    Happened,
    JourneyVersion,
    Send,
    Split,
    Step,
    UpdateSubject,
    WaitFor,
    Webhook,
)
from orchestrator.domain.simulation import Came, Look, Traveler, World
from orchestrator.domain.supposed_effects import filled, render_url, source_of, suppose
from orchestrator.domain.templates import TemplateFailed, render
from orchestrator.predicates.tree import Predicate, leaves

#: Looks of one execution. Who is parked looks every quarter of an hour.
MAX_LOOKS = 5_000
#: Virtual time. Ten looks of somebody who waits for ever.
HORIZON = timedelta(days=3_660)
#: Of a processor, and perhaps of somebody who waits for the answer.
MAX_SECONDS = 5.0
#: Bytes of rendered texts, and leaves of predicates that evidence is shown for: as much as fits into an answer.
MAX_TEXTS = 1024 * 1024
MAX_LEAVES = 5_000


class Stop(Enum):
    """Why a simulation goes no further."""

    ENDED = "ended"
    NOT_ENTERED = "not_entered"
    HELD_OUT = "held_out"
    # nothing but time would pass, until beyond HORIZON
    WAITS = "waits"
    # it was cut off, after so many looks or so long
    LOOKS = "looks"
    SECONDS = "seconds"


class Cut(Enum):
    """What is left out of a trace, which would be too large with it."""

    TEXTS = "texts"
    EVIDENCE = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept:
    """It slept there since then, and looked at `until`, or before when something happened."""

    since: datetime
    until: datetime
    why: Why
    parked: str | None


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
class Passed:
    """A step that was come to. `result` and `left_at` None: it stands there when the simulation stops.

    `share`: of those who come to a split, the part that takes the same arm.
    """

    step_id: str
    step_kind: str
    entered_at: datetime
    left_at: datetime | None = None
    result: Result | None = None
    reason: str | None = None
    sleeps: tuple[Slept, ...] = ()
    conditions: tuple[Truth, ...] = ()
    carried_out: Message | Change | Emission | Call | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """`at` is when it ended, or how far the simulation came. `left_for`: the exit rule it left by."""

    steps: tuple[Passed, ...]
    stop: Stop
    at: datetime
    outcome: Outcome | None = None
    reason: str = ""
    left_for: Truth | None = None
    cuts: frozenset[Cut] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The revision of a communication that would be sent."""

    revision: int
    content: Mapping[str, Any]


class _TimeIsUp(Exception):
    """It takes too long."""


class Traces:
    """Makes one trace. Takes a processor as long as it does: for a thread."""

    def __init__(
        self,
        version: JourneyVersion,
        world: World,
        contents: Mapping[str, Content],
        inlined: Mapping[int, Predicate],
        answers: Mapping[str, Mapping[str, Any]],
        *,
        reveals: bool,
    ) -> None:
        """`contents` by communication; `answers` of webhooks, by step. `reveals`: values of attributes are shown, in
        evidence and in texts.
        """
        self._version = version
        self._world = world
        self._contents = contents
        self._inlined = inlined
        self._answers = answers
        self._reveals = reveals
        self._steps: list[Passed] = []
        self._sleeps: list[Slept] = []
        self._carried_out: Message | Change | Emission | Call | None = None
        self._cuts: set[Cut] = set()
        self._texts_left = MAX_TEXTS
        self._leaves_left = MAX_LEAVES
        self._deadline = float("inf")

    def trace(self, came: Came, *, late: timedelta = timedelta(0)) -> Trace:
        """`late`: domain/simulation.py, Traveler."""
        self._deadline = time.monotonic() + MAX_SECONDS
        horizon = came.started_at + HORIZON
        traveler = Traveler(self._version, self._world, came, self._carry_out, answers=self._answers, late=late)
        last: Look | None = None
        for looks in count(1):
            try:
                look = traveler.look()
            except _TimeIsUp:  # while a step was carried out, on which it stands
                assert last is not None, "a look before told it to"
                self._stands(last.decision.position)
                return self._told(Stop.SECONDS, last.at)
            last = look
            self._note(look)
            effect = look.decision.effect
            if isinstance(effect, End):
                return self._ended(look, effect)
            stop = None
            if isinstance(effect, Sleep) and min(effect.until, self._world.next_after(look.at) or horizon) >= horizon:
                stop = Stop.WAITS
            elif looks >= MAX_LOOKS:
                stop = Stop.LOOKS
            elif time.monotonic() >= self._deadline:
                stop = Stop.SECONDS
            if stop is not None:
                self._stands(look.decision.position)
                return self._told(stop, look.at)
        raise AssertionError("it counts without end")

    def _carry_out(self, run: Run, known: Known, now: datetime) -> Done:
        """What workers would do, as far as nothing is done by it."""
        match self._version.definition.steps[run.step_id]:
            case Send() as step:
                return self._send(step, known, now)
            case UpdateSubject() | EmitEvent() as step:
                return self._change(step, known, now)
            case Webhook() as step:
                return self._call(step, known)
            case _:
                raise AssertionError("nothing else is carried out in the world")

    def _change(self, step: UpdateSubject | EmitEvent, known: Known, now: datetime) -> Done:
        """What happens by it is supposed to happen."""
        supposed = suppose(step, known, now, self._hurry)
        shown = None
        if supposed.happening is not None:
            self._world.suppose(supposed.happening)
            filling = step.attributes if isinstance(step, UpdateSubject) else step.properties
            shown = self._if_it_fits(self._filled(filling, source_of(known)))
        if isinstance(step, UpdateSubject):
            self._carried_out = Change(attributes=shown)
        else:
            self._carried_out = Emission(event_name=step.event_name, properties=shown)
        return supposed.done

    def _call(self, step: Webhook, known: Known) -> Done:
        """A webhook is filled in, and taken as answered."""
        call = Call(method=step.method, url="", body=None, is_answered=False)
        source = source_of(known)
        try:
            body = self._filled(step.body, source) if step.body is not None else None
            self._hurry()
            url = render_url(step.url, source, masked=not self._reveals)
        except TemplateFailed as failed:
            self._carried_out = call
            return Done(result=Result.FAILED, reason=failed.reason)
        if self._if_it_fits({"url": url, "body": body}) is not None:
            call = replace(call, url=url, body=body)
        self._carried_out = replace(call, is_answered=step.id in self._answers)
        return Done(result=Result.EXECUTED)

    def _filled(self, filling: Mapping[str, Any], source: Source) -> dict[str, Any]:
        """As it is shown. Raises TemplateFailed."""
        return filled(filling, source, self._hurry, masked=not self._reveals)

    def _if_it_fits(self, document: dict[str, Any]) -> dict[str, Any] | None:
        size = len(orjson.dumps(document))
        if size > self._texts_left:
            self._cuts.add(Cut.TEXTS)
            return None
        self._texts_left -= size
        return document

    def _hurry(self) -> None:
        if time.monotonic() >= self._deadline:
            raise _TimeIsUp

    def _send(self, step: Send, known: Known, now: datetime) -> Done:
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
        variables = variables_of(source_of(known))
        try:
            texts = {
                name: render(source, variables, escape_html=is_html, masked=not self._reveals)
                for name, (source, is_html) in templates_in(found.content).items()
            }
        except TemplateFailed as failed:
            self._carried_out = replace(message, failed=failed.reason)
            return Done(result=Result.FAILED, reason=failed.reason)
        size = sum(len(text.encode(errors="surrogatepass")) for text in texts.values())
        if size <= self._texts_left:
            self._texts_left -= size
            message = replace(message, shown=put_together(found.content, found.revision, texts))
        else:
            self._cuts.add(Cut.TEXTS)
        self._carried_out = message
        self._world.sent(pinned.channel, pinned.category, now)
        return Done(result=Result.EXECUTED)

    def _note(self, look: Look) -> None:
        """What is to be told of one look."""
        for visit in look.decision.visits:
            stood = look.position
            if visit.step_id != stood.step_id:
                stood = Position(step_id=visit.step_id, since=visit.entered_at)
            self._pass(look, visit, stood)
        effect = look.decision.effect
        if isinstance(effect, Sleep):
            slept = Slept(since=look.at, until=effect.until, why=effect.why, parked=effect.parked)
            last = self._sleeps[-1] if self._sleeps else None
            if last is not None and (last.why, last.parked) == (slept.why, slept.parked):
                self._sleeps[-1] = replace(last, until=slept.until)
            else:
                self._sleeps.append(slept)

    def _pass(self, look: Look, visit: Visit, stood: Position) -> None:
        step = self._version.definition.steps[visit.step_id]
        carried_out = None
        if isinstance(step, Send | UpdateSubject | EmitEvent | Webhook):
            carried_out, self._carried_out = self._carried_out, None
        sleeps, self._sleeps = self._sleeps, []
        asked = list(_asked_by(step, visit))
        self._steps.append(
            Passed(
                step_id=visit.step_id,
                step_kind=visit.step_kind,
                entered_at=visit.entered_at,
                left_at=visit.left_at,
                result=visit.result,
                reason=visit.reason,
                sleeps=tuple(sleeps),
                conditions=tuple(self._truth(look, stood, "", arm_id, condition) for arm_id, condition in asked),
                carried_out=carried_out,
                share=_share(step, visit),
            )
        )

    def _truth(self, look: Look, stood: Position, rule_id: str, arm_id: str, condition: Condition) -> Truth:
        explains = isinstance(condition, Happened | Changed) or self._has_room_for(condition)
        asking = Asking(
            known=look.known,
            facts=look.known.subject,
            position=stood,
            now=look.at,
            inlined=self._inlined,
            reveal=lambda path: self._reveals,
            explains=explains,
        )
        return truth_of(asking, rule_id, arm_id, condition)

    def _has_room_for(self, predicate: Predicate) -> bool:
        size = sum(1 for _ in leaves(self._inlined.get(id(predicate), predicate)))
        if size > self._leaves_left:
            self._cuts.add(Cut.EVIDENCE)
            return False
        self._leaves_left -= size
        return True

    def _stands(self, position: Position) -> None:
        step = self._version.definition.steps[position.step_id]
        self._steps.append(
            Passed(step_id=step.id, step_kind=step_kind(step), entered_at=position.since, sleeps=tuple(self._sleeps))
        )

    def _ended(self, look: Look, end: End) -> Trace:
        position = look.decision.position
        if not self._steps or self._steps[-1].step_id != position.step_id:  # it leaves where it stands
            self._stands(position)
        rules = {rule.id: rule.condition for rule in self._version.definition.exit_rules}
        left_for: Truth | None = None
        if end.outcome is Outcome.EXITED and end.reason in rules:
            left_for = self._truth(look, position, end.reason, "", rules[end.reason])
        told = self._told(Stop.ENDED, look.at)
        return replace(told, outcome=end.outcome, reason=end.reason, left_for=left_for)

    def _told(self, stop: Stop, at: datetime) -> Trace:
        return Trace(steps=tuple(self._steps), stop=stop, at=at, cuts=frozenset(self._cuts))


def _asked_by(step: Step, visit: Visit) -> Iterator[tuple[str, Condition]]:
    """(arm, condition): what was asked on the way through a step, in its order."""
    if isinstance(step, WaitFor):
        yield "", step.condition
    elif isinstance(step, Branch):
        for arm in step.arms:
            yield arm.id, arm.when
            if arm.id == visit.reason:
                return


def _share(step: Step, visit: Visit) -> float | None:
    if not isinstance(step, Split):
        return None
    total = sum(arm.weight for arm in step.arms)
    return next(arm.weight / total for arm in step.arms if arm.id == visit.reason)
