"""JSON values as predicates see them: typed, deep, numeric by value, and nothing is coerced."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

#: Up to here every integer is a float.
_EXACT = 2**53


def is_number(value: object) -> bool:
    """True for JSON numbers. Python counts booleans as integers; JSON does not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(left: Any, right: Any) -> bool:
    """Equality of two JSON values: `5` is `5.0`; `1` is neither `"1"` nor `true`. No deeper than the shallower one."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list):
        return (
            isinstance(right, list)
            and len(left) == len(right)
            and all(equal(one, other) for one, other in zip(left, right, strict=True))
        )
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(equal(value, right[name]) for name, value in left.items())
        )
    if is_number(left) and is_number(right):
        left, right = comparable(left, right)
    return bool(left == right)


def comparable(left: float, right: float) -> tuple[float | Decimal, float | Decimal]:
    """Two numbers such that Python orders them by the digits they are written with, which are what a database keeps.

    A float has the shortest digits that tell it from its neighbours. As the sum of powers of two that it is, 2.0**60
    would be the integer 1152921504606846976; it is written, kept and read again as 1152921504606847000.
    """
    if isinstance(left, int) == isinstance(right, int):
        return left, right
    whole = left if isinstance(left, int) else right
    if -_EXACT <= whole <= _EXACT:
        # It is a float, too: on the same side of what another one is as of what its digits say.
        return left, right
    return _digits(left), _digits(right)


def _digits(number: float) -> float | Decimal:
    return Decimal(repr(number)) if isinstance(number, float) else number


def text_of(value: Any) -> str | None:
    """The text by which `in` compares a value with comma-separated items; None for null, arrays and objects.

    A string is its own text. Booleans are `true` and `false`. A number is written in plain decimal digits, without an
    exponent, a point that nothing follows, trailing zeros or a negative zero: `5` and `5.0` are `5`, `1e21` has 22
    digits, `-0.50` is `-0.5`.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        digits = format(Decimal(repr(value)), "f")
        if "." in digits:
            digits = digits.rstrip("0").rstrip(".")
        return "0" if digits == "-0" else digits
    return None


def type_name(value: Any) -> str:
    """The JSON type, by its usual name."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
