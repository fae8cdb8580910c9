"""What a client asked for and was told: one line when it asks, one when it knows, as Jepsen's histories have it.

`ok`: it was done. `fail`: it was refused, and certainly not done. `info`: nobody knows, for the answer was lost or
never came; so is what has no second line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: What an operation does, when it does it. `which` is
EVENT = "event"  # the event's id: stored
ENROLLMENT = "enrollment"  # {journey}/{subject}: entered, once
VERSION = "version"  # {journey}@{number}: published
AUDIT = "audit"  # {action} {resource kind}/{resource id}: told of in the audit log, once for each operation
SILENCE = "silence"  # {subject} or {subject}/{channel}: from then on nothing is sent there
CONSENT = "consent"  # the same: and from then on it may be again
FORGOTTEN = "forgotten"  # {subject}

#: How an operation ended.
OK, FAIL, INFO = "ok", "fail", "info"


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that an operation does. `subject`: whose event it is, of whom all goes who are forgotten."""

    kind: str
    which: str
    project: str = "default"
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """`began` and `ended` in epoch seconds by the client's clock. `request`: the key under which it may be repeated;
    `answer`: what it was told, as text.
    """

    number: int
    kind: str
    effects: tuple[Effect, ...] = ()
    project: str = "default"
    request: str = ""
    began: float = 0.0
    state: str = INFO
    ended: float | None = None
    answer: str = ""

    def does(self, *kinds: str) -> list[Effect]:
        return [effect for effect in self.effects if effect.kind in kinds]


@dataclass(slots=True)
class OpLog:
    """Appends to a file; of one process, by as many tasks as there are."""

    path: Path
    _next: int = field(default=0)

    def invoke(self, kind: str, effects: Iterable[Effect] = (), *, project: str = "default", request: str = "") -> int:
        """It is being asked for; returns the operation's number."""
        number, self._next = self._next, self._next + 1
        told = [asdict(effect) for effect in effects]
        self._write(number, "invoke", kind=kind, effects=told, project=project, request=request)
        return number

    def ok(self, number: int, answer: str = "") -> None:
        self._write(number, OK, answer=answer)

    def fail(self, number: int, answer: str = "") -> None:
        self._write(number, FAIL, answer=answer)

    def info(self, number: int, answer: str = "") -> None:
        self._write(number, INFO, answer=answer)

    def ops(self) -> list[Op]:
        """All of them so far."""
        return read(self.path)

    def _write(self, number: int, phase: str, **more: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"op": number, "phase": phase, "at": time.time(), **more}) + "\n")


def read(path: Path) -> list[Op]:
    """The operations of a log, in the order in which they were asked for."""
    asked: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        told = json.loads(line)
        if told["phase"] == "invoke":
            effects: Sequence[dict[str, str]] = told["effects"]
            asked[told["op"]] = {
                "number": told["op"],
                "kind": told["kind"],
                "effects": tuple(Effect(**effect) for effect in effects),
                "project": told["project"],
                "request": told["request"],
                "began": told["at"],
            }
        else:
            asked[told["op"]] |= {"state": told["phase"], "ended": told["at"], "answer": told["answer"]}
    return [Op(**op) for op in asked.values()]
