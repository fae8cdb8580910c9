"""What becomes of who stands on a step when their journey is another one, read from the JSON of both."""

from __future__ import annotations

from dataclasses import dataclass

from tests.core.oracle_json import Json

KINDS = (
    *("send", "wait", "waitFor", "branch", "split", "adaptiveBranch", "nbaDecision"),
    *("updateSubject", "emitEvent", "webhook", "exit"),
)
#: How one can wait; of a change, for that of which attribute.
WAYS = {"wait": ("duration", "timeOfDay", "date"), "waitFor": ("when", "event", "changed")}


@dataclass(frozen=True, slots=True)
class Carried:
    """The other journey, and the step of it on which the execution goes on; `same`: as if it had stood there before."""

    document: Json
    mapping: dict[str, str]
    to: str
    same: bool


def carried(step: Json, document: Json, mapping: dict[str, str]) -> Carried | str:
    """Or why it stays."""
    name = mapping.get(step["id"], step["id"])
    for target in document["steps"]:
        if target["id"] == name:
            break
    else:
        return "step gone"
    kind, other = (next(kind for kind in KINDS if kind in one) for one in (step, target))
    same = kind == other
    if same and kind in WAYS:
        way, another = (next(way for way in WAYS[kind] if way in one[kind]) for one in (step, target))
        same = way == another and (way != "changed" or step[kind][way]["fieldPath"] == target[kind][way]["fieldPath"])
    if not same and step["id"] not in mapping:
        return "kind changed" if kind != other else "wait changed"
    return Carried(document, mapping, name, same)
