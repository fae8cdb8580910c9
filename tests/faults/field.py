"""A product under fire: server and workers as processes, a provider that writes everything down, callers that repeat.

What is checked afterwards (tests/faults/checker) is checked against what callers were told and what the provider wrote,
not against the product's own idea of itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from orchestrator.devstack.stack import Stack
from orchestrator.devstack.supervisor import Supervisor
from tests.faults.checker import Effect, OpLog, at_rest, evidence_of, examine
from tests.faults.checker.evidence import Outage
from tests.faults.checker.op_log import AUDIT, ENROLLMENT, EVENT, OK, VERSION
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
    """One run. `log` has what was asked of the server, and what it answered; `project` is that of the key. `outages`:
    when something was away. `patience`: seconds until a call has to be answered that is repeated until then. `hook`:
    where messages go, if not straight to the provider.
    """

    stack: Stack
    provider: RunningProvider
    http: httpx.AsyncClient
    log: OpLog
    project: str = "default"
    outages: list[Outage] = field(default_factory=list)
    patience: float = RECOVERY
    hook: str = ""

    @property
    def acknowledged(self) -> set[str]:
        """The ids of the events that the server has acknowledged."""
        return {effect.which for op in self.log.ops() if op.state == OK for effect in op.does(EVENT)}

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        effects: Collection[Effect] = (),
    ) -> dict[str, Any]:
        """Call until it is answered, under one key: no answer and "try again" are no answers. A refusal fails, but for
        that to tell again what was answered, since it spoke of somebody who was forgotten: then it took effect.
        """
        headers = {"Idempotency-Key": str(uuid.uuid4()), **(headers or {})}
        async with asyncio.timeout(self.patience):
            while True:
                op = self.log.invoke(
                    f"{method} {path}", effects, project=self.project, request=headers["Idempotency-Key"]
                )
                try:
                    answer = await self.http.request(method, path, json=body, headers=headers)
                except httpx.HTTPError as error:
                    self.log.info(op, type(error).__name__)
                    await asyncio.sleep(0.2)
                    continue
                if answer.status_code in (409, 429, 499, 503, 504):
                    self.log.info(op, str(answer.status_code))
                    await asyncio.sleep(0.2)
                    continue
                if answer.status_code == 400 and "ANSWER_ERASED" in answer.text:
                    self.log.ok(op)
                    return {}
                if answer.status_code != 200:
                    self.log.fail(op, answer.text)
                    raise AssertionError(answer.text)
                self.log.ok(op, answer.text)
                result: dict[str, Any] = answer.json()
                return result

    async def furnish(self, *, wait: str = "2s", steps: Sequence[dict[str, Any]] = (), **members: Any) -> None:
        """A journey that sends, waits, asks, and sends again; or does what these steps say. `members`: more of it."""
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
                    "settings": {"url": self.hook or self.provider.url},
                },
            )
        await self.call("POST", "/v1/triggerContracts", {"id": "signup", "name": "Sign-up", "eventName": "signup"})
        bought = {"kind": "event_fired", "eventName": "purchase"}
        journey = {
            "id": "welcome",
            "name": "Welcome",
            "triggerContractId": "signup",
            "steps": list(steps)
            or [
                {"id": "one", "send": {"communicationId": "first"}, "next": "pause"},
                {"id": "pause", "wait": {"duration": wait}, "next": "check"},
                {
                    "id": "check",
                    "branch": {"arms": [{"id": "bought", "when": bought, "next": "two"}], "otherwise": "bye"},
                },
                {"id": "two", "send": {"communicationId": "second"}, "next": "bye"},
                {"id": "bye", "exit": {"reason": "finished"}},
            ],
            **members,
        }
        created = Effect(AUDIT, "journey_created journey/welcome")
        await self.call("POST", "/v1/journeys", journey, effects=[created])
        published = [Effect(VERSION, "welcome@1"), Effect(AUDIT, "journey_published journey/welcome")]
        await self.call("POST", "/v1/journeys/welcome:publish", {}, effects=published)

    async def ingest(self, events: Iterable[dict[str, Any]], *, enrolls: Collection[str] = ()) -> None:
        """Send one batch until it is acknowledged. `enrolls`: whom it lets into the journey."""
        batch = list(events)
        effects = [Effect(EVENT, event["eventId"], subject=event["subjectId"]) for event in batch]
        effects += [Effect(ENROLLMENT, f"welcome/{subject_id}") for subject_id in enrolls]
        answer = await self.call("POST", "/v1/events", {"events": batch}, effects=effects)
        assert answer.get("rejectedCount", 0) == 0, answer

    async def sign_up(self, subject_ids: Iterable[str]) -> None:
        """Everybody signs up, and every second one buys something before."""
        subjects = list(subject_ids)
        for at in range(0, len(subjects), 20):
            chunk = subjects[at : at + 20]
            await self.ingest({"eventId": f"buy-{s}", "name": "purchase", "subjectId": s} for s in chunk if _buys(s))
            signups = ({"eventId": f"up-{s}", "name": "signup", "subjectId": s} for s in chunk)
            await self.ingest(signups, enrolls=chunk)

    async def serving(self) -> None:
        """Wait until the server takes calls."""
        async with asyncio.timeout(RECOVERY):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await self.http.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def knock_out(self, name: str) -> None:
        """SIGKILL to this part. Returns when it is up again, which took as long as it took."""
        part, began = self.stack.part(name), datetime.now(UTC)
        await kill(part)
        killed = part.pid
        async with asyncio.timeout(RECOVERY):
            while part.pid == killed:
                await asyncio.sleep(0.05)
        self.outages.append(Outage(what=name, began=began, ended=datetime.now(UTC)))

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

    async def check(self, subject_ids: Iterable[str], *, besides: Collection[str] = ()) -> None:
        """Every invariant holds, and everybody went the whole way; `besides`: steps that the journey has more."""
        await at_rest(self.stack, within=RECOVERY)
        evidence = await evidence_of(
            self.stack,
            ops=self.log.ops(),
            receipts=self.provider.receipts,
            outages=self.outages,
            patience=timedelta(seconds=RECOVERY),
        )
        # Nobody has opted out here, or was forgotten.
        examine(evidence).require_sound(idle=("I9", "I10"))
        executions = evidence.ledger.executions
        assert sorted(filter(None, (one.subject_id for one in executions))) == sorted(subject_ids)
        assert {one.outcome for one in executions} == {"completed"}
        assert {send.state for send in evidence.ledger.sends} == {"sent"}
        passed = {visit.step_id for visit in evidence.ledger.visits if visit.result == "executed"}
        assert passed == {"one", "pause", "check", "two", "bye", *besides}


def _buys(subject_id: str) -> bool:
    return int(subject_id.rsplit("-", 1)[1]) % 2 == 0


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
            yield Field(stack=stack, provider=provider, http=http, log=OpLog(directory / "ops.jsonl"))
