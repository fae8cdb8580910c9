from __future__ import annotations

from typing import Any

import pytest

from orchestrator.predicates.values import text_of


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
