"""What scenarios stand on: a field whose processes die, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from dataclasses import field as made
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from temporalio.client import Client

from tests.eventually import eventually
from tests.faults.checker import Effect
from tests.faults.checker.evidence import Forgotten
from tests.faults.checker.op_log import AUDIT, ENROLLMENT, EVENT, VERSION
from tests.faults.crashes.revival import Revival
from tests.faults.field import RECOVERY, Field

if TYPE_CHECKING:
    from asyncpg import Pool, Record

Json = dict[str, Any]
#: One turn of a scenario; turns are numbered from 0.
Turn = Callable[[int], Awaitable[None]]
Check = Callable[[], Awaitable[None]]

BYE: Json = {"id": "bye", "exit": {"reason": "finished"}}
NAP: Json = {"id": "nap", "wait": {"duration": "1s"}, "next": "bye"}
LONG: Json = {"id": "long", "wait": {"duration": "30d"}, "next": "bye"}


class Faults(Protocol):
    """What a run's processes are to meet, each of it once, under the names of groups."""

    def struck(self) -> list[str]:
        """What they have met."""

    def left(self, groups: Collection[str]) -> set[str]:
        """What they have not met yet, of these groups."""


@dataclass
class Ground:
    """`patience`: seconds in which the faults of a group have to be met. `revival` None: nobody is to die. `rests`:
    what scenarios want to come true afterwards, in SQL; `checks`: what is to hold then; `forgotten`: who is gone.
    `turns`: whoever would begin a turn passes by there; None: all go as they like. `within`: seconds in which what
    scenarios wait for comes true.
    """

    field: Field
    faults: Faults
    revival: Revival | None
    rows: Pool[Record]
    temporal: Client
    patience: float
    rests: list[str] = made(default_factory=list)
    checks: list[Check] = made(default_factory=list)
    forgotten: list[Forgotten] = made(default_factory=list)
    turns: Callable[[], AbstractAsyncContextManager[None]] | None = None
    within: float = RECOVERY

    async def turn_after_turn(self, group: str, turn: Turn, *, pause: float = 4.0) -> None:
        """Until every fault of the group was met; `pause`: seconds in which one turn may bring that about.

        Fails, naming the faults, where nobody comes to them.
        """
        try:
            async with asyncio.timeout(self.patience):
                for number in count():
                    async with self.turns() if self.turns is not None else nullcontext():
                        await turn(number)
                    if await self._all_met(group, within=pause):
                        return
        except TimeoutError:
            left = self.faults.left([group])
            raise AssertionError(f"within {self.patience} s nobody has met {sorted(left) or group}") from None

    async def _all_met(self, group: str, *, within: float) -> bool:
        until = asyncio.get_running_loop().time() + within
        while self.faults.left([group]):
            if asyncio.get_running_loop().time() > until:
                return False
            await asyncio.sleep(0.1)
        return True

    async def journey(self, journey_id: str, *steps: Json, **more: Any) -> None:
        """Made and published."""
        body = {"id": journey_id, "name": journey_id, "steps": list(steps), **more}
        created = [Effect(AUDIT, f"journey_created journey/{journey_id}")]
        await self.field.call("POST", "/v1/journeys", body, effects=created)
        await self.publish(journey_id, 1)

    async def publish(self, journey_id: str, version: int, body: Json | None = None) -> None:
        """`version` is the number that it is to get."""
        effects = [Effect(VERSION, f"{journey_id}@{version}"), Effect(AUDIT, f"journey_published journey/{journey_id}")]
        await self.field.call("POST", f"/v1/journeys/{journey_id}:publish", body or {}, effects=effects)

    async def enroll(self, journey_id: str, subject_ids: Sequence[str], *, stays: bool = True) -> None:
        """`stays`: afterwards each of them is still called so."""
        effects = entered(journey_id, subject_ids) if stays else []
        answer = await self.field.call(
            "POST", f"/v1/journeys/{journey_id}:enroll", {"subjectIds": list(subject_ids)}, effects=effects
        )
        assert answer["enrolled"] == len(subject_ids), answer

    async def happen(self, name: str, subject_ids: Sequence[str], *, enters: str = "") -> None:
        """An event of this name, of each; it lets them into a journey, if one is named."""
        events = [{"eventId": f"{name}/{who}", "name": name, "subjectId": who} for who in subject_ids]
        effects = [Effect(EVENT, event["eventId"], subject=event["subjectId"]) for event in events]
        effects += entered(enters, subject_ids) if enters else []
        await self.field.call("POST", "/v1/events", {"events": events}, effects=effects)

    async def people(self, subject_ids: Iterable[str], attributes: Json) -> None:
        """Subjects with these attributes."""
        body = {"subjects": [{"id": who, "attributes": attributes} for who in subject_ids]}
        await self.field.call("POST", "/v1/subjects:batchUpsert", body)

    async def until(self, condition: str, *arguments: object) -> None:
        """Wait until this holds in the database."""

        async def holds() -> bool:
            return bool(await self.rows.fetchval(f"SELECT {condition}", *arguments))

        try:
            await eventually(holds, within=self.within)
        except AssertionError:
            raise AssertionError(f"not within {self.within} s: {condition} {arguments}") from None


def entered(journey_id: str, subject_ids: Collection[str]) -> list[Effect]:
    return [Effect(ENROLLMENT, f"{journey_id}/{who}") for who in subject_ids]


def crowd(name: str, size: int) -> list[str]:
    """Ids of so many subjects, with a number at their ends."""
    return [f"{name}-{number}" for number in range(size)]
