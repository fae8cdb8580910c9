"""What is known about one subject when a predicate is asked, and what has to be loaded to know it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.predicates.builtin import LAST_EVENT_AT
from orchestrator.predicates.tree import ANY_EVENT, Attribute, EventFired, Ever, InCohort, Predicate, Source, leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """A subject's events of one source, all of which have arrived. Instants are aware, in UTC.

    `recent` holds the instants of the most recent ones, newest first, as many as `needs` asks for or as are kept: where
    it is shorter than `total`, the rest is older than any window looks.
    """

    total: int
    first_at: datetime
    last_at: datetime
    recent: tuple[datetime, ...] = ()

    def nth_last(self, n: int) -> datetime | None:
        """The instant of the n-th event from the end (1: the last one); None when there is none."""
        if self.total < n:
            return None
        if n == 1:
            return self.last_at
        return self.recent[n - 1] if len(self.recent) >= n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One subject in one snapshot.

    `entry` is what `$entry.` reads: the triggering event's properties; `steps` what `$steps.` reads: by the id of a
    step, the answer of its webhook. A source that is not in `events` never happened. `cohorts` are the lists the
    subject is on; `known_cohorts` those that exist; `cohort_flips` says of those whose answer stands for rules when
    time alone could change it. `created_at` (aware) and `time_zone` are what `$subject.` reads.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events: Mapping[Source, EventFacts] = field(default_factory=dict)
    cohorts: frozenset[str] = frozenset()
    known_cohorts: frozenset[str] = frozenset()
    cohort_flips: Mapping[str, datetime] = field(default_factory=dict)
    created_at: datetime | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What to load. `events` maps a source to the depth of `EventFacts.recent`; 0: total, first and last suffice."""

    events: Mapping[Source, int]
    cohorts: frozenset[str]
    paths: frozenset[tuple[str, ...]]

    def __or__(self, other: Needs) -> Needs:
        """Both together."""
        events = {**self.events, **other.events}
        for source in self.events.keys() & other.events.keys():
            events[source] = max(self.events[source], other.events[source])
        return Needs(events=events, cohorts=self.cohorts | other.cohorts, paths=self.paths | other.paths)


def needs(predicates: Iterable[Predicate]) -> Needs:
    """All that these predicates together may ask about one subject."""
    events: dict[Source, int] = {}
    cohorts: set[str] = set()
    paths: set[tuple[str, ...]] = set()
    for predicate in predicates:
        for leaf in leaves(predicate):
            match leaf:
                case EventFired(source=source, window=window, at_least=at_least):
                    depth = 0 if isinstance(window, Ever) or at_least == 1 else at_least
                    events[source] = max(depth, events.get(source, 0))
                case Attribute(path=path):
                    paths.add(path)
                    if path == LAST_EVENT_AT:
                        events.setdefault(ANY_EVENT, 0)
                case InCohort(cohort_id=cohort_id, rules=None):
                    cohorts.add(cohort_id)
    return Needs(events=events, cohorts=frozenset(cohorts), paths=frozenset(paths))
