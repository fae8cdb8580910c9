"""One journey in which everybody meets every gate that time opens, on real servers: skipped, waited at and left by."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from temporalio.testing import WorkflowEnvironment

from orchestrator.application import projects
from orchestrator.domain.gates import ANY, FrequencyCap
from orchestrator.domain.holdout import Holdout
from orchestrator.domain.hours import Hours, QuietHours
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE
from tests.workflows.test_waits import ENDED, is_quiet, known
from tests.workflows.world import Running

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

HELD_BY_ALL, HELD_BY_ONE = Holdout(percent=40, salt="all"), Holdout(percent=40, salt="one")

# What is written down of one subject, in order.
_SENDS = """
SELECT d.step_id, d.state, d.reserved_at
  FROM sends AS d JOIN subjects AS s USING (project_no, bucket, subject_no) WHERE s.subject_id = $1 ORDER BY d.seq
"""
_VISITS = """
SELECT v.step_id, v.result, v.reason
  FROM visits AS v JOIN subjects AS s USING (project_no, bucket, subject_no) WHERE s.subject_id = $1
 ORDER BY v.seq, v.place
"""


def send(step_id: str, to: str, **more: Any) -> dict[str, Any]:
    return {"id": step_id, "send": {"communicationId": "welcome", **more}, "next": to}


def clock(at: datetime) -> time:
    return at.time().replace(second=0, microsecond=0)


def name(prefix: str, *, of_all: bool = False, of_one: bool = False) -> str:
    """The first of these names that is held out by just these."""
    names = (f"{prefix}-{number}" for number in range(1000))
    return next(n for n in names if (HELD_BY_ALL.has(n, ""), HELD_BY_ONE.has(n, "")) == (of_all, of_one))


async def test_caps_quiet_hours_send_windows_and_holdouts_each_do_as_the_step_says(
    in_time: Running, time_skipping: WorkflowEnvironment
) -> None:
    """It is night now where one of them lives, for two hours more; twelve time zones on it is day."""
    now = datetime.now(UTC)
    night = Hours(start=clock(now - 2 * HOUR), end=clock(now + 2 * HOUR))
    settings = {
        "frequency_caps": (FrequencyCap(channel="log", category=ANY, limit=2, window=DAY),),
        "quiet_hours": QuietHours(hours=night, channels=frozenset({"log"})),
        "global_holdout": HELD_BY_ALL,
    }
    await in_time.world.do(projects.update, in_time.world.scope.project_id, settings, ANY_STATE)
    office = {"start": f"{clock(now + 5 * HOUR):%H:%M}", "end": f"{clock(now + 7 * HOUR):%H:%M}"}
    await in_time.publish(
        send("hello", "in-office"),
        send("in-office", "too-many", sendWindow=office),
        send("too-many", "patient"),
        send("patient", "last", onBlocked="wait", waitAtMost="3d"),
        send("last", "bye", onBlocked="exit"),
        BYE,
        holdout={"percent": HELD_BY_ONE.percent, "salt": HELD_BY_ONE.salt},
    )
    sleeper, waker = name("sleeper"), name("waker")
    out = {name("out", of_all=True): "global", name("out", of_one=True): "journey"}
    await known(in_time, sleeper, time_zone="UTC")
    await known(in_time, waker, time_zone="Etc/GMT-12")

    told = await in_time.enroll(sleeper, waker, *out)
    await in_time.until("(SELECT count(*) FROM executions WHERE parked = 'quiet_hours') = 1")
    await in_time.until("(SELECT count(*) FROM executions WHERE parked = 'send_window') = 1")
    await is_quiet(in_time)
    assert len(in_time.channel.messages) == 1, "the one who is awake"
    await time_skipping.sleep(3 * DAY)
    await in_time.until(ENDED)

    assert len(told) == 2
    held = await in_time.owner.fetch(
        "SELECT s.subject_id, n.held_out_by"
        "  FROM enrollments AS n JOIN subjects AS s USING (project_no, bucket, subject_no)"
    )
    assert {row[0]: row[1] for row in held} == {sleeper: None, waker: None, **out}
    for subject_id in (sleeper, waker):
        visits = [tuple(row) for row in await in_time.owner.fetch(_VISITS, subject_id)]
        assert visits == [
            ("hello", "executed", None),
            ("in-office", "executed", None),
            ("too-many", "skipped", "frequency_cap"),
            ("patient", "executed", None),
            ("last", "skipped", "frequency_cap"),
        ], subject_id
    outcomes = await in_time.owner.fetch("SELECT outcome, reason FROM executions")
    assert [tuple(row) for row in outcomes] == [("exited", "frequency_cap")] * 2
    sleeper_s, waker_s = [await begun(in_time, subject_id) for subject_id in (sleeper, waker)]
    assert [clock(at) for at in sleeper_s.values()] == [night.end, clock(now + 5 * HOUR), night.end]
    assert sleeper_s["patient"] - sleeper_s["hello"] >= DAY, "when the first counts no more"
    assert waker_s["hello"] - now < MINUTE
    assert clock(waker_s["in-office"]) == clock(now + 17 * HOUR), "in an office that opens twelve hours later"
    assert timedelta(0) <= waker_s["patient"] - waker_s["hello"] - DAY < MINUTE
    assert len(in_time.channel.messages) == 6, "three each, and none to whoever is held out"


async def begun(running: Running, subject_id: str) -> dict[str, datetime]:
    """The steps whose sends were made, and when each was begun."""
    rows = await running.owner.fetch(_SENDS, subject_id)
    assert {row["state"] for row in rows} == {"sent"}
    return {row["step_id"]: row["reserved_at"] for row in rows}


async def test_whoever_waits_for_the_night_to_end_goes_on_when_it_is_quiet_no_more(at_work: Running) -> None:
    now = datetime.now(UTC)
    night = QuietHours(hours=Hours(start=clock(now - 2 * HOUR), end=clock(now + 2 * HOUR)))
    project_id = at_work.world.scope.project_id
    await at_work.world.do(projects.update, project_id, {"quiet_hours": night}, ANY_STATE)
    await at_work.publish(send("hello", "bye"), BYE)
    await at_work.enroll("ann", "bob")
    await at_work.until("(SELECT count(*) FROM executions WHERE parked = 'quiet_hours') = 2")

    await at_work.world.do(projects.update, project_id, {"quiet_hours": None}, ANY_STATE)

    await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 2")
    assert await at_work.owner.fetchval("SELECT count(*) FROM sends WHERE state = 'sent'") == 2
