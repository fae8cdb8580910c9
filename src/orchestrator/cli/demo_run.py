"""The main job on the example: definitions, people, events, and then waiting until everybody has arrived."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpc import StatusCode
from rich.progress import Progress

from orchestrator.api.json_decode import decode
from orchestrator.cli.apply import apply_documents
from orchestrator.cli.changes import Change
from orchestrator.cli.demo_example import Example
from orchestrator.cli.demo_ledger import Ledger, is_under_way, passed_steps, read_ledger
from orchestrator.cli.documents import sentence_of
from orchestrator.cli.failure import CommandFailure
from orchestrator.client import OrchestratorClient, OrchestratorError, messages

_M = TypeVar("_M", bound=Message)

#: Events of one call. Few, so that one sees them come.
_BATCH = 25
_PEOPLE_AT_ONCE = 16

#: Between two looks at the counts, in seconds.
_LOOK_EVERY = 0.25
#: If nothing has moved for so long, nothing will. The example's own wait takes six seconds.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of an example that was run. `seconds` from the first event to the end of the last execution."""

    example: Example
    refused_before: Counter[str]
    seconds: float

    async def ledger(self, client: OrchestratorClient) -> Ledger:
        return await read_ledger(client, self.example, self.refused_before)


async def prepare(client: OrchestratorClient, example: Example) -> tuple[Example, list[Change]]:
    """Apply the definitions, and find people who have not been through this. Raises OrchestratorError."""
    changes = await apply_documents(client, example.documents)
    asked = messages.GetJourneyRequest(journey_id=example.journey_id)
    if (await client.journeys.GetJourney(asked)).journey.status == messages.Journey.STATUS_PAUSED:
        await client.journeys.ResumeJourney(messages.ResumeJourneyRequest(journey_id=example.journey_id))
    number = 1
    while await _is_known(client, example.again(number).people[0]["id"]):
        number += 1
    return example.again(number), changes


async def run(client: OrchestratorClient, example: Example, progress: Progress) -> Run:
    """Send the people and the events of an example that is prepared, and wait. Raises OrchestratorError."""
    await _write_people(client, example, progress)
    before = await _funnel(client, example.journey_id)
    began = time.monotonic()
    triggers, _ = await asyncio.gather(_send_events(client, example, progress), _opt_out_on_the_way(client, example))
    await _wait(client, example, before, triggers, progress)
    return Run(example=example, refused_before=Counter(before.refused), seconds=time.monotonic() - began)


async def _is_known(client: OrchestratorClient, subject_id: str) -> bool:
    try:
        await client.subjects.GetSubject(messages.GetSubjectRequest(subject_id=subject_id))
    except OrchestratorError as error:
        if error.code is StatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _write_people(client: OrchestratorClient, example: Example, progress: Progress) -> None:
    task = progress.add_task("people", total=len(example.people))
    turn = asyncio.Semaphore(_PEOPLE_AT_ONCE)

    async def refuse(person: dict[str, Any]) -> None:
        async with turn:
            if "optOut" in person and not _step_before(person):
                await _opt_out(client, person)
            if "suppressed" in person:
                suppression = messages.Suppression(subject_id=person["id"], channel="*", reason=person["suppressed"])
                await client.subjects.CreateSuppression(messages.CreateSuppressionRequest(suppression=suppression))
        progress.advance(task)

    subjects = [
        _message(messages.Subject, {"id": person["id"], "attributes": person["attributes"]})
        for person in example.people
    ]
    await client.subjects.BatchUpsertSubjects(messages.BatchUpsertSubjectsRequest(subjects=subjects))
    await asyncio.gather(*map(refuse, example.people))


async def _opt_out(client: OrchestratorClient, person: dict[str, Any]) -> None:
    stated = {name: value for name, value in person["optOut"].items() if name != "after"}
    change = _message(messages.PreferenceChange, {**stated, "optedOut": True})
    await client.subjects.UpdatePreferences(
        messages.UpdatePreferencesRequest(subject_id=person["id"], changes=[change])
    )


def _step_before(person: dict[str, Any]) -> str:
    """The step after which somebody opts out; empty: before they set out, or not at all."""
    return str(person.get("optOut", {}).get("after", ""))


async def _opt_out_on_the_way(client: OrchestratorClient, example: Example) -> None:
    """Each as soon as they have passed their step; the journey leaves them some seconds for it."""
    on_the_way = {person["id"]: person for person in example.people if _step_before(person)}
    deadline = time.monotonic() + _PATIENCE
    while on_the_way and time.monotonic() < deadline:
        for subject_id, person in list(on_the_way.items()):
            if _step_before(person) in await passed_steps(client, example, subject_id):
                await _opt_out(client, on_the_way.pop(subject_id))
        await asyncio.sleep(_LOOK_EVERY)


async def _send_events(client: OrchestratorClient, example: Example, progress: Progress) -> int:
    """Returns how many of them were to let somebody in."""
    task = progress.add_task("events", total=len(example.events))
    triggers = 0
    for start in range(0, len(example.events), _BATCH):
        batch = _dated(example.events[start : start + _BATCH])
        answer = await client.events.IngestEvents(messages.IngestEventsRequest(events=batch))
        triggers += sum(
            result.status == messages.EventResult.STATUS_ACCEPTED and batch[result.index].name == example.trigger
            for result in answer.results
        )
        progress.advance(task, len(batch))
    return triggers


def _dated(events: Sequence[dict[str, Any]]) -> list[messages.Event]:
    """Each happened a millisecond after the one before: undated, those of one call have happened at one instant, and a
    purchase at the instant of the sign-up is none that the journey can have brought about."""
    sent_at = datetime.now(UTC)
    dated = []
    for before_sending, event in zip(range(len(events), 0, -1), events, strict=True):
        message = _message(messages.Event, event)
        message.occur_time.FromDatetime(sent_at - timedelta(milliseconds=before_sending))
        dated.append(message)
    return dated


async def _wait(
    client: OrchestratorClient, example: Example, before: messages.JourneyFunnel, triggers: int, progress: Progress
) -> None:
    """Until each trigger was decided about and each execution has ended, or nothing moves any more."""
    decided, ended = progress.add_task("sign-ups", total=triggers), progress.add_task("executions", total=None)
    seen: object = None
    moved = time.monotonic()
    while time.monotonic() - moved < _PATIENCE:
        now = await _funnel(client, example.journey_id)
        came_in = now.enrolled - before.enrolled
        refused = sum(now.refused.values()) - sum(before.refused.values())
        done = sum(now.completed.values()) - sum(before.completed.values())
        progress.update(decided, completed=came_in + refused)
        progress.update(ended, completed=done, total=came_in)
        if came_in + refused >= triggers and done >= came_in and not await is_under_way(client, example):
            return
        if now != seen:
            seen, moved = now, time.monotonic()
        await asyncio.sleep(_LOOK_EVERY)


async def _funnel(client: OrchestratorClient, journey_id: str) -> messages.JourneyFunnel:
    request = messages.GetJourneyFunnelRequest(journey_id=journey_id)
    return (await client.journeys.GetJourneyFunnel(request)).funnel


def _message(kind: type[_M], document: dict[str, Any]) -> _M:
    message, faults = decode(kind, document)
    if faults:
        raise CommandFailure("\n".join(sentence_of(f"The example's {kind.__name__}", fault) for fault in faults))
    return message
