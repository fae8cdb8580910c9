"""What was decided reaches Temporal: at once, or by a sweeper, and not by both."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.application.delivery import Delivery
from orchestrator.application.enrollment import enroll
from orchestrator.application.versions import Versions
from orchestrator.temporal.executions import Executions
from tests.workflows.world import Running

BYE = {"id": "bye", "exit": {"reason": "done"}}
PAUSE = {"id": "pause", "wait": {"duration": "1s"}, "next": "bye"}


async def test_what_cannot_be_told_within_its_lease_is_left_to_a_sweeper(at_work: Running) -> None:
    await at_work.publish(PAUSE, BYE)
    delivery = Delivery(at_work.transactions, Executions(at_work.client, eager=False, searchable=False))
    async with at_work.transactions.write(None) as conn:
        enrolled = await enroll(conn, at_work.world.scope, Versions(), "welcome", ["ann", "bob"])

    await delivery.deliver(enrolled.told, lease=timedelta(0))

    rows = await at_work.owner.fetch("SELECT execution_id, attempts FROM outbox ORDER BY outbox_no")
    assert [(row["execution_id"], row["attempts"]) for row in rows] == [(e.execution_id, 0) for e in enrolled.told]

    await at_work.owner.execute("UPDATE outbox SET leased_until = now()")  # the lease runs out
    await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 2")
    await at_work.until("NOT EXISTS (SELECT FROM outbox)")
