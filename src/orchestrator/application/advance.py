"""What comes next for an execution:
read under the subject's lock, decided by the core, written in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.channel_turns import crowded_behind, crowded_for, waiting, waits_for
from orchestrator.application.effects import effect_of, instant, state_of
from orchestrator.application.looking_back import Entrant, look_back
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Prepared, Versions
from orchestrator.domain.advance import JOURNEY_ARCHIVED, JOURNEY_DELETED, Known, advance
from orchestrator.domain.carrying import Stays, carry_over, landing, sent_as
from orchestrator.domain.conditions import Entry
from orchestrator.domain.execution import Decision, Done, Outcome, Result, Run, Sleep
from orchestrator.domain.gates import Limits
from orchestrator.domain.journey import Goal
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.facts import Facts
from orchestrator.storage import (
    carries,
    channel_turns,
    executions,
    journey_pokes,
    sends,
    sends_pauses,
    subjects,
    webhook_calls,
)
from orchestrator.storage.executions import Standing
from orchestrator.storage.sends import DISPATCHING, FAILED, UNKNOWN, Send
from orchestrator.storage.subjects import Held
from orchestrator.storage.webhook_calls import CALLING, Call
from orchestrator.temporal.contract import Effect, Question, effect_from

#: The reason of a send that a gate stopped between two tries, and of a call whose execution was to end by then.
WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An execution under its subject's lock, with all that deciding about it takes."""

    key: SubjectKey
    held: Held
    standing: Standing
    prepared: Prepared
    # what it is measured by, where the version ends by it
    goal: Goal | None
    known: Known
    now: datetime
    # the channel in whose queue it is, and those that are crowded for what it sends next
    waits_for: str | None = None
    crowded_behind: frozenset[str] = frozenset()

    @property
    def goes_over(self) -> bool:
        """Whether it leaves its version at this look. Who is to end ends where it stands."""
        return self.standing.carry_version is not None and self.known.closed is None


async def ready(
    conn: Connection[Record], versions: Versions, question: Question, *, to_send: bool = False
) -> Ready | Effect:
    """Lock the subject and read where the execution stands; an Effect when that question was decided before.

    `to_send`: a send may be begun because of it; no pause is answered before this transaction has ended.
    `now` is the later of the workflow's clock and the database's: no answer is "not yet" to a timer that has fired.
    """
    execution_id = UUID(question.execution_id)
    # A subject that was merged into another travels on as that one; Temporal goes on asking by the old key.
    found = await subjects.hold_survivor(conn, subject_of(question))
    if to_send and found is not None:
        await sends_pauses.hold_off(conn, found[0].project_no)
    standing = await executions.find(conn, found[0], execution_id) if found else None
    if found is None or standing is None:  # forgotten: nothing is left to travel
        return Effect(seq=question.seq + 1, kind="end", outcome=Outcome.FORGOTTEN.value)
    key, held = found
    if standing.ended or standing.seq > question.seq:
        return _decided(standing)
    if standing.sends_paused:
        # Nobody is held by a pause that is over already, and would not be found when it ends.
        paused = await sends_pauses.hold(conn, key.project_no, [standing.journey_id])
        standing = replace(standing, sends_paused=bool(paused))
    return await informed(conn, versions, key, held, standing, max(instant(question.now), standing.now))


def _decided(standing: Standing) -> Effect:
    """What was decided at another's asking. Whoever asks now may have been poked since, and takes what they are told
    for newer than the poke: so of a sleep they are told that it is over, and look.
    """
    effect = effect_from(standing.effect)
    return replace(effect, until=0.0) if effect.kind == "sleep" else effect


async def informed(
    conn: Connection[Record], versions: Versions, key: SubjectKey, held: Held, standing: Standing, now: datetime
) -> Ready:
    """What deciding about an execution takes besides where it stands. Who decides holds the subject; who only explains
    need not."""
    prepared = await versions.get(conn, key.project_no, standing.journey_id, standing.version)
    steps = standing.steps
    subject = Facts(attributes=held.attributes, entry=standing.entry, steps=steps, time_zone=held.time_zone)
    if prepared.asks_of_ledgers:
        known_now = await subject_facts.load(conn, versions.rule_book, key.project_no, [key], prepared.needs, now)
        loaded = known_now[key].facts
        subject = replace(loaded, entry=standing.entry, steps=steps)
    goal = await versions.goal(conn, key.project_no, prepared, standing.goal_revision)
    entry = Entry(key=standing.entry_key, at=standing.triggered_at)
    entrant = Entrant(key=key, prepared=prepared, entry=entry, goal=goal)
    (past,) = await look_back(conn, key.project_no, [entrant])
    settings = standing.settings
    asked = (key, standing.execution_id, standing.seq)
    (full,) = await sends.full(conn, key.project_no, [asked], settings.frequency_caps, now)
    turns = await channel_turns.find(conn, key.project_no, standing.execution_id) if settings.channel_rates else {}
    known = Known(
        subject=subject,
        consent=standing.consent,
        started_at=standing.started_at,
        subject_id=held.subject_id,
        time_zone=settings.time_zone,
        limits=Limits(
            paused=standing.sends_paused,
            quiet=settings.quiet_hours,
            full=full,
            crowded=crowded_for(settings.channel_rates, turns, standing),
        ),
        happened=past.happened,
        goal_reached=past.goal_reached,
        closed=standing.cancel_reason or closed(standing.journey_status, standing.on_archive),
        sent=standing.sent_before,
    )
    return Ready(
        key=key,
        held=held,
        standing=standing,
        prepared=prepared,
        goal=goal,
        known=known,
        now=now,
        waits_for=next((channel for channel, turn in turns.items() if turn.waits), None),
        crowded_behind=crowded_behind(settings.channel_rates, turns, now),
    )


def subject_of(question: Question) -> SubjectKey:
    return SubjectKey(project_no=question.project_no, bucket=question.bucket, subject_no=question.subject_no)


def closed(journey_status: str | None, on_archive: str | None) -> str | None:
    """Why a journey wants its executions ended; None when it does not."""
    if journey_status is None:
        return JOURNEY_DELETED
    return JOURNEY_ARCHIVED if journey_status == "archived" and on_archive == "end" else None


def decide(ready: Ready, done: Done | None = None) -> Decision:
    known = ready.known
    if done is not None:  # the turn that it had is over
        known = replace(known, limits=replace(known.limits, crowded=ready.crowded_behind))
    return advance(ready.prepared.version, ready.standing.position, known, ready.now, done)


async def record(conn: Connection[Record], ready: Ready, decision: Decision, *, raises_seq: bool = False) -> Effect:
    """Write what was decided, and say it in the workflow's words. "Still waiting" raises no `seq` unless it is to."""
    waits_on = decision.still_waiting and not raises_seq
    seq = ready.standing.seq if waits_on else ready.standing.seq + 1
    state = state_of(decision, seq, ready.now, ready.prepared.version, ready.goal)
    if waits_on:
        # Who was parked and is told to send waits for nothing any more.
        await executions.keep_waiting(conn, ready.key, ready.standing.execution_id, state, ready.now)
    else:
        await executions.decide(conn, ready.key, ready.standing, state, decision.visits)
    await _queue(conn, ready, decision)
    return effect_of(decision, seq)


async def _queue(conn: Connection[Record], ready: Ready, decision: Decision) -> None:
    """Have it wait for its channel that was told to, and nobody else, but for one who is on the way to his turn."""
    effect, version = decision.effect, ready.prepared.version
    channel = effect.channel if isinstance(effect, Run) else waits_for(decision, version)
    if ready.waits_for is not None and ready.waits_for != channel:
        await channel_turns.leave(conn, ready.key.project_no, ready.standing.execution_id)
    if isinstance(effect, Sleep) and channel is not None and ready.waits_for != channel:
        place = waiting(decision, version, ready.standing.execution_id)
        await channel_turns.join(conn, ready.key.project_no, [place], ready.now)


async def tell_sleeper(conn: Connection[Record], ready: Ready, effect: Effect) -> None:
    """Once a try of what a step does has decided this: of who was parked the workflow sleeps, perhaps for hours, and
    has given up on the try. So it is poked, to hear of what was decided behind its back.
    """
    standing = ready.standing
    if standing.parked and (effect.kind != "sleep" or effect.seq > standing.seq):
        await journey_pokes.poke(conn, ready.key, standing.execution_id, standing.workflow_id, ready.now)


def done(state: str, reason: str | None) -> Done:
    """What a settled send means for the step. Whether `unknown` arrived, nobody can say: the step was executed."""
    if state == FAILED:
        return Done(result=Result.FAILED, reason=reason)
    return Done(result=Result.EXECUTED, reason=UNKNOWN if state == UNKNOWN else None)


async def answer(conn: Connection[Record], versions: Versions, ready: Ready) -> Effect:
    """Decide and record. A send that was begun and that nobody is at is held while the execution is parked, and
    withdrawn where it is not to be made any more; so is a call of a webhook. Who goes over to another version finishes
    first what may have gone out.
    """
    if ready.standing.call is not None:
        return await _answer_caller(conn, versions, ready, ready.standing.call)
    begun = ready.standing.send
    if begun is not None and begun.state != DISPATCHING:  # settled, but not advanced from
        return await conclude(conn, versions, ready, done(begun.state, begun.reason))
    if begun is None and ready.goes_over:
        return await _go_over(conn, versions, ready)
    decision = decide(ready)
    if begun is None:
        return await record(conn, ready, decision)
    is_made = isinstance(decision.effect, Run)
    if decision.still_waiting and (is_made or begun.in_doubt or not ready.goes_over):
        return await record(conn, ready, decision)
    return await _withdraw(conn, versions, ready, begun, decision)


async def answer_try(conn: Connection[Record], versions: Versions, ready: Ready) -> Effect:
    """`answer`, for a try of what a step does."""
    effect = await answer(conn, versions, ready)
    await tell_sleeper(conn, ready, effect)
    return effect


async def conclude(conn: Connection[Record], versions: Versions, ready: Ready, done: Done) -> Effect:
    """Decide and record what comes after a send, or a call, that is settled."""
    if ready.goes_over:
        return await _go_over(conn, versions, ready, done)
    return await record(conn, ready, decide(ready, done))


async def _answer_caller(conn: Connection[Record], versions: Versions, ready: Ready, begun: Call) -> Effect:
    if begun.state != CALLING:
        return await conclude(conn, versions, ready, called(begun.state, begun.reason))
    decision = decide(ready)
    if decision.still_waiting and (begun.in_doubt or not ready.goes_over):
        return await record(conn, ready, decision)
    await webhook_calls.settle(
        conn, ready.key, ready.standing.execution_id, ready.standing.seq,
        attempt=begun.attempt, state=webhook_calls.FAILED, reason=WITHDRAWN, status=None, answer=None,
        in_doubt=begun.in_doubt, now=ready.now,
    )  # fmt: skip
    return await conclude(conn, versions, ready, called(webhook_calls.FAILED, WITHDRAWN))


def called(state: str, reason: str | None) -> Done:
    """What a settled call means for the step."""
    if state == webhook_calls.FAILED:
        return Done(result=Result.SKIPPED if reason == WITHDRAWN else Result.FAILED, reason=reason)
    return Done(result=Result.EXECUTED, reason=reason)


async def _withdraw(
    conn: Connection[Record], versions: Versions, ready: Ready, begun: Send, decision: Decision
) -> Effect:
    """A gate has closed between two tries, or another version takes over. What may have gone out is `unknown`; what has
    not, is not sent.

    Either way the step was passed, and the execution goes on, or ends, behind it; but by another version it may come to
    the step again, if nothing has gone out.
    """
    await sends.settle(
        conn, ready.key, ready.standing.execution_id, ready.standing.seq,
        attempt=begun.attempt, state=UNKNOWN if begun.in_doubt else FAILED, reason=WITHDRAWN, provider_id=None,
        now=ready.now,
    )  # fmt: skip
    unknown, not_made = Done(result=Result.EXECUTED, reason=UNKNOWN), Done(result=Result.SKIPPED, reason=WITHDRAWN)
    done = unknown if begun.in_doubt else not_made
    if ready.goes_over:
        return await _go_over(conn, versions, ready, done)
    if begun.in_doubt or not decision.visits:  # without visits it is to end where it stands
        decision = decide(ready, done)
    return await record(conn, ready, decision)


async def _go_over(conn: Connection[Record], versions: Versions, ready: Ready, done: Done | None = None) -> Effect:
    """Leave the version for the one it was told to go over to. That is a decision, with a `seq` of its own: so no key
    of a send is ever used for two.
    """
    standing, version = ready.standing, ready.prepared.version
    assert standing.carry_version is not None, "it was told to"
    carry = await carries.find(conn, ready.key.project_no, standing.journey_id, standing.carry_version)
    assert carry is not None, "carries are never deleted"
    mapping = carry.order.mapping
    to = (await versions.get(conn, ready.key.project_no, standing.journey_id, carry.version)).version
    landed = landing(version.definition.steps[standing.position.step_id], to.definition, mapping)
    if isinstance(landed, Stays):  # a worker of an earlier release does not look at marks, and has moved it
        return await record(conn, ready, decide(ready, done), raises_seq=True)
    sent = await carries.sent_by(conn, ready.key, standing.execution_id, standing.version)
    over = replace(standing, version=carry.version, sent_before=sent_as(standing.sent_before | sent, mapping))
    if standing.steps and mapping:
        steps = await webhook_calls.rename(conn, ready.key, standing.execution_id, mapping)
        over = replace(over, steps=steps)
    there = await informed(conn, versions, ready.key, ready.held, over, ready.now)
    decision = carry_over(version, to, standing.position, landed, there.known, ready.now, done)
    return await record(conn, there, decision, raises_seq=True)


class Advance:
    """Answers "what comes after `seq`?". Asked twice, it decides once and answers the same."""

    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions

    async def __call__(self, question: Question) -> Effect:
        async with self._transactions.write(None) as conn:
            found = await ready(conn, self._versions, question)
            if isinstance(found, Effect):
                return found
            return await answer(conn, self._versions, found)
