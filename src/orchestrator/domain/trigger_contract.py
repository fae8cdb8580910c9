"""Trigger contracts, as authors write them: which event, read how, starts executions. `entry.py` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.domain.durations import TWO_YEARS
from orchestrator.domain.event import name_fault
from orchestrator.domain.ids import name_faults
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.parse import About, parse

MAX_EVENT_AGE = timedelta(hours=24)
LEAST_MAX_EVENT_AGE = timedelta(seconds=1)
GREATEST_MAX_EVENT_AGE = TWO_YEARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What an author writes. `predicate` is over the event's properties, None takes every such event.

    `entry_key_path` is a path into the properties; None: the event's id tells entries apart.
    """

    name: str
    event_name: str
    predicate: Any | None
    entry_key_path: str | None
    max_event_age: timedelta = MAX_EVENT_AGE


def faults_in(contract: Contract, path: str) -> list[Fault]:
    """Everything that is wrong, but for the predicate."""
    faults = name_faults(contract.name, under(path, "name"))
    if not contract.event_name:
        at = under(path, "eventName")
        faults.append(Fault(path=at, reason="EVENT_NAME_REQUIRED", message="the event's name is required"))
    elif (fault := name_fault(contract.event_name, under(path, "eventName"))) is not None:
        faults.append(fault)
    if contract.entry_key_path is not None:
        faults += _entry_key_faults(contract.entry_key_path, under(path, "entryKeyPath"))
    if not LEAST_MAX_EVENT_AGE <= contract.max_event_age <= GREATEST_MAX_EVENT_AGE:
        message = f"must be 1s to {GREATEST_MAX_EVENT_AGE.days}d"
        faults.append(Fault(path=under(path, "maxEventAge"), reason="OUT_OF_RANGE", message=message))
    return faults


def _entry_key_faults(text: str, path: str) -> list[Fault]:
    # A path like those in the predicate, so that one rule holds for both.
    _, faults = parse({"kind": "attribute", "fieldPath": text, "operator": "exists"}, about=About.EVENT)
    return [Fault(path=path, reason=fault.reason, message=fault.message) for fault in faults]
