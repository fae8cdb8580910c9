"""A product under fire: server and workers as processes, a provider that writes everything down, callers that repeat.

What is checked afterwards is checked against what callers were told and what the provider wrote, not against the
product's own idea of itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from orchestrator.devstack.stack import Stack
from orchestrator.devstack.supervisor import Supervisor
from tests.provider.client import RunningProvider, running_provider

#: What server and workers are told besides their addresses.
ENVIRONMENT = {
    "ORCHESTRATOR_WEBHOOK_SECRETS": "whsec_" + base64.b64encode(b"s" * 32).decode(),
    "ORCHESTRATOR_WEBHOOK_NETWORKS": "127.0.0.0/8",
    "ORCHESTRATOR_WEBHOOK_PLAIN_HTTP": "true",
}

#: After the last fault, everything that is due is done within this, in seconds.
RECOVERY = 60.0


@dataclass
class Field:
    """One run. `batches` are what was told to the server, and acknowledged."""

    stack: Stack
    provider: RunningProvider
    http: httpx.AsyncClient
    acknowledged: set[str] = field(default_factory=set)

    async def call(
        self, method: str, path: str, body: dict[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Call until it is answered, under one key: no answer and "try again" are no answers. A refusal fails."""
        headers = {"Idempotency-Key": str(uuid.uuid4()), **(headers or {})}
        async with asyncio.timeout(RECOVERY):
            while True:
                try:
                    answer = await self.http.request(method, path, json=body, headers=headers)
                except httpx.HTTPError:
                    await asyncio.sleep(0.2)
                    continue
                if answer.status_code in (409, 429, 499, 503, 504):
                    await asyncio.sleep(0.2)
                    continue
                assert answer.status_code == 200, answer.text
                result: dict[str, Any] = answer.json()
                return result

    async def furnish(self, *, wait: str = "2s") -> None:
        """A journey that sends, waits, asks, and sends again."""
        for communication_id in ("first", "second"):
            await self.call(
                "POST",
                "/v1/communications",
                {
                    "id": communication_id,
                    "name": communication_id,
                    "channel": "webhook",
                    "category": "marketing",
                    "subject": "Hello",
                    "body": "There",
                    "settings": {"url": self.provider.url},
                },
            )
        await self.call("POST", "/v1/triggerContracts", {"id": "signup", "name": "Sign-up", "eventName": "signup"})
        bought = {"kind": "event_fired", "eventName": "purchase"}
        journey = {
            "id": "welcome",
            "name": "Welcome",
            "triggerContractId": "signup",
            "steps": [
                {"id": "one", "send": {"communicationId": "first"}, "next": "pause"},
                {"id": "pause", "wait": {"duration": wait}, "next": "check"},
                {
                    "id": "check",
                    "branch": {"arms": [{"id": "bought", "when": bought, "next": "two"}], "otherwise": "bye"},
                },
                {"id": "two", "send": {"communicationId": "second"}, "next": "bye"},
                {"id": "bye", "exit": {"reason": "finished"}},
            ],
        }
        await self.call("POST", "/v1/journeys", journey)
        await self.call("POST", "/v1/journeys/welcome:publish", {})

    async def ingest(self, events: Iterable[dict[str, Any]]) -> None:
        """Send one batch until it is acknowledged."""
        batch = list(events)
        answer = await self.call("POST", "/v1/events", {"events": batch})
        assert answer.get("rejectedCount", 0) == 0, answer
        self.acknowledged |= {event["eventId"] for event in batch}

    async def sign_up(self, subject_ids: Iterable[str]) -> None:
        """Everybody signs up, and every second one buys something before."""
        subjects = list(subject_ids)
        for at in range(0, len(subjects), 20):
            chunk = subjects[at : at + 20]
            await self.ingest({"eventId": f"buy-{s}", "name": "purchase", "subjectId": s} for s in chunk if _buys(s))
            await self.ingest({"eventId": f"up-{s}", "name": "signup", "subjectId": s} for s in chunk)

    async def serving(self) -> None:
        """Wait until the server takes calls."""
        async with asyncio.timeout(RECOVERY):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await self.http.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def owner(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection to the database; the caller closes it."""
        return await asyncpg.connect(self.stack.addresses.database_url)

    async def asleep(self, subject_ids: Iterable[str], *, least: int) -> set[str]:
        """Wait until so many of these subjects' executions are in the middle of their wait; which ones."""
        among = list(subject_ids)
        async with asyncio.timeout(RECOVERY):
            while True:
                found = await self._executions_of(among, "e.outcome IS NULL AND e.effect ->> 'kind' = 'sleep'")
                if len(found) >= least:
                    return found
                await asyncio.sleep(0.02)

    async def ended_after(self, subject_ids: Iterable[str], moment: datetime) -> set[str]:
        """Which of these subjects' executions have ended after that moment."""
        return await self._executions_of(list(subject_ids), f"e.ended_at > '{moment.isoformat()}'")

    async def _executions_of(self, subject_ids: list[str], condition: str) -> set[str]:
        """Nobody's, while the database is away."""
        try:
            conn = await self.owner()
        except (OSError, asyncpg.PostgresError):
            return set()
        try:
            rows = await conn.fetch(
                "SELECT e.execution_id FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no) "
                f"WHERE s.subject_id = ANY ($1) AND {condition}",
                subject_ids,
            )
            return {str(row["execution_id"]) for row in rows}
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return set()
        finally:
            conn.terminate()

    async def ended(self, count: int, *, within: float = RECOVERY) -> None:
        """Wait until so many executions have ended and none is open."""
        async with asyncio.timeout(within):
            while await self._open_and_ended() != (0, count):
                await asyncio.sleep(0.25)

    async def _open_and_ended(self) -> tuple[int, int]:
        try:
            conn = await self.owner()
        except (OSError, asyncpg.PostgresError):
            return -1, -1
        try:
            row = await conn.fetchrow("SELECT count(*) FILTER (WHERE outcome IS NULL), count(outcome) FROM executions")
            assert row is not None
            return row[0], row[1]
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return -1, -1
        finally:
            conn.terminate()

    async def check(self, subject_ids: Iterable[str]) -> None:
        """Everybody went the way the graph says, and the provider took each message once."""
        subjects = set(subject_ids)
        conn = await self.owner()
        try:
            rows = await conn.fetch(
                """
                SELECT s.subject_id, e.outcome, array_agg(v.step_id || ':' || v.result ORDER BY v.seq, v.place) AS way
                  FROM executions AS e
                  JOIN subjects AS s USING (project_no, bucket, subject_no)
                  JOIN visits AS v USING (project_no, bucket, subject_no, execution_id)
                 GROUP BY s.subject_id, e.execution_id, e.outcome
                """
            )
            sends = {
                row["key"]: row["state"]
                for row in await conn.fetch(
                    "SELECT encode(sha256(convert_to(execution_id || '/' || seq, 'UTF8')), 'hex') AS key, state "
                    "FROM sends"
                )
            }
            async with asyncio.timeout(RECOVERY):
                while await conn.fetchval("SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)"):
                    await asyncio.sleep(0.25)
            dead = await conn.fetchval("SELECT (SELECT count(*) FROM inbox_dead) + (SELECT count(*) FROM outbox_dead)")
        finally:
            await conn.close()
        ways = {row["subject_id"]: list(row["way"]) for row in rows}
        assert len(rows) == len(subjects), "one execution each"
        assert ways == {subject: _way(subject) for subject in subjects}
        assert {row["outcome"] for row in rows} == {"completed"}
        accepted = Counter(receipt.key for receipt in self.provider.accepted())
        assert set(accepted.values()) == {1}, "accepted twice"
        assert set(sends.values()) == {"sent"}
        assert accepted.keys() == sends.keys(), "a message without a row, or a row without a message"
        assert {receipt.key for receipt in self.provider.receipts()} == sends.keys(), "a repeat under another key"
        assert dead == 0


def _buys(subject_id: str) -> bool:
    return int(subject_id.rsplit("-", 1)[1]) % 2 == 0


def _way(subject_id: str) -> list[str]:
    rest = ["two:executed"] if _buys(subject_id) else []
    return ["one:executed", "pause:executed", "check:executed", *rest, "bye:executed"]


async def kill(part: Supervisor) -> None:
    """SIGKILL to this part's process, once there is one: one that was killed before is on its way back."""
    async with asyncio.timeout(RECOVERY):
        while not psutil.pid_exists(part.pid) or psutil.Process(part.pid).status() == psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)
    psutil.Process(part.pid).send_signal(signal.SIGKILL)


@asynccontextmanager
async def field_on(stack: Stack, directory: Path) -> AsyncIterator[Field]:
    """A field on this stack."""
    async with running_provider(directory) as provider:
        async with httpx.AsyncClient(
            base_url=stack.addresses.http, headers={"X-Api-Key": stack.keys.owner}, timeout=10
        ) as http:
            yield Field(stack=stack, provider=provider, http=http)
