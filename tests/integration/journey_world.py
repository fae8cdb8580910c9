"""A project in which journeys are written, with executions laid down as workers would leave them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from orchestrator.application import audiences, segments, trigger_contracts
from orchestrator.application import journeys as authoring
from orchestrator.application.communications import Communications
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.channels import Rules
from orchestrator.domain.communication import Communication
from orchestrator.domain.etag import Expected
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.journey import Journey
from orchestrator.domain.scope import Role, Scope, SubjectKey
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.domain.subject import bucket_of
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import journey_pokes, topic_pokes

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    _Connection = Connection[Record]

P = ParamSpec("P")
T = TypeVar("T")

ANY_STATE = Expected()
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
IN_VIP = {"kind": "in_cohort", "cohortId": "vip"}

WELCOME: dict[str, Any] = {
    "audienceId": "buyers",
    "triggerContractId": "bought",
    "steps": [
        {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"},
        {"id": "pause", "wait": {"duration": "3d"}, "next": "check"},
        {"id": "check", "branch": {"arms": [{"id": "vip", "when": IN_VIP, "next": "end"}], "otherwise": "end"}},
        {"id": "end", "exit": {"reason": "finished"}},
    ],
}


class World:
    """One project, its callers and its database."""

    def __init__(self, owner: Connection[Record], pool: Pool[Record], project_no: int, project_id: str) -> None:
        self.owner = owner
        self.transactions = Transactions(pool)
        self.scope = Scope(project_no=project_no, project_id=project_id, actor="key:test", role=Role.ADMIN)

    @classmethod
    async def make(cls, owner: Connection[Record], pool: Pool[Record], project_id: str = "default") -> World:
        """A new project, empty."""
        project_no = await owner.fetchval(
            """
            INSERT INTO projects (project_id, name, created_at, updated_at) VALUES ($1, $1, now(), now())
            ON CONFLICT (project_id) DO UPDATE SET name = excluded.name
            RETURNING project_no
            """,
            project_id,
        )
        return cls(owner, pool, project_no, project_id)

    async def do(
        self, use_case: Callable[Concatenate[_Connection, Scope, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Carry out a use case in a transaction of its own."""
        async with self.transactions.write(self.scope.project_no) as conn:
            return await use_case(conn, self.scope, *args, **kwargs)

    async def look(
        self, use_case: Callable[Concatenate[_Connection, Scope, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Ask something, without a transaction."""
        async with self.transactions.read(self.scope.project_no) as conn:
            return await use_case(conn, self.scope, *args, **kwargs)

    async def furnish(self) -> None:
        """Make everything that WELCOME names."""
        await self.do(segments.create, "vip", Segment(kind=STATIC, name="VIP", description="", predicate=None))
        audience = Audience(name="Buyers", description="", subject_type=END_USER, predicate=IN_VIP)
        await self.do(audiences.create, "buyers", audience)
        contract = Contract(name="Bought", event_name="purchase", predicate=None, entry_key_path=None)
        await self.do(trigger_contracts.create, "bought", contract)
        await self.add_communication("welcome", "marketing")
        await self.add_communication("receipt", "transactional")

    async def add_communication(
        self,
        communication_id: str,
        category: str,
        *,
        channel: str = "log",
        settings: dict[str, Any] | None = None,
        body: str = "There",
    ) -> None:
        communications = Communications(Rules())
        content = Communication(
            name=communication_id,
            channel=channel,
            category=category,
            subject="Hello",
            body=body,
            settings=settings or {},
        )
        await self.do(communications.create, communication_id, content)

    async def draft(self, journey_id: str = "welcome", definition: dict[str, Any] | None = None) -> Journey:
        """A journey that was never published."""
        return await self.do(authoring.create, journey_id=journey_id, name="Welcome", definition=definition or WELCOME)

    async def definitions_version(self) -> int:
        version: int = await self.owner.fetchval(
            "SELECT definitions_version FROM projects WHERE project_no = $1", self.scope.project_no
        )
        return version

    async def actions(self, journey_id: str = "welcome") -> list[str]:
        """What the audit log says was done with a journey, in order."""
        rows = await self.owner.fetch(
            """
            SELECT action FROM audit_log
             WHERE project_no = $1 AND resource_kind = 'journey' AND resource_id = $2
             ORDER BY audit_no
            """,
            self.scope.project_no,
            journey_id,
        )
        return [row["action"] for row in rows]

    async def pokes(self) -> set[UUID]:
        """The executions that Temporal is to be told to poke, once workers have seen which journeys end theirs, and who
        awaits what changed."""
        async with self.owner.transaction():
            while await journey_pokes.poke_some(self.owner, START, limit=2):
                pass
        while await self.owner.fetchval("SELECT EXISTS (SELECT FROM topic_pokes)"):
            async with self.owner.transaction():
                if (one := await topic_pokes.take(self.owner)) is None:
                    continue
                if one.barrier is None:
                    await topic_pokes.raise_barrier(self.owner, one, START)
                else:
                    await topic_pokes.poke_some(self.owner, one, START, limit=2)
        return {row["execution_id"] for row in await self.owner.fetch("SELECT execution_id FROM outbox")}

    async def lay_execution(
        self,
        subject_id: str,
        *,
        journey_id: str = "welcome",
        version: int = 1,
        step_id: str = "pause",
        outcome: str | None = None,
        started_at: datetime = START,
        visits: tuple[tuple[int, str, str, str], ...] = (),
    ) -> UUID:
        """An execution as it stands after `visits`: (seq, step id, kind, result)."""
        execution_id = new_uuid()
        subject = await self._subject(subject_id)
        ended_at = started_at + timedelta(hours=1) if outcome else None
        await self.owner.execute(
            """
            INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq,
                                    step_id, since, effect, outcome, reason, started_at, ended_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, '{}', $10, $11, $9, $12)
            """,
            *subject, execution_id, journey_id, version, f"disp:{execution_id}", step_id, started_at, outcome,
            "why" if outcome else None, ended_at,
        )  # fmt: skip
        await self.owner.execute(
            """
            INSERT INTO enrollments (project_no, bucket, subject_no, enrollment_id, journey_id, version, goal_revision,
                                     entry_kind, entry_key, triggered_at, enrolled_at)
            VALUES ($1, $2, $3, $4, $5, $6, 1, 'event', $7, $8, $8)
            """,
            *subject, execution_id, journey_id, version, str(execution_id), started_at,
        )  # fmt: skip
        for place, (seq, visited, kind, result) in enumerate(visits):
            await self.owner.execute(
                """
                INSERT INTO visits (project_no, bucket, subject_no, execution_id, seq, place, step_id, step_kind,
                                    journey_id, version, result, entered_at, left_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
                """,
                *subject, execution_id, seq, place, visited, kind, journey_id, version, result, started_at,
            )  # fmt: skip
        return execution_id

    async def lay_send(self, subject_id: str, execution_id: UUID, *, seq: int, state: str = "sent") -> None:
        await self.owner.execute(
            """
            INSERT INTO sends (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                               communication_id, content_revision, channel, category, state, attempt, provider_id,
                               reserved_at, settled_at)
            VALUES ($1, $2, $3, $4, $5, 'hello', 'welcome', 1, 'welcome', 1, 'log', 'marketing', $6, 1, 'p-1', $7, $7)
            """,
            *await self._subject(subject_id), execution_id, seq, state, START,
        )  # fmt: skip

    async def lay_call(self, subject_id: str, execution_id: UUID, *, seq: int, state: str = "answered") -> None:
        await self.owner.execute(
            """
            INSERT INTO webhook_calls (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                                       state, attempt, status, answer, reserved_at, settled_at)
            VALUES ($1, $2, $3, $4, $5, 'ask', 'welcome', 1, $6, 1, 200, '{"score": 7}', $7, $7)
            """,
            *await self._subject(subject_id), execution_id, seq, state, START,
        )  # fmt: skip

    async def lay_choice(self, subject_id: str, execution_id: UUID, *, seq: int) -> None:
        await self.owner.execute(
            """
            INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                                     goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, draw,
                                     chosen_at)
            VALUES ($1, $2, $3, $4, $5, 'welcome', 'arm', 1, 1, '', 0, 'a', 500000, '{"a": 500000, "b": 500000}',
                    'thompson', 1, $6)
            """,
            *await self._subject(subject_id), execution_id, seq, START,
        )  # fmt: skip

    async def lay_refusals(self, reason: str, total: int, *, hour: datetime, shard: int = 0) -> None:
        await self.owner.execute(
            "INSERT INTO refusal_counts VALUES ($1, 'welcome', $2, $3, $4, $5)",
            self.scope.project_no, reason, hour, shard, total,
        )  # fmt: skip

    async def subject(self, subject_id: str) -> SubjectKey:
        """A subject without attributes."""
        project_no, bucket, subject_no = await self._subject(subject_id)
        return SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)

    async def _subject(self, subject_id: str) -> tuple[int, int, int]:
        project_no, bucket = self.scope.project_no, bucket_of(subject_id)
        subject_no = await self.owner.fetchval(
            """
            INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
            ON CONFLICT (project_no, bucket, subject_id) DO UPDATE SET updated_at = excluded.updated_at
            RETURNING subject_no
            """,
            project_no, bucket, subject_id, START,
        )  # fmt: skip
        return project_no, bucket, subject_no
