"""All scenarios, by the group of points that each has reached."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tests.faults.crashes import definitions, promises, travels, work
from tests.faults.crashes.ground import Ground

Scenario = Callable[[Ground], Coroutine[Any, Any, None]]

SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        travels.ingesting,
        travels.entering,
        travels.enrolling,
        travels.telling,
        travels.sending,
        travels.crowding,
        travels.effects,
        definitions.publishing,
        definitions.keys,
        definitions.merging,
        definitions.preferences,
        definitions.archiving,
        definitions.canceling,
        work.jobs,
        work.segments,
        work.carrying,
        work.holding,
        work.replaying,
        work.quieting,
        work.scheduling,
        work.learning,
        promises.erasing,
        promises.sealing,
        promises.reconciling,
        promises.testing,
    )
}
