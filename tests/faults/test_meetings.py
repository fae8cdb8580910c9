"""Workers die while a crowd is enrolled, others are held and others decided on again, while the journey carries over
and its sends are paused: everybody is sent everything once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from orchestrator.devstack.stack import worker_name
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, Field, field_on, kill

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

MANY = 300
BY_JOB, HELD, REFUSED = ([f"{kind}-{number}" for number in range(MANY)] for kind in ("job", "held", "refused"))
PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}
PAUSE = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}
CALLED_BACK = [
    {"id": "pause", "wait": {"duration": "1s"}, "next": "two"},
    {"id": "two", "send": {"communicationId": "second"}, "next": "bye"},
    BYE,
]


async def know(field: Field, tier: str, subject_ids: Iterable[str]) -> None:
    subjects = [{"id": name, "attributes": {"tier": tier}} for name in subject_ids]
    await field.call("POST", "/v1/subjects:batchUpsert", {"subjects": subjects})


async def come(field: Field, subject_ids: Iterable[str]) -> None:
    await field.ingest({"eventId": f"e-{name}", "name": "came", "subjectId": name} for name in subject_ids)


async def test_workers_killed_while_all_of_it_happens_at_once(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish()
        conn = await field.owner()

        def so(condition: str) -> Callable[[], Awaitable[bool]]:
            async def ask() -> bool:
                return bool(await conn.fetchval(f"SELECT {condition}"))

            return ask

        async def strike() -> None:
            for number in (1, 2):
                await kill(stack.part(worker_name(number)))

        await field.call("POST", "/v1/audiences", {"id": "pros", "name": "Pros", "predicate": PRO})
        way_in = {"entryCondition": {"eventName": "came"}, "whilePaused": "hold", "audienceId": "pros"}
        journey = {"id": "long", "name": "Long", "reentry": {"policy": "once"}, **way_in, "steps": [PAUSE, BYE]}
        await field.call("POST", "/v1/journeys", journey)
        await field.call("POST", "/v1/journeys/long:publish", {})
        await know(field, "pro", BY_JOB)
        await know(field, "free", REFUSED)
        await field.call("POST", "/v1/enrollmentJobs", {"journeyId": "long", "audienceId": "pros"})
        await come(field, REFUSED)
        await strike()
        await eventually(so("EXISTS (SELECT FROM enrollment_jobs WHERE state = 'done')"), within=60)
        await eventually(so(f"(SELECT sum(total) FROM refusal_counts) = {MANY}"), within=60)

        await field.call("POST", "/v1/journeys/long:pause", {})
        await field.call("POST", "/v1/sendsPauses:pause", {"journeyId": "long"})
        await know(field, "pro", [*HELD, *REFUSED])
        await come(field, HELD)
        await field.call("PATCH", "/v1/journeys/long", {"steps": CALLED_BACK})
        shown = await field.call("POST", "/v1/journeys/long:previewCarry", {"carry": "compatible"})
        await field.call("POST", "/v1/journeys/long:publish", {"carry": "compatible", "token": shown["token"]})
        await strike()
        await eventually(so(f"(SELECT count(*) FROM held_entries) = {MANY}"), within=60)
        await field.call("POST", "/v1/journeys/long:resume", {})
        await eventually(so("EXISTS (SELECT FROM executions WHERE version = 2)"), within=60)
        await strike()
        replay = {"reason": "audience", "atMost": MANY}
        await field.call("POST", "/v1/journeys/long/refusedEntries:replay", replay)
        await eventually(so("EXISTS (SELECT FROM entry_replays WHERE looked_at > 0)"), within=60)
        await strike()
        await field.call("POST", "/v1/sendsPauses:resume", {"journeyId": "long"})
        await strike()
        await field.ended(3 * MANY, within=120)

        ended = await conn.fetch("SELECT outcome, version, count(*) FROM executions GROUP BY 1, 2")
        assert [tuple(row) for row in ended] == [("completed", 2, 3 * MANY)]
        entered = await conn.fetchrow("SELECT count(*), count(DISTINCT subject_no) FROM enrollments")
        assert tuple(entered or ()) == (3 * MANY, 3 * MANY)
        refused = await conn.fetch("SELECT reason, sum(total)::int FROM refusal_counts GROUP BY 1")
        assert [tuple(row) for row in refused] == [("audience", MANY)]
        looked = await conn.fetchrow("SELECT looked_at, enrolled, errors FROM entry_replays")
        assert tuple(looked or ()) == (MANY, MANY, 0)
        accepted = Counter(receipt.key for receipt in field.provider.accepted())
        assert (len(accepted), set(accepted.values())) == (3 * MANY, {1})
        await eventually(so("(SELECT count(*) FROM inbox_dead) + (SELECT count(*) FROM outbox_dead) = 0"), within=5)
        await conn.close()
