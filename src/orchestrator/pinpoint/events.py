"""Which of our events Pinpoint's events are, and conditions about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.pinpoint.conditions import (
    EVERYONE,
    UNKNOWN,
    Condition,
    all_of,
    any_of,
    attribute,
    is_exact,
    negated,
)
from orchestrator.pinpoint.dimensions import read_properties, read_values
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.reading import place, placed, says_nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Events of a name, whose properties satisfy `where`."""

    name: str
    where: Condition


_EMAIL = attribute("channel", "equals", "email")
_WEBHOOK = attribute("channel", "equals", "webhook")

#: What Pinpoint reports of messages, and what providers report here (docs/channels.md).
_REPORTS: Mapping[str, Happening] = {
    "_email.delivered": Happening(name="message_delivered", where=_EMAIL),
    "_email.open": Happening(name="message_opened", where=_EMAIL),
    "_email.click": Happening(name="message_clicked", where=_EMAIL),
    "_email.complaint": Happening(name="message_complained", where=_EMAIL),
    "_email.hardbounce": Happening(
        name="message_bounced", where=all_of([_EMAIL, attribute("bounce", "equals", "hard")])
    ),
    "_email.softbounce": Happening(
        name="message_bounced", where=all_of([_EMAIL, attribute("bounce", "equals", "soft")])
    ),
    "_SMS.SUCCESS": Happening(name="message_delivered", where=_WEBHOOK),
}
#: Names that apps report themselves, and will go on reporting.
_OF_APPS = ("_session.", "_userauth.", "_monetization.")


def read_events(found: Discoveries, body: Mapping[str, Any], path: str) -> tuple[list[Happening], bool]:
    """`EventDimensions`: the events it names, and whether it means all others (EXCLUSIVE).

    What has no counterpart is told, and not among them.
    """
    kind = body.get("EventType") or {}
    at = place(path, "EventType")
    if says_nothing(kind):
        found.fault(at, "REQUIRED", "names the event")
        return [], False
    properties = read_properties(found, body, path)
    happenings = [
        happening
        for value_path, name in placed(list(read_values(found, kind, at) or ()), place(at, "Values"))
        if (happening := _happening(found, name, properties, value_path)) is not None
    ]
    return happenings, kind.get("DimensionType") == "EXCLUSIVE"


def event_condition(found: Discoveries, body: Mapping[str, Any], path: str, sent_by: Condition) -> Condition:
    """That such an event has happened. `sent_by` says which message it is about."""
    happenings, is_excluded = read_events(found, body, path)
    leaves = [_leaf(happening, sent_by) for happening in happenings]
    named = (body.get("EventType") or {}).get("Values") or ()
    if len(leaves) < len(named):
        leaves.append(UNKNOWN)
    condition = any_of(leaves)
    return negated(condition) if is_excluded else condition


def _leaf(happening: Happening, sent_by: Condition) -> Condition:
    where = all_of([happening.where, sent_by])
    leaf: Condition = {"kind": "event_fired", "eventName": happening.name}
    return leaf if where == EVERYONE else {**leaf, "where": where}


def _happening(found: Discoveries, name: str, properties: Condition, path: str) -> Happening | None:
    if name in _REPORTS:
        report = _REPORTS[name]
        if properties != EVERYONE:
            message = "reports have properties of their own here: the condition counts as not met, negated or not"
            found.find(FindingKind.NO_COUNTERPART, path, name, message)
            return None
        return report
    if name.startswith("_") and not name.startswith(_OF_APPS):
        message = "nothing here tells of it: a condition on it counts as not met, negated or not"
        found.find(FindingKind.NO_COUNTERPART, path, name, message)
        return None
    if not is_exact(properties, frozenset()):  # a fault, which was told
        return None
    return Happening(name=name, where=properties)
