"""How many belong to an audience: exactly where there is time for it, and at least honestly where there is not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, estimates, segments
from orchestrator.application.derived_events import Backfill
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import FailedPrecondition, NotFound, Unavailable
from tests.integration.crowd import Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    await crowd.known(**{f"s{n}": {"tier": "pro" if n % 4 == 0 else "free"} for n in range(400)})
    return crowd


async def ask(crowd: Crowd, predicate: dict[str, Any]) -> estimates.Audience:
    audience = Audience(name="Asked", description="", subject_type=END_USER, predicate=predicate)
    await crowd.world.do(audiences.create, "asked", audience)
    return await crowd.world.do(estimates.of_audience, RuleBook(), "asked")


async def change(crowd: Crowd, predicate: dict[str, Any]) -> estimates.Audience:
    """Ask something else of the same audience."""
    await crowd.world.do(audiences.update, "asked", {"predicate": predicate}, Expected())
    return await crowd.world.do(estimates.of_audience, RuleBook(), "asked")


async def test_a_small_project_is_counted_exactly(crowd: Crowd) -> None:
    found = await ask(crowd, PRO)

    assert (found.estimate.size, found.estimate.exact, found.evaluated) == (100, True, 400)
    assert len(found.sample) == estimates.SAMPLE
    assert all(int(subject_id[1:]) % 4 == 0 for subject_id in found.sample)


async def test_rules_of_segments_are_asked_at_the_same_instant_whatever_their_membership_says(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)  # nobody has built it

    found = await ask(crowd, {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "pros"}})

    assert found.estimate.size == 300


async def test_an_audience_that_names_nothing_any_more_has_no_size(crowd: Crowd) -> None:
    await crowd.segment("list", None)
    audience = Audience(
        name="A", description="", subject_type=END_USER, predicate={"kind": "in_cohort", "cohortId": "list"}
    )
    await crowd.world.do(audiences.create, "a", audience)
    await crowd.world.do(segments.delete, "list", Expected(), force=True)

    with pytest.raises(FailedPrecondition, match="list"):
        await crowd.world.do(estimates.of_audience, RuleBook(), "a")
    with pytest.raises(NotFound):
        await crowd.world.do(estimates.of_audience, RuleBook(), "nobody")


async def test_what_is_still_being_counted_has_no_size_until_it_is(crowd: Crowd) -> None:
    dear = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 100}
    bought = {"kind": "event_fired", "eventName": "purchase", "window": {"type": "ever"}}
    await crowd.happened(*((f"s{n}", "purchase", None) for n in range(30)), amount=200)

    with pytest.raises(FailedPrecondition, match="purchase") as told:
        await ask(crowd, {**bought, "where": dear})
    # Nor has what asks by way of a segment; of the name alone, everything is known.
    await crowd.segment("dear", {**bought, "where": dear})
    by_way_of = {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "dear"}}
    with pytest.raises(FailedPrecondition, match="purchase"):
        await change(crowd, by_way_of)
    named = await change(crowd, bought)
    await Backfill(crowd.transactions).run()

    assert told.value.reason == "EVENTS_BEING_COUNTED"
    assert (named.estimate.size, named.estimate.exact) == (30, True)
    assert (await change(crowd, {**bought, "where": dear})).estimate.size == 30
    assert (await change(crowd, by_way_of)).estimate.size == 370


async def test_no_time_at_all_is_told_and_not_guessed(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "BUDGET", timedelta(0))

    with pytest.raises(Unavailable) as told:
        await ask(crowd, PRO)

    assert told.value.reason == "ESTIMATE_TOO_SLOW"
