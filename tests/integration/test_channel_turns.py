"""Channels with a rate, on a real database: who goes at once, who waits, whose turn it is, and what comes between."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.convert.projects import project_changes
from orchestrator.application import preferences, projects
from orchestrator.application.channel_turns import PATIENCE, LettingOut
from orchestrator.application.sending import Receipt, Reserved, Sending
from orchestrator.domain.channel_rate import BEHIND, USUAL, ChannelRate
from orchestrator.domain.gates import ANY
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.storage import channel_turns
from orchestrator.temporal.contract import Effect, Question
from orchestrator.v1 import project_pb2 as pb
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, Road

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
SLOW = ChannelRate(channel="log", per_second=0.01)
QUICK = ChannelRate(channel="log", per_second=20, burst=5)


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    road = await Road.make(owner, api_pool, worker_pool)
    await road.publish(HELLO, BYE)
    return road


async def rates(road: Road, *channel_rates: ChannelRate) -> None:
    await road.crowd.world.do(projects.update, "default", {"channel_rates": channel_rates}, ANY_STATE)


def sending(road: Road) -> Sending:
    return Sending(road.crowd.transactions, road.versions)


async def question(road: Road, subject_id: str) -> Question:
    row = await road.owner.fetchrow(
        "SELECT e.* FROM executions AS e JOIN subjects USING (project_no, bucket, subject_no) WHERE subject_id = $1",
        subject_id,
    )
    assert row is not None
    return Question(
        project_no=row["project_no"],
        bucket=row["bucket"],
        subject_no=row["subject_no"],
        execution_id=str(row["execution_id"]),
        seq=row["seq"],
        now=0.0,
    )


async def reserve(road: Road, subject_id: str) -> Reserved:
    reserved = await sending(road).reserve(await question(road, subject_id))
    assert isinstance(reserved, Reserved), reserved
    return reserved


async def waiting(road: Road) -> list[str]:
    """The subjects whose sends wait, in the order of their turns."""
    rows = await road.owner.fetch(
        """
        SELECT s.subject_id FROM waiting_sends AS w JOIN executions AS e USING (project_no, execution_id)
          JOIN subjects AS s USING (project_no, bucket, subject_no) ORDER BY w.rank, w.waiting_no
        """
    )
    return [row[0] for row in rows]


async def let_out(road: Road) -> list[str]:
    """Whom one look at the channel tells to go on."""
    await road.forget_told()
    await LettingOut(road.crowd.transactions).step(road.crowd.project_no, "log")
    return await road.poked()


async def opt_out(road: Road, subject_id: str) -> None:
    everything = PreferenceChange(channel=ANY, category=ANY, opted_out=True)
    async with road.crowd.world.transactions.write(road.crowd.project_no) as conn:
        await preferences.update(conn, road.crowd.project_no, subject_id, [everything])


async def rested(road: Road, how_long: timedelta = timedelta(days=1)) -> None:
    """So much time has gone by at the channel."""
    await road.owner.execute("UPDATE channel_turns SET used_to = used_to - $1::interval", how_long)


async def test_as_many_go_at_once_as_there_is_room_for_and_the_others_wait_in_their_order(road: Road) -> None:
    await rates(road, ChannelRate(channel="log", per_second=0.01, burst=2))

    await road.enroll("ann", "bob", "cem", "dan")
    await road.enroll("eve")

    kinds = await road.owner.fetch(
        "SELECT effect ->> 'kind', parked, count(*) FROM executions GROUP BY 1, 2 ORDER BY 1"
    )
    assert [tuple(row) for row in kinds] == [("run", None, 2), ("sleep", "channel_rate", 3)]
    assert (await waiting(road))[-1] == "eve"
    # Nobody's turn comes by asking.
    assert (await road.ask("eve")).why == "gate"


async def test_turns_are_as_far_apart_as_the_rate_says_whoever_takes_them(road: Road) -> None:
    await road.enroll("ann")
    reserved = await reserve(road, "ann")
    pool = road.crowd.transactions

    async def take() -> timedelta | None:
        async with pool.write(None) as conn:
            return await channel_turns.take(
                conn, road.crowd.project_no, QUICK, reserved.execution_id, timedelta(seconds=2)
            )

    waits = sorted(wait for wait in await asyncio.gather(*(take() for _ in range(40))) if wait is not None)

    # Five at once, the others every 50 ms, but for the time that the taking itself took.
    assert len(waits) == 40
    assert waits[4] == timedelta(0)
    used = await road.owner.fetchval("SELECT used_to - clock_timestamp() FROM channel_turns")
    assert timedelta(seconds=1.0) < used <= timedelta(seconds=40 / 20)
    assert waits[-1] == pytest.approx(timedelta(seconds=35 / 20), abs=timedelta(seconds=0.75))


async def test_a_turn_that_is_too_far_off_is_not_taken(road: Road) -> None:
    await rates(road, SLOW)
    await road.enroll("ann")
    first = await reserve(road, "ann")
    assert await sending(road).take_turn(first) == timedelta(0)
    used = await road.owner.fetchval("SELECT used_to FROM channel_turns")

    assert await sending(road).take_turn(first) is None

    assert await road.owner.fetchval("SELECT used_to FROM channel_turns") == used


async def test_a_try_that_comes_too_early_gives_way_and_waits_and_is_made_once(road: Road) -> None:
    await rates(road, SLOW)
    await road.enroll("ann")
    await road.enroll("bob")
    assert await waiting(road) == []  # both found it free, and only one is right
    ann, bob = await reserve(road, "ann"), await reserve(road, "bob")
    assert await sending(road).take_turn(ann) is not None
    assert await sending(road).take_turn(bob) is None

    effect = await sending(road).give_way(await question(road, "bob"), bob)

    assert (effect.kind, effect.why, effect.seq) == ("sleep", "gate", 0)
    assert await waiting(road) == ["bob"]
    assert await let_out(road) == []
    await rested(road)
    assert await let_out(road) == ["bob"]
    assert await let_out(road) == []  # he is on his way
    assert (await road.ask("bob")).kind == "run"
    again = await reserve(road, "bob")
    assert (again.attempt, again.in_doubt) == (2, False)
    assert await sending(road).take_turn(again) is not None
    assert await waiting(road) == []
    effect = await sending(road).settle(await question(road, "bob"), again, Receipt(state="sent"))
    assert effect.kind == "end"
    assert await road.owner.fetchval("SELECT count(*) FROM sends WHERE state = 'sent'") == 1


async def test_whoever_opts_out_while_he_waits_is_not_sent_anything_and_holds_up_nobody(road: Road) -> None:
    await rates(road, SLOW)
    await road.enroll("ann")
    await sending(road).take_turn(await reserve(road, "ann"))
    await road.enroll("bob")
    await road.enroll("cem")
    assert await waiting(road) == ["bob", "cem"]
    await road.news()

    await opt_out(road, "bob")

    assert await road.news() == ["bob"]
    assert (await road.ask("bob")).kind == "end"
    assert await waiting(road) == ["cem"]
    # And if he does so when he has been let out: his turn goes to somebody else.
    await rested(road)
    assert await let_out(road) == ["cem"]
    await opt_out(road, "cem")
    asked = await question(road, "cem")
    assert isinstance(await sending(road).reserve(asked), Effect)
    assert await waiting(road) == []
    reasons = await road.owner.fetch("SELECT reason FROM visits WHERE step_id = 'hello'")
    assert [row[0] for row in reasons] == ["opted_out", "opted_out"]


async def test_who_was_let_out_and_dies_on_the_way_is_let_out_again(road: Road) -> None:
    await rates(road, SLOW)
    await road.enroll("ann")
    await sending(road).take_turn(await reserve(road, "ann"))
    await road.enroll("bob", "cem")
    await rested(road)
    (first,) = await let_out(road)
    assert await let_out(road) == []

    await road.owner.execute("UPDATE waiting_sends SET let_out_at = let_out_at - $1::interval", 2 * PATIENCE)

    assert await let_out(road) == [first]


async def test_who_came_first_goes_first_and_who_came_with_many_last(road: Road) -> None:
    await rates(road, SLOW)
    await road.enroll("ann")
    await sending(road).take_turn(await reserve(road, "ann"))
    await road.enroll("bob")
    await road.enroll("cem")
    await road.enroll("dan")
    await road.owner.execute(
        """
        UPDATE waiting_sends AS w SET rank = CASE s.subject_id WHEN 'bob' THEN $1::int ELSE $2 END
          FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)
         WHERE e.execution_id = w.execution_id
        """,
        BEHIND,
        USUAL,
    )

    came = []
    for _ in range(3):
        await rested(road)
        came += await let_out(road)
        await road.owner.execute("DELETE FROM waiting_sends WHERE let_out_at IS NOT NULL")

    assert came == ["cem", "dan", "bob"]


async def test_as_many_are_let_out_as_find_a_turn_by_the_time_they_get_there(road: Road) -> None:
    await rates(road, QUICK)
    people = [f"p{number}" for number in range(40)]
    await road.enroll(*people)
    assert len(await waiting(road)) == 35
    await road.owner.execute("UPDATE channel_turns SET used_to = clock_timestamp() + interval '1 hour', lead = 1")
    assert await let_out(road) == []
    await road.owner.execute("UPDATE channel_turns SET used_to = clock_timestamp() - interval '1 hour'")

    first, second = await let_out(road), await let_out(road)

    # The five of a rest, and those of the second that they take to come.
    assert 24 <= len(first) <= 26
    assert len(first) + len(second) <= 26


async def test_a_provider_that_wants_nothing_is_left_alone_by_all_of_the_project_and_by_no_other(road: Road) -> None:
    await rates(road, QUICK)
    await road.enroll("ann")
    reserved = await reserve(road, "ann")
    await sending(road).take_turn(reserved)
    await sending(road).note(reserved, None, in_doubt=False)

    await sending(road).close_channel(reserved, timedelta(minutes=10))

    await road.enroll("bob", "cem")
    assert len(await waiting(road)) == 2
    assert await sending(road).take_turn(reserved) is None
    assert await let_out(road) == []
    await road.owner.execute("UPDATE channel_turns SET closed_until = clock_timestamp()")
    assert len(await let_out(road)) == 2


async def test_without_a_rate_nobody_waits_any_more(road: Road) -> None:
    await rates(road, SLOW)
    await road.enroll("ann", "bob", "cem")
    assert len(await waiting(road)) == 2

    await rates(road)

    assert len(await let_out(road)) == 2
    assert await waiting(road) == []
    for subject_id in ("bob", "cem"):
        assert (await road.ask(subject_id)).kind == "run"
        assert await sending(road).take_turn(await reserve(road, subject_id)) == timedelta(0)


async def test_whoever_waits_and_is_ended_is_forgotten(road: Road) -> None:
    await rates(road, SLOW)
    await road.enroll("ann", "bob", "cem")
    left = await waiting(road)
    await road.owner.execute("UPDATE executions SET outcome = 'canceled', reason = 'x', ended_at = now()")
    await rested(road)

    assert await let_out(road) == []

    assert len(await waiting(road)) < len(left)


async def test_a_send_behind_a_send_waits_like_any_other(road: Road) -> None:
    await road.publish(
        {**HELLO, "next": "more"}, {"id": "more", "send": {"communicationId": "welcome"}, "next": "bye"}, BYE,
        journey_id="two",
    )  # fmt: skip
    await rates(road, SLOW)
    await road.enroll("ann", journey_id="two")
    reserved = await reserve(road, "ann")
    await sending(road).take_turn(reserved)

    effect = await sending(road).settle(await question(road, "ann"), reserved, Receipt(state="sent"))

    assert (effect.kind, effect.step_id, effect.why) == ("sleep", "more", "gate")
    assert await waiting(road) == ["ann"]


@pytest.mark.parametrize(
    ("rate", "path"),
    [
        ({"channel": "log"}, "ratePerSecond"),
        ({"channel": "log", "rate_per_second": 0}, "ratePerSecond"),
        ({"channel": "log", "rate_per_second": 20_000}, "ratePerSecond"),
        ({"channel": "log", "rate_per_second": float("nan")}, "ratePerSecond"),
        ({"channel": "log", "rate_per_second": float("inf")}, "ratePerSecond"),
        ({"channel": "log", "rate_per_second": 1, "burst": 0}, "burst"),
        ({"channel": "pigeon", "rate_per_second": 1}, "channel"),
        ({"channel": "*", "rate_per_second": 1}, "channel"),
        ({"rate_per_second": 1}, "channel"),
    ],
)
async def test_a_rate_that_is_none_is_refused_where_it_stands(road: Road, rate: dict[str, Any], path: str) -> None:
    first = pb.ChannelRate(channel="email", rate_per_second=1)
    settings = pb.ProjectSettings(channel_rates=[first, pb.ChannelRate(**rate)])
    changes = project_changes(pb.Project(settings=settings), ["settings.channel_rates"])

    with pytest.raises(InvalidArgument) as refused:
        await road.crowd.world.do(projects.update, "default", changes, ANY_STATE)

    assert [fault.path for fault in refused.value.faults] == [f"settings.channelRates[1].{path}"]
