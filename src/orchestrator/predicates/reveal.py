"""Which values may be shown to whoever is told why: those of fields that are marked, and of no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.predicates.paths import ENTRY

#: Of a field's path, as predicates of journeys have it: whether what stands there may be shown.
Reveal = Callable[[tuple[str, ...]], bool]


def reveal_of(marked: Iterable[tuple[str, ...]]) -> Reveal:
    """Shows what stands at these paths, with all that is in it."""
    among = frozenset(marked)

    def reveal(path: tuple[str, ...]) -> bool:
        return any(path[:end] in among for end in range(1, len(path) + 1))

    return reveal


def of_properties(reveal: Reveal | None) -> Reveal | None:
    """The same for predicates about an event, whose paths begin in its properties: an attribute of a property's name
    says nothing of it.
    """
    return None if reveal is None else lambda path: reveal((ENTRY, *path))
