"""Everything that can go away goes away, all the time, while people travel; afterwards all invariants hold.

`make test-faults` goes through a short plan; `make soak` through ten whole ones, and writes docs/soak.md. A seed is the
plan: ORCHESTRATOR_NEMESIS_SEEDS=3,7 goes through those two again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tests.faults.field import RECOVERY
from tests.faults.nemesis import soak_report
from tests.faults.nemesis.plan import SHORT, WHOLE, plan
from tests.faults.nemesis.proxied_stack import ProxiedStack
from tests.faults.nemesis.run import PATIENCE, Run, run
from tests.faults.own_stack import own_stack
from tests.soak import SOAK

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

_NAMED = os.environ.get("ORCHESTRATOR_NEMESIS_SEEDS", "")
SEEDS = [int(seed) for seed in _NAMED.split(",")] if _NAMED else list(range(1, 11)) if SOAK else [1]
LEAST = WHOLE if SOAK else SHORT


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_goes_away_nothing_is_lost_and_nothing_doubled(
    seed: int, session_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = plan(seed, LEAST)
    with capsys.disabled():
        print(f"\nseed {seed}\n" + "\n".join(map(str, faults)))  # noqa: T201
    options = own_stack(session_directory / uuid.uuid4().hex[:8])

    keeping: AbstractContextManager[list[Run]] = soak_report.kept(seed) if SOAK else nullcontext([])
    with keeping as kept:
        try:
            async with ProxiedStack(options) as stack:
                came, report = await run(stack, tmp_path, seed, faults)
        finally:
            shutil.rmtree(options.data_dir, ignore_errors=True)
        kept.append(came)

    with capsys.disabled():
        print(came)  # noqa: T201
    report.require_sound()
    assert came.excess["p99"] <= PATIENCE.total_seconds()
    assert came.unanswered, "every call was answered: nothing was tried"
    if LEAST is WHOLE:  # few come in half a minute on a busy machine
        assert came.requests > came.accepted, "no message was cut off: nothing was tried"
        assert {"canceled", "completed", "forgotten"} <= came.outcomes.keys()
    assert came.refused.keys() <= {"opted_out", "subject_forgotten"}
    assert "running" not in came.outcomes
    assert came.recovered is not None
    assert came.recovered <= RECOVERY
