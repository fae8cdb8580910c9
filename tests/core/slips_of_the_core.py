"""Errors one could make in the core, each in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain import advance, arms, carrying, conditions, gates, local_time
from orchestrator.domain.carrying import Landing
from orchestrator.domain.conditions import ATTRIBUTES
from orchestrator.domain.execution import Decision, Done, Result
from orchestrator.domain.gates import Consent
from orchestrator.domain.journey import (
    After,
    Branch,
    Definition,
    Exit,
    Happened,
    OnBlocked,
    Send,
    Stickiness,
    Wait,
    WaitFor,
    WaitUntil,
    Webhook,
)
from orchestrator.predicates.paths import find
from orchestrator.predicates.tree import Attribute, Everyone, Not
from tests.conformance.slips import Slip, swapped
from tests.core import driver

TICK = timedelta(microseconds=1)


def _only_messages(asked: dict[str, Any]) -> dict[str, Any]:
    steps, known = asked["version"].definition.steps, asked["known"]
    sent = frozenset(name for name in known.sent if isinstance(steps.get(name), Send))
    return asked | {"known": replace(known, sent=sent)}


def _asked(what: str, otherwise: Callable[[dict[str, Any]], dict[str, Any]]) -> Slip:
    """The core is told something else than it should be, as if it had not looked."""

    def instead(right: Any) -> Any:
        def wrong(version: Any, position: Any, known: Any, now: datetime, done: Done | None = None) -> Any:
            given = {"version": version, "position": position, "known": known, "now": now, "done": done}
            return right(**otherwise(given))

        return wrong

    return Slip(what, driver, "advance", instead)


def _definition(what: str, otherwise: Callable[[Definition], Definition]) -> Slip:
    def instead(asked: dict[str, Any]) -> dict[str, Any]:
        version = asked["version"]
        return asked | {"version": replace(version, definition=otherwise(version.definition))}

    return _asked(what, instead)


def _steps(what: str, otherwise: Callable[[Any], Any]) -> Slip:
    return _definition(what, lambda d: replace(d, steps={name: otherwise(step) for name, step in d.steps.items()}))


def _known(what: str, **wrong: Any) -> Slip:
    return _asked(what, lambda asked: asked | {"known": replace(asked["known"], **wrong)})


def _limits(what: str, **wrong: Any) -> Slip:
    def instead(asked: dict[str, Any]) -> dict[str, Any]:
        known = asked["known"]
        return asked | {"known": replace(known, limits=replace(known.limits, **wrong))}

    return _asked(what, instead)


def _topics(what: str, without: Callable[[str], bool]) -> Slip:
    """Nobody is told of this."""
    return Slip(
        what,
        conditions,
        "topics",
        lambda right: lambda *of, **how: frozenset(t for t in right(*of, **how) if not without(t)),
    )


def _timeout_first(asked: dict[str, Any]) -> dict[str, Any]:
    version, position = asked["version"], asked["position"]
    step = version.definition.steps[position.step_id]
    if isinstance(step, WaitFor) and step.timeout is not None and asked["now"] >= position.since + step.timeout:
        step = replace(step, condition=Not(clause=Everyone()))
        steps = {**version.definition.steps, step.id: step}
        version = replace(version, definition=replace(version.definition, steps=steps))
    return asked | {"version": version}


def _closed_before_done(asked: dict[str, Any]) -> dict[str, Any]:
    return asked | ({"done": None} if asked["known"].closed is not None else {})


def _no_zone(asked: dict[str, Any]) -> dict[str, Any]:
    known = asked["known"]
    return asked | {"known": replace(known, subject=replace(known.subject, time_zone=None))}


def _at_the_arrival_too(right: Any) -> Any:
    def wrong(condition: Any, subject: Any, last: Any, since: Any, mark: Any, now: datetime) -> Any:
        if isinstance(condition, Happened) and condition.after is After.STEP and last is not None:
            return last >= since
        return right(condition, subject, last, since, mark, now)

    return wrong


def _holds(what: str, otherwise: Callable[[Any], Any]) -> Slip:
    """It is another condition."""
    return Slip(what, advance, "holds", lambda right: lambda condition, *more: right(otherwise(condition), *more))


def _matches(what: str, **wrong: Any) -> Slip:
    return Slip(
        what, driver, "matches", lambda right: lambda condition, *more: right(replace(condition, **wrong), *more)
    )


def _visited_twice(right: Any) -> Any:
    def wrong(*asked: Any) -> Any:
        decision = right(*asked)
        return replace(decision, visits=decision.visits + decision.visits[-1:])

    return wrong


def _late_by_a_tick(right: Any) -> Any:
    def wrong(*asked: Any) -> datetime | None:
        turn = right(*asked)
        return turn + TICK if turn is not None else None

    return wrong


def _no_attribute(right: Any) -> Any:
    def wrong(condition: Any, subject: Any, now: datetime) -> Any:
        return None if isinstance(condition, Attribute) else right(condition, subject, now)

    return wrong


def _days_of_24_hours(right: Any) -> Any:
    def wrong(wanted: Any, value: Any, zone: Any) -> datetime | None:
        instant: datetime | None = right(replace(wanted, offset=timedelta(0)), value, zone)
        return instant + wanted.offset if instant is not None else None

    return wrong


def _second_of_two(day: Any, clock: Any, zone: Any) -> datetime:
    return datetime.combine(day, clock).replace(tzinfo=zone, fold=1).astimezone(UTC)


def _past_the_jump(day: Any, clock: Any, zone: Any) -> datetime:
    return datetime.combine(day, clock).replace(tzinfo=zone).astimezone(UTC)


def _not_at_once(right: Any) -> Any:
    return lambda since, clock, days, zone: right(since + TICK, clock, days, zone)


def _absent_is_null(condition: Any, subject: Any) -> str:
    return str(find(subject.attributes, condition.path, None))


def _never_ends_it(step: Any) -> Any:
    return replace(step, on_blocked=OnBlocked.SKIP) if isinstance(step, Send) else step


def _from_entry(condition: Any) -> Any:
    return replace(condition, after=After.ENTRY) if isinstance(condition, Happened) else condition


def _as_python_spells(properties: Any, path: Any) -> str:
    return str(find(properties, path))


def _not_of_dates(step: Any) -> Any:
    return Wait(id=step.id, duration=TICK, next="") if isinstance(step, WaitUntil) else step


def _not_a_branch(step: Any) -> Any:
    return Wait(id=step.id, duration=TICK, next="") if isinstance(step, Branch) else step


def _last_arm(step: Any) -> Any:
    return replace(step, arms=step.arms[::-1]) if isinstance(step, Branch) else step


def _leads_back(step: Any) -> Any:
    return replace(step, otherwise="") if isinstance(step, Webhook) else step


def _unanswered(asked: dict[str, Any]) -> dict[str, Any]:
    known = asked["known"]
    return asked | {"known": replace(known, subject=replace(known.subject, steps={}))}


def _without_reason(step: Any) -> Any:
    return replace(step, reason="finished") if isinstance(step, Exit) else step


SLIPS = [
    swapped("exit rules are not looked at", advance, "leaves_by", lambda *_: None),
    _definition("the last exit rule counts", lambda d: replace(d, exit_rules=d.exit_rules[::-1])),
    swapped("time alone turns nothing", advance, "flip", lambda *_: None),
    Slip("time turns answers a tick later", advance, "flip", _late_by_a_tick),
    Slip("time turns no attribute", advance, "flip", _no_attribute),
    _holds("an event counts from the entry on", _from_entry),
    Slip("an event counts at the arrival itself", advance, "holds", _at_the_arrival_too),
    _matches("an event's entry key is not looked at", entry_key_path=()),
    _matches("an event's where is not looked at", where=None),
    swapped("keys are spelled as Python spells", conditions, "key_in", _as_python_spells),
    Slip("only rules look back", driver, "happenings",
         lambda right: lambda d: {name: one for name, one in right(d).items() if name.startswith("rule:")}),
    Slip("only steps look back", driver, "happenings",
         lambda right: lambda d: {name: one for name, one in right(d).items() if name.startswith("step:")}),
    swapped("on arrival, no value is noted", advance, "mark_of", lambda *_: None),
    swapped("absent is null", conditions, "mark_of", _absent_is_null),
    swapped("a whole number changes with its spelling", conditions, "_by_value", lambda value: value),
    _asked("what has come at the timeout is too late", _timeout_first),
    _topics("nobody is told of attributes", lambda topic: topic == ATTRIBUTES),
    _topics("nobody is told of events by their names", lambda topic: topic.startswith("event:")),
    _topics("nobody is told of any event", lambda topic: topic == conditions.ANY_EVENT),
    Slip("a branch that is parked awaits nothing", conditions, "topics",
         lambda right: lambda d, step, goal, **how: right(d, _not_a_branch(step), goal, **how)),
    _topics("nobody is told of segments", lambda topic: topic.startswith("segment:")),
    Slip("rules await nothing", conditions, "topics",
         lambda right: lambda d, step, goal, **how: right(replace(d, exit_rules=()), step, goal, **how)),
    Slip("goals are not awaited", conditions, "topics",
         lambda right: lambda d, step, goal, **how: right(d, step, None, **how)),
    Slip("waits for a date await nothing", conditions, "topics",
         lambda right: lambda d, step, goal, **how: right(d, _not_of_dates(step), goal, **how)),
    Slip("a time that has come is tomorrow", advance, "next_time_of_day", _not_at_once),
    Slip("any day of the week", advance, "next_time_of_day",
         lambda right: lambda since, clock, days, zone: right(since, clock, (), zone)),
    Slip("weeks begin on Sunday", advance, "next_time_of_day",
         lambda right: lambda since, clock, days, zone: right(since, clock, [(day + 1) % 7 for day in days], zone)),
    _asked("the subject's zone is not looked at", _no_zone),
    _known("the project's zone is not looked at", time_zone="UTC"),
    swapped("of a time shown twice, the second", local_time, "at_local", _second_of_two),
    swapped("of a time jumped over, one behind the jump", local_time, "at_local", _past_the_jump),
    Slip("a date has no time of its own", advance, "attribute_date",
         lambda right: lambda wanted, value, zone: right(replace(wanted, clock=None), value, zone)),
    Slip("before is after", advance, "attribute_date",
         lambda right: lambda wanted, value, zone: right(replace(wanted, offset=-wanted.offset), value, zone)),
    Slip("days before a date have 24 hours", advance, "attribute_date", _days_of_24_hours),
    swapped("without a date, at once", advance, "NO_DATE", None),
    swapped("the first arm of every split", advance, "arm_of", lambda split, *_: split.arms[0]),
    _steps("splits have no salt", lambda step: replace(step, salt=None) if hasattr(step, "salt") else step),
    _known("splits divide everybody alike", subject_id="somebody"),
    _steps("the last arm that holds", _last_arm),
    Slip("whichever arm was chosen, the first", advance, "way_on",
         lambda right: lambda step, done: step.arms[0].next if hasattr(step, "arms") else right(step, done)),
    swapped("paused arms are open", arms, "open_arms", lambda step: [arm.id for arm in step.arms]),
    Slip("fixed shares are learned", arms, "ruled",
         lambda right: lambda learned, of: right(learned, [replace(arm, share_ppm=None) for arm in of])),
    Slip("nothing was learned", arms, "ruled", lambda right: lambda learned, of: right(None, of)),
    Slip("what holds for a subject holds for an execution", driver, "choose_arm",
         lambda right: lambda step, *rest: right(replace(step, stickiness=Stickiness.VISIT), *rest)),
    Slip("who is drawn for again is drawn for alike", driver, "choose_arm",
         lambda right: lambda step, in_force, chooser, rounds: right(step, in_force, chooser)),
    Slip("what was chosen does not hold", driver, "open_arms", lambda right: lambda step: []),
    _steps("a blocked send never ends it", _never_ends_it),
    _steps("an exit has no reason of its own", _without_reason),
    _steps("a webhook that was not taken leads on as one that was", _leads_back),
    _asked("what webhooks answered is not looked at", _unanswered),
    _known("consent is not looked at", consent=Consent()),
    _limits("a pause is not looked at", paused=False),
    _limits("quiet hours are not looked at", quiet=None),
    _limits("caps are not looked at", full={}),
    _limits("channels that are crowded are not looked at", crowded=frozenset()),
    _steps("sends have no window of their own",
           lambda step: replace(step, window=None) if isinstance(step, Send) else step),
    _definition("journeys have no window", lambda d: replace(d, send_window=None)),
    _steps("gates are waited for for ever",
           lambda step: replace(step, wait_at_most=None) if isinstance(step, Send) else step),
    _steps("what is usual is done at every gate",
           lambda step: replace(step, on_blocked=None) if isinstance(step, Send) else step),
    swapped("the night is passed over", advance, "USUAL", dict.fromkeys(gates.USUAL, OnBlocked.SKIP)),
    Slip("quiet hours end a tick later", gates, "end_of", _late_by_a_tick),
    Slip("windows start a tick later", gates, "next_start_of", _late_by_a_tick),
    _topics("nobody is told of preferences", lambda topic: topic == conditions.PREFERENCES),
    _topics("nobody is told of settings", lambda topic: topic == conditions.GATES),
    _known("the goal is not looked at", goal_reached=False),
    _known("the end of the journey is not looked at", closed=None),
    _definition("nothing expires", lambda d: replace(d, max_duration=None)),
    _asked("what was done is forgotten at the end", _closed_before_done),
    _asked("whatever was done was executed",
           lambda asked: asked | {"done": Done(result=Result.EXECUTED) if asked["done"] else None}),
    _asked("what was done has no reason",
           lambda asked: asked | {"done": replace(asked["done"], reason=None) if asked["done"] else None}),
    swapped("to wait on is a decision", Decision, "still_waiting", property(lambda _: False)),
    Slip("the last visit is recorded twice", driver, "advance", _visited_twice),
    _asked("time stands still", lambda asked: asked | {"now": asked["position"].since}),
    _asked("it is a tick earlier", lambda asked: asked | {"now": asked["now"] - TICK}),
    swapped("ways of waiting are alike", carrying, "_way_of_waiting", lambda step: None),
    Slip("who goes over comes anew", driver, "landing",
         lambda right: lambda *of: replace(found, anew=True) if isinstance(found := right(*of), Landing) else found),
    swapped("nobody remembers what was sent before", driver, "sent_as", lambda *_: frozenset()),
    swapped("what was sent is called as ever", driver, "sent_as", lambda sent, mapping: frozenset(sent)),
    _asked("only messages are not sent again", _only_messages),
    swapped("a call that may have been taken was not", driver.Row, "is_out",
            property(lambda row: row.state != "failed")),
    swapped("answers are called as ever", driver, "renamed", lambda step_id, mapping: step_id),
    Slip("who goes over forgets what was done", driver, "carry_over",
         lambda right: lambda version, to, position, landed, known, now, done=None:
             right(version, to, position, landed, known, now)),
    Slip("what was done was not made", driver, "carry_over",
         lambda right: lambda *of: right(*of[:6], replace(of[6], result=Result.SKIPPED) if of[6] else None)),
    _known("what was sent before is sent again", sent=frozenset()),
    swapped("whoever is parked looks again at once", advance, "PARK_RECHECK", timedelta(0)),
]  # fmt: skip
