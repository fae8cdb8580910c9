"""A worker process of the bare alternative that also lets subjects in: `python -m bench.journeys_bare DSN TEMPORAL`."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from liquid import BoundTemplate, Environment
from temporalio import activity
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from bench.bare_workflows import QUEUE, BareWelcome, Step, Traveller
from bench.remote import obey, run
from bench.welcome import JOURNEY
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.subject import bucket_of
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.client import Target, connect, runtime
from orchestrator.temporal.contract import (
    JOURNEY_ATTRIBUTE,
    PHASE_ATTRIBUTE,
    PROJECT_ATTRIBUTE,
    SUBJECT_ATTRIBUTE,
    VERSION_ATTRIBUTE,
)
from workers.process import Limits

if TYPE_CHECKING:
    from asyncpg import Pool, Record

#: Subjects of one transaction, and starts under way at once: as many as ours.
CALL = 100
AT_ONCE = 32

_SUBJECT = """
SELECT s.attributes, ARRAY(SELECT ARRAY[o.channel, o.category] FROM opt_outs AS o
                            WHERE (o.project_no, o.bucket, o.subject_no) = ($1, $2, $3)) AS opt_outs
  FROM subjects AS s WHERE s.project_no = $1 AND s.bucket = $2 AND s.subject_no = $3
"""

_PASS = """
WITH passed AS (
    INSERT INTO visits (project_no, bucket, subject_no, execution_id, seq, place, step_id, step_kind, journey_id,
                        version, result, reason, entered_at, left_at)
    SELECT $1, $2, $3, $4, $5, v.place, v.step_id, v.step_kind, 'welcome', 1, 'executed', v.reason, $6, $7
      FROM unnest($8::smallint[], $9::text[], $10::text[], $11::text[]) AS v (place, step_id, step_kind, reason)
    ON CONFLICT DO NOTHING
)
"""

_SENT = f"""
{_PASS}, sent AS (
    INSERT INTO sends (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                       communication_id, content_revision, channel, category, state, attempt, in_doubt, provider_id,
                       reserved_at, settled_at)
    VALUES ($1, $2, $3, $4, $5 - 1, $12, 'welcome', 1, $13, $14, 'log', 'marketing', 'sent', 1, false, $15, $6, $7)
    ON CONFLICT DO NOTHING
)
UPDATE executions SET seq = $5, step_id = $12, since = $7
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4
"""

_CHECKED = f"""
{_PASS}
UPDATE executions SET seq = $5, step_id = $12, since = $7
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4
"""

_FINISHED = f"""
{_PASS}
UPDATE executions SET seq = $5, step_id = $12, since = $7, outcome = 'completed', reason = 'finished', ended_at = $7
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4
"""

_LOG = """
INSERT INTO log_messages (project_no, bucket, subject_no, idempotency_key, subject_line, body, logged_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
ON CONFLICT DO NOTHING
"""

_CONTENT = """
SELECT content_revision, content FROM communication_revisions
 WHERE project_no = $1 AND communication_id = $2 ORDER BY content_revision DESC LIMIT 1
"""

_ENROLL = """
WITH entered (bucket, subject_no, execution_id, workflow_id) AS (
    SELECT s.bucket, s.subject_no, w.execution_id, w.workflow_id
      FROM unnest($2::smallint[], $3::text[], $4::uuid[], $5::text[]) AS w (bucket, subject_id, execution_id,
                                                                            workflow_id)
      JOIN subjects AS s ON s.project_no = $1 AND s.bucket = w.bucket AND s.subject_id = w.subject_id
), enrolled AS (
    INSERT INTO enrollments (project_no, bucket, subject_no, enrollment_id, journey_id, version, goal_revision,
                             entry_kind, entry_key, triggered_at, entry, enrolled_at)
    SELECT $1, bucket, subject_no, execution_id, 'welcome', 1, 1, 'enroll', 'enroll:' || execution_id, $6, '{}', $6
      FROM entered
)
INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq, step_id,
                        since, effect, started_at)
SELECT $1, bucket, subject_no, execution_id, 'welcome', 1, workflow_id, 0, 'hello', $6, '{}', $6 FROM entered
RETURNING bucket, subject_no, execution_id, workflow_id
"""


@dataclass(frozen=True)
class _Content:
    revision: int
    subject: BoundTemplate
    body: BoundTemplate


@dataclass
class Activities:
    pool: Pool[Record]
    templates: Environment = field(default_factory=Environment)
    contents: dict[str, _Content] = field(default_factory=dict)

    @activity.defn(name="send")
    async def send(self, step: Step) -> None:
        key = _key(step.traveller)
        async with self.pool.acquire() as conn:
            content = self.contents.get(step.communication_id) or await self._read(conn, key[0], step.communication_id)
            subject = await conn.fetchrow(_SUBJECT, *key[:3])
            assert subject is not None
            if any(channel in ("log", "*") and kind in ("marketing", "*") for channel, kind in subject["opt_outs"]):
                return
            variables = {"subject": {"attributes": subject["attributes"]}}
            line, body = content.subject.render(**variables), content.body.render(**variables)
            provider_key = hashlib.sha256(f"{step.traveller.execution_id}/{step.seq - 1}".encode()).hexdigest()
            await conn.execute(_LOG, *key[:3], provider_key, line, body)
            await conn.execute(
                _SENT, *key, step.seq, _instant(step.since), datetime.now(UTC), [0], [step.step_id], ["send"], [None],
                step.step_id, step.communication_id, content.revision, provider_key,
            )  # fmt: skip

    @activity.defn(name="check")
    async def check(self, step: Step) -> bool:
        key = _key(step.traveller)
        async with self.pool.acquire() as conn:
            subject = await conn.fetchrow(_SUBJECT, *key[:3])
            assert subject is not None
            pro = bool(subject["attributes"].get("plan") == "pro")
            await conn.execute(
                _CHECKED, *key, step.seq, _instant(step.since), datetime.now(UTC),
                [0, 1], ["pause", "check"], ["wait", "branch"], [None, "pro" if pro else "otherwise"], "check",
            )  # fmt: skip
        return pro

    @activity.defn(name="finish")
    async def finish(self, step: Step) -> None:
        async with self.pool.acquire() as conn:
            await conn.execute(
                _FINISHED, *_key(step.traveller), step.seq, _instant(step.since), datetime.now(UTC),
                [0], ["end"], ["exit"], [None], "end",
            )  # fmt: skip

    async def _read(self, conn: Any, project_no: int, communication_id: str) -> _Content:
        row = await conn.fetchrow(_CONTENT, project_no, communication_id)
        content = _Content(
            row["content_revision"],
            self.templates.from_string(row["content"]["subject"]),
            self.templates.from_string(row["content"]["body"]),
        )
        self.contents[communication_id] = content
        return content


def _key(traveller: Traveller) -> tuple[int, int, int, str]:
    return traveller.project_no, traveller.bucket, traveller.subject_no, traveller.execution_id


def _instant(epoch_seconds: float) -> datetime:
    return datetime.fromtimestamp(epoch_seconds, UTC)


async def main(dsn: str, address: str) -> None:
    client = await connect(Target(address=address), runtime=runtime(None))
    pool = await open_pool(dsn, role=WORKER_ROLE, size=16, application_name="bench-bare")
    turn = asyncio.Semaphore(AT_ONCE)

    async def let_in(subject_ids: list[str]) -> None:
        starting: list[asyncio.Task[None]] = []
        for start in range(0, len(subject_ids), CALL):
            call = subject_ids[start : start + CALL]
            async with pool.acquire() as conn:
                rows = await conn.fetch(
                    _ENROLL, 1, [bucket_of(i) for i in call], call, [new_uuid() for _ in call],
                    [f"bare:{JOURNEY}:{i}" for i in call], datetime.now(UTC),
                )  # fmt: skip
            starting += [asyncio.create_task(_start(client, turn, row)) for row in rows]
        await asyncio.gather(*starting)

    activities = Activities(pool)
    limits = Limits()
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[BareWelcome],
        activities=[activities.send, activities.check, activities.finish],
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_all_modules()
        ),
        max_cached_workflows=limits.cached,
        max_concurrent_workflow_tasks=limits.workflow_tasks,
        max_concurrent_activities=limits.advances + limits.sends_per_channel,
    ):
        await obey({"let in": let_in})
    await pool.close()


async def _start(client: Client, turn: asyncio.Semaphore, row: Any) -> None:
    async with turn:
        await client.start_workflow(
            BareWelcome.run,
            Traveller(1, row["bucket"], row["subject_no"], str(row["execution_id"])),
            id=row["workflow_id"],
            task_queue=QUEUE,
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(PROJECT_ATTRIBUTE, "default"),
                    SearchAttributePair(JOURNEY_ATTRIBUTE, JOURNEY),
                    SearchAttributePair(VERSION_ATTRIBUTE, 1),
                    SearchAttributePair(SUBJECT_ATTRIBUTE, row["workflow_id"]),
                    SearchAttributePair(PHASE_ATTRIBUTE, "running"),
                ]
            ),
            static_summary=f"{JOURNEY} v1",
            request_eager_start=True,
        )


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
