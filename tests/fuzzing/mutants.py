"""Inputs that differ a little from good ones: in their JSON, where they have one, else in their bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

from tests.hostile import hostile

_TEXTS = (*hostile("texts"), *hostile("injections"))
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e308, 2**53, 2**53 + 1, 10**30, float("nan"), float("-inf")),
    *([], {}, [None], [[]], {"": ""}, {"a": {"b": []}}, {"kind": "everyone"}),
)
#: Levels that an input grows by at once.
_DEEP = (1, 2, 2, 30, 200)


def mutant(data: bytes, dice: Random, others: Sequence[bytes]) -> bytes:
    """Another input, made from this one and, now and then, from a piece of another: the same for the same dice."""
    name, line_end, rest = data.partition(b"\n")
    if line_end and name.isalpha() and dice.random() < 0.95:
        below = [other.partition(b"\n")[2] for other in others]
        return name + line_end + mutant(rest, dice, below)
    if dice.random() < 0.8:
        document = _document(data)
        if isinstance(document, dict | list):
            changed = _changed(document, dice, [_document(other) for other in dice.sample(others, 1)])
            with suppress(RecursionError):  # deeper than it can be written here: bytes can be
                return json.dumps(changed).encode()
    return _bytes(data, dice, dice.choice(others))


def _document(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _changed(document: Any, dice: Random, others: Sequence[Any]) -> Any:
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        places = places_in(document)
        if not places:
            return dice.choice(_VALUES)
        holder, key = dice.choice(places)
        match dice.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder[key:key] = [_copy(holder[key])] * dice.choice((1, 2, 60))
            case 1:
                holder[dice.choice(_TEXTS)] = holder.pop(key)
            case 2:
                other, at = dice.choice(places)
                if has(other, at):
                    holder[key] = _copy(other[at])
            case 3:
                found = [place for other in others for place in places_in(other)]
                if found:
                    other, at = dice.choice(found)
                    holder[key] = _copy(other[at])
            case 4:
                for _ in range(dice.choice(_DEEP)):
                    holder[key] = [holder[key]] if dice.random() < 0.5 else {dice.choice(("clause", "a")): holder[key]}
            case 5 | 6:
                holder[key] = dice.choice(_TEXTS)
            case _:
                holder[key] = _copy(dice.choice(_VALUES))
    return document


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """(list or object, where in it) of everything that is in something."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        match pending.pop():
            case dict() as holder:
                found += [(holder, name) for name in holder]
                pending += holder.values()
            case list() as holder:
                found += [(holder, at) for at in range(len(holder))]
                pending += holder
    return found


def _copy(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except RecursionError:
        return None


def has(holder: Any, at: Any) -> bool:
    """Whether the place is one still."""
    return at in holder if isinstance(holder, dict) else at < len(holder)


def _bytes(data: bytes, dice: Random, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(6):
            case 0:
                del changed[at : at + dice.choice((1, 2, 50))]
            case 1:
                changed[at:at] = dice.choice(_TEXTS).encode(errors="surrogatepass")
            case 2:
                changed[at:at] = changed[at : at + 40] * dice.choice((1, 2, 500))
            case 3:
                begin = dice.randrange(len(other) + 1)
                changed[at:at] = other[begin : begin + 60]
            case 4:
                changed[at:at] = dice.choice((b"[", b"{", b'{"a":', b"((", b"{{", b"\xff", b"\0")) * dice.choice(_DEEP)
            case _:
                changed[at : at + 1] = bytes([dice.randrange(256)])
    return bytes(changed)
