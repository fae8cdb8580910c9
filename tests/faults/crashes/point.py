"""What a crash point is: a place in a module's text, found by what stands around it."""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: On a line of its own: dies there, always or under a condition that is looked at there.
_LINE = re.compile(r"^(?P<indent> *)<<(?:if (?P<condition>.*))?>>\n", re.MULTILINE)
#: Around an expression: dies once it has a value that is not empty.
_AROUND = re.compile(r"<<(?P<code>.+?)>>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """`text` is what `module` has there, once, and in it a mark where to die: `<<>>` or `<<if condition>>` on a line of
    its own, or `<<code>>`. `group` is the scenario that has it reached (scenarios.py).
    """

    name: str
    group: str
    module: str
    text: str

    @property
    def was(self) -> str:
        """What the module has."""
        line = self._line
        if line is not None:
            return self.text[: line.start()] + self.text[line.end() :]
        return _AROUND.sub(lambda mark: mark["code"], self.text)

    @property
    def _line(self) -> re.Match[str] | None:
        return _LINE.search(self.text)

    def planted_beside(self, others: Iterable[Point]) -> str:
        """What the module has instead, with all of these points at the same place."""
        if self._line is None:
            return _AROUND.sub(lambda mark: f"{_DIE}({self.name!r}, {mark['code']})", self.text)
        planted = ""
        for point in (self, *others):
            line = point._line
            assert line is not None, point.name
            assert line.start() == self._line.start(), f"{point.name} and {self.name} share a text, and no place"
            condition = f"if {line['condition']}: " if line["condition"] else ""
            planted += f"{line['indent']}{condition}{_DIE}({point.name!r})\n"
        return self.was[: self._line.start()] + planted + self.was[self._line.start() :]


#: tests/faults/planted/hook/dying.py, which is imported where the first point is reached.
_DIE = '__import__("dying").reached'


def changes(points: Iterable[Point]) -> dict[str, list[tuple[str, str]]]:
    """By module, what is there and what is to be there instead so that it dies at these points."""
    places: defaultdict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in points:
        places[point.module, point.was].append(point)
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for (module, was), (first, *others) in places.items():
        found[module].append((was, first.planted_beside(others)))
    return dict(found)


def source_of(module: str) -> str:
    """The text of a module of the product."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    return Path(spec.origin).read_text()
