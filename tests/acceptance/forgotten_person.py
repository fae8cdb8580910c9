"""Somebody of whom everything is known that can be known, in twenty journeys; and what is left of them anywhere."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from temporalio.client import Client

from orchestrator.devstack.postgres import binaries
from orchestrator.devstack.stack import Stack
from tests.acceptance.canaries import Cage
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT
from tests.integration.channels.receiver import answering, receiving
from tests.otlp import Received

if TYPE_CHECKING:
    from asyncpg import Connection, Record

__all__ = ["ENVIRONMENT"]

Json = dict[str, Any]
BYE: Json = {"id": "bye", "exit": {}}
JOURNEYS = 20


@dataclass(frozen=True, slots=True)
class Person:
    """One who travels on a stack. `cage` has what is known of them."""

    stack: Stack
    cage: Cage
    http: httpx.AsyncClient
    owner: Connection[Record]

    async def call(self, method: str, path: str, body: Json, **headers: str) -> Json:
        answer = await self.http.request(method, path, json=body or None, headers=headers)
        assert answer.status_code == 200, answer.text
        result: Json = answer.json()
        return result

    async def live(self, url: str) -> None:
        """Be known, and come into twenty journeys, of which some end and some go on; `url` is called by some."""
        cage = self.cage
        attributes: Json = {name: cage[name] for name in ("mail", "phone", "name")}
        attributes |= {"address": {"street": cage["street"]}, "more": [cage[f"value{n}"] for n in range(10)]}
        named = {"Idempotency-Key": f"upsert-{cage.subject_id}"}
        await self.call("PUT", f"/v1/subjects/{cage.alias_id}", {"attributes": {"seen": cage["value10"]}})
        await self.call("PUT", f"/v1/subjects/{cage.subject_id}", {"attributes": attributes}, **named)
        change = {"changes": [{"channel": "email", "category": "marketing", "optedOut": True}]}
        await self.call("PATCH", f"/v1/subjects/{cage.subject_id}/preferences", change)
        suppression = {"channel": "email", "reason": "bounce"}
        await self.call("POST", f"/v1/subjects/{cage.subject_id}/suppressions", suppression)
        await self.call("POST", "/v1/segments", {"id": "vip", "name": "VIP", "kind": "static"})
        await self.call("POST", "/v1/segments/vip/members:add", {"subjectIds": [cage.subject_id]})
        await self.call("POST", f"/v1/subjects/{cage.alias_id}:merge", {"intoSubjectId": cage.subject_id})
        await self.call("PUT", f"/v1/subjects/{cage.longest_id}", {}, **{"Idempotency-Key": "put-longest"})
        await self.call("POST", f"/v1/subjects/{cage.longest_id}:merge", {"intoSubjectId": cage.subject_id})
        await self._furnish(url)
        await self._happen()
        test = {"communicationId": "said", "subjectId": cage.subject_id, "addresses": [cage["mail"]]}
        await self.call("POST", "/v1/communications:sendTest", test)
        await self._at_rest()
        await self._be_started()

    async def _be_started(self) -> None:
        """At somebody's word, on a way that they are on already: the answer has the workflow's id, and no other."""
        body = {"projectKey": "default", "journeyId": "j-4", "endUserId": self.cage.subject_id}
        headers = {"Authorization": f"Bearer {self.stack.keys.internal}", "Idempotency-Key": "start"}
        async with httpx.AsyncClient(base_url=self.stack.addresses.http, headers=headers, timeout=30) as http:
            answer = await http.post(
                "/api/journeys/internal/start-execution", json=body | {"entryKey": self.cage["value11"]}
            )
        assert (answer.status_code, answer.json().get("already")) == (200, True), answer.text

    async def _furnish(self, url: str) -> None:
        said = "{{ subject.attributes.name }}, {{ subject.attributes.mail }}, {{ entry.wish }}"
        message = {"category": "marketing", "subject": said, "body": said}
        log = {"id": "said", "name": "Said", "channel": "log", **message}
        hook = {"id": "hooked", "name": "Hooked", "channel": "webhook", "settings": {"url": url}, **message}
        await self.call("POST", "/v1/communications", log)
        await self.call("POST", "/v1/communications", hook)
        contract = {"id": "in", "name": "In", "eventName": "signed_up", "entryKeyPath": "wish"}
        await self.call("POST", "/v1/triggerContracts", contract)
        arms = [{"id": "a", "next": "stay"}, {"id": "b", "next": "stay"}]
        stay = {"id": "stay", "wait": {"duration": "30d"}, "next": "bye"}
        never = {"event": {"eventName": "never"}, "timeout": "30d", "otherwise": "bye"}
        asked = {"url": url, "body": {"who": {"$path": "mail"}}}
        told = {"eventName": "told", "properties": {"what": {"$path": "$steps.ask.comment"}}}
        kinds: list[list[Json]] = [
            [{"id": "say", "send": {"communicationId": "said"}, "next": "bye"}, BYE],
            [{"id": "say", "send": {"communicationId": "hooked"}, "next": "stay"}, stay, BYE],
            [
                {"id": "ask", "webhook": asked, "next": "write"},
                {
                    "id": "write",
                    "updateSubject": {"attributes": {"note": {"$path": "$steps.ask.comment"}}},
                    "next": "tell",
                },
                {"id": "tell", "emitEvent": told, "next": "stay"},
                stay,
                BYE,
            ],
            [{"id": "best", "nbaDecision": {"arms": arms, "context": ["name"]}}, stay, BYE],
            [{"id": "hear", "waitFor": never, "next": "bye"}, BYE],
        ]
        for number in range(JOURNEYS):
            journey = {
                "id": f"j-{number}",
                "name": f"Journey {number}",
                "triggerContractId": "in",
                "goal": {"eventName": "paid", "window": "7d"},
                "steps": kinds[number % len(kinds)],
            }
            if number == JOURNEYS - 1:
                journey["whilePaused"] = "hold"
            await self.call("POST", "/v1/journeys", journey)
            await self.call("POST", f"/v1/journeys/j-{number}:publish", {})
        await self.call("POST", f"/v1/journeys/j-{JOURNEYS - 1}:pause", {})

    async def _happen(self) -> None:
        cage = self.cage
        events = [
            {
                "eventId": f"{name} {number}",
                "name": name,
                "subjectId": (cage.subject_id, cage.alias_id)[number % 2],
                "properties": {"wish": cage["value11"], "also": {"deep": [cage[f"value{12 + number}"]]}},
            }
            for number, name in enumerate(["signed_up", "looked", "paid", *["looked"] * 17])
        ]
        events[3]["eventId"] = cage["value32"]
        await self.call("POST", "/v1/events", {"events": events})

    async def _at_rest(self) -> None:
        """Once nothing is left to do but to wait for what takes days."""

        async def rests() -> bool:
            counts = await self.owner.fetchrow(
                """
                SELECT (SELECT count(*) FROM executions), (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox),
                       (SELECT count(*) FROM executions WHERE outcome IS NULL AND wakes_at > now() + interval '9 days'),
                       (SELECT count(*) FROM executions WHERE outcome IS NULL)
                """
            )
            assert counts is not None
            executions, waiting, asleep, running = counts
            return bool(executions == JOURNEYS - 1 and not waiting and asleep == running)

        await eventually(rests, within=60)

    async def exported(self) -> bytes:
        """All that they are told is kept about them, by an id that was merged away."""
        path, token = f"/v1/subjects/{self.cage.alias_id}/export?pageSize=100", ""
        told: list[Json] = []
        while not told or token:
            page = await self.call("GET", f"{path}&pageToken={token}", {})
            told += page["records"]
            token = page.get("nextPageToken", "")
        return json.dumps(told, ensure_ascii=False).encode()

    async def forgotten(self) -> Json:
        """Forget them by an id that was merged away; the receipt."""
        erasure = await self.call("POST", f"/v1/subjects/{self.cage.alias_id}:forget", {})
        return await self.receipt(erasure["id"])

    async def receipt(self, erasure_id: str) -> Json:
        shown: list[Json] = []

        async def is_done() -> bool:
            answer = await self.http.get(f"/v1/erasures/{erasure_id}")
            if answer.status_code == 200:
                shown[:] = [answer.json()]
            return bool(shown and shown[0]["phase"] == "done")

        await eventually(is_done, within=120)
        return shown[0]

    async def places(self, database: str, client: Client, traces: Received | None = None) -> dict[str, list[bytes]]:
        """Everything in which something could be left of them; `traces`: where the stack sends them."""
        places = {"postgres": [await dump(database)], **await temporal(client)}
        stored = await self.owner.fetch("SELECT request_id, response FROM idempotency")
        places["answers"] = [b"answers"] + [request.encode() + b"\0" + (answer or b"") for request, answer in stored]
        logs = [part.process.log for part in self.stack.parts]
        places["logs"] = [log.read_bytes() for log in logs]
        places["ledger"] = [b"ledger"] + [path.read_bytes() for path in ledger_of(self.stack).glob("*")]
        places["metrics"] = [
            (await self.http.get(url)).content
            for url in (f"{self.stack.addresses.http}/metrics", *self.stack.addresses.metrics)
        ]
        if traces is not None:
            places["spans"] = list(traces.messages)
        assert all(places.values()), "every place was looked at"
        return places


def ledger_of(stack: Stack) -> Path:
    return stack.addresses.data_dir / "erasures"


async def dump(database: str) -> bytes:
    """All of the database as text."""
    process = await asyncio.create_subprocess_exec(f"{binaries()}/pg_dump", "--format=plain", database, stdout=PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def temporal(client: Client) -> dict[str, list[bytes]]:
    """What Temporal lists, and all histories."""
    listed, histories = [b"listed"], [b"histories"]
    async for run in client.list_workflows():
        listed.append(run.raw_info.SerializeToString())
        handle = client.get_workflow_handle(run.id, run_id=run.run_id)
        histories += [event.SerializeToString() async for event in handle.fetch_history_events()]
    return {"visibility": listed, "histories": histories}


@asynccontextmanager
async def person_on(stack: Stack, owner: Connection[Record]) -> AsyncIterator[tuple[Person, str]]:
    """Somebody who is not known yet, and where to be called."""
    cage = Cage()
    answer = json.dumps({"id": cage["value33"], "comment": cage["value31"]}).encode()
    headers = {"X-Api-Key": stack.keys.owner}
    async with (
        receiving(answering(200, answer)) as receiver,
        httpx.AsyncClient(base_url=stack.addresses.http, headers=headers, timeout=30) as http,
    ):
        yield Person(stack, cage, http, owner), f"http://127.0.0.1:{receiver.port}/hook"


def names(found: Iterable[set[str]]) -> set[str]:
    """All canaries that were found somewhere."""
    return set().union(*found)
