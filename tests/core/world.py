"""What can be known of one subject, and what is decided about the journey from outside. Core and oracle read the same
one; it knows neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. It may arrive long after it occurred, never before."""

    name: str
    occurred: datetime
    properties: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class World:
    """One subject, as it is now. `lists` are the segments that exist, each with whether the subject is on it.

    `changes` counts what has happened, so that readers know when what they have made of it is out of date.
    """

    created_at: datetime
    project_zone: str
    zone: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    lists: dict[str, bool] = field(default_factory=dict)
    opted_out: set[tuple[str, str]] = field(default_factory=set)
    suppressed: set[str] = field(default_factory=set)
    closed: str | None = None
    #: Hours in which nothing goes out, and caps, as settings have them; messages of other journeys: (channel, category,
    #: instant); whether sends are paused.
    quiet: dict[str, Any] | None = None
    caps: list[dict[str, Any]] = field(default_factory=list)
    elsewhere: list[tuple[str, str, datetime]] = field(default_factory=list)
    paused: bool = False
    #: What is learned of arms: millionths by their ids; None: nothing.
    policy: dict[str, int] | None = None
    #: Channels at which it is not the turn of the execution.
    crowded: set[str] = field(default_factory=set)
    changes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """Who came in, by what, and when."""

    execution: str
    journey_id: str
    subject_id: str
    key: str
    triggered_at: datetime
    properties: dict[str, Any]
    started_at: datetime


#: Communications, with the channel and the category in which they go out.
ROUTES = {"hello": ("email", "marketing"), "nudge": ("push", "marketing"), "news": ("email", "news")}

#: The goal of every journey that ends by one: this event, within these hours after the trigger.
GOAL_EVENT, GOAL_HOURS = "goal", 60
