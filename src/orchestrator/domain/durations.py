"""Durations as people write them, within limits, and as we write them back."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.predicates.spans import read_span

TWO_YEARS = timedelta(days=730)

_MICROSECOND = timedelta(microseconds=1)
#: Microseconds in each unit but the last, largest first.
_UNITS = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000}


def parse_duration(text: str, *, longest: timedelta = TWO_YEARS) -> timedelta:
    """`2s`, `90m`, `12h`, `3d`, `1w`, `1d12h`, `P3D`, `PT90M`: zero to `longest`, exact to the microsecond.

    Raises ValueError with a sentence for the caller.
    """
    duration = read_span(text)
    if duration > longest:
        raise ValueError(f"a duration is at most {format_duration(longest)} here")
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this duration (zero or more): `90m`, not `1h30m`; `1d1s`.

    Of the texts that begin with a unit and give each smaller one what is left; of equally short ones, the largest unit.
    """
    units = list(_UNITS)
    return min((_written(duration, units[first:]) for first in range(len(units) + 1)), key=len)


def _written(duration: timedelta, units: list[str]) -> str:
    rest = duration // _MICROSECOND
    text = ""
    for unit in units:
        count, rest = divmod(rest, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    seconds, microseconds = divmod(rest, 1_000_000)
    fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
    return text if text and not rest else f"{text}{seconds}{fraction}s"
