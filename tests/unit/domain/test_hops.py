"""Executions that start one another are counted, so that they come to an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.entry import HOP_MEMORY, MAX_HOPS, EntryRefusal, Trigger, hops_from, refuse_loop

START = datetime(2026, 5, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(("hops", "refusal"), [(0, None), (MAX_HOPS, None), (MAX_HOPS + 1, EntryRefusal.LOOP)])
def test_so_many_in_a_row_are_let_in(hops: int, refusal: EntryRefusal | None) -> None:
    assert refuse_loop(Trigger(at=START, hops=hops)) is refusal


def test_whoever_goes_round_slowly_begins_anew() -> None:
    assert hops_from(0, START, START) == 1
    assert hops_from(MAX_HOPS, START, START + HOP_MEMORY - TICK) == MAX_HOPS + 1
    assert hops_from(MAX_HOPS, START, START + HOP_MEMORY) == 1
