"""What learning costs in worlds with planted rates and delays, and that wrong handling of delays costs too much.

The gates and the worlds B1 to S5 are those of docs/adaptive.md. Few runs in every test, a hundred with the fault tests.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.learning.policy import PolicyRules
from orchestrator.learning.posterior import DelayModel
from tests.unit.learning.simulation import (
    Believing,
    Played,
    World,
    by_pooled_delays,
    early_over_matured,
    naive,
    played,
)

SEEDS = [
    pytest.param(range(1), id="20 runs"),
    pytest.param(range(1, 6), id="100 runs", marks=[pytest.mark.faults, pytest.mark.timeout(600)]),
]
RUNS = 20  # of a seed

# Every event of these worlds comes in at once.
DELAYED = PolicyRules(grace_days=0)
AT_ONCE = PolicyRules(min_share=0, cold_start_total=0, cold_start_each=0, grace_days=0)

B1 = World(rates={0: (0.5, *[0.4] * 9)}, delays=(0,) * 10, window=1, days=100, per_day=100, rules=AT_ONCE)
B2 = World(rates={0: (0.5, 0.4)}, delays=(0,) * 2, window=1, days=100, per_day=100, rules=AT_ONCE)
S1 = World(rates={0: (0.05, 0.06, 0.08)}, delays=(2, 2, 2), rules=DELAYED)
S2 = World(rates={0: (0.05, 0.055)}, delays=(2, 2), rules=DELAYED)
S3 = World(rates={0: (0.05, 0.06, 0.08)}, delays=(1, 1, 6), rules=DELAYED)
S4 = World(rates={0: (0.04, 0.04, 0.04, 0.05, 0.06)}, delays=(2,) * 5, rules=DELAYED)
S5 = World(rates={0: (0.05, 0.06, 0.08), 60: (0.08, 0.06, 0.05)}, delays=(2,) * 3, days=120, rules=DELAYED)


def all_of(world: World, seeds: range) -> Played:
    parts = [played(world, runs=RUNS, seed=seed) for seed in seeds]
    return Played(
        regret=np.concatenate([part.regret for part in parts]),
        shares=np.concatenate([part.shares for part in parts]),
        chosen=np.concatenate([part.chosen for part in parts]),
        uniform=parts[0].uniform,
    )


@pytest.mark.parametrize("seeds", SEEDS)
def test_b1_ten_arms_and_feedback_at_once(seeds: range) -> None:
    regret = all_of(B1, seeds).regret.cumsum(axis=1)

    assert 150 <= regret[:, -1].mean() <= 190
    coefficient = 9 * 0.1 / (0.4 * np.log(0.4 / 0.5) + 0.6 * np.log(0.6 / 0.5))  # Lai and Robbins
    slope = (regret[:, -1] - regret[:, 29]).mean() / np.log(10 / 3)
    assert 0.6 <= slope / coefficient <= 1.2


@pytest.mark.parametrize("seeds", SEEDS)
def test_b2_two_arms_and_feedback_at_once(seeds: range) -> None:
    assert all_of(B2, seeds).regret.sum(axis=1).mean() <= 25


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    ("world", "fractional", "matured"),
    [
        pytest.param(S1, 0.21, 0.28, id="S1"),
        pytest.param(S2, 0.68, 0.68, id="S2"),
        pytest.param(S3, 0.30, 0.30, id="S3"),
        pytest.param(S4, 0.42, 0.47, id="S4"),
    ],
)
def test_with_delays_it_costs_at_most_this_part_of_what_equal_shares_cost(
    world: World, fractional: float, matured: float, seeds: range
) -> None:
    by_part = all_of(world, seeds)
    by_window = all_of(world.but(delay_model=DelayModel.MATURED), seeds)

    assert by_part.ratio() <= fractional
    assert by_window.ratio() <= matured
    if world is S1:
        assert by_part.shares[:, -1, 2].mean() >= 0.93


@pytest.mark.parametrize("seeds", SEEDS)
def test_s5_what_is_old_fades_when_the_best_becomes_the_worst(seeds: range) -> None:
    for_ever, fading = all_of(S5, seeds), all_of(S5.but(half_life_days=30), seeds)

    assert fading.regret[:, :60].sum(axis=1).mean() <= 75
    assert fading.regret[:, 60:].sum(axis=1).mean() <= 240
    assert for_ever.regret[:, 60:].sum(axis=1).mean() > 240


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("wrong", [naive, early_over_matured, by_pooled_delays])
def test_wrong_handling_of_delays_does_not_pass_s3(wrong: Believing, seeds: range) -> None:
    assert all_of(S3.but(believing=wrong), seeds).ratio() > 0.30


WORLDS = {"B1": B1, "B2": B2, "S1": S1, "S2": S2, "S3": S3, "S4": S4, "S5": S5}


def digest(world: World) -> str:
    """Of all that is drawn, chosen and lost in it to its last day, with 5 runs of one seed."""
    all_runs = played(world, runs=5, seed=7)
    parts = (all_runs.regret, all_runs.shares, all_runs.chosen, all_runs.uniform)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_the_same_to_the_byte_in_another_process(name: str) -> None:
    """With another order of hashes, and other numbers of threads for linear algebra."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "3")

    ran = subprocess.run(
        [sys.executable, "-c", f"from tests.unit.learning.test_gates import *; print(digest(WORLDS[{name!r}]))"],
        env=os.environ | threads | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip

    assert ran.stdout.strip() == digest(WORLDS[name])


def test_the_same_seed_gives_the_same_bytes() -> None:
    short = replace(S3, days=15)

    one, again, other = (played(short, runs=5, seed=seed) for seed in (3, 3, 4))

    assert one.regret.tobytes() == again.regret.tobytes() != other.regret.tobytes()
    assert one.shares.tobytes() == again.shares.tobytes()
