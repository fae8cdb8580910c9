from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.predicates.values import comparable, equal, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        (" a ", " a "),
        ("5.0", "5.0"),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (5.0, "5"),
        (-0.0, "0"),
        (-5, "-5"),
        (-0.5, "-0.5"),
        (0.1, "0.1"),
        (100, "100"),
        (100.0, "100"),
        (100.5, "100.5"),
        (1e21, "1000000000000000000000"),
        (1.5e-7, "0.00000015"),
        (2**53, "9007199254740992"),
        (None, None),
        ([], None),
        (["a"], None),
        ({}, None),
    ],
)
def test_the_text_of_a_value_is_plain(value: Any, text: str | None) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (5, 5.0, True),
        (0, -0.0, True),
        (2**53 + 1, 2.0**53, False),
        (2**53, 2.0**53, True),
        (2**60, 2.0**60, False),
        (1152921504606847000, 2.0**60, True),
        ([{"a": 2**60}], [{"a": 2.0**60}], False),
        ([{"a": 1152921504606847000}], [{"a": 2.0**60}], True),
    ],
)
def test_numbers_are_equal_by_the_digits_that_are_stored(left: Any, right: Any, same: bool) -> None:
    assert equal(left, right) is same
    assert equal(right, left) is same


def test_numbers_have_the_order_of_the_digits_that_are_stored() -> None:
    written, kept = comparable(2**60, 2.0**60)

    assert written < kept


WHOLE = st.integers(-(2**53) - 3, 2**53 + 3) | st.integers(2**53 - 3, 2**53 + 3) | st.integers(-3, 3)


@given(WHOLE, st.data())
def test_a_float_is_on_the_side_of_an_integer_that_its_digits_are(whole: int, data: st.DataObject) -> None:
    near = float(whole)
    number = data.draw(
        st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from([near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf), near + 0.1])
    )

    left, right = comparable(whole, number)

    digits = Decimal(repr(number))
    assert ((left < right), (left == right), (left > right)) == (whole < digits, whole == digits, whole > digits)
