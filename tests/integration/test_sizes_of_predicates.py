"""Predicates grow by the rules of their segments: what would be too large is refused by whoever would make it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, estimates, journeys, publishing, segments, trigger_contracts
from orchestrator.application.audience_book import AudienceBook
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument
from orchestrator.domain.segment import DYNAMIC, Segment
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.cohorts import MAX_INLINED_COHORTS, MAX_INLINED_LEAVES
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.parse import MAX_DEPTH, MAX_LEAVES
from tests.integration.journey_world import ANY_STATE, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection, Pool, Record

PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
#: So many of the widest segments fit into one predicate.
FIT = MAX_INLINED_LEAVES // MAX_LEAVES


def any_of(clauses: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "or", "clauses": clauses}


def cohorts(*ids: str) -> list[dict[str, Any]]:
    return [{"kind": "in_cohort", "cohortId": cohort_id} for cohort_id in ids]


WIDEST = any_of([PRO] * MAX_LEAVES)
FULL = any_of(cohorts(*["wide"] * FIT))
TOO_LARGE = any_of([{"kind": "not", "clause": FULL}, *cohorts("small")])


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    """`wide` has as many leaves as there may be, `small` has one."""
    world = await World.make(owner, api_pool)
    await world.furnish()
    await make(world, "wide", WIDEST)
    await make(world, "small", PRO)
    return world


async def make(world: World, segment_id: str, rules: dict[str, Any]) -> None:
    segment = Segment(kind=DYNAMIC, name=segment_id, description="", predicate=rules)
    await world.do(segments.create, segment_id, segment)


async def widen(world: World, segment_id: str, rules: dict[str, Any]) -> None:
    await world.do(segments.update, segment_id, {"predicate": rules}, Expected())


async def ask(world: World, audience_id: str, rules: dict[str, Any]) -> None:
    audience = Audience(name="A", description="", subject_type=END_USER, predicate=rules)
    await world.do(audiences.create, audience_id, audience)


async def listen(world: World, rules: dict[str, Any]) -> None:
    contract = Contract(
        name="C", event_name=None, predicate=rules, entry_key_path=None, segment_id="small", transition="entered"
    )
    await world.do(trigger_contracts.create, "joined", contract)


def told(faults: Sequence[Fault]) -> list[tuple[str, str]]:
    return [(fault.path, fault.reason) for fault in faults]


async def test_an_audience_is_refused_at_the_segment_with_which_it_becomes_too_large(world: World) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await ask(world, "many", TOO_LARGE)

    assert told(refused.value.faults) == [("predicate.clauses[1].cohortId", "TOO_LARGE")]


async def test_what_is_just_as_large_as_may_be_is_saved_and_asked(world: World) -> None:
    await ask(world, "full", FULL)
    await world.subject("ann")

    assert not (await world.look(audiences.check, AudienceBook(RuleBook()), "full", "ann")).matches
    assert (await world.do(estimates.of_audience, RuleBook(), "full")).evaluated == 1


async def test_an_audience_that_is_changed_is_refused_too(world: World) -> None:
    await ask(world, "mine", FULL)

    with pytest.raises(InvalidArgument) as refused:
        await world.do(audiences.update, "mine", {"predicate": TOO_LARGE}, Expected())

    assert told(refused.value.faults) == [("predicate.clauses[1].cohortId", "TOO_LARGE")]


async def test_a_contract_of_a_segment_is_refused(world: World) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await listen(world, TOO_LARGE)

    assert told(refused.value.faults) == [("predicate.clauses[1].cohortId", "TOO_LARGE")]


async def test_a_journey_is_not_published_with_an_arm_that_is_too_large(world: World) -> None:
    branch = {"arms": [{"id": "those", "when": TOO_LARGE, "next": "end"}], "otherwise": "end"}
    steps = [{"id": "check", "branch": branch}, {"id": "end", "exit": {"reason": "finished"}}]
    await world.do(journeys.create, journey_id="wide", name="Wide", definition={"steps": steps})

    with pytest.raises(FailedPrecondition) as refused:
        await world.do(publishing.publish, "wide", ANY_STATE)

    assert refused.value.reason == "INVALID_DEFINITION"
    at = "steps[0].branch.arms[0].when.clauses[1].cohortId"
    assert told(refused.value.faults) == [(at, "TOO_LARGE")]


async def test_a_segment_is_refused_for_itself(world: World) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await make(world, "more", TOO_LARGE)

    assert told(refused.value.faults) == [("rules", "TOO_LARGE")]


@pytest.mark.parametrize("by_way", [False, True], ids=["itself", "by way of another"])
@pytest.mark.parametrize("whose", ["audience", "trigger contract"])
async def test_a_segment_is_not_changed_so_that_whoever_asks_about_it_becomes_too_large(
    world: World, whose: str, by_way: bool
) -> None:
    await make(world, "between", any_of(cohorts("small")))
    rules = any_of(cohorts(*["wide"] * (FIT - 1), "between" if by_way else "small", "small"))
    if whose == "audience":
        await ask(world, "asking", rules)
    else:
        await listen(world, rules)
    await widen(world, "small", any_of([PRO] * (MAX_LEAVES // 2)))

    with pytest.raises(InvalidArgument) as refused:
        await widen(world, "small", any_of([PRO] * (MAX_LEAVES // 2 + 1)))

    assert told(refused.value.faults) == [("rules", "TOO_LARGE")]
    assert f"the {whose} {'asking' if whose == 'audience' else 'joined'}" in refused.value.faults[0].message


async def test_a_segment_that_comes_back_is_not_larger_than_whoever_asks_about_it_can_bear(world: World) -> None:
    rules = any_of(cohorts(*["wide"] * (FIT - 1), *["small"] * 2))
    await ask(world, "asking", rules)
    await world.do(segments.delete, "small", Expected(), force=True)

    with pytest.raises(InvalidArgument) as refused:
        await make(world, "small", WIDEST)
    await make(world, "small", PRO)

    assert told(refused.value.faults) == [("rules", "TOO_LARGE")]


async def test_a_cycle_is_told_before_a_size(world: World) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await widen(world, "wide", any_of(cohorts(*["wide"] * (FIT + 1))))

    assert told(refused.value.faults) == [("rules", "COHORT_CYCLE")]


async def test_segments_within_each_other_are_refused_before_nobody_can_walk_down_to_them(world: World) -> None:
    nested: dict[str, Any] = any_of(cohorts("small"))
    for _ in range(MAX_DEPTH - 2):
        nested = {"kind": "not", "clause": nested}
    for n in range(MAX_INLINED_COHORTS):
        await make(world, f"s{n}", nested)
        nested = {"kind": "not", "clause": nested["clause"]}
        deepest = nested
        while "clause" in deepest:
            deepest = deepest["clause"]
        deepest["clauses"] = cohorts(f"s{n}")

    with pytest.raises(InvalidArgument) as refused:
        await make(world, "one-too-many", nested)
    assert told(refused.value.faults) == [("rules", "TOO_DEEP")]
    with pytest.raises(InvalidArgument) as refused:
        await widen(world, "small", any_of(cohorts("wide")))
    assert told(refused.value.faults) == [("rules", "TOO_DEEP")]
    await ask(world, "deepest", any_of(cohorts(f"s{MAX_INLINED_COHORTS - 1}")))
    await world.subject("ann")
    await world.look(audiences.check, AudienceBook(RuleBook()), "deepest", "ann")
    assert (await world.do(estimates.of_audience, RuleBook(), "deepest")).evaluated == 1
