"""A decision of the core, in the words of the row and of the workflow."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import assert_never

from orchestrator.domain.conditions import topics
from orchestrator.domain.execution import Decision, End, Run, Sleep
from orchestrator.domain.journey import Goal, JourneyVersion
from orchestrator.storage.executions import Ending, State
from orchestrator.temporal.contract import Effect, run_queue


def effect_of(decision: Decision, seq: int) -> Effect:
    """What the workflow is told. Holds ids and small enums only: it goes into the history."""
    match decision.effect:
        case Run(activity=activity, step_id=step_id, channel=channel, timeout=timeout):
            return Effect(
                seq=seq,
                kind="run",
                step_id=step_id,
                activity=activity,
                queue=run_queue(activity, channel),
                timeout=timeout.total_seconds(),
            )
        case Sleep(until=until, step_id=step_id, why=why):
            return Effect(seq=seq, kind="sleep", step_id=step_id, until=until.timestamp(), why=why.value)
        case End(outcome=outcome):
            return Effect(seq=seq, kind="end", step_id=decision.position.step_id, outcome=outcome.value)
        case _:
            assert_never(decision.effect)


def state_of(decision: Decision, seq: int, now: datetime, version: JourneyVersion, goal: Goal | None) -> State:
    """What the row keeps of a decision. `goal` is what its enrollment is measured by, where the version ends by it."""
    effect = decision.effect
    step = version.definition.steps[decision.position.step_id]
    return State(
        seq=seq,
        position=decision.position,
        effect=asdict(effect_of(decision, seq)),
        wakes_at=effect.until if isinstance(effect, Sleep) else None,
        parked=effect.parked if isinstance(effect, Sleep) else None,
        ending=Ending(outcome=effect.outcome.value, reason=effect.reason, at=now) if isinstance(effect, End) else None,
        awaits=()
        if isinstance(effect, End)
        else sorted(
            topics(version.definition, step, goal.event_name if goal else None, sleeps=not isinstance(effect, Run))
        ),
    )


def instant(epoch_seconds: float) -> datetime:
    """The workflow's clock as an aware time."""
    return datetime.fromtimestamp(epoch_seconds, UTC)
