"""Why an execution stands where it stands. Asks the core what it would decide now, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.advance import Ready, decide, informed
from orchestrator.application.condition_truths import Asking, Truth, conditions_of, truth_of
from orchestrator.application.executions import Executions, Whole, no_execution
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.advance import step_kind
from orchestrator.domain.conditions import topics
from orchestrator.domain.execution import Decision, Run, Sleep, Why
from orchestrator.domain.journey import Changed, Happened, Step
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.standing import Doing, Standing, in_words
from orchestrator.predicates.facts import Facts, needs
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import cancellations, catalog, clock, executions, subjects
from orchestrator.storage.sends import DISPATCHING
from orchestrator.storage.subjects import Held
from orchestrator.storage.webhook_calls import CALLING

_WHY = {Why.WAIT: Doing.WAIT, Why.WAIT_FOR: Doing.WAIT_FOR, Why.GATE: Doing.GATE, Why.PARK: Doing.PARK}


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
        asked = list(conditions_of(ready.prepared.version.definition, step))
        predicates = [c for _, _, c in asked if not isinstance(c, Happened | Changed)]
        project_no = ready.key.project_no
        project = (await catalog.current(conn, [project_no]))[project_no]
        inlined: dict[int, Predicate] = {}
        facts: Facts = ready.known.subject
        if predicates:
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
        asking = Asking(
            known=ready.known,
            facts=facts,
            position=ready.standing.position,
            now=ready.now,
            inlined=inlined,
            reveal=project.settings.reveal,
        )
        return [truth_of(asking, rule_id, arm_id, condition) for rule_id, arm_id, condition in asked]


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
