"""What is wrong with something a caller wrote, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a request.

    `path` leads to it from the request's root, as the caller spelled it:
    `steps[2].branch.arms[0].when.clauses[1].fieldPath`.
    `reason` is stable and UPPER_SNAKE (`EMPTY_CLAUSES`); `message` is for people and may change.
    """

    path: str
    reason: str
    message: str


class Wrong(Exception):
    """Raised by what reads one thing and finds it worth nothing; whoever reads on collects the fault."""

    def __init__(self, path: str, reason: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.fault = Fault(path=path, reason=reason, message=message)


class Unreadable(Exception):
    """Something that was checked when it was saved does not read: another release wrote it, or somebody by hand."""

    def __init__(self, what: str, faults: Iterable[Fault]) -> None:
        super().__init__(f"{what} does not read: {[(fault.path, fault.reason) for fault in faults]}")


def under(path: str, name: str | int) -> str:
    """The path of a member (`under("a", "b")` is `a.b`) or of an element (`under("a", 2)` is `a[2]`).

    A member of the request that has no name has a place too: `""`.
    """
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name or '""'
