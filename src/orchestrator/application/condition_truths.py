"""Whether the conditions hold that are asked where an execution stands, each with the evidence for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from orchestrator.domain.advance import Known
from orchestrator.domain.conditions import flip, holds, rule_name, step_name
from orchestrator.domain.execution import Position
from orchestrator.domain.journey import Branch, Changed, Condition, Definition, Exit, Happened, Step, WaitFor
from orchestrator.predicates.evaluate import Missing
from orchestrator.predicates.explain import explain
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.paths import join_path
from orchestrator.predicates.reveal import Reveal
from orchestrator.predicates.tree import Predicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A condition of an exit rule or of the step, and whether it holds; None: a segment that is gone leaves it open."""

    truth: bool | None
    rule_id: str = ""
    arm_id: str = ""
    event_name: str = ""
    last_event_at: datetime | None = None
    field_path: str = ""
    explanation: Mapping[str, Any] | None = None
    flips_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Of whom conditions are asked: an execution that stands at `position`, at `now`.

    `inlined` are predicates with the rules of their segments put in, to be shown; `facts` are what they ask.
    `reveal`: which values are shown; None: all. `explains`: with each predicate's tree.
    """

    known: Known
    facts: Facts
    position: Position
    now: datetime
    inlined: Mapping[int, Predicate]
    reveal: Reveal | None
    explains: bool = True


def conditions_of(definition: Definition, step: Step) -> Iterator[tuple[str, str, Condition]]:
    """(rule, arm, condition): what it would leave for, and what the step asks."""
    if isinstance(step, Exit):
        return
    for rule in definition.exit_rules:
        yield rule.id, "", rule.condition
    if isinstance(step, WaitFor):
        yield "", "", step.condition
    elif isinstance(step, Branch):
        for arm in step.arms:
            yield "", arm.id, arm.when


def truth_of(asking: Asking, rule_id: str, arm_id: str, condition: Condition) -> Truth:
    """Whether it holds, by what the core goes by."""
    position, known, facts, now = asking.position, asking.known, asking.facts, asking.now
    name = rule_name(rule_id) if rule_id else step_name(position.step_id)
    last = known.happened.get(name)
    since, mark = (known.started_at, None) if rule_id else (position.since, position.mark)
    truth: bool | None = None
    flips_at: datetime | None = None
    try:
        truth = holds(condition, facts, last, since, mark, now)
        flips_at = flip(condition, facts, now)
    except Missing:
        pass
    told = Truth(rule_id=rule_id, arm_id=arm_id, truth=truth, flips_at=flips_at)
    match condition:
        case Happened(event_name=event_name):
            return replace(told, event_name=event_name, last_event_at=last)
        case Changed(path=path):
            return replace(told, field_path=join_path(path))
        case _ if not asking.explains:
            return told
        case _:
            shown = asking.inlined.get(id(condition), condition)
            return replace(told, explanation=explain(shown, facts, now, reveal=asking.reveal))
