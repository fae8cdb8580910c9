"""A real purchase log goes in; enrollments and refusals by reason equal a plain recount of the file."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import psutil
import pytest

from orchestrator.devstack.stack import worker_name
from tests.conftest import StartStack
from tests.purchase_log import lines, needs_purchase_log

#: More than this has to be spent to set the journey off.
AMOUNT = 25
#: The audience: so many purchases within so long.
AT_LEAST, WINDOW = 3, timedelta(days=365)
#: Nobody comes in twice within this.
INTERVAL = timedelta(days=400)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600), needs_purchase_log]


def recount(rows: list[tuple[str, datetime, float]], now: datetime) -> Counter[str]:
    """What must come of each purchase, in file order."""
    recent = Counter(customer for customer, at, _ in rows if at > now - WINDOW)
    entered: defaultdict[str, list[datetime]] = defaultdict(list)
    outcome: Counter[str] = Counter()
    for customer, at, amount in rows:
        if not amount > AMOUNT:
            outcome["trigger_predicate"] += 1
        elif recent[customer] < AT_LEAST:
            outcome["audience"] += 1
        elif any(abs(at - before) < INTERVAL for before in entered[customer]):
            outcome["re_entry"] += 1
        else:
            entered[customer].append(at)
            outcome["enrolled"] += 1
    return outcome


async def test_enrollments_and_refusals_equal_a_plain_recount(start_stack: StartStack) -> None:
    now = datetime.now(UTC)
    log = list(lines())
    # The log ends now; an hour keeps every purchase clear of a window's edge while the test runs.
    shift = now - timedelta(hours=1) - max(at for _, at, _ in log)
    log = [(customer, at + shift, amount) for customer, at, amount in log]
    expected = recount(log, now)

    stack = await start_stack(workers=1)
    worker = psutil.Process(stack.part(worker_name(1)).pid)
    # All of it is there before anything is decided: so an audience does not depend on who is faster.
    worker.suspend()
    async with httpx.AsyncClient(
        base_url=stack.addresses.http, headers={"X-Api-Key": stack.keys.owner}, timeout=60
    ) as http:
        await _define(http)
        for at in range(0, len(log), 1000):
            events = [
                {
                    "eventId": f"e{at + n}",
                    "name": "purchase",
                    "subjectId": f"c{customer}",
                    "occurTime": when.isoformat(),
                    "properties": {"amount": amount},
                }
                for n, (customer, when, amount) in enumerate(log[at : at + 1000])
            ]
            answer = await http.post("/v1/events", json={"events": events})
            assert answer.json()["acceptedCount"] == len(events)
    conn = await asyncpg.connect(stack.addresses.database_url)
    worker.resume()
    try:
        async with asyncio.timeout(400):
            while await conn.fetchval("SELECT count(*) FROM inbox"):
                await asyncio.sleep(0.5)
        refused = {
            row["reason"]: row["total"]
            for row in await conn.fetch("SELECT reason, sum(total)::int AS total FROM refusal_counts GROUP BY reason")
        }
        enrolled = await conn.fetchval("SELECT count(*) FROM enrollments")
    finally:
        await conn.close()

    assert {**refused, "enrolled": enrolled} == dict(expected)
    fifth = len(log) / 5
    assert all(refused[reason] >= fifth for reason in ("trigger_predicate", "audience", "re_entry"))


async def _define(http: httpx.AsyncClient) -> None:
    window = {"type": "last_n_days", "days": WINDOW.days}
    calls = [
        (
            "/v1/audiences",
            {
                "id": "regulars",
                "name": "Regulars",
                "predicate": {
                    "kind": "event_fired",
                    "eventName": "purchase",
                    "window": window,
                    "atLeast": AT_LEAST,
                },
            },
        ),
        (
            "/v1/triggerContracts",
            {
                "id": "spent",
                "name": "Spent much",
                "eventName": "purchase",
                "predicate": {
                    "kind": "attribute",
                    "fieldPath": "amount",
                    "operator": "greater_than",
                    "value": AMOUNT,
                },
                "maxEventAge": "600d",
            },
        ),
        (
            "/v1/journeys",
            {
                "id": "loyalty",
                "name": "Loyalty",
                "audienceId": "regulars",
                "triggerContractId": "spent",
                "reentry": {"policy": "interval", "interval": f"{INTERVAL.days}d"},
                "steps": [{"id": "done", "exit": {"reason": "counted"}}],
            },
        ),
        ("/v1/journeys/loyalty:publish", {}),
    ]
    for path, body in calls:
        answer = await http.post(path, json=body)
        assert answer.status_code == 200, answer.text
