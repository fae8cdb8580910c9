"""What a statement is given besides its inputs. Whatever people wrote is bound, never spelt out in its text."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

_MICROSECOND = timedelta(microseconds=1)


class Constants:
    """Values by type, each type one array parameter: so a statement may have any number of them.

    An element of a parameter is a constant to the planner, as long as the plan is made for these very arguments
    (`SETTINGS`). A value asked for twice has one place.
    """

    def __init__(self, first: int) -> None:
        """`first`: the number of the first parameter that is free."""
        self._first = first
        self._arrays: dict[str, list[object]] = {}
        self._places: dict[tuple[str, object], str] = {}

    @property
    def arguments(self) -> tuple[object, ...]:
        """One for each parameter from the first on."""
        return tuple(self._arrays.values())

    def text(self, value: str) -> str:
        return self._place("text", value)

    def instant(self, value: datetime) -> str:
        return self._place("timestamptz", value)

    def bigint(self, value: int) -> str:
        return self._place("bigint", value)

    def interval(self, value: timedelta) -> str:
        """A length without days in it, which a session's time zone would have its own idea of."""
        return f"({self.bigint(value // _MICROSECOND)} * interval '1 microsecond')"

    def texts(self, values: Iterable[str]) -> str:
        """A slice."""
        array, parameter = self._array("text")
        start = len(array) + 1
        array.extend(values)
        return f"({parameter})[{start}:{len(array)}]"

    def _place(self, kind: str, value: object) -> str:
        place = self._places.get((kind, value))
        if place is None:
            array, parameter = self._array(kind)
            array.append(value)
            place = self._places[kind, value] = f"({parameter})[{len(array)}]"
        return place

    def _array(self, kind: str) -> tuple[list[object], str]:
        array = self._arrays.setdefault(kind, [])
        return array, f"${self._first + list(self._arrays).index(kind)}::{kind}[]"
