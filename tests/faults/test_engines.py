"""The engines side by side for long: every operator, type and edge a thousand times, or a quarter of that."""

from __future__ import annotations

from itertools import count

import pytest
from asyncpg import Connection, Record

from tests.conformance.dice import throw
from tests.conformance.engines import Tally, first_difference
from tests.soak import SOAK

pytestmark = pytest.mark.faults

PAIRS = 1_000_000 if SOAK else 250_000
OF_EACH = 1_000 if SOAK else 250
ZONES = ["UTC", "America/New_York", "Europe/Berlin"]


@pytest.mark.timeout(900)
async def test_both_engines_say_the_same_very_many_times(
    tables_owner: Connection[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()
    for seed in count(1_000):
        thrown = throw(seed, subjects=400, leaves=640, trees=60)
        await tables_owner.execute(f"SET timezone TO '{ZONES[seed % len(ZONES)]}'")

        assert await first_difference(tables_owner, thrown) is None, f"seed {seed}"
        tally.add(thrown)
        fewest, _ = tally.fewest()
        if tally.pairs >= PAIRS and fewest >= OF_EACH:
            break
    with capsys.disabled():
        print(f"\n{tally}")  # noqa: T201
