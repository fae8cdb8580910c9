"""Trigger contracts, as authors write them: which event, or which way in or out of a segment, starts executions.

`entry.py` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from orchestrator.domain.durations import TWO_YEARS
from orchestrator.domain.event import name_fault
from orchestrator.domain.ids import name_faults
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Predicate

#: Which way a subject goes.
Transition = Literal["entered", "left"]

MAX_EVENT_AGE = timedelta(hours=24)
LEAST_MAX_EVENT_AGE = timedelta(seconds=1)
GREATEST_MAX_EVENT_AGE = TWO_YEARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What an author writes. It names an event or a segment, and what the other kind has is None, or false.

    Of an event, `predicate` is over its properties; `entry_key_path` is a path into them, None: the event's id tells
    entries apart. Of a segment, `predicate` is over the subject; each transition is an entry of its own, however old
    (`max_event_age` is not used). No predicate takes everybody.
    """

    name: str
    event_name: str | None
    predicate: Any | None
    entry_key_path: str | None
    max_event_age: timedelta = MAX_EVENT_AGE
    segment_id: str | None = None
    transition: Transition | None = None
    include_definition_changes: bool = False

    @property
    def about(self) -> About:
        """What the predicate is over."""
        return About.EVENT if self.segment_id is None else About.SUBJECT


def completed(contract: Contract) -> Contract:
    """With what goes without saying: who names a segment means entering it."""
    if contract.segment_id is None or contract.transition is not None:
        return contract
    return replace(contract, transition="entered")


def edited(before: Contract, changes: Mapping[str, Any]) -> Contract:
    """With these fields. What the other kind has no use for goes with the kind, unless a change names it."""
    after = replace(before, **changes)
    if after.about is not before.about:
        left_over: dict[str, Any] = {"entry_key_path": None, "transition": None, "include_definition_changes": False}
        after = replace(after, **{name: none for name, none in left_over.items() if name not in changes})
    return completed(after)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCondition:
    """A contract that a journey has for itself, without a name. `predicate` is the tree of its document."""

    contract: Contract
    predicate: Predicate | None

    @property
    def about_subject(self) -> Predicate | None:
        """What it asks about whoever would enter."""
        return self.predicate if self.contract.segment_id is not None else None


def faults_in(contract: Contract, path: str) -> list[Fault]:
    """Everything that is wrong, but for the predicate, and whether the segment exists."""
    return name_faults(contract.name, under(path, "name")) + trigger_faults(contract, path)


def trigger_faults(contract: Contract, path: str) -> list[Fault]:
    """The same, of what is not its name."""
    faults = [*(_event_faults(contract, path) if contract.segment_id is None else _segment_faults(contract, path))]
    if not LEAST_MAX_EVENT_AGE <= contract.max_event_age <= GREATEST_MAX_EVENT_AGE:
        message = f"must be 1s to {GREATEST_MAX_EVENT_AGE.days}d"
        faults.append(Fault(path=under(path, "maxEventAge"), reason="OUT_OF_RANGE", message=message))
    return faults


def _event_faults(contract: Contract, path: str) -> Iterator[Fault]:
    at = under(path, "eventName")
    if not contract.event_name:
        yield Fault(path=at, reason="EVENT_NAME_REQUIRED", message="the name of an event is required, or a segment")
    elif (fault := name_fault(contract.event_name, at)) is not None:
        yield fault
    if contract.entry_key_path is not None:
        yield from _entry_key_faults(contract.entry_key_path, under(path, "entryKeyPath"))
    if contract.transition is not None:
        yield _only_with("a segment", under(path, "transition"))
    if contract.include_definition_changes:
        yield _only_with("a segment", under(path, "includeDefinitionChanges"))


def _segment_faults(contract: Contract, path: str) -> Iterator[Fault]:
    if contract.event_name is not None:
        message = "a contract names an event or a segment, not both"
        yield Fault(path=under(path, "segmentId"), reason="INVALID_VALUE", message=message)
    if contract.entry_key_path is not None:
        yield _only_with("an event", under(path, "entryKeyPath"))


def _only_with(kind: str, path: str) -> Fault:
    return Fault(path=path, reason="INVALID_VALUE", message=f"only with {kind}")


def _entry_key_faults(text: str, path: str) -> list[Fault]:
    # A path like those in the predicate, so that one rule holds for both.
    _, faults = parse({"kind": "attribute", "fieldPath": text, "operator": "exists"}, about=About.EVENT)
    return [Fault(path=path, reason=fault.reason, message=fault.message) for fault in faults]
