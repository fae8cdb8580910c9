"""The filters a template may use, and how its values look as text.

    text     append capitalize downcase escape json lstrip newline_to_br prepend remove remove_first replace
             replace_first rstrip slice split squish strip strip_newlines truncate truncatewords upcase url_encode
    lists    compact find first has join last map reverse sort sort_natural sum uniq where
    numbers  abs at_least at_most ceil divided_by floor minus modulo plus round times
    any      date default size

Each is charged for the size of what it reads and may not make more than MAX_TEXT or MAX_ITEMS. Left out: `concat`
(doubles lists of lists), `safe` (undoes escaping), and what nobody needs that would have to be guarded (`strip_html`,
`base64_*`, …).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Protocol

from liquid import Markup, escape
from liquid.builtin.filters import array, math, misc, string
from liquid.exceptions import FilterArgumentError, ResourceLimitError
from liquid.filter import sequence_filter, with_context
from liquid.undefined import is_undefined

#: Characters a filter may make, and bytes of a render's output.
MAX_TEXT = 256 * 1024
#: Items a filter may read or make, and passes of a loop (of nested loops: their product).
MAX_ITEMS = 10_000
MAX_INTEGER = 2**63

# What a call costs, in units of about 0.1 µs (measured on all filters: none costs more than three times what it pays).
_CALL = 40
_ITEM = 6
_CHARACTERS_PER_UNIT = 6
#: Filters that pay their call this many times, for what they do with each character or item.
_DEAR = {
    "newline_to_br": 3,
    "split": 3,
    "squish": 3,
    "strip_newlines": 3,
    "truncatewords": 3,
    "uniq": 2,
    "url_encode": 4,
}

_DATE_FORMAT = re.compile(r"(?:[^%]|%-?[aAbBdeFHIjmMpSTuwyYzZ%])*", re.DOTALL)
_MAX_DATE_TEXT = 64

Filter = Callable[..., Any]


class Meter(Protocol):
    """What a filter is given of the render it belongs to."""

    autoescape: bool

    def spend(self, units: int) -> None:
        """Raises ResourceLimitError when the allowance is gone."""


class Object(dict[str, Any]):
    """A JSON object among the variables; as text it is JSON. `weight` is what reading all of it costs."""

    __slots__ = ("weight",)
    weight: int

    def __str__(self) -> str:
        return to_json(self)


class Items(list[Any]):
    """A list among the variables, or made by a filter; as text, its items with nothing between them."""

    __slots__ = ("weight",)
    weight: int

    def __str__(self) -> str:
        return "".join(to_text(item) for item in self)


def weigh(value: object) -> int:
    """What reading all of `value` costs."""
    match value:
        case str():
            return 1 + len(value) // _CHARACTERS_PER_UNIT
        case Object() | Items():
            return value.weight
        case range():
            return _ITEM * (value.stop - value.start)
        case list() | tuple():
            return _ITEM * len(value) + sum(map(weigh, value))
        case _:
            return 1


def enclose(value: object, depth: int = 32) -> Any:
    """A JSON value with the text and the weight it has in templates.

    Raises TypeError for anything that is not JSON, ValueError beyond `depth`.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping() | list() if depth == 0:
            raise ValueError("variables are nested too deeply")
        case Mapping():
            made = Object()
            for key, member in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"not a JSON key: {type(key).__name__}")
                made[key] = enclose(member, depth - 1)
            made.weight = _ITEM * len(made) + sum(map(weigh, made.values()))
            return made
        case list():
            return _items(enclose(member, depth - 1) for member in value)
        case _:
            raise TypeError(f"not a JSON value: {type(value).__name__}")


def to_text(value: object) -> str:
    """How a value looks in the output. What is not JSON (a missing variable, `forloop`, `empty`) looks like nothing."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float() | Object() | Items():
            return str(value)
        case list() | tuple():
            return "".join(map(to_text, value))
        case range():
            return f"{value.start}..{value.stop - 1}"
        case _:
            return ""


def check_length(items: range) -> None:
    """Raises ResourceLimitError for more than MAX_ITEMS. (The length of a long range is beyond `len`.)"""
    if items.stop - items.start > MAX_ITEMS:
        raise ResourceLimitError(f"more than {MAX_ITEMS} items", token=None)


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=lambda _: None)


def _items(values: Any) -> Items:
    made = Items(values)
    made.weight = _ITEM * len(made) + sum(map(weigh, made))
    return made


def _bounded(name: str, made: Any) -> Any:
    match made:
        case str() if len(made) > MAX_TEXT:
            raise ResourceLimitError(f"{name}: more than {MAX_TEXT} characters", token=None)
        case list() if len(made) > MAX_ITEMS:
            raise ResourceLimitError(f"{name}: more than {MAX_ITEMS} items", token=None)
        case range():
            check_length(made)
            return made
        case bool():
            return made
        case int() if abs(made) >= MAX_INTEGER:
            raise ResourceLimitError(f"{name}: an integer beyond 64 bits", token=None)
        case float() if not isfinite(made):
            raise ResourceLimitError(f"{name}: not a finite number", token=None)
        case Items():
            return made
        case list():
            return _items(made)
        case _:
            return made


def _guarded(name: str, function: Filter, *, of_text: bool = False) -> Filter:
    """`function` with its costs charged and its results bounded. `of_text`: values it is given are made text first."""
    wants_environment = getattr(function, "with_environment", False)
    dearness = _DEAR.get(name, 1)

    def guarded(left: Any, *args: Any, context: Any, **named: Any) -> Any:
        values = [_bounded(name, value) for value in (left, *args)]
        meter: Meter = context
        meter.spend(dearness * (_CALL + sum(map(weigh, values))))
        if of_text:
            values = [to_text(values[0]), *(value if _is_scalar(value) else to_text(value) for value in values[1:])]
        if wants_environment:
            named["environment"] = context.env
        return _bounded(name, function(*values, **named))

    return with_context(guarded)


def _is_scalar(value: object) -> bool:
    return (isinstance(value, int | float | str) and not isinstance(value, bool)) or is_undefined(value)


def _replace(value: str, old: object, new: object = "") -> str:
    found, put = to_text(old), to_text(new)
    if len(value) + value.count(found) * max(0, len(put) - len(found)) > MAX_TEXT:
        raise ResourceLimitError(f"replace: more than {MAX_TEXT} characters", token=None)
    return value.replace(found, put)


def _split(value: str, separator: object = None) -> Any:
    between = to_text(separator)
    pieces = value.count(between) + 1 if between else len(value)
    if pieces > MAX_ITEMS:
        raise ResourceLimitError(f"split: more than {MAX_ITEMS} items", token=None)
    return string.split(value, between)


class _Join:
    with_environment = True

    def __call__(self, value: Any, separator: object = " ", *, environment: Any) -> str:
        texts = _texts(value)
        between = to_text(separator)
        if sum(map(len, texts)) + len(between) * len(texts) > MAX_TEXT:
            raise ResourceLimitError(f"join: more than {MAX_TEXT} characters", token=None)
        # Joining by Markup escapes each item that is not Markup itself.
        return escape(between).join(texts) if environment.autoescape else between.join(texts)


@sequence_filter
def _texts(values: Any) -> list[str]:
    return [to_text(value) for value in values]


@sequence_filter
def _uniq(values: Any, key: object = None) -> list[Any]:
    first: dict[tuple[type, object], Any] = {}
    for value in values:
        compared = value.get(key) if isinstance(value, dict) and key is not None else value
        comparable = compared if compared is None or isinstance(compared, int | float | str) else to_json(compared)
        first.setdefault((type(compared), comparable), value)
    return list(first.values())


def _json(value: object) -> str:
    return to_json(value)


def _date(value: object, form: object = None) -> str:
    """A time (RFC 3339, or seconds since 1970) in another form; anything else comes back as it is. No `now` here."""
    at = _instant(value)
    if at is None or not isinstance(form, str):
        return to_text(value)
    if len(form) > _MAX_DATE_TEXT or not _DATE_FORMAT.fullmatch(form):
        raise FilterArgumentError("date: a directive that does not exist", token=None)
    made = at.strftime(form)
    return Markup(made) if isinstance(form, Markup) else made


def _instant(value: object) -> datetime | None:
    try:
        match value:
            case bool():
                return None
            case int() | float():
                return datetime.fromtimestamp(value, UTC)
            case str() if len(value) <= _MAX_DATE_TEXT:
                return datetime.fromtimestamp(int(value), UTC) if value.isdecimal() else datetime.fromisoformat(value)
            case _:
                return None
    except (ValueError, OverflowError, OSError):
        return None


_TEXT: dict[str, Filter] = {
    "append": string.append,
    "capitalize": string.capitalize,
    "downcase": string.downcase,
    "escape": string.escape,
    "lstrip": string.lstrip,
    "newline_to_br": string.newline_to_br,
    "prepend": string.prepend,
    "remove": string.remove,
    "remove_first": string.remove_first,
    "replace": _replace,
    "replace_first": string.replace_first,
    "rstrip": string.rstrip,
    "split": _split,
    "squish": string.squish,
    "strip": string.strip,
    "strip_newlines": string.strip_newlines,
    "truncate": string.truncate,
    "truncatewords": string.truncatewords,
    "upcase": string.upcase,
    "url_encode": string.url_encode,
}
_OTHER: dict[str, Filter] = {
    "abs": math.abs_,
    "at_least": math.at_least,
    "at_most": math.at_most,
    "ceil": math.ceil,
    "compact": array.compact,
    "date": _date,
    "default": misc.default,
    "divided_by": math.divided_by,
    "find": array.find,
    "first": array.first,
    "floor": math.floor,
    "has": array.has,
    "join": _Join(),
    "json": _json,
    "last": array.last,
    "map": array.map_,
    "minus": math.minus,
    "modulo": math.modulo,
    "plus": math.plus,
    "reverse": array.reverse,
    "round": math.round_,
    "size": misc.size,
    "slice": string.slice_,
    "sort": array.sort,
    "sort_natural": array.sort_natural,
    "sum": array.sum_,
    "times": math.times,
    "uniq": _uniq,
    "where": array.where,
}

FILTERS: Mapping[str, Filter] = {
    **{name: _guarded(name, function, of_text=True) for name, function in _TEXT.items()},
    **{name: _guarded(name, function) for name, function in _OTHER.items()},
}
