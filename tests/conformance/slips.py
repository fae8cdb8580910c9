"""An error in Python: something stands where something else should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Slip:
    """`instead` makes what stands in the place of `holder.name` from what should."""

    what: str
    holder: Any
    name: str
    instead: Callable[[Any], Any]


def swapped(what: str, holder: Any, name: str, wrong: Any) -> Slip:
    """Something else altogether."""
    return Slip(what, holder, name, lambda _: wrong)
