"""Which kinds an event is of."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.domain.derived_event import DerivedEvent, DerivedEvents, matches
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Predicate

PURCHASE, LOOK = 1, 2


def where(**leaf: Any) -> Predicate:
    predicate, faults = parse({"kind": "attribute", **leaf}, about=About.COUNTED)
    assert predicate is not None, faults
    return predicate


DEAR = where(fieldPath="amount", operator="gt", value=100)
EUROS = where(fieldPath="currency", operator="equals", value="EUR")


@pytest.mark.parametrize(
    ("properties", "is_dear"),
    [({"amount": 100.01}, True), ({"amount": 100}, False), ({"amount": "200"}, False), ({}, False)],
)
def test_an_event_is_of_a_kind_when_its_properties_satisfy_it(properties: dict[str, Any], is_dear: bool) -> None:
    assert matches(DEAR, properties) is is_dear


def test_an_event_may_be_of_several_kinds_of_its_name_and_of_none_of_another() -> None:
    kinds = DerivedEvents(
        [
            DerivedEvent(name_no=10, base_no=PURCHASE, where=DEAR),
            DerivedEvent(name_no=11, base_no=LOOK, where=DEAR),
            DerivedEvent(name_no=12, base_no=PURCHASE, where=EUROS),
        ]
    )
    properties = orjson.dumps({"amount": 200, "currency": "EUR"})

    assert kinds.of(PURCHASE, properties) == [10, 12]
    assert kinds.of(LOOK, properties) == [11]
    assert kinds.of(PURCHASE, orjson.dumps({"currency": "EUR"})) == [12]
    assert (kinds.count(PURCHASE), kinds.count(LOOK), kinds.count(3)) == (2, 1, 0)


def test_properties_are_read_only_where_somebody_asks() -> None:
    kinds = DerivedEvents([DerivedEvent(name_no=10, base_no=PURCHASE, where=DEAR)])

    assert kinds.of(LOOK, b"not JSON at all") == []
