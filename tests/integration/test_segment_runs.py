"""Runs over segments as they are asked for, shared and finished, while definitions change and events are counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, segments
from orchestrator.application.audience_book import AudienceBook
from orchestrator.application.derived_events import Backfill
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument
from orchestrator.domain.scope import Scope
from orchestrator.storage import saved_predicates
from tests.integration.crowd import Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
FREE: dict[str, Any] = {**PRO, "value": "free"}
DEAR: dict[str, Any] = {
    "kind": "event_fired",
    "eventName": "purchase",
    "atLeast": 1,
    "where": {"kind": "attribute", "fieldPath": "amount", "operator": "greater_than", "value": 100},
}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    return await Crowd.make(owner, api_pool, worker_pool)


@pytest.fixture
async def counted_late(crowd: Crowd) -> Crowd:
    """`dear` waits until events are counted, and the run that was asked for with it is over."""
    await crowd.happened(("ann", "purchase", None), amount=200)
    await crowd.known(bob={"tier": "pro"})
    await crowd.settle()
    await crowd.run("build")
    await crowd.segment("dear", DEAR)
    await crowd.segment("pros", PRO)
    assert await crowd.run("build") is not None
    assert await _building(crowd) == {"dear"}
    return crowd


async def test_a_segment_is_built_when_its_events_are_counted_though_its_run_is_over(counted_late: Crowd) -> None:
    crowd = counted_late
    assert await crowd.run("build") is None

    await Backfill(crowd.transactions).run()

    assert await crowd.run("build") is not None
    assert await _building(crowd) == set()
    assert await crowd.members("dear") == {"ann"}


async def test_a_build_that_leaves_out_what_can_be_asked_by_now_is_followed_by_another(crowd: Crowd) -> None:
    await crowd.happened(("ann", "purchase", None), amount=200)
    await crowd.settle()
    await crowd.segment("dear", DEAR)
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None
    for part in begun.parts:
        await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, lambda bucket: None)
    await crowd.owner.execute("UPDATE derived_events SET ready_at = now()")

    await crowd.runs.finish(crowd.project_no, begun.run_no)

    assert await crowd.run("build") is not None
    assert await _building(crowd) == set()
    assert await crowd.run("build") is None


async def test_temporal_is_told_again_of_a_run_that_is_shared(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    assert len(await crowd.runs.claim_untold()) == 1
    assert await crowd.runs.claim_untold() == []

    await crowd.segment("free", FREE)

    assert len(await crowd.runs.claim_untold()) == 1
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_runs") == 1


async def test_a_run_that_is_shared_begins_when_the_change_is_there_to_be_seen(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.settle()
    await crowd.run("build")
    await crowd.segment("some", PRO)

    async with crowd.world.transactions.write(crowd.project_no) as conn:
        await segments.update(conn, crowd.world.scope, "some", {"predicate": FREE}, Expected())
        build = asyncio.create_task(crowd.run("build"))
        done, _ = await asyncio.wait([build], timeout=1)
        assert not done
    await build

    assert await _building(crowd) == set()
    assert await crowd.members("some") == {"bob"}


async def test_who_asks_and_who_begins_at_once_never_lose_a_change(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.settle()
    for name in ("a", "b", "c"):
        await crowd.segment(name, PRO)

    async def change(name: str) -> None:
        for number in range(10):
            rules = (PRO, FREE)[number % 2]
            await crowd.world.do(segments.update, name, {"predicate": rules}, Expected())

    async def build(changing: asyncio.Future[Any]) -> None:
        while not changing.done() or await crowd.run("build"):
            await crowd.run("build")
            await asyncio.sleep(0)

    changing = asyncio.gather(*map(change, ("a", "b", "c")))
    await asyncio.gather(changing, build(changing))

    assert await _building(crowd) == set()
    assert await crowd.wrong() == []


async def test_a_segment_whose_cohort_is_gone_is_not_evaluated(crowd: Crowd) -> None:
    await crowd.segment("vips", None)
    await crowd.segment("inner", {"kind": "in_cohort", "cohortId": "vips"})
    await crowd.segment("outer", {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "inner"}})
    await crowd.world.do(segments.delete, "vips", Expected(), force=True)

    for name in ("inner", "outer"):
        with pytest.raises(FailedPrecondition) as refused:
            await crowd.world.do(segments.evaluate, name)
        assert refused.value.reason == "COHORT_NOT_FOUND"
        assert refused.value.metadata == {"segmentId": name, "cohortId": "vips"}
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_runs WHERE kind = 'evaluate'") == 0

    await crowd.segment("vips", None)
    assert await crowd.world.do(segments.evaluate, "outer")


CIRCLE = {"a": "b", "b": "a", "beside": "a"}
#: Each asks about the next; nine within each other are one too many.
TOWER = {f"t{n}": f"t{n + 1}" for n in range(10)}


@pytest.mark.parametrize(
    ("naming", "broken"),
    [
        (CIRCLE, {"a": "b", "b": "a", "beside": "a"}),
        (TOWER, {"t0": "t1", "t1": "t1"}),
    ],
)
async def test_rules_past_a_limit_are_broken_by_name_and_harm_no_other_segment(
    crowd: Crowd, naming: dict[str, str], broken: dict[str, str]
) -> None:
    for name in {*naming, *naming.values()}:
        await crowd.segment(name, PRO)
    await crowd.segment("pros", PRO)
    await crowd.run("build")
    buyers = Audience(
        name="Buyers", description="", subject_type=END_USER, predicate={"kind": "in_cohort", "cohortId": min(broken)}
    )
    await crowd.world.do(audiences.create, "buyers", buyers)
    for name, other in naming.items():
        await crowd.spoil(name, {"kind": "in_cohort", "cohortId": other})

    await crowd.known(ann={"tier": "pro"})
    await crowd.settle()

    assert await crowd.members("pros") == {"ann"}
    finished = await crowd.run("sweep")
    assert finished is not None
    assert finished.drift == 0
    rule_book = RuleBook()
    states = await crowd.world.look(_states, rule_book, [*naming, "pros"])
    assert {name: state.broken for name, state in states.items() if state.broken} == broken
    with pytest.raises(FailedPrecondition) as refused:
        await crowd.world.do(audiences.check, AudienceBook(rule_book), "buyers", "ann")
    assert refused.value.reason == "COHORT_NOT_FOUND"
    with pytest.raises(InvalidArgument) as too_large:
        await crowd.world.do(audiences.create, "others", buyers)
    assert [fault.reason for fault in too_large.value.faults] == ["TOO_LARGE"]


async def test_rules_that_do_not_read_are_broken_by_name_until_they_are_mended_and_harm_no_other_segment(
    crowd: Crowd,
) -> None:
    for name, rules in {"odd": FREE, "beside": {"kind": "in_cohort", "cohortId": "odd"}, "pros": PRO}.items():
        await crowd.segment(name, rules)
    await crowd.known(bob={"tier": "free"})
    await crowd.settle()
    await crowd.run("build")
    await crowd.spoil("odd", {"kind": "unheard_of"})

    await crowd.known(ann={"tier": "pro"}, bob={"tier": "pro"})
    await crowd.settle()

    assert await crowd.members("pros") == {"ann", "bob"}
    assert await crowd.members("odd") == await crowd.members("beside") == {"bob"}
    finished = await crowd.run("sweep")
    assert finished is not None
    assert finished.drift == 0
    states = await crowd.world.look(_states, RuleBook(), ["odd", "beside", "pros"])
    assert {name: state.broken for name, state in states.items() if state.broken} == {"odd": "odd", "beside": "odd"}
    async with crowd.transactions.read(None) as conn:
        assert await saved_predicates.unreadable(conn, crowd.project_no) == ["segment odd"]

    # Whoever saves anything else is not held up either.
    await crowd.segment("others", {"kind": "not", "clause": PRO})
    await crowd.world.do(segments.update, "odd", {"predicate": PRO}, Expected())
    await crowd.run("build")
    assert await crowd.members("odd") == await crowd.members("beside") == {"ann", "bob"}
    assert await crowd.wrong() == []


async def _states(
    conn: Connection[Record], scope: Scope, rule_book: RuleBook, segment_ids: list[str]
) -> dict[str, segments.State]:
    return await segments.states(conn, scope.project_no, rule_book, segment_ids)


async def _building(crowd: Crowd) -> set[str]:
    rows = await crowd.owner.fetch(
        "SELECT segment_id FROM segments WHERE predicate IS NOT NULL AND built_revision IS DISTINCT FROM rules_revision"
    )
    return {row[0] for row in rows}
