"""The checker against a product that has a bug: it finds it, and says which invariant it breaks."""

from __future__ import annotations

import importlib.util
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.devstack.stack import Stack
from tests.conftest import StartStack
from tests.faults.checker import Report, evidence_of, examine
from tests.faults.field import ENVIRONMENT, RECOVERY, field_on
from tests.faults.planted.bugs import BUGS, Bug
from tests.faults.planted.scenarios import SCENARIOS
from tests.soak import SOAK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Those that `make test-faults` has time for, one of each way of planting; `make soak` goes through all.
SOME = {
    "a unique key is dropped",
    "the provider's key is made of the attempt",
    "who is forgotten keeps their events",
}

#: Where a scenario is not about being late.
LONG = timedelta(seconds=RECOVERY)

#: What nothing in a scenario has to do with.
IDLE = ("I2", "I9", "I10", "I12")


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("bug", [bug for bug in BUGS if SOAK or bug.name in SOME], ids=lambda bug: str(bug.name))
async def test_a_planted_bug_breaks_the_invariant_that_it_is_against(
    bug: Bug, start_stack: StartStack, owner: Connection[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if bug.statement:
        await owner.execute(bug.statement)
    stack = await start_stack(environment={**ENVIRONMENT, **bug.environment(tmp_path)})

    report = await gone_through(bug.scenario, stack, tmp_path)

    with capsys.disabled():
        print(f"\n{bug.name}: {', '.join(sorted(report.broken)) or 'nothing'}")  # noqa: T201
    assert bug.invariant in report.broken, str(report)


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [name for name in SCENARIOS if SOAK or name == "worker_killed_in_mid_send"])
async def test_without_a_bug_each_scenario_leaves_a_sound_world(
    name: str, start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)

    report = await gone_through(name, stack, tmp_path)

    report.require_sound(idle=IDLE)


async def gone_through(name: str, stack: Stack, directory: Path) -> Report:
    """What the checker says after this scenario."""
    async with field_on(stack, directory) as field:
        known = await SCENARIOS[name](field)
        evidence = await evidence_of(
            stack, ops=field.log.ops(), receipts=field.provider.receipts, **{"patience": LONG, **known}
        )
    return examine(evidence)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: str(bug.name))
def test_what_a_bug_changes_is_there_once_and_is_python_afterwards(bug: Bug) -> None:
    assert bug.changes or bug.statement
    for module, changes in bug.changes.items():
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        for was, instead in changes:
            assert source.count(was) == 1, was
            source = source.replace(was, instead)
        compile(source, spec.origin, "exec")


def test_there_are_twelve_and_each_has_its_scenario() -> None:
    assert len({bug.name for bug in BUGS}) == 12
    assert {bug.scenario for bug in BUGS} == set(SCENARIOS)
    assert {bug.name for bug in BUGS} >= SOME
