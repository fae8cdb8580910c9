"""Numbers drawn in a terminal."""

from __future__ import annotations

import pytest

from orchestrator.cli.charts import interval, percent, signed, spark


def test_an_interval_lies_on_its_scale_with_its_point_and_what_it_is_compared_with() -> None:
    assert interval(0.2, 0.6, 0.4, scale=(0.0, 1.0), width=11) == "  ├─●─┤    "
    assert interval(-0.5, 0.5, 0.2, scale=(-1.0, 1.0), width=11, mark=0.0) == "  ├──┼●─┤  "
    assert interval(0.4, 1.0, 0.7, scale=(-1.0, 1.0), width=11, mark=0.0) == "     ┊ ├●─┤"


def test_an_interval_of_one_value_and_one_beyond_its_scale_are_drawn_all_the_same() -> None:
    assert interval(0.0, 0.0, 0.0, scale=(0.0, 0.0), width=5) == "  ●  "
    assert interval(-9.0, 9.0, 5.0, scale=(0.0, 1.0), width=5) == "├───●"


@pytest.mark.parametrize(
    ("values", "highest", "drawn"),
    [
        ([0.0, 0.5, 1.0], 1.0, "▁▅█"),
        ([None, 0.25, None], 1.0, "·▃·"),
        ([0.0, 0.0], 0.0, "▁▁"),
        ([], 1.0, ""),
    ],
)
def test_a_day_without_a_value_is_no_day_of_zero(values: list[float | None], highest: float, drawn: str) -> None:
    assert spark(values, highest=highest) == drawn


def test_rates_and_changes_are_told_as_percent_and_what_is_not_known_is_not() -> None:
    assert (percent(0.0718), percent(None), signed(0.0844), signed(-0.5)) == ("7.18%", "–", "+8.4%", "-50.0%")
