"""Making a policy of a million choices, beside the bare statement that counts who went by each arm and converted."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from bench.ground import WORKER, furnish, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.rows import Row, at_most, beside, ratio, ratios, spread
from orchestrator.application.policy_updates import PolicyUpdates
from orchestrator.application.transactions import Transactions
from orchestrator.storage.policy_versions import LearningJourney
from orchestrator.storage.pool import WORKER_ROLE, open_pool

if TYPE_CHECKING:
    from asyncpg import Connection, Record

SECONDS, AGAINST_BARE = 5, 3

JOURNEY = "learns"
_ARMS = [{"id": arm_id, "next": "end"} for arm_id in ("a", "b", "c")]
_STEPS = [{"id": "choose", "adaptiveBranch": {"arms": _ARMS}}, {"id": "end", "exit": {}}]

# Over sixty days, three arms, of which one in twelve to twenty converts, some hours or days later.
_CHOICES = """
INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version, goal_revision,
                         unit, round, arm_id, propensity_ppm, propensities, policy_version, reason, draw, chosen_at)
SELECT 1, n % 256, n, md5(n::text)::uuid, 0, $1, 'choose', 1, 1, '', 0, substr('abc', 1 + n % 3, 1), 333333,
       '{"a": 333334, "b": 333333, "c": 333333}', 1, 'thompson', n, now() - n * (interval '60 days' / $2::int)
  FROM generate_series(1, $2::int) AS n
"""
_CONVERSIONS = """
INSERT INTO conversions (project_no, bucket, subject_no, enrollment_id, step_id, seq, journey_id, occurred_at,
                         received_at)
SELECT 1, bucket, subject_no, execution_id, step_id, seq, journey_id,
       chosen_at + interval '1 hour' * (subject_no % 160), chosen_at + interval '1 hour' * (subject_no % 160)
  FROM arm_choices
 WHERE abs(hashint8(subject_no)) % (12 + 4 * (subject_no % 3)) = 0
   AND chosen_at + interval '1 hour' * (subject_no % 160) < now()
"""
_BARE = """
SELECT a.arm_id, count(*) AS subjects, count(c.occurred_at) AS converted
  FROM arm_choices AS a
  LEFT JOIN conversions AS c
    ON (c.project_no, c.bucket, c.subject_no, c.enrollment_id, c.step_id, c.seq)
     = (a.project_no, a.bucket, a.subject_no, a.execution_id, a.step_id, a.seq)
 WHERE a.project_no = 1 AND a.journey_id = $1 AND a.step_id = 'choose'
 GROUP BY a.arm_id
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    async with ground() as stack:
        await stack.part(WORKER).stop()
        document = {"id": JOURNEY, "name": JOURNEY, "steps": _STEPS, "goal": {"eventName": "buy", "window": "7d"}}
        await furnish(stack, ("/v1/journeys", document), (f"/v1/journeys/{JOURNEY}:publish", {}))
        dsn = stack.addresses.database_url
        conn = await asyncpg.connect(dsn)
        await conn.execute(_CHOICES, JOURNEY, plan.choices)
        await conn.execute(_CONVERSIONS)
        await conn.execute("VACUUM (ANALYZE) arm_choices, conversions")
        pool = await open_pool(
            dsn,
            role=WORKER_ROLE,
            size=2,
            application_name="bench",
            statement_timeout=timedelta(minutes=5),
        )
        updates, journey = PolicyUpdates(Transactions(pool)), LearningJourney(project_no=1, journey_id=JOURNEY)
        await updates.update(journey)  # arrays are imported
        ours, bare = [], []
        for _ in range(plan.rounds):
            await conn.execute("DELETE FROM policy_versions")
            bare.append(await _bare(conn))
            began = time.perf_counter()
            if await updates.update(journey) != 1:
                raise AssertionError("nothing was published")
            ours.append(time.perf_counter() - began)
        async with profiled(stack, f"ten policies of {plan.choices:,} choices", worker=os.getpid()) as profiles:
            for _ in range(10):
                await conn.execute("DELETE FROM policy_versions")
                await updates.update(journey)
        await pool.close()
        await conn.close()
    note = f"rounds {spread(ours)}; counting alone {spread(bare)}"
    return [
        at_most(SECONDS, f"policy of {plan.choices:,} choices", sorted(ours)[len(ours) // 2], "s", note),
        at_most(
            AGAINST_BARE,
            "policy / bare SQL count of the same rows",
            ratio(ours, bare),
            "×",
            against="a bare SQL count of the same rows, in time",
            rounds=ratios(ours, bare),
        ),
        beside("bare SQL count of the same rows", sorted(bare)[len(bare) // 2], "s"),
        *profiles,
    ]


async def _bare(conn: Connection[Record]) -> float:
    began = time.perf_counter()
    await conn.fetch(_BARE, JOURNEY)
    return time.perf_counter() - began
