"""Lengths of time as text: `90m`, `1d12h`, `0.5s`, and of ISO 8601 what has a fixed length: `P3D`, `PT90M`; and as an
object of units: `{"days": 3}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
_SHORT = re.compile(
    r"(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)(?:\.([0-9]+))?s)?",
)
_ISO = re.compile(
    r"P(?:([0-9]+)W)?(?:([0-9]+)D)?(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)(?:\.([0-9]+))?S)?)?",
)
_ISO_CALENDAR = re.compile(r"P[0-9]+[YM].*")
_LONGEST_TEXT = 64


def read_span(text: str) -> timedelta:
    """A length of time, zero or more, exact to the microsecond.

    Units go from the largest to the smallest, each at most once; only seconds may have a fraction, of at most six
    digits. Raises ValueError with a sentence for the caller.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"a duration has at most {_LONGEST_TEXT} characters")
    match = _SHORT.fullmatch(text) or _ISO.fullmatch(text)
    if match is None or match.lastindex is None:
        if _ISO_CALENDAR.fullmatch(text):
            raise ValueError("years and months have no fixed length: use weeks or days, such as P30D")
        raise ValueError("not a duration such as 2s, 90m, 12h, 3d, 1w, 1d12h, P3D or PT90M")
    weeks, days, hours, minutes, seconds, fraction = match.groups()
    if fraction is not None and len(fraction) > 6:
        raise ValueError("a duration is exact to the microsecond: at most six digits after the point")
    try:
        return timedelta(
            weeks=int(weeks or 0),
            days=int(days or 0),
            hours=int(hours or 0),
            minutes=int(minutes or 0),
            seconds=int(seconds or 0),
            microseconds=int((fraction or "").ljust(6, "0")),
        )
    except OverflowError:
        raise ValueError("longer than any duration that can be kept") from None


def read_units(document: Mapping[str, object]) -> timedelta:
    """The length of `{"days": 1, "hours": 12}`: whole numbers, zero or more. Raises ValueError as `read_span` does."""
    numbers = {unit: number for unit, number in document.items() if number is not None}
    whole = {
        unit: int(number)
        for unit, number in numbers.items()
        if isinstance(number, int | float) and not isinstance(number, bool) and number >= 0 and number % 1 == 0
    }
    if not numbers or whole.keys() != numbers.keys() or not whole.keys() <= set(_UNITS):
        raise ValueError(f"a duration is a text such as 3d, or whole numbers of {', '.join(_UNITS)}")
    try:
        return timedelta(**whole)
    except OverflowError:
        raise ValueError("longer than any duration that can be kept") from None
