"""A journey travelled on a virtual clock: the core that production asks is asked again and again, and nothing is done.

`World` is one subject as it would be at any instant; a `Traveler` goes through it from one look to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from orchestrator.domain.advance import Known, advance, first_position
from orchestrator.domain.attributes import merge_patch
from orchestrator.domain.conditions import Entry, happenings, matches
from orchestrator.domain.derived_event import matches as is_of_kind
from orchestrator.domain.execution import Decision, Done, End, Position, Result, Run, Sleep
from orchestrator.domain.gates import Consent, Counted, FrequencyCap, Limits, full
from orchestrator.domain.hours import QuietHours
from orchestrator.domain.journey import Goal, JourneyVersion
from orchestrator.predicates.facts import EventFacts, Facts, Needs
from orchestrator.predicates.membership import with_segments
from orchestrator.predicates.tree import Predicate, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurs:
    """An event that is supposed to occur, and to be told of at once.

    `by_step`: a step lets it happen, and so it is later than the entry, if only by as long as doing takes.
    """

    at: datetime
    name: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    by_step: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Attributes that are supposed to change: a JSON merge patch, at most as deep as attributes may be."""

    at: datetime
    attributes: Mapping[str, Any]


Happening = Occurs | Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is stored of a subject, as far as a simulation asks.

    `facts` are without `$entry`, and of segments have the lists alone; `rules` are those of the other segments that
    are asked about, with the rules of their segments put in. `messages` count for caps.
    """

    subject_id: str
    facts: Facts
    consent: Consent = field(default_factory=Consent)
    rules: Mapping[str, Predicate] = field(default_factory=dict)
    messages: tuple[Counted, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is set for everybody: the project's time zone and what holds off its sends; the goal, where the version ends
    by it."""

    time_zone: str = "UTC"
    quiet: QuietHours | None = None
    caps: tuple[FrequencyCap, ...] = ()
    sends_paused: bool = False
    goal: Goal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """How an execution came to be: by this entry, whose event had these properties, at `started_at`."""

    entry: Entry
    properties: Mapping[str, Any]
    started_at: datetime


class World:
    """One subject at any instant: what is stored of it, and what is supposed to happen."""

    def __init__(
        self, profile: Profile, surroundings: Surroundings, asked: Needs, supposed: Iterable[Happening] = ()
    ) -> None:
        """`asked`: what `facts` are asked for, the rules' needs included."""
        self._profile = profile
        self._surroundings = surroundings
        self._asked = asked
        self._supposed = sorted(supposed, key=lambda one: one.at)
        self._messages = list(profile.messages)
        #: `_stored_with` of so many of what is supposed.
        self._kept: tuple[int, Facts] = (0, profile.facts)

    def suppose(self, happening: Happening) -> None:
        """This happens, too."""
        self._supposed = sorted([*self._supposed, happening], key=lambda one: one.at)
        self._kept = (0, self._profile.facts)

    def sent(self, channel: str, category: str, at: datetime) -> None:
        """A message counts from now on."""
        self._messages.append(Counted(channel=channel, category=category, at=at))

    def next_after(self, now: datetime) -> datetime | None:
        """When something is supposed to happen next."""
        return next((one.at for one in self._supposed if one.at > now), None)

    def facts(self, now: datetime) -> Facts:
        """What predicates see at `now`."""
        past = [one for one in self._supposed if one.at <= now]
        if self._kept[0] != len(past):
            self._kept = len(past), self._stored_with(past)
        return with_segments(self._kept[1], self._profile.rules, now)

    def _stored_with(self, past: Sequence[Happening]) -> Facts:
        """What is stored, as it would be with these."""
        stored = self._profile.facts
        attributes = stored.attributes
        for one in past:
            if isinstance(one, Changes):
                attributes = merge_patch(attributes, one.attributes)
        events = dict(stored.events)
        for source, depth in self._asked.events.items():
            if ats := [one.at for one in past if isinstance(one, Occurs) and _is_of(source, one)]:
                events[source] = _joined(events.get(source), ats, depth)
        return replace(stored, attributes=attributes, events=events)

    def known(
        self, version: JourneyVersion, came: Came, now: datetime, steps: Mapping[str, Mapping[str, Any]]
    ) -> Known:
        """What the core may ask about the execution at `now`. `steps`: what webhooks have answered it."""
        around = self._surroundings
        entered = came.entry.at
        later = [
            one
            for one in self._supposed
            if isinstance(one, Occurs) and (entered < one.at or (one.by_step and entered == one.at)) and one.at <= now
        ]
        happened: dict[str, datetime] = {}
        for name, condition in happenings(version.definition).items():
            counting = [
                one.at
                for one in later
                if one.name == condition.event_name and matches(condition, came.entry.key, one.properties, one.at)
            ]
            if counting:
                happened[name] = max(counting)
        goal = around.goal
        return Known(
            subject=replace(self.facts(now), entry=came.properties, steps=steps),
            consent=self._profile.consent,
            limits=Limits(
                paused=around.sends_paused,
                quiet=around.quiet,
                full=full(around.caps, (one for one in self._messages if one.at <= now), now) if around.caps else {},
            ),
            started_at=came.started_at,
            subject_id=self._profile.subject_id,
            time_zone=around.time_zone,
            happened=happened,
            goal_reached=goal is not None
            and any(one.name == goal.event_name and one.at <= came.entry.at + goal.window for one in later),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One decision: what was known `at` that instant to an execution that stood at `position`, and what came of it.

    `done` is what had come of the `Run` before.
    """

    at: datetime
    known: Known
    position: Position
    done: Done | None
    decision: Decision


#: Stands in for what workers do in the world: says what came of it.
CarryOut = Callable[[Run, Known, datetime], Done]


class Traveler:
    """An execution under way. It looks when it wakes by itself and whenever something is supposed to happen: once too
    often does no harm. Doing takes no time.

    `looks_at` is when it looks next; None: it has ended.
    """

    def __init__(
        self,
        version: JourneyVersion,
        world: World,
        came: Came,
        carry_out: CarryOut,
        *,
        answers: Mapping[str, Mapping[str, Any]] | None = None,
        late: timedelta = timedelta(0),
    ) -> None:
        """`answers` are what webhooks answer that are taken, by step. `late` is how much later than they should those
        look who sleep."""
        self._version = version
        self._world = world
        self._came = came
        self._carry_out = carry_out
        self._answers = answers or {}
        self._late = late
        self._position: Position | None = None
        #: What it was told to do.
        self._told: Run | None = None
        #: What webhooks have answered.
        self._steps: dict[str, Mapping[str, Any]] = {}
        self.looks_at: datetime | None = came.started_at

    def look(self) -> Look:
        """What it decides next, if it has not ended."""
        now = self.looks_at
        assert now is not None, "who has ended looks no more"
        done = self._done(self._told, now) if self._told is not None else None
        known = self._known(now)
        position = self._position or first_position(self._version, known, now)
        decision = advance(self._version, position, known, now, done)
        self._position, self._told = decision.position, None
        match decision.effect:
            case End():
                self.looks_at = None
            case Run() as run:
                self._told = run
            case Sleep(until=until):
                wakes, coming = until + self._late, self._world.next_after(now)
                self.looks_at = min(wakes, coming) if coming is not None else wakes
            case _:
                assert_never(decision.effect)
        return Look(at=now, known=known, position=position, done=done, decision=decision)

    def wake(self, at: datetime) -> None:
        """It looks then, if not before: something has happened that it could not foresee."""
        if self.looks_at is not None:
            self.looks_at = min(self.looks_at, at)

    def _done(self, run: Run, now: datetime) -> Done:
        done = self._carry_out(run, self._known(now), now)
        if done.result is Result.EXECUTED and run.step_id in self._answers:
            self._steps = {**self._steps, run.step_id: self._answers[run.step_id]}
        return done

    def _known(self, now: datetime) -> Known:
        return self._world.known(self._version, self._came, now, self._steps)


def _is_of(source: Source, event: Occurs) -> bool:
    """Whether it is one of those that count."""
    if source.name is not None and source.name != event.name:
        return False
    return source.where is None or is_of_kind(source.where.predicate, event.properties)


def _joined(stored: EventFacts | None, ats: Sequence[datetime], depth: int) -> EventFacts:
    """What is known of a source with these events beside those that are stored."""
    newest_first = sorted((*(stored.recent if stored is not None else ()), *ats), reverse=True)
    return EventFacts(
        total=len(ats) + (stored.total if stored is not None else 0),
        first_at=min(ats) if stored is None else min(stored.first_at, *ats),
        last_at=max(ats) if stored is None else max(stored.last_at, *ats),
        recent=tuple(newest_first[:depth]),
    )
