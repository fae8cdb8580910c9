"""One run: a crowd, a plan of faults, the recovery, and what the checker says of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from orchestrator.devstack.ports import LOOPBACK
from tests.acceptance.forgotten_person import dump
from tests.faults.checker import INVARIANTS, OpLog, Report, at_rest, evidence_of, examine
from tests.faults.checker.evidence import Evidence
from tests.faults.checker.op_log import INFO
from tests.faults.checker.stack_evidence import logs_of, owner_of
from tests.faults.checker.waits import waits
from tests.faults.field import RECOVERY, Field
from tests.faults.nemesis.crowd import Crowd
from tests.faults.nemesis.plan import Fault, counted
from tests.faults.nemesis.proxied_stack import ANY_WORKER, PROVIDER, ProxiedStack, edge
from tests.faults.nemesis.strikes import Nemesis, together
from tests.provider.client import RunningProvider, running_provider

#: Besides what was away, a wait may be late by so much.
PATIENCE = timedelta(seconds=30)
#: A caller repeats a call for as long as that, in seconds: until the faults are over, and then some.
UNTIL_ANSWERED = 300.0
#: So long it is waited for rest, in seconds: counts are judged also where the time is not kept.
GIVEN_UP = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a seed. Times in seconds. `excess`: by how much a wait was late besides what was away. `broken`: the
    invariants that do not hold; `recovered`: from the last fault on until nothing was left to do, None if that did not
    come; `busy`: how many processes of the machine wanted to run.
    """

    seed: int
    began: str
    faults: dict[str, int]
    fault_seconds: float
    calls: int
    unanswered: int
    executions: int
    outcomes: dict[str, int]
    refused: dict[str, int]
    versions: int
    accepted: int
    requests: int
    waits: int
    late: dict[str, float]
    excess: dict[str, float]
    recovered: float | None
    broken: tuple[str, ...] = ()
    told: list[str] = field(default_factory=list)
    busy: float | None = None

    @property
    def sound(self) -> bool:
        return not self.broken and self.recovered is not None and self.recovered <= RECOVERY

    @property
    def held(self) -> str:
        return f"{len(INVARIANTS) - len(self.broken)}/{len(INVARIANTS)}"


@asynccontextmanager
async def doors_of(stack: ProxiedStack, directory: Path) -> AsyncIterator[tuple[RunningProvider, Sequence[Field]]]:
    """A provider behind a proxy, and a client of each server behind another."""
    async with AsyncExitStack() as parts:
        provider = await parts.enter_async_context(running_provider(directory))
        way = await stack.open_edge(edge(ANY_WORKER, PROVIDER), (LOOPBACK, provider.port))
        log = OpLog(directory / "ops.jsonl")
        doors = []
        for door in stack.doors:
            http = httpx.AsyncClient(base_url=door, headers={"X-Api-Key": stack.keys.owner}, timeout=10)
            await parts.enter_async_context(http)
            hook = f"http://{LOOPBACK}:{way.port}/hook"
            doors.append(Field(stack=stack, provider=provider, http=http, log=log, patience=UNTIL_ANSWERED, hook=hook))
        yield provider, doors


async def run(stack: ProxiedStack, directory: Path, seed: int, faults: Sequence[Fault]) -> tuple[Run, Report]:
    """Go through the plan; the run as it is to be told, and what the checker says in full."""
    began = datetime.now(UTC)
    async with doors_of(stack, directory) as (provider, doors):
        crowd = Crowd(doors, seed)
        nemesis = Nemesis(stack, provider)
        await crowd.settle()
        first = datetime.now(UTC)
        async with TaskGroup() as group:
            group.create_task(crowd.live())
            await nemesis.carry_out(faults)
            crowd.over = True
        recovered = await _recovered(stack, nemesis.over)
        keep_logs(stack, directory)
        evidence = await evidence_of(
            stack,
            ops=doors[0].log.ops(),
            receipts=provider.receipts,
            outages=together(nemesis.outages),
            patience=PATIENCE,
            forgotten=crowd.canaries(),
            places=await _places(stack),
        )
    report = examine(evidence)
    assert sorted(map(str, nemesis.struck)) == sorted(map(str, faults)), "not every fault was struck"
    lasted = (nemesis.over - first).total_seconds()
    return _told(seed, began, lasted, faults, crowd, evidence, report, recovered), report


async def _recovered(stack: ProxiedStack, since: datetime) -> float | None:
    """Seconds until everybody had arrived and nothing was left to do; None: that did not come."""
    try:
        async with asyncio.timeout(GIVEN_UP):
            async with owner_of(stack) as conn:
                while await conn.fetchval("SELECT count(*) FROM executions WHERE outcome IS NULL"):
                    await asyncio.sleep(0.1)
            await at_rest(stack, within=GIVEN_UP)
    except (TimeoutError, AssertionError):
        return None
    return (datetime.now(UTC) - since).total_seconds()


def keep_logs(stack: ProxiedStack, directory: Path) -> None:
    """For whoever wants to know why."""
    for name, path in logs_of(stack):
        if path.exists():
            shutil.copy(path, directory / name)


async def _places(stack: ProxiedStack) -> dict[str, bytes]:
    """Where something of somebody who was forgotten could be left."""
    places = {"database": await dump(stack.addresses.database_url)}
    return places | {name: path.read_bytes() for name, path in logs_of(stack) if path.exists()}


def _told(
    seed: int,
    began: datetime,
    fault_seconds: float,
    faults: Sequence[Fault],
    crowd: Crowd,
    evidence: Evidence,
    report: Report,
    recovered: float | None,
) -> Run:
    outcomes = [execution.outcome or "running" for execution in evidence.ledger.executions]
    late = waits(evidence)
    return Run(
        seed=seed,
        began=began.isoformat(timespec="seconds"),
        faults=counted(faults),
        fault_seconds=round(fault_seconds, 1),
        calls=len(evidence.ops),
        unanswered=sum(op.state == INFO for op in evidence.ops),
        executions=len(outcomes),
        outcomes={outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        refused=_refused(evidence),
        versions=crowd.versions,
        accepted=sum(receipt.accepted for receipt in evidence.receipts),
        requests=len(evidence.receipts),
        waits=len(late),
        late=_spread([one.late for one in late]),
        excess=_spread([one.excess for one in late]),
        recovered=None if recovered is None else round(recovered, 1),
        broken=tuple(sorted(report.broken)),
        told=[str(finding) for finding in report.findings[:20]],
        busy=round(os.getloadavg()[1], 1),
    )


def _refused(evidence: Evidence) -> dict[str, int]:
    """Who was not let in, by the reason."""
    return {reason: int(count) for reason, count in evidence.funnels["default", "welcome"].get("refused", {}).items()}


def _spread(spans: Sequence[timedelta]) -> dict[str, float]:
    seconds = sorted(span.total_seconds() for span in spans)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(seconds[-1], 2)}
