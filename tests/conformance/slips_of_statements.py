"""Errors one could make where statements are made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from orchestrator.predicates.sql import comparisons, fields, query
from orchestrator.predicates.sql.constants import Constants
from orchestrator.predicates.sql.happenings import Happenings
from orchestrator.predicates.tree import Attribute
from tests.conformance.dice import DAY, TICK
from tests.conformance.slips import Slip, swapped


def _in_days(_: Constants, length: timedelta) -> str:
    return f"interval '{length // DAY} days {length % DAY // TICK} microseconds'"


def _by_bits(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_by_bits, value))}]"
    return str(Decimal(value)) if isinstance(value, float) else json.dumps(value)


def _alike(key: Any) -> Any:
    return lambda leaf: (leaf.path, leaf.operator) if isinstance(leaf, Attribute) else key(leaf)


def _bounds(what: str, **moved: Callable[[Any], Any]) -> Slip:
    """The bounds of windows are elsewhere."""

    def instead(bounds: Any) -> Any:
        def wrong(self: Happenings, window: Any) -> Any:
            right = bounds(self, window)
            there = {name: move for name, move in moved.items() if getattr(right, name) is not None}
            return replace(right, **{name: move(getattr(right, name)) for name, move in there.items()})

        return wrong

    return Slip(what, Happenings, "_bounds", instead)


SLIPS = [
    swapped("days are the session's", Constants, "interval", _in_days),
    swapped("dots in names are dots between them", fields, "join_path", ".".join),
    swapped("numbers are their bits", comparisons, "_text", _by_bits),
    swapped("any digits are a number", comparisons, "_PLAIN_NUMBER", re.compile(r"-?[0-9]+(?:\.[0-9]+)?")),
    Slip("leaves of one field are alike", query, "_key", _alike),
    _bounds("a cutoff is late", cut=lambda cut: cut + TICK),
    _bounds("a cutoff is early", cut=lambda cut: cut - TICK),
    _bounds("windows are longer than they are", length=lambda length: length + TICK),
    _bounds("windows open late", opens=lambda opens: opens + TICK),
    _bounds("windows have always been open", opens=lambda _: None),
]
