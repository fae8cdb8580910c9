"""Numbers drawn in a terminal: intervals on a line, and a value a day as bars."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from orchestrator.cli.output import console

#: A place for which there is no value.
BLANK = "·"

_BARS = "▁▂▃▄▅▆▇█"
_LINE, _POINT, _END_LOW, _END_HIGH, _MARK = "─", "●", "├", "┤", "┊"


def interval(
    low: float, high: float, point: float, *, scale: tuple[float, float], width: int, mark: float | None = None
) -> str:
    """A line from `low` to `high` with a dot at `point`, in `width` cells that stand for `scale`; `mark` is what it is
    compared with.
    """
    cells = [" "] * width
    if mark is not None:
        cells[_cell(mark, scale, width)] = _MARK
    first, last = _cell(low, scale, width), _cell(high, scale, width)
    cells[first : last + 1] = _LINE * (last + 1 - first)
    cells[first], cells[last] = _END_LOW, _END_HIGH
    if mark is not None and first < _cell(mark, scale, width) < last:
        cells[_cell(mark, scale, width)] = "┼"
    cells[_cell(point, scale, width)] = _POINT
    return "".join(cells)


def spark(values: Sequence[float | None], *, highest: float) -> str:
    """A bar for each value between 0 and `highest`; BLANK where there is none."""
    return "".join(BLANK if value is None else _bar(value, highest) for value in values)


def width_of(most: int, rest: int) -> int:
    """In how many cells to draw beside `rest` others of a line, so that it fits the terminal if that is wide enough."""
    return min(most, max(console().width - rest, 11))


def right(table: Table, *names: str) -> None:
    """Set the columns of these names right: numbers."""
    for column in table.columns:
        if column.header in names:
            column.justify = "right"


def percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.2%}"


def signed(change: float) -> str:
    """A relative change: +8.4%."""
    return f"{change:+.1%}"


def _bar(value: float, highest: float) -> str:
    if highest <= 0 or value <= 0:
        return _BARS[0]
    return _BARS[min(int(value / highest * len(_BARS)), len(_BARS) - 1)]


def _cell(value: float, scale: tuple[float, float], width: int) -> int:
    least, most = scale
    part = (value - least) / (most - least) if most > least else 0.5
    return min(max(round(part * (width - 1)), 0), width - 1)
