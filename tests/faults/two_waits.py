"""A journey that stands still twice until it is told to go on: a test decides what happens while who stands where."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.eventually import eventually
from tests.faults.field import RECOVERY, Field


async def furnish(field: Field) -> None:
    """A journey of three messages, with a wait for `go-1` and one for `go-2` between them; `signup` starts it."""
    for communication_id in ("first", "second", "third"):
        await field.call(
            "POST",
            "/v1/communications",
            {
                "id": communication_id,
                "name": communication_id,
                "channel": "webhook",
                "category": "marketing",
                "subject": "Hello",
                "body": "There",
                "settings": {"url": field.provider.url},
            },
        )
    steps: list[dict[str, Any]] = []
    for send, wait, following in (("first", "go-1", "second"), ("second", "go-2", "third")):
        steps += [
            {"id": send, "send": {"communicationId": send}, "next": wait},
            {"id": wait, "waitFor": {"event": {"eventName": wait}}, "next": following},
        ]
    steps += [{"id": "third", "send": {"communicationId": "third"}, "next": "bye"}, {"id": "bye", "exit": {}}]
    await field.call("POST", "/v1/triggerContracts", {"id": "signup", "name": "Sign-up", "eventName": "signup"})
    await field.call(
        "POST",
        "/v1/journeys",
        {"id": "welcome", "name": "Welcome", "triggerContractId": "signup", "steps": steps},
    )
    await field.call("POST", "/v1/journeys/welcome:publish", {})


async def happen(field: Field, event: str, subject_ids: Iterable[str]) -> None:
    await field.ingest({"eventId": f"{event}-{s}", "name": event, "subjectId": s} for s in subject_ids)


async def stand_at(field: Field, step_id: str, count: int, *, within: float = 2 * RECOVERY) -> None:
    """Until so many wait there."""
    conn = await field.owner()
    try:

        async def all_of_them() -> bool:
            standing: int = await conn.fetchval(
                "SELECT count(*) FROM executions WHERE step_id = $1 AND effect ->> 'kind' = 'sleep'", step_id
            )
            await asyncio.sleep(0.1)
            return standing == count

        await eventually(all_of_them, within=within)
    finally:
        await conn.close()


async def check(field: Field, subject_ids: Iterable[str]) -> None:
    """Everybody got to the end and was sent each of the three messages, and nothing twice."""
    subjects = list(subject_ids)
    await field.ended(len(subjects), within=2 * RECOVERY)
    conn = await field.owner()
    try:
        outcomes = await conn.fetch("SELECT outcome, count(*)::int FROM executions GROUP BY 1")
        ways = await conn.fetchval("SELECT count(*) FROM visits WHERE result = 'executed'")
        keys = {row[0] for row in await conn.fetch(
            "SELECT encode(sha256(convert_to(execution_id || '/' || seq, 'UTF8')), 'hex') FROM sends"
            " WHERE state = 'sent'"
        )}  # fmt: skip
    finally:
        await conn.close()
    assert [tuple(row) for row in outcomes] == [("completed", len(subjects))]
    assert ways == 6 * len(subjects)
    accepted = Counter(receipt.key for receipt in field.provider.accepted())
    assert accepted.keys() == keys
    assert set(accepted.values()) == {1}
    assert len(keys) == 3 * len(subjects)
