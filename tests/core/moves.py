"""What can happen to an execution: to the world it is in, to time, and to what goes to and fro."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.domain.conditions import ANY_EVENT, ATTRIBUTES, GATES, event_topic, segment_topic
from orchestrator.domain.execution import Run, Sleep
from tests.core import journeys
from tests.core.driver import Answer
from tests.core.world import GOAL_EVENT, ROUTES, Event

if TYPE_CHECKING:
    from tests.core.walk import Walk

TICK = timedelta(microseconds=1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Move:
    """`weight`: how often it comes."""

    name: str
    weight: int
    #: False: it could not be made
    make: Callable[[Walk], bool]


def written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


# What can happen in the world: each throws the dice, and returns what then makes the change and names its topics.

_Change = Callable[[], set[str]]


def _attribute(walk: Walk) -> _Change:
    random = walk.random
    name, value = random.choice(
        [
            *(("tier", value) for value in ("free", "pro", "pro", None)),
            *(("score", value) for value in (1, 3, 3.0, 5, 5.0, True, "5")),
            *(("plan", value) for value in ({"level": 1}, {"level": None}, {"level": 1.0}, {}, "none")),
            ("zip", random.randrange(3)),
        ]
    )

    def change() -> set[str]:
        walk.world.attributes[name] = value
        return {ATTRIBUTES}

    return change


def _stamp(walk: Walk) -> _Change:
    """An instant near now is written down."""
    offset = walk.random.choice([timedelta(0), -HOUR, -MINUTE * 50, 20 * MINUTE, 5 * HOUR, -TICK, -2 * DAY, 3 * DAY])

    def change() -> set[str]:
        walk.world.attributes["seen"] = written(walk.now + offset)
        return {ATTRIBUTES}

    return change


def _due(walk: Walk) -> _Change:
    """Something that may be a date, and mostly is one that comes soon."""
    random = walk.random
    soon = walk.now + random.choice([-2, 0, 1, 2, 2, 3, 9]) * DAY
    value: Any = random.choice(
        [
            soon.date().isoformat(), soon.date().isoformat(), soon.date().isoformat(), written(soon),
            soon.replace(tzinfo=None, microsecond=0).isoformat() + "-05:30", soon.replace(tzinfo=None).isoformat(),
            "2026-02-30", "soon", 5, None, {"a": 1},
        ]
    )  # fmt: skip
    name = random.choice(["due", "due", "plan"])

    def change() -> set[str]:
        walk.world.attributes[name] = {"renews": value, "level": 2} if name == "plan" else value
        return {ATTRIBUTES}

    return change


def _remove(walk: Walk) -> _Change:
    name = walk.random.choice(["tier", "tier", "score", "plan", "seen", "due"])

    def change() -> set[str]:
        walk.world.attributes.pop(name, None)
        return {ATTRIBUTES}

    return change


def _zone(walk: Walk) -> _Change:
    zone = walk.random.choice([*walk.zones, None])

    def change() -> set[str]:
        walk.world.zone = zone
        return {ATTRIBUTES}

    return change


def _event(walk: Walk, ages: tuple[timedelta, ...] = (timedelta(0),)) -> _Change:
    random = walk.random
    name = random.choice(["buy", "buy", "view", "view", "view", GOAL_EVENT])
    order = random.choice(journeys.ORDERS)
    properties = {"amount": random.choice([1, 5, 100, "100"]), "order": order, "cart": {"order": order}}
    age = random.choice(ages)

    def change() -> set[str]:
        walk.world.events.append(Event(name=name, occurred=walk.now - age, properties=properties))
        return {ANY_EVENT, event_topic(name)}

    return change


def _late_event(walk: Walk) -> _Change:
    return _event(walk, (TICK, MINUTE, HOUR, 5 * HOUR, DAY))


def _member(walk: Walk, on_it: bool) -> _Change:
    def change() -> set[str]:
        there = [name for name, on_list in walk.world.lists.items() if on_list is not on_it]
        if not there:
            return set()
        name = walk.random.choice(there)
        walk.world.lists[name] = on_it
        return {segment_topic(name)}

    return change


def _joins(walk: Walk) -> _Change:
    return _member(walk, True)


def _segment_deleted(walk: Walk) -> _Change:
    def change() -> set[str]:
        if not walk.world.lists:
            return set()
        name = walk.random.choice(list(walk.world.lists))
        del walk.world.lists[name]
        return {segment_topic(name)}

    return change


def _segment_restored(walk: Walk) -> _Change:
    def change() -> set[str]:
        gone = [name for name in journeys.LISTS if name not in walk.world.lists]
        topics = {segment_topic(name) for name in gone}
        walk.world.lists |= {name: walk.random.random() < 0.3 for name in gone}
        return topics | {"mended"} if gone else set()

    return change


def _preferences(walk: Walk, how: str) -> _Change:
    world, random = walk.world, walk.random
    pair = random.choice([("email", "marketing"), ("push", "*"), ("*", "news"), ("*", "*")])
    channel = random.choice(["email", "push", "*"])

    def change() -> set[str]:
        match how:
            case "opt out":
                world.opted_out.add(pair)
            case "opt in":
                world.opted_out.clear()
            case "suppress":
                world.suppressed.add(channel)
            case _:
                world.suppressed.clear()
        return {"preferences"}

    return change


def quiet_hours(random: Random) -> dict[str, Any] | None:
    start, end = random.choice([("21:00", "08:00"), ("22:15", "06:30"), ("12:00", "14:00")])
    hours: dict[str, Any] = {"start": start, "end": end}
    if random.random() < 0.3:
        hours["channels"] = ["email"]
    return hours if random.random() < 0.4 else None


def caps(random: Random) -> list[dict[str, Any]]:
    return [
        {
            "channel": random.choice(["*", "*", "email"]),
            "category": random.choice(["*", "*", "marketing"]),
            "limit": random.choice([1, 1, 2, 3]),
            "window": window,
        }
        for window in random.choice([[], [], ["6h"], ["1d"], ["6h", "2d"]])
    ]


def policy(random: Random) -> dict[str, int] | None:
    """What was learned of some arms, that of one which there may be nowhere among them."""
    if random.random() < 0.3:
        return None
    known = random.sample(["a0", "a1", "a2", "a3", "gone"], random.randint(1, 4))
    cuts = sorted(random.choices([0, 1, 250_000, 333_333, 999_999], k=len(known) - 1))
    shares = (after - before for before, after in zip([0, *cuts], [*cuts, 1_000_000], strict=True))
    return dict(zip(known, shares, strict=True))


def _settings(walk: Walk) -> _Change:
    def change() -> set[str]:
        walk.world.quiet, walk.world.caps = quiet_hours(walk.random), caps(walk.random)
        return {GATES}

    return change


def _elsewhere(walk: Walk) -> _Change:
    """Another journey sends something."""

    def change() -> set[str]:
        walk.world.elsewhere.append((*walk.random.choice(list(ROUTES.values())), walk.now))
        return {"sent elsewhere"}

    return change


def _pause(walk: Walk) -> _Change:
    def change() -> set[str]:
        if walk.world.paused:
            return set()
        walk.world.paused = True
        return {"paused"}

    return change


def _resume(walk: Walk) -> _Change:
    def change() -> set[str]:
        if not walk.world.paused:
            return set()
        walk.world.paused = False
        return {"resumed"}

    return change


def _crowd(walk: Walk) -> _Change:
    channel = walk.random.choice(["email", "push"])

    def change() -> set[str]:
        if channel in walk.world.crowded:
            return set()
        walk.world.crowded.add(channel)
        return {"crowded"}

    return change


def _make_room(walk: Walk) -> _Change:
    def change() -> set[str]:
        if not walk.world.crowded:
            return set()
        walk.world.crowded.clear()
        return {"room"}

    return change


def _close(walk: Walk, why: str) -> _Change:
    def change() -> set[str]:
        if walk.app.ended is not None:
            return set()
        walk.world.closed = why
        return {"closed"}

    return change


# What else can happen. What cannot, just now, is no move.

_Make: TypeAlias = "Callable[[Walk], bool]"


def _time(*spans: timedelta) -> _Make:
    def time_passes(walk: Walk) -> bool:
        walk.pass_time(walk.now + walk.random.choice(spans))
        return True

    return time_passes


def _wake(walk: Walk) -> bool:
    wakes = walk.workflow.wakes_at
    if wakes is None or not walk.now < wakes <= walk.now + 4 * DAY:
        return False
    walk.pass_time(wakes + walk.random.choice([timedelta(0), timedelta(0), -TICK, TICK]))
    return True


def _poke(walk: Walk) -> bool:
    walk.workflow.poke()
    return walk.app.ended is None


def _pokes(walk: Walk) -> bool:
    for _ in range(walk.random.randint(2, 5)):
        walk.workflow.poke()
    return walk.app.ended is None


def _old_question(walk: Walk) -> bool:
    """A question that was answered long ago comes again, from an activity that was given up on."""
    seq = walk.app.seq - walk.random.randint(1, 3)
    if seq < 0:
        return False
    answer = walk.app.advance(seq) if walk.random.random() < 0.5 else walk.app.reserve(seq)
    assert isinstance(answer, Answer)
    assert answer.seq == walk.app.seq
    # Whoever asks sleeps on nothing that he may know more than.
    assert not isinstance(answer.effect, Sleep) or answer.effect.until == walk.app.now
    return True


def _same_question(walk: Walk) -> bool:
    """Somebody else asks what the workflow is about to ask."""
    asked = walk.app.seq
    if walk.app.ended is not None or isinstance(walk.workflow.answer.effect, Run):
        return False
    answer = walk.app.advance(asked)
    assert walk.app.seq == asked, answer
    return True


def _land(result: str) -> _Make:
    def land(walk: Walk) -> bool:
        flight = walk.workflow.flight
        if flight is None:
            return False
        said = walk.random.choice(journeys.ANSWERS)
        walk.oracle.answered(flight.send, flight.number, result, said)
        walk.workflow.land(result, said)
        return True

    return land


def _segment_goes(walk: Walk) -> bool:
    """While a try is under way that comes to nothing."""
    if walk.workflow.flight is None:
        return False
    return _world(_segment_deleted)(walk) and _land(walk.random.choice(["released", "crashed"]))(walk)


def _late_answer(walk: Walk) -> bool:
    """A worker that was given up on comes back, before another try or after."""
    if not walk.workflow.dead:
        return False
    flight = walk.workflow.dead.pop(walk.random.randrange(len(walk.workflow.dead)))
    result, said = walk.random.choice(["sent", "failed", "unknown"]), walk.random.choice(journeys.ANSWERS)
    walk.oracle.answered(flight.send, flight.number, result, said)
    walk.workflow.late(flight, result, said)
    return True


def _world(change: Callable[[Walk], _Change]) -> _Make:
    return lambda walk: walk.happen(change(walk))


def _at_wake(walk: Walk) -> bool:
    change = walk.random.choice([_event, _event, _attribute, _remove, _stamp, _joins])
    return walk.due_with(change(walk))


MOVES = [
    Move("seconds pass", 6, _time(timedelta(seconds=1), timedelta(seconds=7), 3 * MINUTE)),
    Move("hours pass", 8, _time(15 * MINUTE, HOUR, 90 * MINUTE, 6 * HOUR)),
    Move("days pass", 2, _time(DAY, 2 * DAY)),
    Move("a timer fires, or nearly", 16, _wake),
    Move("at a timer something happens", 6, _at_wake),
    Move("event", 12, _world(_event)),
    Move("late event", 4, _world(_late_event)),
    Move("attribute", 10, _world(_attribute)),
    Move("instant in an attribute", 4, _world(_stamp)),
    Move("date in an attribute", 5, _world(_due)),
    Move("attribute removed", 4, _world(_remove)),
    Move("time zone", 3, _world(_zone)),
    Move("on a list", 4, _world(lambda walk: _member(walk, True))),
    Move("off a list", 5, _world(lambda walk: _member(walk, False))),
    Move("segment deleted", 2, _world(_segment_deleted)),
    Move("segment restored", 5, _world(_segment_restored)),
    Move("opt-out", 2, _world(lambda walk: _preferences(walk, "opt out"))),
    Move("opt-in", 4, _world(lambda walk: _preferences(walk, "opt in"))),
    Move("suppression", 2, _world(lambda walk: _preferences(walk, "suppress"))),
    Move("suppression lifted", 4, _world(lambda walk: _preferences(walk, "lift"))),
    Move("other settings", 2, _world(_settings)),
    Move("another journey sends", 4, _world(_elsewhere)),
    Move("sends paused", 1, _world(_pause)),
    Move("sends resumed", 8, _world(_resume)),
    Move("journey archived", 1, _world(lambda walk: _close(walk, "journey_archived"))),
    Move("journey deleted", 1, _world(lambda walk: _close(walk, "journey_deleted"))),
    Move("carried over", 5, lambda walk: walk.carry()),
    Move("poke without reason", 4, _poke),
    Move("pokes without reason", 2, _pokes),
    Move("old question", 4, _old_question),
    Move("same question", 4, _same_question),
    Move("late answer", 3, _late_answer),
]
#: Besides, in some journeys: what is rare without them is not to be rarer.
CROWDS = [
    Move("a channel is crowded", 2, _world(_crowd)),
    Move("channels have room", 8, _world(_make_room)),
]
LANDINGS = [
    Move("sent", 8, _land("sent")),
    Move("refused", 2, _land("failed")),
    Move("nobody knows", 2, _land("unknown")),
    Move("try released", 4, _land("released")),
    Move("try dies", 4, _land("crashed")),
    Move("try comes to nothing, a segment is gone", 3, _segment_goes),
]

#: How a world comes to be that somebody enters: some of these.
BEFOREHAND = [_attribute, _attribute, _stamp, _due, _zone, _event]
