"""Sums over ledgers are read from indexes alone: of a million executions nobody waits for rows all over the tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from orchestrator.storage import stats

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@pytest.mark.parametrize(
    ("statement", "arguments", "reads"),
    [
        (stats._STEPS, (1, "welcome", None), {"visits_counted"}),
        (stats._STEPS, (1, "welcome", 2), {"visits_counted"}),
        (stats._VERSIONS, (1, "welcome"), {"executions_counted"}),
        (stats._TOTALS, (1, "welcome"), {"executions_counted", "enrollments_firsts"}),
    ],
)
async def test_what_is_counted_is_in_an_index(
    owner: Connection[Record], statement: str, arguments: tuple[object, ...], reads: set[str]
) -> None:
    async with owner.transaction():
        # Empty tables would be read otherwise.
        await owner.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        plan = "\n".join(row[0] for row in await owner.fetch(f"EXPLAIN {statement}", *arguments))

    assert reads <= set(re.findall(r"Index Only Scan(?: Backward)? using (\w+)", plan)), plan
