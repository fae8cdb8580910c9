"""Subjects for tests of predicates: everything that happened to them, from which any engine's facts can be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import EventFacts, Facts, needs
from orchestrator.predicates.tree import Predicate, Source


@dataclass(frozen=True, slots=True)
class Happened:
    """One event."""

    at: datetime
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One subject. `events` are all its events by name, in any order."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Sequence[Happened]] = field(default_factory=dict)
    cohorts: frozenset[str] = frozenset()
    known_cohorts: frozenset[str] = frozenset()
    created_at: datetime | None = None
    time_zone: str | None = None


def facts_for(predicate: Predicate, world: World) -> Facts:
    """What a loader would bring for this predicate: no more than `needs` asks for."""
    asked = needs([predicate])
    events = {}
    for source, depth in asked.events.items():
        instants = sorted((event.at for event in counted(source, world)), reverse=True)
        if instants:
            events[source] = EventFacts(
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
        created_at=world.created_at,
        time_zone=world.time_zone,
    )


def counted(source: Source, world: World) -> Iterator[Happened]:
    names = world.events if source.name is None else [source.name]
    for event in chain.from_iterable(world.events.get(name, ()) for name in names):
        if source.where is None or evaluate(source.where.predicate, Facts(attributes=event.properties), event.at):
            yield event
