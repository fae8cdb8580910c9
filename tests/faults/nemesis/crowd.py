"""People who sign up all the time, by both servers, and what they do on their way; and an author who publishes."""

from __future__ import annotations

import asyncio
import random
from asyncio import TaskGroup
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from tests.acceptance.canaries import Canary
from tests.faults.checker import Effect
from tests.faults.checker.evidence import Forgotten
from tests.faults.checker.op_log import AUDIT, FORGOTTEN, SILENCE, VERSION
from tests.faults.field import Field

#: Who are on their way at once, as far as callers are concerned.
CALLERS = 14
#: Seconds between two versions.
PUBLISHING = 9.0

BOUGHT = {"kind": "event_fired", "eventName": "purchase"}
GOAL = {"eventName": "purchase", "window": "7d"}


def steps(nap: int) -> list[dict[str, object]]:
    """Eight of them; the last wait takes so many seconds."""
    return [
        {"id": "one", "send": {"communicationId": "first"}, "next": "pause"},
        {"id": "pause", "wait": {"duration": "2s"}, "next": "check"},
        {"id": "check", "branch": {"arms": [{"id": "bought", "when": BOUGHT, "next": "pick"}], "otherwise": "hear"}},
        {"id": "hear", "waitFor": {"event": {"eventName": "go"}, "timeout": "4s", "otherwise": "pick"}, "next": "pick"},
        {"id": "pick", "adaptiveBranch": {"arms": [{"id": "a", "next": "two"}, {"id": "b", "next": "nap"}]}},
        {"id": "two", "send": {"communicationId": "second"}, "next": "nap"},
        {"id": "nap", "wait": {"duration": f"{nap}s"}, "next": "bye"},
        {"id": "bye", "exit": {"reason": "finished"}},
    ]


@dataclass
class Crowd:
    """`doors`: one for each server. `arrived`: who has been acknowledged to be in; `forgotten`: who is forgotten."""

    doors: Sequence[Field]
    seed: int
    over: bool = False
    arrived: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    versions: int = 1
    _numbers: count[int] = field(default_factory=count)

    async def settle(self) -> None:
        """What they find when they come."""
        await self.doors[0].furnish(steps=steps(1), goal=GOAL)

    async def live(self) -> None:
        """Until it is over, and everybody has been answered."""
        async with TaskGroup() as group:
            group.create_task(self._publish())
            for _ in range(CALLERS):
                group.create_task(self._come())

    def canaries(self) -> list[Forgotten]:
        """What may stand nowhere any more."""
        return [Forgotten(subject_id=who, canaries=[Canary("id", who)]) for who in self.forgotten]

    async def _come(self) -> None:
        while not self.over:
            await self._travel(next(self._numbers))

    async def _travel(self, number: int) -> None:
        rng = random.Random(f"person {self.seed} {number}")
        # As long as others, so that none of them is found in another's.
        who = f"Kanari-{number:05}"
        door, other = (self.doors[(number + n) % len(self.doors)] for n in (0, 1))
        if rng.random() < 0.4:
            await door.ingest([{"eventId": f"buy-{number}", "name": "purchase", "subjectId": who}])
        (fate,) = rng.choices(("hear", "leave", "refuse", "stop", "forget"), (40, 20, 15, 15, 10))
        # Who opts out before his turn has come to be let in is not let in.
        enrolls = [who] if fate != "refuse" else []
        await door.ingest([{"eventId": f"up-{number}", "name": "signup", "subjectId": who}], enrolls=enrolls)
        self.arrived.append(who)
        await asyncio.sleep(rng.uniform(0, 5))
        match fate:
            case "hear":
                await other.ingest([{"eventId": f"go-{number}", "name": "go", "subjectId": who}])
            case "refuse":
                change = {"channel": "webhook", "category": "marketing", "optedOut": True}
                path = f"/v1/subjects/{who}/preferences"
                await other.call("PATCH", path, {"changes": [change]}, effects=[Effect(SILENCE, f"{who}/webhook")])
            case "stop":
                body = {"filter": {"subjectIds": [who]}, "reason": "changed-mind", "atMost": 1}
                await other.call("POST", "/v1/journeys/welcome/executions:cancel", body)
            case "forget":
                self.forgotten.append(who)
                await other.call("POST", f"/v1/subjects/{who}:forget", {}, effects=[Effect(FORGOTTEN, who)])

    async def _publish(self) -> None:
        """Every second version takes along who is under way."""
        clock = asyncio.get_running_loop().time
        due = clock() + PUBLISHING
        while not self.over:
            if clock() < due:
                await asyncio.sleep(0.1)
                continue
            door, number = self.doors[self.versions % len(self.doors)], self.versions + 1
            await door.call("PATCH", "/v1/journeys/welcome", {"steps": steps(1 + self.versions % 3)})
            effects = [Effect(VERSION, f"welcome@{number}"), Effect(AUDIT, "journey_published journey/welcome")]
            body = {}
            if number % 2 == 0:
                shown = await door.call("POST", "/v1/journeys/welcome:previewCarry", {"carry": "compatible"})
                body = {"carry": "compatible", "token": shown["token"]}
            await door.call("POST", "/v1/journeys/welcome:publish", body, effects=effects)
            self.versions = number
            due = clock() + PUBLISHING
