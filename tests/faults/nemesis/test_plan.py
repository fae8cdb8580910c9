"""A plan is what its seed says, and has of everything as much as it must."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import pairwise

import pytest

from orchestrator.devstack.stack import POSTGRES, TEMPORAL
from tests.faults.nemesis import plan as plans
from tests.faults.nemesis.plan import FROZEN, LONGEST, MODES, OF_EDGES, SHORT, SHORTEST, WHOLE, Least, plan
from tests.faults.nemesis.proxied_stack import EDGES, SERVERS, WORKERS
from tests.faults.nemesis.strikes import LINKS

SEEDS = range(50)
PROCESSES = (plans.KILL, plans.FREEZE)


@pytest.mark.parametrize("least", [WHOLE, SHORT], ids=["whole", "short"])
def test_the_same_seed_makes_the_same_plan_and_another_one_another(least: Least) -> None:
    made = [plan(seed, least) for seed in SEEDS]

    assert [plan(seed, least) for seed in SEEDS] == made
    assert len(set(made)) == len(SEEDS)


@pytest.mark.parametrize("least", [WHOLE, SHORT], ids=["whole", "short"])
@pytest.mark.parametrize("seed", SEEDS)
def test_it_has_as_many_faults_of_each_kind_as_it_must(seed: int, least: Least) -> None:
    faults = plan(seed, least)

    killed = Counter(fault.target for fault in faults if fault.kind == plans.KILL)
    assert sum(killed[worker] for worker in WORKERS) == least.workers
    assert sum(killed[server] for server in SERVERS) == least.servers
    assert (killed[POSTGRES], killed[TEMPORAL]) == (least.postgres, least.temporal)
    frozen = [fault for fault in faults if fault.kind == plans.FREEZE]
    assert len({fault.target for fault in frozen}) == least.frozen
    assert {fault.lasts for fault in frozen} == {FROZEN}
    assert any(fault.target in WORKERS for fault in frozen)
    swizzles = [fault for fault in faults if fault.kind == plans.SWIZZLE]
    assert len(swizzles) == least.swizzles
    for swizzle in swizzles:
        assert sorted(swizzle.order) == sorted(swizzle.back) == sorted(EDGES)
        assert swizzle.order != swizzle.back
    assert len({fault.target for fault in faults if fault.kind == plans.PROVIDER}) == least.modes
    assert len({fault.kind for fault in faults if fault.kind in OF_EDGES}) == least.edges


def test_a_whole_one_has_the_least_that_is_asked_for() -> None:
    assert dataclasses.asdict(WHOLE) == {
        "seconds": 120, "workers": 10, "servers": 5, "postgres": 4, "temporal": 3, "frozen": 3, "swizzles": 5,
        "edges": len(LINKS), "modes": len(MODES),
    }  # fmt: skip
    # Of servers and workers to Postgres and Temporal, of clients to the servers, of the workers to the provider.
    assert len(set(EDGES)) == 2 * 4 + 2 + 1
    assert set(LINKS) == set(OF_EDGES)


@pytest.mark.parametrize("least", [WHOLE, SHORT], ids=["whole", "short"])
@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_a_track_come_three_to_eight_seconds_apart(seed: int, least: Least) -> None:
    faults = plan(seed, least)

    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    processes = [fault for fault in faults if fault.kind in PROCESSES]
    ways = [fault for fault in faults if fault.kind not in PROCESSES]
    for track in (processes, ways):
        assert track[-1].at <= least.seconds + LONGEST
        for before, after in pairwise(track):
            assert SHORTEST - 0.01 <= after.at - before.at <= LONGEST
    for before, after in pairwise(ways):
        assert before.at + before.lasts < after.at, "two faults of the ways at once would end each other"
