"""All that a journey can do at once: a crowd is enrolled behind, others are held, others were refused and are decided
on again, while the journey is published anew and carries over, sends are paused, and subjects become one another.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from orchestrator.application import audiences, enrollment_jobs, entry_replays, lifecycle, merging, sends_pauses
from orchestrator.application.ingest import Ingest
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.subjects import upsert
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.event import Event
from orchestrator.domain.subject import SubjectPatch
from orchestrator.storage import doctor
from orchestrator.storage.doctor_checks import CHECKS
from tests.integration.journey_world import ANY_STATE
from tests.workflows.test_carrying import ALL_ENDED, AWAIT, BYE, SECOND, carry, ping
from tests.workflows.world import Running
from workers.channels.channel import ChannelUnavailable

PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
MANY = 20
BY_JOB, HELD, REFUSED = ([f"{kind}{number}" for number in range(MANY)] for kind in ("job", "held", "refused"))
EVERYBODY = [*BY_JOB, *HELD, *REFUSED]
IN_DOUBT = 3


async def know(running: Running, tier: str, subject_ids: list[str]) -> None:
    project_no = running.world.scope.project_no
    async with running.world.transactions.write(project_no) as conn:
        patches = [SubjectPatch(subject_id=name, attributes={"tier": tier}) for name in subject_ids]
        await upsert(conn, project_no, patches)


async def buy(running: Running, subject_ids: list[str]) -> None:
    events = [
        Event(event_id=f"buy-{name}", name="purchase", subject_id=name, occurred_at=None, properties=b"{}")
        for name in subject_ids
    ]
    await Ingest(running.world.transactions).take(running.world.scope.project_no, events, backfill=False)


async def complaints(running: Running) -> dict[str, int]:
    """What doctor would say in ten minutes."""
    async with running.transactions.read(None) as conn:
        later = await conn.fetchval("SELECT now()") + timedelta(minutes=10)
        found = {check.name: (await doctor.check(conn, check, later)).total for check in CHECKS}
    return {name: total for name, total in found.items() if total and not name.endswith("_late")}


async def test_whoever_comes_by_whatever_way_is_sent_everything_once(at_work: Running) -> None:
    world = at_work.world
    pros = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
    await world.do(audiences.create, "pros", pros)
    way_in: dict[str, Any] = {"entryCondition": {"eventName": "purchase"}, "whilePaused": "hold", "audienceId": "pros"}
    await at_work.publish(AWAIT, BYE, reentry={"policy": "once"}, **way_in)
    await know(at_work, "pro", BY_JOB)
    await know(at_work, "free", REFUSED)
    await buy(at_work, REFUSED)
    await world.do(enrollment_jobs.create, job_id="crowd", journey_id="welcome", audience_id="pros")
    await at_work.until("EXISTS (SELECT FROM enrollment_jobs WHERE state = 'done' AND enrolled = $1)", MANY)
    await at_work.until("(SELECT sum(total) FROM refusal_counts WHERE reason = 'audience') = $1", MANY)

    await world.do(lifecycle.pause, "welcome", ANY_STATE)
    await know(at_work, "pro", [*HELD, *REFUSED])
    await buy(at_work, HELD)
    await at_work.until("(SELECT count(*) FROM held_entries) = $1", MANY)
    await world.do(sends_pauses.pause, "welcome")
    await asyncio.gather(
        carry(at_work, *SECOND),
        ping(at_work, [name for name in EVERYBODY if name not in ("job0", "refused0")], 1),
        world.do(merging.merge, b"s" * 32, RuleBook(), "job0", into="held0"),
        world.do(merging.merge, b"s" * 32, RuleBook(), "refused0", into="held1"),
    )
    await at_work.until("NOT EXISTS (SELECT FROM executions WHERE version = 1)", within=60)
    await world.do(lifecycle.resume, "welcome", ANY_STATE)
    await at_work.until("NOT EXISTS (SELECT FROM held_entries)")
    asked = await world.do(entry_replays.ask, "welcome", "audience", None, None, 3 * MANY)
    await asyncio.gather(
        ping(at_work, EVERYBODY, 2),
        at_work.until("EXISTS (SELECT FROM entry_replays WHERE ended_at IS NOT NULL)", within=60),
    )
    at_work.channel.answers = [ChannelUnavailable("timeout", in_doubt=True) for _ in range(IN_DOUBT)]
    await world.do(sends_pauses.resume, "welcome")
    await at_work.until(ALL_ENDED, within=60)

    # Of those who became one, whoever had entered, or waited, does not come in again.
    refused = await at_work.owner.fetch("SELECT reason, sum(total)::int FROM refusal_counts GROUP BY reason")
    assert {row[0]: row[1] for row in refused} == {"audience": MANY, "re_entry": 1}
    replay = await world.look(entry_replays.get, asked.replay_id)
    assert (replay.enrolled, replay.refused) == (MANY - 1, {"re_entry": 1})
    entered = 3 * MANY - 2
    ended = await at_work.owner.fetch("SELECT outcome, reason, version, count(*) FROM executions GROUP BY 1, 2, 3")
    assert [tuple(row) for row in ended] == [("completed", "second", 2, entered)]
    sends = await at_work.owner.fetch("SELECT execution_id, count(*) FROM sends GROUP BY 1")
    assert Counter(row[1] for row in sends) == {1: entered}
    # Those in doubt were tried again, under the same key; all others once.
    assert Counter(at_work.channel.asked.values()) == {1: entered - IN_DOUBT, 2: IN_DOUBT}
    assert await complaints(at_work) == {}
