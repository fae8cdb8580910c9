"""What the ledgers say about the people of an example, and where that differs from what must be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from orchestrator.api.json_encode import encode
from orchestrator.cli.demo_example import Example
from orchestrator.cli.demo_recount import Recount, Travel
from orchestrator.client import OrchestratorClient, each, messages

#: Calls under way at once.
_AT_ONCE = 16

_NOTHING = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """`travels` by subject, of each as many as there are, and `workflow_ids` likewise. `refused` by reason."""

    travels: Mapping[str, tuple[Travel, ...]]
    workflow_ids: Mapping[str, str]
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """What must be and what is, of something: a subject's way, or a reason's count."""

    of: str
    what: str
    expected: str
    found: str


async def is_under_way(client: OrchestratorClient, example: Example) -> bool:
    """Whether any of the example's people has not arrived yet."""
    return any(not execution.outcome for execution in await _executions(client, example))


async def passed_steps(client: OrchestratorClient, example: Example, subject_id: str) -> set[str]:
    """The steps that a subject has left behind."""
    request = messages.ListExecutionsRequest(journey_id=example.journey_id, subject_id=subject_id)
    return {
        visit[0]
        async for execution in each(client.executions.ListExecutions, request)
        for visit in (await _travel_of(client, execution)).visits
    }


async def _travel_of(client: OrchestratorClient, execution: messages.Execution) -> Travel:
    asked = messages.GetExecutionRequest(execution_id=execution.id)
    return _travel((await client.executions.GetExecution(asked)).execution)


async def read_ledger(client: OrchestratorClient, example: Example, refused_before: Mapping[str, int]) -> Ledger:
    """What is written down about the example's people, and about all refusals since `refused_before`."""
    found = await _executions(client, example)
    turn = asyncio.Semaphore(_AT_ONCE)

    async def travel(execution: messages.Execution) -> tuple[str, Travel]:
        async with turn:
            return execution.subject_id, await _travel_of(client, execution)

    travels: dict[str, tuple[Travel, ...]] = {}
    for subject_id, one in await asyncio.gather(*map(travel, found)):
        travels[subject_id] = (*travels.get(subject_id, ()), one)
    funnel = messages.GetJourneyFunnelRequest(journey_id=example.journey_id)
    refused = Counter((await client.journeys.GetJourneyFunnel(funnel)).funnel.refused)
    refused.subtract(refused_before)
    return Ledger(
        travels=travels,
        workflow_ids={execution.subject_id: execution.workflow_id for execution in found},
        refused={reason: total for reason, total in refused.items() if total},
    )


async def _executions(client: OrchestratorClient, example: Example) -> list[messages.Execution]:
    """Newest first."""
    request = messages.ListExecutionsRequest(journey_id=example.journey_id, page_size=1000)
    among = example.subject_ids
    return [e async for e in each(client.executions.ListExecutions, request) if e.subject_id in among]


def _travel(execution: messages.Execution) -> Travel:
    document = encode(execution)
    return Travel(
        visits=tuple(
            (visit["stepId"], visit["result"], visit.get("reason", "")) for visit in document.get("visits", ())
        ),
        sends=tuple((send["stepId"], send["communicationId"], send["state"]) for send in document.get("sends", ())),
        outcome=document.get("outcome", "running"),
        reason=document.get("reason", ""),
    )


def differences(expected: Recount, ledger: Ledger) -> Iterator[Difference]:
    """Subject by subject, then reason by reason."""
    for subject_id in sorted({*expected.travels, *ledger.travels}):
        must = expected.travels.get(subject_id)
        found = ledger.travels.get(subject_id, ())
        if must is not None and len(found) == 1:
            yield from _compare(subject_id, must, found[0])
        elif must is not None or found:
            yield Difference(subject_id, "executions", str(int(must is not None)), str(len(found)))
    for reason in sorted({*expected.refused, *ledger.refused}):
        counts = expected.refused.get(reason, 0), ledger.refused.get(reason, 0)
        if counts[0] != counts[1]:
            yield Difference(f"refused: {reason}", "entries", *map(str, counts))


def _compare(subject_id: str, must: Travel, found: Travel) -> Iterator[Difference]:
    for what, expected, actual in (
        *(("visit", *pair) for pair in zip_longest(must.visits, found.visits)),
        *(("send", *pair) for pair in zip_longest(must.sends, found.sends)),
        ("end", (must.outcome, must.reason), (found.outcome, found.reason)),
    ):
        if expected != actual:
            yield Difference(subject_id, what, _told(expected), _told(actual))


def _told(parts: tuple[str, ...] | None) -> str:
    return " ".join(filter(None, parts)) if parts else _NOTHING
