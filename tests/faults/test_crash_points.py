"""The product dies by its own hand between any two things that it does not do in one; it comes back, and all is done
once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from temporalio.client import Client

from orchestrator.devstack.stack import SERVER, worker_name
from tests.acceptance.forgotten_person import dump
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.checker import at_rest, evidence_of, examine
from tests.faults.crashes.armed import Crashes
from tests.faults.crashes.ground import Ground
from tests.faults.crashes.point import Point, changes, source_of
from tests.faults.crashes.points import POINTS
from tests.faults.crashes.revival import kept_up
from tests.faults.crashes.scenarios import SCENARIOS
from tests.faults.crashes.travels import furnish
from tests.faults.field import ENVIRONMENT, RECOVERY, field_on
from tests.soak import SOAK

if TYPE_CHECKING:
    from asyncpg import Pool, Record

#: Groups for which `make test-faults` has no time: they make the same ways that others make, or wait for a clock.
_SOAK_ALONE = frozenset({"merging", "preferences", "replaying", "quieting", "scheduling", "testing"})

#: What it has time for: one point of each of the others.
SOME = frozenset(
    {
        "events stored",
        "inbox worked through",
        "EnrollSubjects unanswered",
        "outbox told",
        "send answered",
        "sends let out",
        "call answered",
        "version written, journey not told, uncommitted",
        "key made, older one not ended, uncommitted",
        "page of an archived journey",
        "page of a cancellation",
        "page of a job",
        "chunk of a segment run",
        "page of a carry",
        "page of held entries",
        "policy written",
        "erasure written down",
        "anchor kept",
        "execution closed",
    }
)

#: The groups in which callers and executions are, and those of what workers do beside them.
_TRAVELS = frozenset(
    {
        *("ingesting", "entering", "enrolling", "telling", "sending", "crowding", "effects", "publishing", "keys"),
        *("merging", "preferences", "testing"),
    }
)
_SHARDS = {"travels": _TRAVELS, "work": frozenset(SCENARIOS) - _TRAVELS}

#: (name, points, which time they are come to)
Run = tuple[str, list[Point], int]
RUNS: list[Run] = [("some, at the first time", [point for point in POINTS if point.name in SOME], 1)]
if SOAK:
    RUNS = [
        (f"{shard}, at the {time} time", [point for point in POINTS if point.group in groups], nth)
        for nth, time in enumerate(("first", "second"), start=1)
        for shard, groups in _SHARDS.items()
    ]

#: More than two, since each of them is down most of the time.
WORKERS = [worker_name(number) for number in (1, 2, 3)]

#: Seconds in which all points have to be come to.
PATIENCE = 400.0

#: Whoever has something to do soon.
BUSY = "SELECT count(*) FROM executions WHERE outcome IS NULL AND coalesce(wakes_at < now() + interval '1 hour', true)"


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run[0]))
async def test_whoever_dies_at_a_crash_point_comes_back_and_all_is_done_once(
    run: Run, start_stack: StartStack, temporal: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, points, nth = run
    crashes = Crashes(tmp_path / "crashes", points)
    stack = await start_stack(workers=len(WORKERS), environment={**ENVIRONMENT, **crashes.environment()})
    began = time.monotonic()
    async with field_on(stack, tmp_path) as field, asyncpg.create_pool(stack.addresses.database_url) as rows:
        async with kept_up([stack.part(part) for part in (SERVER, *WORKERS)]) as revival:
            field.patience = PATIENCE  # the server is away most of the time
            ground = Ground(field, crashes, revival, rows, temporal, PATIENCE)
            await furnish(ground)
            crashes.arm(nth)
            await all_of(SCENARIOS[group](ground) for group in {point.group for point in points})
            await eventually(lambda: revival.ends >= len(crashes.deaths()), within=RECOVERY)
        struck = time.monotonic() - began
        await field.serving()
        await eventually(lambda: nobody_is_busy(rows), within=RECOVERY)
        for condition in ground.rests:
            await ground.until(condition)
        await at_rest(stack, within=RECOVERY)
        recovered = time.monotonic() - began - struck

        deaths = crashes.deaths()
        with capsys.disabled():
            told = f"{len(deaths)} deaths in {struck:.0f} s, recovered in {recovered:.0f} s"
            print(f"\ncrash points, {name}: {told}")  # noqa: T201
        assert sorted(crashes.struck()) == sorted(point.name for point in points)
        assert len(deaths) <= revival.ends <= len(deaths) + revival.killed, "somebody has died of something else"
        places = {"database": await dump(stack.addresses.database_url)}
        places |= {part.name: part.process.log.read_bytes() for part in stack.parts}
        evidence = await evidence_of(
            stack,
            ops=field.log.ops(),
            receipts=field.provider.receipts,
            outages=revival.outages,
            patience=timedelta(seconds=RECOVERY),
            forgotten=ground.forgotten,
            places=places,
        )
        # Some shards have nobody who is sent anything, or nobody who wants nothing.
        idle = [*([] if evidence.receipts else ["I2"]), *([] if ground.forgotten else ["I9", "I10"])]
        examine(evidence).require_sound(idle=idle)
        for check in ground.checks:
            await check()


async def all_of(scenarios: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; each failure is told."""
    failures = [one for one in await asyncio.gather(*scenarios, return_exceptions=True) if one is not None]
    for failure in failures:
        if not isinstance(failure, AssertionError):
            raise failure
    assert not failures, "\n".join(map(str, failures))


async def nobody_is_busy(rows: Pool[Record]) -> bool:
    return bool(await rows.fetchval(BUSY) == 0)


def test_every_crash_point_is_there_once_and_its_module_is_python_with_it() -> None:
    for module, planted in changes(POINTS).items():
        source = source_of(module)
        for was, instead in planted:
            assert source.count(was) == 1, f"{module} has this {source.count(was)} times: {was}"
            source = source.replace(was, instead)
        compile(source, module, "exec")
        assert source.count('__import__("dying")') == sum(point.module == module for point in POINTS)


def test_there_are_more_than_25_crash_points_each_group_has_a_scenario_and_most_are_always_tried() -> None:
    names = [point.name for point in POINTS]
    assert len(set(names)) == len(names) >= 25
    assert {point.group for point in POINTS} == set(SCENARIOS)
    assert {point.group for point in POINTS if point.name in SOME} == set(SCENARIOS) - _SOAK_ALONE
    assert set(names) >= SOME
