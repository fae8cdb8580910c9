"""Kinds of events that nothing asks about any more are given up; who asks again finds them counted as ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, predicates
from orchestrator.application.derived_events import Backfill
from orchestrator.application.given_up_kinds import GivenUpKinds
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.refusals import InvalidArgument
from tests.integration.crowd import Crowd
from tests.integration.journey_world import ANY_STATE

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PAST = datetime(2024, 2, 28, tzinfo=UTC)


def dear(over: int = 100) -> dict[str, Any]:
    where = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": over}
    window = {"type": "since", "time": "2020-01-01T00:00:00Z"}
    return {"kind": "event_fired", "eventName": "purchase", "atLeast": 2, "window": window, "where": where}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    await crowd.happened(*((f"s{n}", "purchase", PAST + timedelta(hours=n)) for n in range(9)), amount=200)
    return crowd


@pytest.fixture
def giving_up(crowd: Crowd) -> GivenUpKinds:
    return GivenUpKinds(crowd.transactions, kept=timedelta(0))


async def audience(crowd: Crowd, audience_id: str, rules: dict[str, Any]) -> None:
    saved = Audience(name=audience_id, description="", subject_type=END_USER, predicate=rules)
    await crowd.world.do(audiences.create, audience_id, saved)


async def counted(owner: Connection[Record]) -> tuple[int, int, int]:
    """Events, counts and counts by day of kinds."""
    return tuple(
        [
            await owner.fetchval(
                f"SELECT count(*) FROM {table} WHERE name_no <> 0 AND name_no NOT IN (SELECT name_no FROM event_names)"
            )
            for table in ("events", "subject_event_state", "subject_event_days")
        ]
    )


async def test_a_kind_that_nothing_asks_about_is_counted_no_longer_and_all_of_it_goes(
    crowd: Crowd, giving_up: GivenUpKinds, owner: Connection[Record]
) -> None:
    await audience(crowd, "buyers", dear())
    await audience(crowd, "others", dear(over=5))
    await Backfill(crowd.transactions).run()
    await crowd.happened(("s1", "purchase", None), amount=200)
    assert await giving_up.run() == 0
    assert await counted(owner) == (20, 18, 20)

    await crowd.world.do(audiences.delete, "buyers", ANY_STATE)
    stopped = await giving_up.run(lambda: False)
    await crowd.happened(("s2", "purchase", None), amount=200)
    removed = await giving_up.run()

    assert (stopped, removed) == (0, 9)
    assert await counted(owner) == (11, 9, 11)
    assert await owner.fetchval("SELECT count(*) FROM given_up_kinds") == 0


async def test_who_asks_again_has_it_counted_anew(
    crowd: Crowd, giving_up: GivenUpKinds, owner: Connection[Record]
) -> None:
    await audience(crowd, "buyers", dear())
    await crowd.world.do(audiences.delete, "buyers", ANY_STATE)
    # One that is being counted goes, too.
    await giving_up.run()
    assert await Backfill(crowd.transactions).run() == 0

    await crowd.segment("buyers", dear())
    await crowd.happened(("s1", "purchase", None), ("s2", "purchase", None), amount=200)
    await crowd.settle()
    await Backfill(crowd.transactions).run()
    await crowd.run("build")

    assert await crowd.members("buyers") == {"s1", "s2"}
    assert await counted(owner) == (11, 9, 11)
    assert await crowd.wrong() == []


async def test_no_kind_is_given_up_while_something_that_may_ask_about_it_does_not_read(
    crowd: Crowd, giving_up: GivenUpKinds, owner: Connection[Record]
) -> None:
    await crowd.segment("buyers", dear())
    await crowd.spoil("buyers", {"kind": "unheard_of", "where": dear()["where"]})

    await giving_up.run()

    assert await owner.fetchval("SELECT count(*) FROM derived_events") == 1


async def test_a_project_counts_so_many_kinds_and_no_more(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicates, "MAX_KINDS", 2)
    await audience(crowd, "one", dear(1))
    await audience(crowd, "two", dear(2))
    # What is counted already may be asked about again.
    await audience(crowd, "again", dear(1))

    with pytest.raises(InvalidArgument) as refused:
        await audience(crowd, "three", dear(3))

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [("predicate", "TOO_LARGE")]
