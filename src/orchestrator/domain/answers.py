"""Who reads answers of webhooks in a definition: whether there is such a webhook, and whether it is called before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.domain.fillings import copied_steps
from orchestrator.domain.journey import Definition, EmitEvent, Step, UpdateSubject, Webhook
from orchestrator.domain.ways import Edge, reached_from
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.paths import STEPS
from orchestrator.predicates.tree import Attribute, Predicate, leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A place where the answer of a step is read; `reader`: by which step, None: by an exit rule."""

    path: str
    step_id: str
    reader: str | None


def of_predicate(predicate: Predicate, path: str, reader: str | None) -> Iterator[Reading]:
    for leaf in leaves(predicate):
        match leaf:
            case Attribute(path=(first, step_id, *_)) if first == STEPS:
                yield Reading(path=path, step_id=step_id, reader=reader)


def of_step(step: Step, path: str) -> Iterator[Reading]:
    """What it copies from answers."""
    match step:
        case UpdateSubject(attributes=filling):
            found = copied_steps(filling, under(path, "updateSubject.attributes"))
        case EmitEvent(properties=filling):
            found = copied_steps(filling, under(path, "emitEvent.properties"))
        case Webhook(body=filling):
            found = copied_steps(filling, under(path, "webhook.body"))
        case _:
            return
    for at, step_id in found:
        yield Reading(path=at, step_id=step_id, reader=step.id)


def examine(
    definition: Definition, readings: Iterable[Reading], edges: Sequence[Sequence[Edge]]
) -> tuple[list[Fault], list[Fault]]:
    """Faults and warnings. `edges` are the ways between the definition's steps, by their numbers."""
    faults: dict[str, Fault] = {}
    warnings: dict[str, Fault] = {}
    numbers = {step_id: number for number, step_id in enumerate(definition.steps)}
    behind: dict[str, set[int]] = {}
    for reading in readings:
        step_id = reading.step_id
        if not isinstance(definition.steps.get(step_id), Webhook):
            message = f"{step_id} is no webhook of this journey: it answers nothing"
            faults.setdefault(reading.path, Fault(path=reading.path, reason="ANSWER_NOT_FOUND", message=message))
            continue
        if reading.reader is None:
            continue
        if step_id not in behind:
            number = numbers[step_id]
            behind[step_id] = {n for edge in edges[number] for n in reached_from(edges, edge.target)}
        if numbers[reading.reader] not in behind[step_id]:
            message = f"no way leads here from {step_id}: its answer is never there"
            warnings.setdefault(reading.path, Fault(path=reading.path, reason="ANSWER_NEVER_KNOWN", message=message))
    return [*faults.values()], [*warnings.values()]
