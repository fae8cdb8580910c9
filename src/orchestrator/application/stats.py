"""What executions of a journey did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from asyncpg import Connection, Record

from orchestrator.application import journeys
from orchestrator.application.transactions import Transactions
from orchestrator.domain.advance import step_kind
from orchestrator.domain.execution import Outcome
from orchestrator.domain.journey_form import stored
from orchestrator.domain.scope import Scope
from orchestrator.storage import journey_versions, stats
from orchestrator.storage.stats import StepCounts, VersionCounts

#: Outcomes that count as having got through.
_COMPLETED = (Outcome.COMPLETED.value, Outcome.GOAL_REACHED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """Who came in, who is under way, how they ended, and who was refused why.

    `completion_rate` is the share of the enrolled who completed or reached the goal; None while nobody is enrolled.
    """

    journey_id: str
    enrolled: int
    held_out: int
    active: int
    by_outcome: Mapping[str, int]
    completion_rate: float | None
    refused: Mapping[str, int]
    steps: tuple[StepCounts, ...]
    versions: tuple[VersionCounts, ...]


async def step_stats(
    conn: Connection[Record], scope: Scope, journey_id: str, number: int | None = None
) -> tuple[StepCounts, ...]:
    """Each step of the newest version (of the draft, if there is none) in its order, then those of older versions. With
    a `number`, those of that version, and what was done by it.

    Raises NotFound: JOURNEY_NOT_FOUND, JOURNEY_VERSION_NOT_FOUND.
    """
    journey = await journeys.get(conn, scope, journey_id)
    document = journey.definition
    if number is not None:
        document = (await journeys.version(conn, scope, journey_id, number)).definition
    elif journey.has_draft and journey.latest_version is not None:
        version = await journey_versions.find(conn, scope.project_no, journey_id, journey.latest_version)
        assert version is not None, "versions are never deleted"
        document = version.definition
    passed = await stats.steps(conn, scope.project_no, journey_id, number)
    counts = {counted.step_id: counted for counted in passed}
    newest = [
        replace(counts.pop(step.id, StepCounts(step_id=step.id)), step_kind=step_kind(step))
        for step in stored(document).steps.values()
    ]
    return (*newest, *counts.values())


async def funnel(transactions: Transactions, scope: Scope, journey_id: str) -> Funnel:
    """All of one moment: who leaves a step while it is counted is not missing among those who have ended. Raises
    NotFound.
    """
    async with transactions.snapshot(scope.project_no) as conn:
        steps = await step_stats(conn, scope, journey_id)
        totals = await stats.totals(conn, scope.project_no, journey_id)
        versions = tuple(await stats.versions(conn, scope.project_no, journey_id))
    completed = sum(totals.by_outcome.get(outcome, 0) for outcome in _COMPLETED)
    return Funnel(
        journey_id=journey_id,
        enrolled=totals.enrolled,
        held_out=totals.held_out,
        active=totals.active,
        by_outcome=totals.by_outcome,
        completion_rate=completed / totals.enrolled if totals.enrolled else None,
        refused=totals.refused,
        steps=steps,
        versions=versions,
    )
