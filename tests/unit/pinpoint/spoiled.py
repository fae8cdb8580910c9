"""The whole export, with anything anywhere in it: the same for the same seed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

EVERYTHING: list[Any] = json.loads(Path(__file__).with_name("everything.json").read_text(encoding="utf-8"))

_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 100, 101, 0.5, 1e308, 10**15, [], {}, [None], {"": ""}, {"a": {"b": []}}),
    *("", " ", "a", "x" * 200, "x" * 300, "ä ö", "a.b", "$entry.x", "..", "\ud800", "seg1", "j1"),
    *("_email.open", "_email.send", "_session.start", "purchase"),
    *("PT0S", "PT1S", "PT36H", "P1D", "P1M", "P400D", "P9999D", "-1", "08:00", "25:00", "UTC+14", "UTC-99"),
    *("0001-01-01", "2027-01-04", "2027-01-04T10:30:00", "2027-06-02T00:00:00Z", "9999-12-31T23:59:59+00:00"),
    *("ALL", "ANY", "NONE", "IMPORT", "INCLUSIVE", "EXCLUSIVE", "CONTAINS", "BETWEEN", "ON", "EQUAL", "TRANSACTIONAL"),
    *("{{", "{%", "{{User.UserAttributes.X}}", "{{#if Attributes.A}}x{{/if}}", "{{#bold}}", "https://x.example/y", "http://x"),
    *("hello", "mail", "bye", "which", '{"a": "b"}', '{"a": {"b": {"c": 1}}}', "Reply-To", "Shop <shop@example.com>"),
]  # fmt: skip


def _places(value: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [way] if way else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inner:
        found += _places(member, (*way, name))
    return found


_PLACES = _places(EVERYTHING)


def spoiled(seed: int) -> list[Any]:
    """One to three values are others, or are gone, or stand twice."""
    random = Random(seed)
    exports = copy.deepcopy(EVERYTHING)
    for _ in range(random.randint(1, 3)):
        way = random.choice(_PLACES)
        try:
            place: Any = exports
            for name in way[:-1]:
                place = place[name]
            value = place[way[-1]]
            match random.randrange(6):
                case 0:
                    del place[way[-1]]
                case 1 if isinstance(place, list):
                    place.append(copy.deepcopy(value))
                case 2 if isinstance(place, dict):
                    place[random.choice(("other", "a b", "x" * 120))] = copy.deepcopy(value)
                case 3:
                    place[way[-1]] = _at(exports, random.choice(_PLACES))
                case _:
                    place[way[-1]] = copy.deepcopy(random.choice(_VALUES))
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took the place away
    return exports


def _at(exports: Any, way: tuple[str | int, ...]) -> Any:
    for name in way:
        exports = exports[name]
    return copy.deepcopy(exports)
