"""What holds off sends, on a real database: caps across journeys, quiet hours, pauses, and who is held out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.convert.projects import project_changes
from orchestrator.application import preferences, projects, sends_pauses
from orchestrator.application.closings import Closings
from orchestrator.application.sending import Receipt, Reserved, Sending
from orchestrator.domain.gates import ANY, FrequencyCap
from orchestrator.domain.holdout import Holdout
from orchestrator.domain.hours import Hours, QuietHours
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.storage import clock, doctor, stats, stuck
from orchestrator.storage.doctor_checks import CHECKS
from orchestrator.storage.sends_pauses import ALL
from orchestrator.temporal.contract import Effect, Question
from orchestrator.v1 import project_pb2 as pb
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, Road
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAILY = FrequencyCap(channel=ANY, category=ANY, limit=2, window=timedelta(days=1))
#: It is quiet now, and will be for about two hours more.
NIGHT = QuietHours(
    hours=Hours(
        start=(datetime.now(UTC) - timedelta(hours=2)).time().replace(microsecond=0, second=0),
        end=(datetime.now(UTC) + timedelta(hours=2)).time().replace(microsecond=0, second=0),
    )
)


def send(step_id: str = "hello", to: str = "bye", **more: Any) -> dict[str, Any]:
    return {"id": step_id, "send": {"communicationId": "welcome", **more}, "next": to}


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    return await Road.make(owner, api_pool, worker_pool)


async def settings(road: Road, **changed: Any) -> None:
    await road.crowd.world.do(projects.update, "default", changed, ANY_STATE)


async def questions(road: Road) -> list[Question]:
    rows = await road.owner.fetch("SELECT * FROM executions WHERE outcome IS NULL ORDER BY journey_id, started_at")
    return [
        Question(
            project_no=row["project_no"],
            bucket=row["bucket"],
            subject_no=row["subject_no"],
            execution_id=str(row["execution_id"]),
            seq=row["seq"],
            now=0.0,
        )
        for row in rows
    ]


async def visits(road: Road) -> list[tuple[Any, ...]]:
    rows = await road.owner.fetch("SELECT step_id, result, reason FROM visits ORDER BY journey_id, seq, place")
    return [tuple(row) for row in rows]


async def parked(road: Road) -> list[str | None]:
    return [row[0] for row in await road.owner.fetch("SELECT parked FROM executions ORDER BY journey_id")]


async def test_a_cap_holds_however_many_journeys_send_at_once(road: Road) -> None:
    await settings(road, frequency_caps=(DAILY,))
    journeys = [f"j{number}" for number in range(8)]
    for journey_id in journeys:
        await road.publish(send(), BYE, journey_id=journey_id)
        await road.enroll("ann", journey_id=journey_id)
    sending = Sending(road.crowd.transactions, road.versions)

    async def make(question: Question) -> Reserved | Effect:
        reserved = await sending.reserve(question)
        if isinstance(reserved, Reserved):
            await sending.settle(question, reserved, Receipt(state="sent"))
        return reserved

    made = await asyncio.gather(*map(make, await questions(road)))

    assert sum(isinstance(one, Reserved) for one in made) == 2
    assert await road.owner.fetchval("SELECT count(*) FROM sends") == 2
    assert (await visits(road)).count(("hello", "skipped", "frequency_cap")) == 6


async def test_a_try_again_is_not_held_off_by_itself_and_what_failed_does_not_count(road: Road) -> None:
    await settings(road, frequency_caps=(FrequencyCap(channel="log", category=ANY, limit=1, window=DAILY.window),))
    await road.publish(send("one", "two"), send("two", "three"), send("three"), BYE)
    await road.enroll("ann")
    sending = Sending(road.crowd.transactions, road.versions)
    (question,) = await questions(road)

    first = await sending.reserve(question)
    assert isinstance(first, Reserved)
    await sending.note(first, None, in_doubt=False)
    again = await sending.reserve(question)
    assert isinstance(again, Reserved)
    assert again.attempt == 2
    await sending.settle(question, again, Receipt(state="failed", reason="refused"))
    (question,) = await questions(road)
    second = await sending.reserve(question)
    assert isinstance(second, Reserved)
    await sending.settle(question, second, Receipt(state="sent"))
    (question,) = await questions(road)
    assert isinstance(await sending.reserve(question), Effect)

    assert (await visits(road))[-2:] == [("three", "skipped", "frequency_cap"), ("bye", "executed", None)]


async def test_whoever_waits_for_a_cap_sleeps_until_the_oldest_counts_no_more(road: Road) -> None:
    await road.publish(send(onBlocked="wait"), BYE, journey_id="a")
    await road.publish(send(onBlocked="wait"), BYE, journey_id="b")
    await road.enroll("ann", journey_id="a")
    sending = Sending(road.crowd.transactions, road.versions)
    (question,) = await questions(road)
    reserved = await sending.reserve(question)
    assert isinstance(reserved, Reserved)
    await sending.settle(question, reserved, Receipt(state="sent"))
    await settings(road, frequency_caps=(FrequencyCap(channel=ANY, category=ANY, limit=1, window=DAILY.window),))

    await road.enroll("ann", journey_id="b")

    assert await parked(road) == [None, "frequency_cap"]
    wakes = await road.owner.fetchval("SELECT wakes_at FROM executions WHERE journey_id = 'b'")
    assert wakes == reserved.reserved_at + DAILY.window
    assert (await road.ask(now=wakes)).kind == "run"


async def test_the_night_is_waited_for_and_other_settings_end_it(road: Road) -> None:
    await settings(road, quiet_hours=NIGHT)
    await road.publish(send(), BYE)
    await road.enroll("ann")

    assert await parked(road) == ["quiet_hours"]
    wakes = await road.owner.fetchval("SELECT wakes_at FROM executions")
    assert wakes.time() == NIGHT.hours.end
    assert (await road.ask(now=wakes)).kind == "run"
    await road.ask()
    assert await parked(road) == ["quiet_hours"]

    await settings(road, quiet_hours=None)

    assert await road.poked() == ["ann"]
    assert (await road.ask()).kind == "run"
    assert await parked(road) == [None]


async def test_who_waits_for_consent_is_woken_by_it_and_skips_in_the_end(road: Road) -> None:
    world = road.crowd.world
    await road.publish(send("one", "two", onBlocked="wait"), send("two", onBlocked="wait", waitAtMost="1d"), BYE)
    await road.crowd.known(ann={})
    for opted_out in (True, False):
        change = PreferenceChange(channel="log", category="marketing", opted_out=opted_out)
        async with world.transactions.write(world.scope.project_no) as conn:
            await preferences.update(conn, world.scope.project_no, "ann", [change])
        if opted_out:
            await road.enroll("ann")
            # An opt-out of every send of a journey refuses the entry, so nobody stands there yet.
            assert await parked(road) == []
    await road.enroll("ann")
    async with world.transactions.write(world.scope.project_no) as conn:
        await preferences.suppress(conn, world.scope, b"", "ann", channel="log", reason="bounced")
    await road.news()
    assert (await road.ask()).why == "gate"
    assert await parked(road) == ["suppressed"]
    async with world.transactions.write(world.scope.project_no) as conn:
        await preferences.unsuppress(conn, world.scope, b"", "ann", channel="log")

    assert await road.news() == ["ann"]
    assert (await road.ask()).kind == "run"


@pytest.mark.parametrize("whose", ["welcome", ALL])
async def test_paused_sends_are_held_and_go_on_when_they_are_resumed(road: Road, whose: str) -> None:
    world = road.crowd.world
    await road.publish(send(onBlocked="exit"), BYE)
    await road.enroll("before")
    await world.do(sends_pauses.pause, whose)
    await road.enroll("ann", "bert")
    sending = Sending(road.crowd.transactions, road.versions)

    held = [await sending.reserve(question) for question in await questions(road)]

    assert all(isinstance(effect, Effect) and effect.kind == "sleep" for effect in held)
    assert await parked(road) == ["sends_paused"] * 3
    assert await road.owner.fetchval("SELECT count(*) FROM sends") == 0

    await world.do(sends_pauses.resume, whose)
    closings = Closings(road.crowd.transactions, page=2)
    while await closings.step():
        pass

    assert await road.poked() == ["ann", "before", "bert"]
    assert [(await road.ask(name)).kind for name in ("ann", "before", "bert")] == ["run"] * 3
    assert await parked(road) == [None] * 3
    assert [action for action in await world.actions(whose or "default") if "sends" in action] == [
        "sends_paused",
        "sends_resumed",
    ]


async def test_who_is_just_held_is_found_by_whoever_resumes(road: Road) -> None:
    world = road.crowd.world
    await road.publish(send(), BYE)
    await road.enroll("ann")
    await world.do(sends_pauses.pause, "welcome")
    (question,) = await questions(road)
    blocker = "SELECT 1 FROM subjects WHERE subject_id = 'ann' FOR NO KEY UPDATE"
    async with road.crowd.transactions.write(None) as conn:
        await conn.execute(blocker)
        asking = asyncio.ensure_future(road.advance(question))
        await waits_for_a_lock(asking, road.owner)
        await world.do(sends_pauses.resume, "welcome")

    # It looked behind the lock, and found no pause.
    assert (await asking).kind == "run"


async def test_who_is_just_beginning_a_send_has_begun_it_before_a_pause_is_answered(road: Road) -> None:
    world = road.crowd.world
    await road.publish(send(), BYE)
    await road.enroll("ann")
    (question,) = await questions(road)
    sending = Sending(road.crowd.transactions, road.versions)
    async with road.crowd.transactions.write(None) as conn:
        await conn.execute("LOCK TABLE sends IN SHARE MODE")
        beginning = asyncio.ensure_future(sending.reserve(question))
        await waits_for_a_lock(beginning, road.owner)
        await world.do(sends_pauses.pause, "welcome")
        answering = asyncio.ensure_future(sends_pauses.await_beginners(world.transactions, world.scope))
        await waits_for_a_lock(answering, road.owner, many=2)

    await answering
    assert beginning.done()
    assert await road.owner.fetchval("SELECT count(*) FROM sends") == 1


async def test_a_pause_that_began_again_holds_again_and_a_second_end_tells_all_of_them(road: Road) -> None:
    world = road.crowd.world
    await road.publish(send(), BYE)
    await world.do(sends_pauses.pause, "welcome")
    await road.enroll("ann", "bert", "cleo")
    await world.do(sends_pauses.resume, "welcome")
    await Closings(road.crowd.transactions, page=1).step()
    (first,) = await road.poked()
    await world.do(sends_pauses.pause, "welcome")
    await road.ask(first)
    await world.do(sends_pauses.resume, "welcome")
    await road.forget_told()

    closings = Closings(road.crowd.transactions, page=1)
    while await closings.step():
        pass

    assert await road.poked() == ["ann", "bert", "cleo"]


async def test_nothing_is_not_everything(road: Road) -> None:
    with pytest.raises(NotFound):
        await road.crowd.world.do(sends_pauses.pause, "nowhere")


async def test_held_out_subjects_are_let_in_counted_and_go_nowhere(road: Road) -> None:
    await settings(road, global_holdout=Holdout(percent=30))
    await road.publish(send(), BYE, holdout={"percent": 30})
    names = [f"s{number}" for number in range(300)]

    await road.enroll(*names)
    totals = await stats.totals(road.owner, road.crowd.project_no, "welcome")

    rows = await road.owner.fetch("SELECT coalesce(held_out_by, ''), count(*) FROM enrollments GROUP BY 1")
    by = {row[0]: row[1] for row in rows}
    assert by["global"] + by["journey"] + by[""] == 300
    assert 60 < by["global"] < 120
    assert 35 < by["journey"] < 95
    assert (totals.enrolled, totals.held_out, totals.active) == (by[""], by["global"] + by["journey"], by[""])
    executions = await road.owner.fetchval("SELECT count(*) FROM executions")
    assert executions == by[""]
    await road.enroll(*names)
    assert await road.owner.fetchval("SELECT count(*) FROM enrollments") == 300


async def test_each_enrollment_records_which_share_the_project_held_out_then(road: Road) -> None:
    await road.publish(BYE)
    for number, holdout in enumerate((None, Holdout(percent=30), Holdout(percent=1, salt="all"), None)):
        await settings(road, global_holdout=holdout)
        await road.enroll(f"s{number}")

    rows = await road.owner.fetch("SELECT global_percent, global_salt FROM enrollments ORDER BY enrolled_at")

    assert [tuple(row) for row in rows] == [(0, None), (30, None), (1, "all"), (0, None)]


async def test_who_was_held_out_still_is_when_the_share_grows() -> None:
    small, large = Holdout(percent=5), Holdout(percent=20)
    names = [f"s{number}" for number in range(5000)]
    few = {name for name in names if small.has(name, "salt")}
    many = {name for name in names if large.has(name, "salt")}

    assert few < many
    assert 190 < len(few) < 310
    assert 880 < len(many) < 1120
    assert many != {name for name in names if large.has(name, "pepper")}


async def test_settings_that_cannot_be_read_are_refused_with_their_places(road: Road) -> None:
    sent = pb.Project(
        settings=pb.ProjectSettings(
            quiet_hours=pb.QuietHours(start="25:00", end="08:00"),
            frequency_caps=[pb.FrequencyCap(limit=0)],
            global_holdout=pb.Holdout(percent=100),
        )
    )
    changes = project_changes(
        sent, ["settings.quiet_hours", "settings.frequency_caps", "settings.global_holdout", "name"]
    )
    del changes["name"]

    with pytest.raises(InvalidArgument) as refused:
        await road.crowd.world.do(projects.update, "default", changes, ANY_STATE)

    assert {(fault.path, fault.reason) for fault in refused.value.faults} == {
        ("settings.quietHours.start", "INVALID_VALUE"),
        ("settings.frequencyCaps[0].limit", "OUT_OF_RANGE"),
        ("settings.frequencyCaps[0].window", "REQUIRED"),
        ("settings.globalHoldout.percent", "OUT_OF_RANGE"),
    }


async def test_a_send_that_is_not_begun_though_its_gate_has_opened_is_found(road: Road) -> None:
    await settings(road, quiet_hours=NIGHT)
    await road.publish(send(), BYE)
    await road.enroll("ann")
    assert (await road.ask("ann")).why == "gate"
    await road.owner.execute("UPDATE executions SET since = since - interval '1 day'")

    await settings(road, quiet_hours=None)
    assert (await road.ask("ann")).kind == "run"

    assert await late(road, timedelta(minutes=4)) == ([], 0)
    assert await late(road, timedelta(minutes=6)) == ([stuck.SEND_NOT_BEGUN], 1)
    await settings(road, quiet_hours=NIGHT)
    assert (await road.ask("ann")).why == "gate"
    assert await late(road, timedelta(minutes=6)) == ([], 0)


async def late(road: Road, after: timedelta) -> tuple[list[str], int]:
    """What the watchdog finds after so long, and how many the doctor does."""
    (check,) = (check for check in CHECKS if check.name == "sends_not_begun")
    async with road.crowd.transactions.read(None) as conn:
        now = await clock.now(conn) + after
        page = await stuck.page(
            conn, road.crowd.project_no, journey_id=None, after=stuck.START, bounds=stuck.Bounds(), now=now
        )
        return [one.cause for one in page.stuck], (await doctor.check(conn, check, now)).total


async def test_a_window_that_clocks_jump_over_is_waited_for_until_a_day_that_has_it(road: Road) -> None:
    await settings(road, time_zone="Europe/Berlin")
    await road.publish(send(sendWindow={"start": "02:00", "end": "03:00", "weekdays": ["sunday"]}), BYE)
    await road.enroll("ann")

    effect = await road.ask("ann", now=datetime(2027, 3, 22, 12, tzinfo=UTC))

    assert (effect.why, effect.until) == ("gate", datetime(2027, 4, 4, tzinfo=UTC).timestamp())
