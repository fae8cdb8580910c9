"""How two JSON values differ, place by place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.predicates.faults import under


class _Absent:
    """What stands on the side on which there is nothing."""


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Difference:
    """`path` leads there, by the ids of what has one: `steps[greet].next`. `old` and `new` may be ABSENT."""

    path: str
    old: Any
    new: Any

    def told(self) -> dict[str, Any]:
        sides = {"old": self.old, "new": self.new}
        return {"path": self.path} | {side: value for side, value in sides.items() if value is not ABSENT}


def differences(old: Any, new: Any, path: str = "") -> Iterator[Difference]:
    """The smallest parts that differ, in the order of the old value, what is only in the new one behind it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from differences(old.get(name, ABSENT), new.get(name, ABSENT), under(path, name))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(old, new, path)
    elif not _same(old, new):
        yield Difference(path, old, new)


def _of_lists(old: list[Any], new: list[Any], path: str) -> Iterator[Difference]:
    old_by_id, new_by_id = _by_id(old), _by_id(new)
    if old_by_id is None or new_by_id is None:
        if len(old) == len(new) and any(isinstance(one, dict) for one in old):
            for number, (before, after) in enumerate(zip(old, new, strict=True)):
                yield from differences(before, after, under(path, number))
        elif not _same(old, new):
            yield Difference(path, old, new)
        return
    for one in [*old_by_id, *(one for one in new_by_id if one not in old_by_id)]:
        yield from differences(old_by_id.get(one, ABSENT), new_by_id.get(one, ABSENT), f"{path}[{one}]")
    if [one for one in old_by_id if one in new_by_id] != [one for one in new_by_id if one in old_by_id]:
        yield Difference(f"{path} (order)", list(old_by_id), list(new_by_id))


def _by_id(values: list[Any]) -> dict[str, Any] | None:
    """Elements by their ids, if each has one of its own."""
    by_id = {one["id"]: one for one in values if isinstance(one, dict) and isinstance(one.get("id"), str)}
    return by_id if len(by_id) == len(values) else None


def _same(old: Any, new: Any) -> bool:
    """True is not 1, within whatever."""
    if isinstance(old, bool) != isinstance(new, bool):
        return False
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(value, new[name]) for name, value in old.items())
    return bool(old == new)
