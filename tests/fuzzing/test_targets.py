"""Readers of what others wrote, under a corpus and its mutants; `make fuzz` has coverage find more of them."""

from __future__ import annotations

import os
import zlib
from random import Random

import pytest

from tests.fuzzing.corpus import kept
from tests.fuzzing.mutants import mutant
from tests.fuzzing.targets import TARGETS
from tests.soak import SOAK

#: Of each target.
MUTANTS = 150
MANY_MUTANTS = 20_000


def read_mutants(target: str, count: int, *, seed: int) -> None:
    """Mutants of what is kept, and mutants of mutants."""
    inputs, dice = kept(target), Random(zlib.crc32(target.encode()) + seed)
    pool = list(inputs)
    for _ in range(count):
        data = mutant(dice.choice(pool), dice, inputs)
        try:
            TARGETS[target](data)
        except BaseException as error:
            error.add_note(f"{target} was given {data[:2000]!r}")
            raise
        pool[dice.randrange(len(pool))] = data if dice.random() < 0.3 else dice.choice(inputs)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_kept_is_read_or_refused_by_name(target: str) -> None:
    inputs = kept(target)

    assert len(inputs) >= 5
    for data in (b"", *inputs):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_nearly_like_it_is_read_or_refused_by_name(target: str) -> None:
    read_mutants(target, MUTANTS, seed=0)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SOAK, reason="make soak has the time")
@pytest.mark.parametrize("target", TARGETS)
def test_very_many_are_read_or_refused_by_name(target: str) -> None:
    read_mutants(target, MANY_MUTANTS, seed=int(os.environ.get("ORCHESTRATOR_SEED", "20261130")))
