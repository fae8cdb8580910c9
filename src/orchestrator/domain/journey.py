"""A journey's graph: what an author writes, and what publish makes immutable.

The JSON form of a definition (camelCase, the same in HTTP, YAML and the database) is read by `journey_form.py`;
`journey_graph.py` says what is wrong with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from orchestrator.predicates.tree import Predicate


class JourneyStatus(Enum):
    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class OnBlocked(Enum):
    """What a send step does when a gate blocks it. `wait` comes with quiet hours and caps."""

    SKIP = "skip"
    EXIT = "exit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    id: str
    communication_id: str
    on_blocked: OnBlocked
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    id: str
    duration: timedelta
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    id: str
    when: Predicate
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """The first arm whose predicate holds; else `otherwise`."""

    id: str
    arms: tuple[Arm, ...]
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    id: str
    reason: str


Step = Send | Wait | Branch | Exit


class ReentryKind(Enum):
    ONCE = "once"
    INTERVAL = "interval"
    ENTRY_KEY = "entry_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reentry:
    """May a subject come in again? `interval` is set for INTERVAL only and counts between triggers' instants."""

    kind: ReentryKind
    interval: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a version fixes. The first of `steps` is where executions start (mappings keep their order)."""

    audience_id: str | None
    trigger_contract_id: str | None
    # None: the default of the way in, `entry_key` for events and `once` for enroll by id
    reentry: Reentry | None
    max_duration: timedelta | None
    steps: Mapping[str, Step]
    # Sends take the newest revision of a communication in the channel and category that were pinned.
    follow_live_communications: bool = False

    @property
    def first_step_id(self) -> str:
        return next(iter(self.steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The revision of a communication that a version sends, with what gates and queues need to know of it."""

    content_revision: int
    channel: str
    category: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyVersion:
    """A published definition, with the communications it sends (by id) as publish pinned them."""

    journey_id: str
    version: int
    definition: Definition
    pinned: Mapping[str, Pinned]


class OnArchive(Enum):
    """What becomes of running executions when their journey is archived."""

    FINISH = "finish"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The event that counts as conversion within `window` after the trigger. `event_name` None: there is no goal.

    Every change makes a new revision, counted from 1; an enrollment keeps the one it came in under.
    """

    revision: int
    event_name: str | None
    window: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What is edited, and where its life stands.

    `definition` is the draft if there is one, else that of `latest_version`: the JSON document as its author wrote it.
    New executions take `latest_version`, None before the first publish. `on_archive` is set while archived and only
    then. `revision` and `updated_at` rise with every write.
    """

    journey_id: str
    name: str
    description: str
    status: JourneyStatus
    on_archive: OnArchive | None
    has_draft: bool
    definition: Mapping[str, Any]
    latest_version: int | None
    goal: Goal
    revision: int
    created_at: datetime
    updated_at: datetime
