"""Steps that change what we know of a subject: attributes, and events that happen to it.

Planned in one look, filled in outside any transaction, and carried out in a second one, which asks the core once more,
changes the subject, records the step and decides what is next: all of it or nothing. So whatever is tried again, and
whoever dies in between, a step changes the subject once for each time that an execution comes by; and it is planned
again where what it was filled from has changed meanwhile, so that two who count up do not count the same. What was done
is known to that decision: a branch right behind the step reads the attribute, and a condition sees the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import orjson
from asyncpg import Connection, Record

from orchestrator.application import subjects
from orchestrator.application.advance import Ready, answer_try, decide, informed, ready, record, tell_sleeper
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.ingest import Ingest
from orchestrator.application.sending import idempotency_key
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.attributes import size_fault
from orchestrator.domain.entry import hops_from
from orchestrator.domain.event import Event
from orchestrator.domain.execution import Done, Result, Run
from orchestrator.domain.fillings import Source
from orchestrator.domain.journey import EmitEvent, Step, UpdateSubject
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.subject import SubjectPatch
from orchestrator.storage import clock
from orchestrator.temporal.contract import Effect, Question

_Step = TypeVar("_Step", bound=Step)
_ToDo: TypeAlias = tuple[Ready, UpdateSubject | EmitEvent]

#: An event that a step lets happen: this, and the key of the pass over the step.
EVENT_ID_PREFIX = "step:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a step is about to do, and what it is filled from."""

    step: UpdateSubject | EmitEvent
    source: Source

    @property
    def filling(self) -> Mapping[str, Any]:
        return self.step.attributes if isinstance(self.step, UpdateSubject) else self.step.properties


class Changing:
    """One per process."""

    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions
        self._ingest = Ingest(transactions)
        self._bell = InboxBell(transactions)

    async def plan(self, question: Question) -> Plan | Effect:
        """What the step is to do on which the execution stands; an Effect when it is to do nothing (more)."""
        async with self._transactions.write(None) as conn:
            todo = await self._to_do(conn, question)
            return todo if isinstance(todo, Effect) else Plan(step=todo[1], source=source_of(todo[0]))

    async def carry_out(
        self, question: Question, plan: Plan, filled: Mapping[str, Any] | None, reason: str
    ) -> Plan | Effect:
        """Do it, and say what comes next; or how it is planned now, since what it was filled from has changed.

        `filled` None: it could not be filled in, for this `reason`.
        """
        if isinstance(plan.step, EmitEvent):
            near = datetime.fromtimestamp(question.now, UTC)
            await self._ingest.make_room(question.project_no, plan.step.event_name, near)
        async with self._transactions.write(None) as conn:
            todo = await self._to_do(conn, question)
            if isinstance(todo, Effect):
                return todo
            found, step = todo
            if (source := source_of(found)) != plan.source:
                return Plan(step=step, source=source)
            if filled is None:
                done = Done(result=Result.FAILED, reason=reason)
            else:
                found, done = await self._do(conn, found, step, filled)
            effect = await record(conn, found, decide(found, done))
            await tell_sleeper(conn, found, effect)
        if done.result is Result.EXECUTED:
            await self._bell.ring()
        return effect

    async def _to_do(self, conn: Connection[Record], question: Question) -> _ToDo | Effect:
        todo: _ToDo | Effect = await to_do(conn, self._versions, question, (UpdateSubject, EmitEvent))
        return todo

    async def _do(
        self, conn: Connection[Record], found: Ready, step: UpdateSubject | EmitEvent, filled: Mapping[str, Any]
    ) -> tuple[Ready, Done]:
        """What is known afterwards, and what came of it."""
        held, standing = found.held, found.standing
        hops = hops_from(standing.hops, standing.started_at, found.now)
        if isinstance(step, UpdateSubject):
            patch = SubjectPatch(subject_id=held.subject_id, attributes=filled)
            try:
                upserted = await subjects.upsert(conn, found.key.project_no, [patch], hops=hops)
            except InvalidArgument as refused:
                return found, _refused(refused)
            held = replace(held, attributes=dict(upserted.subjects[0].attributes))
            at = await clock.now(conn)
        else:
            if (fault := size_fault(filled, "properties")) is not None:
                return found, _refused(InvalidArgument([fault]))
            event = Event(
                event_id=EVENT_ID_PREFIX + idempotency_key(standing.execution_id, standing.seq),
                name=step.event_name,
                subject_id=held.subject_id,
                occurred_at=None,
                properties=orjson.dumps(filled),
            )
            at = await self._ingest.tell(conn, found.key.project_no, event, hops=hops)
        now = max(found.now, at)
        changed = await informed(conn, self._versions, found.key, held, standing, now)
        return changed, Done(result=Result.EXECUTED)


def source_of(found: Ready) -> Source:
    """What a step of this execution is filled from."""
    return Source(
        subject_id=found.held.subject_id,
        attributes=found.held.attributes,
        entry=found.standing.entry,
        steps=found.standing.steps,
    )


async def to_do(
    conn: Connection[Record], versions: Versions, question: Question, kinds: tuple[type[_Step], ...]
) -> tuple[Ready, _Step] | Effect:
    """The execution under its subject's lock and the step, of one of these kinds, that it is to do; an Effect when
    there is none (more).
    """
    found = await ready(conn, versions, question)
    if isinstance(found, Effect):
        return found
    step = _still_to_do(found, kinds)
    if step is None or found.goes_over:
        return await answer_try(conn, versions, found)
    return found, step


def _still_to_do(found: Ready, kinds: tuple[type[_Step], ...]) -> _Step | None:
    """The step, if the core still says that it is to be done."""
    decision = decide(found)
    step = found.prepared.version.definition.steps[found.standing.position.step_id]
    if isinstance(decision.effect, Run) and decision.still_waiting and isinstance(step, kinds):
        return step
    return None


def _refused(refused: InvalidArgument) -> Done:
    """What was filled in is beyond what may be kept."""
    return Done(result=Result.FAILED, reason=refused.reason.lower())
