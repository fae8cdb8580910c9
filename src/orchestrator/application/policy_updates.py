"""Making policies anew: counted in Postgres, learned beside it, published as versions that never change.

A version is one row, written in one statement: whoever is killed before leaves the old one in force, and whoever does
all of it twice finds that nothing is worth publishing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from asyncpg import Connection, Record

from orchestrator.application import journeys
from orchestrator.application.policies import kind_of
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import POLICY_UPDATE_REQUESTED
from orchestrator.domain.journey import AdaptiveBranch, AdaptiveStep, Definition, NbaDecision
from orchestrator.domain.journey_form import stored
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.scope import Scope
from orchestrator.storage import arm_choices, clock, journey_versions, policy_versions
from orchestrator.storage.arm_choices import Branch
from orchestrator.storage.policy_versions import Learner, LearningJourney, Published

if TYPE_CHECKING:
    from orchestrator.application.policy_learning import Learned


def steps_that_learn(definition: Definition) -> list[AdaptiveStep]:
    return [step for step in definition.steps.values() if isinstance(step, AdaptiveBranch | NbaDecision)]


async def request(conn: Connection[Record], scope: Scope, journey_id: str) -> list[str]:
    """Have the policies of a journey's newest version made anew now; returns the steps that learn.

    A worker does it. Raises NotFound, and FailedPrecondition NOTHING_TO_LEARN.
    """
    journey = await journeys.get(conn, scope, journey_id)
    steps: list[AdaptiveStep] = []
    if journey.latest_version is not None:
        newest = await journeys.version(conn, scope, journey_id, journey.latest_version)
        steps = steps_that_learn(stored(newest.definition))
    if not steps or journey.goal.event_name is None:
        why = "has no goal to learn by" if steps else "has no published step that learns"
        raise FailedPrecondition("NOTHING_TO_LEARN", f"journey {journey_id} {why}", journeyId=journey_id)
    now = await clock.now(conn)
    await policy_versions.request(conn, scope.project_no, journey_id, now)
    await journeys.record(conn, scope, now, POLICY_UPDATE_REQUESTED, journey_id)
    return [step.id for step in steps]


class PolicyUpdates:
    """One per process."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def journeys(self, after: LearningJourney, limit: int) -> list[LearningJourney]:
        """Journeys that learn, in order."""
        async with self._transactions.read(None) as conn:
            return await policy_versions.learning_journeys(conn, after, limit)

    async def claim_untold(self, limit: int = 100) -> list[LearningJourney]:
        """Journeys whose policies somebody has asked for, and of which Temporal has to be told."""
        async with self._transactions.write(None) as conn:
            return await policy_versions.claim_untold(conn, await clock.now(conn), limit)

    async def not_told(self, untold: Iterable[LearningJourney]) -> None:
        """Temporal could not be told of these."""
        async with self._transactions.write(None) as conn:
            await policy_versions.not_told(conn, untold)

    async def update(self, journey: LearningJourney) -> int:
        """Publish what its steps have learned, where that is worth it; returns how many versions were published."""
        await asyncio.to_thread(_learning)  # imported beside the loop, for it takes long
        published = 0
        while True:
            learner, steps, began = await self._standing(journey)
            for step in steps:
                assert learner is not None, "whose steps these are"
                done = await self._update(journey, learner, step)
                if done is None:
                    break
                published += done
            else:
                break
        async with self._transactions.write(None) as conn:
            await policy_versions.met(conn, journey.project_no, journey.journey_id, began)
        return published

    async def _standing(self, journey: LearningJourney) -> tuple[Learner | None, list[AdaptiveStep], datetime]:
        """What a journey learns by, its steps that learn, and when that was so."""
        async with self._transactions.read(None) as conn:
            now = await clock.now(conn)
            learner = await policy_versions.learner(conn, journey.project_no, journey.journey_id)
            if learner is None or learner.goal.event_name is None:
                return learner, [], now
            version = await journey_versions.get(conn, journey.project_no, journey.journey_id, learner.version)
            return learner, steps_that_learn(version.definition), now

    async def _update(self, journey: LearningJourney, learner: Learner, step: AdaptiveStep) -> bool | None:
        """Whether a version was published; None: its journey has other rules by now, or somebody else has published
        one, perhaps by other rules: then all is to be looked at once more.
        """
        async with self._transactions.snapshot(journey.project_no) as conn:
            cutoff = await clock.now(conn)
            if await policy_versions.learner(conn, journey.project_no, journey.journey_id) != learner:
                return None
            newest = await policy_versions.find(conn, journey.project_no, journey.journey_id, step.id)
            branch = Branch(
                project_no=journey.project_no,
                journey_id=journey.journey_id,
                step_id=step.id,
                goal_revisions=learner.goal_revisions,
                cutoff=cutoff,
            )
            learn = await _counted(conn, branch, learner.goal.window, step)
        before, age = None, timedelta(0)
        if newest is not None and newest.goal_revision in learner.goal_revisions:
            before, age = newest.document, max(cutoff - newest.created_at, timedelta(0))
        learned = await asyncio.to_thread(learn, before, age)
        if not learned.is_news:
            return False
        version = Published(
            project_no=journey.project_no,
            journey_id=journey.journey_id,
            step_id=step.id,
            policy_version=newest.policy_version + 1 if newest is not None else 1,
            version=learner.version,
            goal_revision=learner.goal.revision,
            kind=kind_of(step),
            document=learned.document,
            fingerprint=learned.fingerprint,
            triangle=learned.triangle,
            data_cutoff_at=cutoff,
            created_at=cutoff,
        )
        async with self._transactions.write(None) as conn:
            return await policy_versions.insert(conn, version) or None


#: Of the document of the policy before, and its age: what is learned now. Takes a processor as long as it does.
_Learn: TypeAlias = "Callable[[Any, timedelta], Learned]"


async def _counted(conn: Connection[Record], branch: Branch, window: timedelta, step: AdaptiveStep) -> _Learn:
    """All that learning takes of the database."""
    learning = _learning()
    if isinstance(step, AdaptiveBranch):
        return partial(learning.learned_of_counts, step, await arm_choices.count(conn, branch), window)
    matures_after = window + timedelta(days=step.learning.grace_days)
    choices = await arm_choices.matured(conn, branch, matures_after, learning.MOST_ROWS)
    return partial(learning.learned_of_choices, step, choices)


def _learning() -> ModuleType:
    """What computes with arrays, which only those import who learn."""
    from orchestrator.application import policy_learning

    return policy_learning
