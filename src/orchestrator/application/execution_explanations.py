"""Why an execution stands where it stands. Asks the core what it would decide now, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.advance import Ready, decide, informed
from orchestrator.application.executions import Executions, Whole, no_execution
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.advance import step_kind
from orchestrator.domain.conditions import flip, holds, rule_name, step_name, topics
from orchestrator.domain.execution import Decision, Run, Sleep, Why
from orchestrator.domain.journey import Branch, Changed, Condition, Exit, Happened, Step, WaitFor
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.standing import Doing, Standing, in_words
from orchestrator.predicates.evaluate import Missing
from orchestrator.predicates.explain import explain
from orchestrator.predicates.facts import Facts, needs
from orchestrator.predicates.paths import join_path
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import cancellations, catalog, clock, executions, subjects
from orchestrator.storage.sends import DISPATCHING
from orchestrator.storage.subjects import Held
from orchestrator.storage.webhook_calls import CALLING

_WHY = {Why.WAIT: Doing.WAIT, Why.WAIT_FOR: Doing.WAIT_FOR, Why.GATE: Doing.GATE, Why.PARK: Doing.PARK}


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
class ExecutionExplanation:
    """`awaits` are topics (domain/conditions.py). `expires_at` None: the journey sets no limit."""

    whole: Whole
    summary: str
    doing: Doing
    step_kind: str
    awaits: tuple[str, ...]
    truths: tuple[Truth, ...]
    expires_at: datetime | None
    at: datetime


class ExecutionExplanations:
    """One per process."""

    def __init__(self, executions: Executions, versions: Versions) -> None:
        self._executions = executions
        self._versions = versions

    async def explain(self, transactions: Transactions, scope: Scope, execution_id: str) -> ExecutionExplanation:
        """Raises NotFound: EXECUTION_NOT_FOUND, JOURNEY_VERSION_NOT_FOUND."""
        whole = await self._executions.get(transactions, scope, execution_id)
        shown = whole.seen.execution
        async with transactions.read(scope.project_no) as conn:
            if shown.outcome is None:
                ready = await self._ready(conn, scope, execution_id, whole)
                if ready is not None:
                    return await self._running(conn, whole, ready)
                # It ended, or came to be another's, between the two looks.
            prepared = await self._versions.get(conn, scope.project_no, shown.journey_id, shown.version)
            now = await clock.now(conn)
        if shown.outcome is None:
            whole = await self._executions.get(transactions, scope, execution_id)
            shown = whole.seen.execution
        step = prepared.version.definition.steps[shown.step_id]
        doing = Doing.ENDED if shown.outcome is not None else Doing.DUE
        standing = Standing(
            doing=doing,
            step=step,
            since=shown.since,
            canceling=shown.canceling,
            outcome=shown.outcome,
            reason=shown.reason,
            ended_at=shown.ended_at,
        )
        return ExecutionExplanation(
            whole=whole,
            summary=in_words(standing),
            doing=doing,
            step_kind=step_kind(step),
            awaits=(),
            truths=(),
            expires_at=None,
            at=now,
        )

    async def _ready(self, conn: Connection[Record], scope: Scope, execution_id: str, whole: Whole) -> Ready | None:
        """What deciding about it would take, without its subject's lock; None when it does not run any more."""
        named = whole.seen.execution.execution_id
        keys = await cancellations.whose(conn, scope.project_no, [named])
        if not keys:
            raise no_execution(execution_id)
        key: SubjectKey = next(iter(keys))
        subject = (await subjects.read(conn, scope.project_no, [key])).get(key)
        standing = await executions.find(conn, key, named)
        if subject is None or standing is None or standing.ended:
            return None
        held = Held(
            subject_id=subject.subject_id, attributes=dict(subject.attributes), time_zone=subject.time_zone
        )  # fmt: skip
        return await informed(conn, self._versions, key, held, standing, standing.now)

    async def _running(self, conn: Connection[Record], whole: Whole, ready: Ready) -> ExecutionExplanation:
        definition = ready.prepared.version.definition
        step = definition.steps[ready.standing.position.step_id]
        decision = decide(ready)
        doing = _doing(ready, decision)
        sleep = decision.effect if isinstance(decision.effect, Sleep) else None
        send, call = ready.standing.send, ready.standing.call
        standing = Standing(
            doing=doing,
            step=step,
            since=ready.standing.position.since,
            wakes_at=whole.seen.execution.wakes_at,
            parked=sleep.parked if sleep is not None else None,
            canceling=ready.standing.cancel_reason,
            tries=send.attempt if send is not None else call.attempt if call is not None else 0,
        )
        goal = ready.goal.event_name if ready.goal is not None else None
        lifetime = definition.max_duration
        return ExecutionExplanation(
            whole=whole,
            summary=in_words(standing),
            doing=doing,
            step_kind=step_kind(step),
            awaits=tuple(sorted(topics(definition, step, goal))),
            truths=tuple(await self._truths(conn, ready, step)),
            expires_at=ready.known.started_at + lifetime if lifetime is not None else None,
            at=ready.now,
        )

    async def _truths(self, conn: Connection[Record], ready: Ready, step: Step) -> list[Truth]:
        """Of every condition that is asked where it stands; predicates with the rules of their segments put in."""
        asked = list(_conditions(ready, step))
        predicates = [c for _, _, c in asked if not isinstance(c, Happened | Changed)]
        project_no = ready.key.project_no
        inlined: dict[int, Predicate] = {}
        facts: Facts = ready.known.subject
        if predicates:
            project = (await catalog.current(conn, [project_no]))[project_no]
            cohorts = (await self._versions.rule_book.of(conn, project)).cohorts
            inlined = {id(predicate): cohorts.inline(predicate) for predicate in predicates}
            loaded = await subject_facts.load(
                conn,
                self._versions.rule_book,
                project_no,
                [ready.key],
                needs([*predicates, *inlined.values()]),
                ready.now,
            )
            if ready.key in loaded:
                facts = replace(loaded[ready.key].facts, entry=ready.standing.entry, steps=ready.standing.steps)
        return [_truth(ready, facts, inlined, rule_id, arm_id, condition) for rule_id, arm_id, condition in asked]


def _doing(ready: Ready, decision: Decision) -> Doing:
    send, call = ready.standing.send, ready.standing.call
    is_settled = (send is not None and send.state != DISPATCHING) or (call is not None and call.state != CALLING)
    if not decision.still_waiting or is_settled:
        return Doing.DUE
    match decision.effect:
        case Run(activity=activity):
            return Doing.DUE if ready.standing.parked else Doing.SEND if activity == "send" else Doing.RUN
        case Sleep(why=why):
            doing = _WHY.get(why, Doing.WAIT)
            held = doing in (Doing.PARK, Doing.GATE)
            return Doing.DUE if ready.standing.parked and not held else doing
        case _:
            return Doing.DUE


def _conditions(ready: Ready, step: Step) -> Iterator[tuple[str, str, Condition]]:
    """(rule, arm, condition): what it would leave for, and what the step asks."""
    if isinstance(step, Exit):
        return
    for rule in ready.prepared.version.definition.exit_rules:
        yield rule.id, "", rule.condition
    if isinstance(step, WaitFor):
        yield "", "", step.condition
    elif isinstance(step, Branch):
        for arm in step.arms:
            yield "", arm.id, arm.when


def _truth(
    ready: Ready, facts: Facts, inlined: Mapping[int, Predicate], rule_id: str, arm_id: str, condition: Condition
) -> Truth:
    position, known = ready.standing.position, ready.known
    name = rule_name(rule_id) if rule_id else step_name(position.step_id)
    last = known.happened.get(name)
    since, mark = (known.started_at, None) if rule_id else (position.since, position.mark)
    truth: bool | None = None
    flips_at: datetime | None = None
    try:
        truth = holds(condition, facts, last, since, mark, ready.now)
        flips_at = flip(condition, facts, ready.now)
    except Missing:
        pass
    told = Truth(rule_id=rule_id, arm_id=arm_id, truth=truth, flips_at=flips_at)
    match condition:
        case Happened(event_name=event_name):
            return replace(told, event_name=event_name, last_event_at=last)
        case Changed(path=path):
            return replace(told, field_path=join_path(path))
        case _:
            shown = inlined.get(id(condition), condition)
            return replace(told, explanation=explain(shown, facts, ready.now, reveal=lambda path: False))
