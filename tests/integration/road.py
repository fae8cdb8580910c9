"""Executions of a journey and whoever asks what comes next for them, without Temporal."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.application import publishing, trigger_contracts
from orchestrator.application.advance import Advance
from orchestrator.application.enrollment import enroll
from orchestrator.application.journeys import Changes, update
from orchestrator.application.topic_pokes import TopicPokes
from orchestrator.application.versions import Versions
from orchestrator.domain.trigger_contract import Contract
from orchestrator.temporal.contract import Effect, Question
from tests.integration.crowd import Crowd
from tests.integration.journey_world import ANY_STATE

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

BYE = {"id": "bye", "exit": {"reason": "finished"}}
LATE = {"id": "late", "exit": {"reason": "too_late"}}
MONTH = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}


def wait_for(condition: dict[str, Any], timeout: str | None = "30d", **more: Any) -> dict[str, Any]:
    """Goes on to `bye`, or after the timeout to `late`."""
    ends = {} if timeout is None else {"timeout": timeout, "otherwise": "late"}
    return {"id": "await", "waitFor": {**condition, **ends}, "next": "bye", **more}


def event(name: str, **more: Any) -> dict[str, Any]:
    return {"event": {"eventName": name, **more}}


def when(**leaf: Any) -> dict[str, Any]:
    return {"when": leaf}


class Road:
    """A crowd, some of whom travel."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.owner = crowd.owner
        self.versions = Versions()
        self.advance = Advance(crowd.transactions, self.versions)

    @classmethod
    async def make(cls, owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
        crowd = await Crowd.make(owner, api_pool, worker_pool)
        await crowd.world.furnish()
        return cls(crowd)

    async def publish(
        self, *steps: dict[str, Any], journey_id: str = "welcome", goal: str | None = None, **definition: Any
    ) -> None:
        await self.crowd.world.draft(journey_id, {"steps": list(steps), **definition})
        if goal is not None:
            await self.crowd.world.do(update, journey_id, Changes(goal_event=goal), ANY_STATE)
        await self.crowd.world.do(publishing.publish, journey_id, ANY_STATE)

    async def starts_on(self, name: str, *, entry_key_path: str | None = None) -> str:
        """A trigger contract; returns its id."""
        contract = Contract(name=name, event_name=name, predicate=None, entry_key_path=entry_key_path)
        await self.crowd.world.do(trigger_contracts.create, f"on-{name}", contract)
        return f"on-{name}"

    async def enroll(self, *subject_ids: str, journey_id: str = "welcome") -> None:
        """The starts that are to be told are as good as told."""
        world = self.crowd.world
        async with world.transactions.write(world.scope.project_no) as conn:
            await enroll(conn, world.scope, Versions(), journey_id, subject_ids)
        await self.forget_told()

    async def forget_told(self) -> None:
        """All that changed so far is as good as told."""
        await self._tell_of_changes()
        await self.owner.execute("DELETE FROM outbox")

    async def _tell_of_changes(self) -> None:
        topic_pokes = TopicPokes(self.crowd.transactions, page=2)
        while await topic_pokes.step() or await self.owner.fetchval("SELECT EXISTS (SELECT FROM topic_pokes)"):
            pass

    async def ask(self, subject_id: str = "ann", *, now: datetime | None = None, by: Advance | None = None) -> Effect:
        """As the only workflow of this subject that runs would, at this time of its clock."""
        row = await self.owner.fetchrow(
            """
            SELECT e.* FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)
             WHERE s.subject_id = $1 AND e.outcome IS NULL
            """,
            subject_id,
        )
        assert row is not None, f"{subject_id} is not under way"
        question = Question(
            project_no=row["project_no"],
            bucket=row["bucket"],
            subject_no=row["subject_no"],
            execution_id=str(row["execution_id"]),
            seq=row["seq"],
            now=now.timestamp() if now is not None else 0.0,
        )
        return await (by or self.advance)(question)

    async def poked(self) -> list[str]:
        """The subjects of the executions that Temporal is to be told to poke, once for each poke, when workers have
        seen whom a change of the project was about."""
        await self._tell_of_changes()
        rows = await self.owner.fetch(
            "SELECT s.subject_id FROM outbox AS o JOIN subjects AS s USING (project_no, bucket, subject_no)"
            " WHERE o.kind = 'poke' ORDER BY 1"
        )
        return [row[0] for row in rows]

    async def news(self) -> list[str]:
        """`poked` by what waits in the inbox, and nothing else."""
        await self.forget_told()
        await self.crowd.settle()
        poked = await self.poked()
        await self.forget_told()
        return poked

    async def awaits(self, subject_id: str = "ann") -> list[str] | None:
        found: list[str] | None = await self.owner.fetchval(
            "SELECT awaits FROM executions JOIN subjects USING (project_no, bucket, subject_no) WHERE subject_id = $1",
            subject_id,
        )
        return found

    async def ended(self, subject_id: str = "ann") -> tuple[str | None, str | None]:
        """The outcome of this subject's execution and its reason."""
        row = await self.owner.fetchrow(
            "SELECT outcome, reason FROM executions JOIN subjects USING (project_no, bucket, subject_no)"
            " WHERE subject_id = $1",
            subject_id,
        )
        assert row is not None
        return row["outcome"], row["reason"]
