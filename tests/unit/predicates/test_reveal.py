from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.predicates.reveal import of_properties, reveal_of

NAMES = st.sampled_from(["plan", "name", "$entry", "$steps", "amount"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)


def test_a_mark_shows_its_field_and_what_is_in_it_and_nothing_around_it() -> None:
    reveal = reveal_of([("address", "city"), ("$entry", "amount")])

    assert reveal(("address", "city"))
    assert reveal(("address", "city", "district"))
    assert not any(map(reveal, [("address",), ("address", "street"), ("city",), ("address", "city2"), ()]))


def test_where_nothing_is_marked_nothing_is_shown() -> None:
    assert not any(map(reveal_of([]), [(), ("plan",), ("$entry", "amount")]))


def test_a_property_of_an_event_is_shown_by_a_mark_of_the_entry_and_by_no_attribute_of_its_name() -> None:
    of_event = of_properties(reveal_of([("plan",), ("$entry", "amount")]))

    assert of_event is not None
    assert of_event(("amount",))
    assert not of_event(("plan",))
    assert of_properties(None) is None


@given(st.lists(PATHS, max_size=4), PATHS)
def test_what_is_shown_begins_with_a_mark(marked: list[tuple[str, ...]], path: tuple[str, ...]) -> None:
    assert reveal_of(marked)(path) == any(path[: len(mark)] == mark for mark in marked)
