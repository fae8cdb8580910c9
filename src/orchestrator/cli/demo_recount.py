"""What must come of the example in examples/welcome, counted by hand from its two lists of people and events.

On purpose plain and apart: it reads neither the journey nor any code that runs it. Whoever changes the example's rules
changes them here as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: (step, result, reason)
Visit = tuple[str, str, str]
#: (step, communication, state)
Send = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """The way of one subject: every step in order, every message, and how it ended."""

    visits: tuple[Visit, ...]
    sends: tuple[Send, ...]
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """`travels` by subject: those who came in. `refused` by reason: sign-ups that led to nothing."""

    travels: Mapping[str, Travel]
    refused: Mapping[str, int]


def recount(subjects: Iterable[Mapping[str, Any]], events: Iterable[Mapping[str, Any]]) -> Recount:
    """All events are known before anybody has looked around long enough to be judged by what they bought."""
    people = {person["id"]: person for person in subjects}
    seen: set[str] = set()
    bought: set[str] = set()
    gave_back: set[str] = set()
    came_in: list[str] = []
    refused: Counter[str] = Counter()
    for event in events:
        who = event["subjectId"]
        if event["eventId"] in seen:
            continue
        seen.add(event["eventId"])
        if event["name"] == "purchase":
            bought.add(who)
        elif event["name"] == "refund":
            gave_back.add(who)
        elif event["name"] == "signed_up":
            why = _why_not(people[who], event, who in came_in)
            if why:
                refused[why] += 1
            else:
                came_in.append(who)
    travels = {who: _travel(people[who], who in bought and who not in gave_back) for who in came_in}
    return Recount(travels=travels, refused=dict(refused))


def _why_not(person: Mapping[str, Any], event: Mapping[str, Any], was_in: bool) -> str:
    if event["properties"].get("robot") is True:
        return "trigger_predicate"
    if person["attributes"].get("plan") not in ("free", "pro", "enterprise"):
        return "audience"
    if was_in:
        return "re_entry"
    if "suppressed" in person:
        return "suppressed"
    if "optOut" in person and not _only_after_greeting(person):
        return "opted_out"
    return ""


def _only_after_greeting(person: Mapping[str, Any]) -> bool:
    return bool(person.get("optOut", {}).get("after") == "greet")


def _travel(person: Mapping[str, Any], keeps_a_purchase: bool) -> Travel:
    visits: list[Visit] = [("greet", "executed", ""), ("look-around", "executed", "")]
    sends: list[Send] = [("greet", "welcome", "sent")]
    step, communication = "", ""
    if keeps_a_purchase:
        visits += [("bought-something", "executed", "bought")]
        step, communication = "thank", "thanks"
    elif person["attributes"].get("plan") == "enterprise":
        visits += [("bought-something", "executed", "enterprise")]
    else:
        visits += [("bought-something", "executed", "otherwise")]
        step, communication = "nudge", "nudge"
    if step and _only_after_greeting(person):
        visits += [(step, "skipped", "opted_out")]
    elif step:
        visits += [(step, "executed", "")]
        sends += [(step, communication, "sent")]
    visits += [("done", "executed", "")]
    return Travel(visits=tuple(visits), sends=tuple(sends), outcome="completed", reason="welcomed")
