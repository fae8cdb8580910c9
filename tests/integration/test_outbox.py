"""What Temporal has still to be told, when there is much of it: what goes first, and what waits for whom."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import lifecycle, projects, segments
from orchestrator.application.channel_turns import PATIENCE, LettingOut
from orchestrator.application.closings import Closings
from orchestrator.application.topic_pokes import TopicPokes
from orchestrator.domain.channel_rate import ChannelRate
from orchestrator.domain.journey import OnArchive
from orchestrator.storage import clock, outbox
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, MONTH, Road
from tests.integration.test_gates import NIGHT, send, settings

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    return await Road.make(owner, api_pool, worker_pool)


async def lay(road: Road, kind: str, count: int, *, due: timedelta = -MINUTE, attempts: int = 0) -> None:
    """So much to tell of executions of another project's."""
    await road.owner.execute(
        "INSERT INTO projects (project_id, name, created_at, updated_at) VALUES ('other', 'other', now(), now())"
        " ON CONFLICT (project_id) DO NOTHING"
    )
    await road.owner.execute(
        """
        INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, attempts, leased_until,
                            created_at)
        SELECT (SELECT project_no FROM projects WHERE project_id = 'other'), 1, 1, gen_random_uuid(), $1, 'w', $3,
               now() + $4::interval, now()
          FROM generate_series(1, $2::int)
        """,
        kind,
        count,
        attempts,
        due,
    )


async def claimed(road: Road, limit: int) -> list[str]:
    """Of which kind is what one sweep takes, in the order in which it is told. Nothing of it has an execution."""
    async with road.crowd.transactions.write(None) as conn:
        now = await clock.now(conn)
        _, numbers = await outbox.claim(conn, now=now, lease=MINUTE, limit=limit)
        rows = await conn.fetch("SELECT outbox_no, kind FROM outbox")
    kinds = {row["outbox_no"]: row["kind"] for row in rows}
    return [kinds[number] for number in numbers]


async def untold(road: Road) -> int:
    count: int = await road.owner.fetchval("SELECT count(*) FROM outbox")
    return count


async def under_way(road: Road, count: int, *, awaits: list[str] | None = None, parked: str | None = None) -> None:
    await road.owner.execute(
        """
        INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq,
                                step_id, since, effect, started_at, awaits, parked)
        SELECT $1, g % 7, g / 3, gen_random_uuid(), 'welcome', 1, 'w' || g, 0, 'hello', now(), '{}', now(), $3, $4
          FROM generate_series(1, $2::int) AS g
        """,
        road.crowd.project_no,
        count,
        awaits,
        parked,
    )


async def test_starts_are_told_before_pokes_that_have_waited_longer_and_pokes_are_not_left_out(road: Road) -> None:
    await lay(road, "poke", 40, due=-10 * MINUTE)
    await lay(road, "start", 20)

    assert await claimed(road, 16) == ["start"] * 12 + ["poke"] * 4
    assert await claimed(road, 16) == ["start"] * 8 + ["poke"] * 8
    assert await claimed(road, 16) == ["poke"] * 16


async def test_a_sweep_takes_no_more_than_it_may_and_nothing_that_is_leased(road: Road) -> None:
    await lay(road, "start", 5)
    await lay(road, "start", 5, due=MINUTE)

    assert await claimed(road, 4) == ["start"] * 3
    assert await claimed(road, 16) == ["start"] * 2
    assert await claimed(road, 16) == []


async def test_what_can_never_be_told_counts_no_more_and_what_is_being_told_does(road: Road) -> None:
    async def is_backlog(kind: str) -> bool:
        async with road.crowd.transactions.read(None) as conn:
            return await outbox.is_backlog(conn, kind, 10)

    await lay(road, "poke", 30, attempts=outbox.HOPELESS)
    assert not await is_backlog("poke")

    await lay(road, "poke", 9, due=MINUTE, attempts=outbox.HOPELESS - 1)
    assert not await is_backlog("poke")
    await lay(road, "poke", 1)
    assert await is_backlog("poke")
    assert not await is_backlog("start")


async def test_a_channel_lets_out_whatever_is_still_to_be_told_of_others(road: Road) -> None:
    await road.publish(send(), BYE)
    await settings(road, channel_rates=(ChannelRate(channel="log", per_second=0.01),))
    await road.enroll("ann", "bob")
    await road.owner.execute("UPDATE channel_turns SET used_to = used_to - interval '1 day'")
    await lay(road, "poke", 6000)
    letting_out = LettingOut(road.crowd.transactions)

    assert await letting_out.waited_for() == [(road.crowd.project_no, "log")]
    assert len(await letting_out.step(road.crowd.project_no, "log")) == 1


async def test_who_is_let_out_is_not_poked_again_while_the_first_poke_is_still_to_be_told(road: Road) -> None:
    await road.publish(send(), BYE)
    await settings(road, channel_rates=(ChannelRate(channel="log", per_second=0.01),))
    await road.enroll("ann", "bob")
    await road.owner.execute("UPDATE channel_turns SET used_to = used_to - interval '1 day'")
    letting_out = LettingOut(road.crowd.transactions)

    async def patience_ends() -> int:
        await road.owner.execute("UPDATE waiting_sends SET let_out_at = let_out_at - $1::interval", 2 * PATIENCE)
        return len(await letting_out.step(road.crowd.project_no, "log"))

    assert len(await letting_out.step(road.crowd.project_no, "log")) == 1
    assert [await patience_ends() for _ in range(3)] == [0, 0, 0]
    await road.forget_told()
    assert await patience_ends() == 1


async def test_journeys_that_end_their_executions_fill_the_outbox_no_more_than_others_do(road: Road) -> None:
    await road.publish(send(), BYE)
    await under_way(road, 30)
    await road.crowd.world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)
    closings = Closings(road.crowd.transactions, page=4, backlog=10)

    async def work() -> None:
        while await closings.step():
            pass

    await work()
    assert await untold(road) == 12  # at most a page more
    told: set[Any] = set()
    while rows := await road.owner.fetch("DELETE FROM outbox RETURNING execution_id"):
        assert len(rows) <= 12
        told |= {row["execution_id"] for row in rows}
        await work()
    assert len(told) == 30


async def test_settings_change_at_once_and_pokes_for_many_come_in_pages(road: Road) -> None:
    await road.publish(send(), BYE)
    await under_way(road, 40, awaits=["attributes", "gates", "preferences"], parked="quiet_hours")
    await under_way(road, 15, awaits=["event:paid"])
    await under_way(road, 5)

    await settings(road, quiet_hours=NIGHT)

    assert await untold(road) == 0, "the call tells nobody"
    pages = TopicPokes(road.crowd.transactions, page=4, backlog=10)
    told: list[Any] = []
    while await road.owner.fetchval("SELECT EXISTS (SELECT FROM topic_pokes)"):
        while await pages.step():
            pass
        rows = await road.owner.fetch("DELETE FROM outbox RETURNING execution_id")
        assert len(rows) <= 13
        told += [row["execution_id"] for row in rows]
    waiting = await road.owner.fetch("SELECT execution_id FROM executions WHERE 'gates' = ANY (awaits)")
    assert sorted(told) == sorted(row["execution_id"] for row in waiting), "each once"


async def test_what_changes_while_pages_are_told_is_told_to_all_in_another_round(road: Road) -> None:
    await road.publish(send(), BYE)
    await under_way(road, 6, awaits=["gates"])
    await under_way(road, 6, awaits=["attributes"])
    pages = TopicPokes(road.crowd.transactions, page=5)
    await settings(road, quiet_hours=NIGHT)
    await settings(road, quiet_hours=None)
    for _ in range(2):  # who may still go by what was so before, and a page
        assert await pages.step()

    await settings(road, time_zone="Europe/Berlin")
    await settings(road, time_zone="Europe/Paris")
    await settings(road, quiet_hours=NIGHT)
    await road.poked()

    rows = await road.owner.fetch(
        "SELECT awaits[1], count(*), count(DISTINCT o.execution_id) AS those FROM outbox AS o"
        "  JOIN executions AS e USING (project_no, execution_id) GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("attributes", 6, 6), ("gates", 12, 6)]


async def test_nobody_is_passed_over_who_was_deciding_by_the_settings_of_before(road: Road) -> None:
    await settings(road, quiet_hours=NIGHT)
    await road.publish(send(), BYE)
    await road.enroll("ann")
    await road.owner.execute("UPDATE executions SET awaits = NULL, parked = NULL")
    pages = TopicPokes(road.crowd.transactions)
    async with road.crowd.transactions.write(None) as conn:
        await conn.execute("UPDATE executions SET awaits = '{gates}', parked = 'quiet_hours'")
        await settings(road, quiet_hours=None)

        assert await pages.step(), "it notes who is at work"
        assert not await pages.step(), "and waits for them"

    assert await road.poked() == ["ann"]


async def test_projects_take_turns(road: Road, owner: Connection[Record], api_pool: Pool[Record]) -> None:
    await road.publish(send(), BYE)
    await under_way(road, 9, awaits=["gates"])
    await settings(road, quiet_hours=NIGHT)
    pages = TopicPokes(road.crowd.transactions, page=2)
    for _ in range(2):
        assert await pages.step()
    other = await type(road.crowd.world).make(owner, api_pool, "other")
    await other.do(projects.update, "other", {"time_zone": "Europe/Paris"}, ANY_STATE)

    for _ in range(4):
        assert await pages.step()

    left = await owner.fetch("SELECT project_no FROM topic_pokes")
    assert [row[0] for row in left] == [road.crowd.project_no], "the other has nobody, and did not wait for these"


async def test_segments_that_change_tell_who_awaits_them_and_who_stands_where_they_are_missed(road: Road) -> None:
    asks = {"kind": "in_cohort", "cohortId": "vip"}
    branch = {"id": "check", "branch": {"arms": [{"id": "vip", "when": asks, "next": "bye"}], "otherwise": "bye"}}
    await road.publish(branch, BYE)
    await road.publish(MONTH, BYE, journey_id="plain")
    await under_way(road, 4, parked="segment_not_found")
    await under_way(road, 3)
    await under_way(road, 2, awaits=["segment:vip"])
    await under_way(road, 2, awaits=["segment:other"])
    world = road.crowd.world
    async with world.transactions.write(world.scope.project_no) as conn:
        await segments.delete(conn, world.scope, "vip", ANY_STATE, force=True)
        assert await conn.fetchval("SELECT count(*) FROM outbox") == 0

    assert len(await world.pokes()) == 6
    assert await untold(road) == 6


@pytest.fixture
async def much(road: Road) -> Road:
    """A hundred thousand things that somebody is at, half of them starts; a thousand pokes and a start are due."""
    for kind in ("poke", "start"):
        await lay(road, kind, 50_000, due=MINUTE)
    await lay(road, "poke", 1000)
    await lay(road, "start", 1)
    await road.owner.execute("ANALYZE outbox")
    return road


async def test_nobody_looks_at_all_that_waits(much: Road) -> None:
    now = datetime.now(UTC)
    await much.publish(send(), BYE)
    await under_way(much, 1)
    one = [await much.owner.fetchval("SELECT execution_id FROM executions")]

    async def rows_read(sql: str, *arguments: object) -> int:
        """How many rows of the outbox or its indexes a statement reads at most in one place."""
        async with much.crowd.transactions.write(None) as conn:
            plan = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments)
        found: list[int] = []

        def walk(node: dict[str, Any]) -> None:
            if node.get("Relation Name") == "outbox":
                removed = node.get("Rows Removed by Filter", 0)
                found.append((node["Actual Rows"] + removed) * node["Actual Loops"])
            for child in node.get("Plans", []):
                walk(child)

        walk(json.loads(plan)[0]["Plan"])
        return max(found)

    assert await rows_read(outbox._CLAIM, now, 256, now + MINUTE, 64) <= 256
    assert await rows_read(outbox._UNTOLD, "poke", 500, outbox.HOPELESS) <= 1000
    assert await rows_read(outbox._UNFINISHED, [much.crowd.project_no], one) <= 1
