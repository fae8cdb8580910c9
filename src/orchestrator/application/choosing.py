"""Choosing an arm of a step that learns, in one transaction under the subject's lock: the policy in force, a hash, a
row of the ledger, the visit and what is decided next.

So whatever is tried again finds its decision made, and two who choose for one subject at a time choose once. What was
chosen holds for as long as its step says, whichever policy has come since. No count is kept: whoever wants one counts
rows.
"""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.application.advance import Ready, decide, record, tell_sleeper
from orchestrator.application.changing import to_do
from orchestrator.application.policies import Policies
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.arms import Chooser, choose_arm, open_arms
from orchestrator.domain.execution import Done, Result
from orchestrator.domain.journey import AdaptiveBranch, AdaptiveStep, NbaDecision, Stickiness
from orchestrator.storage import arm_choices
from orchestrator.storage.arm_choices import SUBJECT_UNIT, Place
from orchestrator.temporal.contract import Effect, Question


class Choosing:
    """One per process."""

    def __init__(self, transactions: Transactions, versions: Versions, policies: Policies | None = None) -> None:
        self._transactions = transactions
        self._versions = versions
        self._policies = policies or Policies()

    async def __call__(self, question: Question) -> Effect:
        """Choose, if that is still to be done, and say what comes next."""
        async with self._transactions.write(None) as conn:
            kinds = (AdaptiveBranch, NbaDecision)
            todo: tuple[Ready, AdaptiveStep] | Effect = await to_do(conn, self._versions, question, kinds)
            if isinstance(todo, Effect):
                return todo
            found, step = todo
            arm_id = await self._arm(conn, found, step)
            effect = await record(conn, found, decide(found, Done(result=Result.EXECUTED, reason=arm_id)))
            await tell_sleeper(conn, found, effect)
            return effect

    async def _arm(self, conn: Connection[Record], found: Ready, step: AdaptiveStep) -> str:
        """The arm that holds for whoever stands there; where it is open no more, another one holds from now on."""
        standing = found.standing
        served = await self._policies.of(conn, found.key.project_no, standing.journey_id, step)
        chooser = Chooser(
            project_id=served.project_id,
            journey_id=standing.journey_id,
            subject_id=found.held.subject_id,
            entry_key=standing.entry_key,
            attributes=found.held.attributes,
        )
        place = Place(
            key=found.key,
            execution_id=standing.execution_id,
            seq=standing.seq,
            journey_id=standing.journey_id,
            step_id=step.id,
            version=standing.version,
            goal_revision=standing.goal_revision,
            unit=SUBJECT_UNIT if step.stickiness is Stickiness.SUBJECT else str(standing.execution_id),
        )
        opened, round_no = open_arms(step), 0
        while True:
            chosen = choose_arm(step, served.in_force, chooser, round_no)
            holding = await arm_choices.choose(conn, place, round_no, chosen, found.now)
            if holding.arm_id in opened:
                return holding.arm_id
            round_no = holding.round_no + 1
