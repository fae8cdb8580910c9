"""Subjects for tests of predicates: everything that happened to them, from which any engine's facts can be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.predicates.facts import EventFacts, Facts, needs
from orchestrator.predicates.tree import Predicate


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One subject. `events` are the instants of all its events by name, in any order."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Sequence[datetime]] = field(default_factory=dict)
    cohorts: frozenset[str] = frozenset()
    known_cohorts: frozenset[str] = frozenset()


def facts_for(predicate: Predicate, world: World) -> Facts:
    """What a loader would bring for this predicate: no more than `needs` asks for."""
    asked = needs([predicate])
    events = {}
    for name, depth in asked.events.items():
        instants = sorted(world.events.get(name, ()), reverse=True)
        if instants:
            events[name] = EventFacts(
                total=len(instants),
                first_at=instants[-1],
                last_at=instants[0],
                recent=tuple(instants[:depth]),
            )
    return Facts(
        attributes=world.attributes,
        entry=world.entry,
        events=events,
        cohorts=world.cohorts & asked.cohorts,
        known_cohorts=world.known_cohorts & asked.cohorts,
    )
