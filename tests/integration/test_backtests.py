"""What a journey would have done lately: what happened to subjects, replayed."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.application import segments, trigger_contracts
from orchestrator.application.backtests import BIASES, Backtest, Backtests
from orchestrator.application.journeys import Changes, update
from orchestrator.application.versions import Versions
from orchestrator.domain.refusals import FailedPrecondition, Unavailable
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from tests.integration.crowd import Crowd
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.road import BYE, LATE, Road, event, wait_for

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
AGAIN = {**HELLO, "id": "again"}
DAY, HOUR = timedelta(days=1), timedelta(hours=1)

_projects = count()


@pytest.fixture(scope="module")
async def pools(shared_database: str) -> AsyncIterator[tuple[Connection[Record], Pool[Record], Pool[Record]]]:
    owner = await asyncpg.connect(shared_database)
    await owner.execute("CREATE TABLE events_of_other_months PARTITION OF events DEFAULT")
    api = await open_pool(shared_database, role=API_ROLE, size=4, application_name="test-api")
    workers = await open_pool(shared_database, role=WORKER_ROLE, size=4, application_name="test-worker")
    yield owner, api, workers
    await api.close()
    await workers.close()
    await owner.close()


@pytest.fixture
async def road(pools: tuple[Connection[Record], Pool[Record], Pool[Record]]) -> Road:
    owner, api, workers = pools
    world = await World.make(owner, api, f"p{next(_projects)}")
    await world.furnish()
    road = Road(Crowd(world, workers))
    await road.starts_on("order")
    return road


async def now(road: Road) -> datetime:
    found: datetime = await road.owner.fetchval("SELECT clock_timestamp()")
    return found


async def backtest(road: Road, days: int = 7, **limits: Any) -> Backtest:
    world = road.crowd.world
    return await Backtests(Versions(), **limits).run(world.transactions, world.scope, "welcome", days)


async def draft(road: Road, *steps: dict[str, Any], **members: Any) -> None:
    await road.crowd.world.draft("welcome", {"steps": list(steps), "triggerContractId": "on-order", **members})


async def test_who_would_have_come_in_and_what_they_would_have_been_sent_is_told_day_by_day(road: Road) -> None:
    start = await now(road)
    half = {
        "id": "half",
        "split": {"arms": [{"id": "a", "weight": 1, "next": "pause"}, {"id": "b", "weight": 1, "next": "bye"}]},
    }
    pause = {"id": "pause", "wait": {"duration": "2d"}, "next": "again"}
    await draft(road, {**HELLO, "next": "half"}, half, pause, AGAIN, BYE)
    who = [f"s{n}" for n in range(40)]
    await road.crowd.happened(*((one, "order", start - 5 * DAY - HOUR) for one in who))
    await road.crowd.happened(*((one, "order", start - 30 * DAY) for one in who))
    await road.crowd.happened(*((one, "visit", start - 4 * DAY) for one in who))

    told = await backtest(road)

    arms = {reason: total for (_, reason), total in told.tally.ways.items()}
    assert set(arms) == {"a", "b"}
    assert sum(arms.values()) == 40
    assert told.tally.entries == {1: 40}
    assert told.tally.sends == {(1, "log"): 40, (3, "log"): arms["a"]}
    assert told.tally.outcomes == {"completed": 40}
    assert (told.version, told.days, told.buckets, told.entries.size, told.entries.exact) == (None, 7, 256, 40, True)
    assert "sample" not in told.biases
    assert {"attributes", "reactions"} <= set(told.biases)


async def test_gates_at_entry_are_asked_as_of_each_event(road: Road) -> None:
    start = await now(road)
    lately = {"kind": "event_fired", "eventName": "visit", "window": {"type": "last", "duration": "1d"}}
    await road.crowd.segment("visitors", lately)
    ask = {
        "id": "ask",
        "branch": {
            "arms": [{"id": "came", "when": {"kind": "in_cohort", "cohortId": "visitors"}, "next": "bye"}],
            "otherwise": "late",
        },
    }
    await draft(road, ask, BYE, LATE, audienceId="buyers", reentry={"policy": "interval", "interval": "2d"})
    await road.crowd.happened(
        ("ann", "visit", start - 3 * DAY - HOUR), *(("ann", "order", start - n * DAY) for n in (5, 4, 3))
    )
    await road.crowd.happened(("bob", "order", start - DAY))
    await road.crowd.world.do(segments.add_members, "vip", ["ann"])

    told = await backtest(road)

    assert told.tally.entries == {1: 1, 3: 1}
    assert told.tally.refused == {"re_entry": 1, "audience": 1}
    assert told.tally.ways == {("ask", "otherwise"): 1, ("ask", "came"): 1}


async def test_executions_of_one_subject_meet_the_same_caps_in_the_order_of_time(road: Road) -> None:
    start = await now(road)
    await road.owner.execute(
        "UPDATE projects SET settings = settings || $2::jsonb WHERE project_no = $1",
        road.crowd.project_no,
        json.dumps({"frequencyCaps": [{"limit": 2, "window": "3d"}]}),
    )
    pause = {"id": "pause", "wait": {"duration": "36h"}, "next": "again"}
    await draft(road, {**HELLO, "next": "pause"}, pause, AGAIN, BYE)
    # 6: hello; 5: hello; 4.5: again is capped; 3.5: again is capped no more, for hello of day 6 has left the window.
    await road.crowd.happened(("ann", "order", start - 6 * DAY), ("ann", "order", start - 5 * DAY))

    told = await backtest(road)

    assert told.tally.sends.total() == 2
    assert told.tally.capped == {(2, "log"): 1, (3, "log"): 1}
    assert told.tally.stopped == {"frequency_cap": 2}


async def test_ways_into_segments_are_replayed_as_they_were_taken(road: Road) -> None:
    lately = {"kind": "event_fired", "eventName": "visit", "window": {"type": "last", "duration": "2d"}}
    await road.crowd.known(ann={"plan": "pro"}, bob={"plan": "free"}, cid={"plan": "pro"})
    await road.crowd.segment("visitors", lately)
    await road.crowd.run("build")
    pro = {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"}
    contract = Contract(
        name="Visitors",
        event_name=None,
        predicate=pro,
        entry_key_path=None,
        segment_id="visitors",
        transition="entered",
    )
    await road.crowd.world.do(trigger_contracts.create, "visits", contract)
    await draft(road, HELLO, BYE, triggerContractId="visits")
    await road.crowd.happened(("ann", "visit", None), ("bob", "visit", None))
    await road.crowd.settle()

    told = await backtest(road)

    assert (told.tally.subjects, told.tally.entries, told.tally.sends) == (2, {6: 1}, {(6, "log"): 1})
    assert told.tally.refused == {"trigger_predicate": 1}


async def test_what_happened_meanwhile_wakes_and_who_is_not_through_is_under_way(road: Road) -> None:
    start = await now(road)
    await draft(road, wait_for(event("paid")), BYE, LATE)
    await road.crowd.happened(("ann", "order", start - 5 * DAY), ("bob", "order", start - 5 * DAY))
    await road.crowd.happened(("ann", "paid", start - 4 * DAY))

    told = await backtest(road)

    assert told.tally.ways == {("await", "came"): 1}
    assert (told.tally.outcomes, told.tally.under_way) == ({"completed": 1}, 1)


def test_the_page_names_every_bias() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*)\. \|$", page, re.MULTILINE)

    assert {bias: told[0].lower() + told[1:] for bias, told in rows if bias in BIASES} == dict(BIASES)


async def test_time_that_is_up_gives_an_estimate_or_says_so(road: Road) -> None:
    await draft(road, BYE)
    with pytest.raises(Unavailable, match="nobody could be replayed"):
        await backtest(road, budget=timedelta(0))


async def test_a_journey_that_is_only_entered_by_hand_has_nothing_to_replay(road: Road) -> None:
    await road.crowd.world.draft("welcome", {"steps": [BYE]})
    with pytest.raises(FailedPrecondition, match="nothing that happens starts"):
        await backtest(road)
    await road.crowd.world.do(
        update, "welcome", Changes(definition={"steps": [{"id": "x", "wait": {"duration": "1d"}}]}), ANY_STATE
    )
    with pytest.raises(FailedPrecondition, match="cannot be published"):
        await backtest(road)


async def test_what_steps_change_and_let_happen_is_seen_by_all_executions_of_the_subject_and_no_webhook_is_called(
    road: Road,
) -> None:
    start = await now(road)
    is_first = {"kind": "attribute", "fieldPath": "count", "operator": "exists"}
    ask = {"id": "ask", "branch": {"arms": [{"id": "second", "when": is_first, "next": "call"}], "otherwise": "write"}}
    write = {"id": "write", "updateSubject": {"attributes": {"count": 1}}, "next": "await"}
    call = {"id": "call", "webhook": {"url": "https://example.com/", "otherwise": "late"}, "next": "tell"}
    tell = {"id": "tell", "emitEvent": {"eventName": "second", "properties": {"n": "{{ 2 }}"}}, "next": "again"}
    waits = wait_for(event("second")) | {"next": "hello"}
    await draft(road, ask, write, waits, HELLO, call, tell, AGAIN, BYE, LATE)
    await road.crowd.happened(("ann", "order", start - 5 * DAY), ("ann", "order", start - 5 * DAY + 3 * HOUR))

    told = await backtest(road)

    # The first one was waiting for what the second one let happen, and went on at once.
    assert told.tally.ways == {("ask", "otherwise"): 1, ("ask", "second"): 1, ("await", "came"): 1}
    assert told.tally.sends == {(2, "log"): 2}
    assert told.tally.outcomes == {"completed": 2}
    assert {"webhooks", "effects"} <= set(told.biases)
    await road.crowd.world.do(update, "welcome", Changes(definition={"steps": [HELLO, BYE]}), ANY_STATE)
    assert not {"webhooks", "effects"} & set((await backtest(road)).biases)
