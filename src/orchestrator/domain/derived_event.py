"""Kinds of events: events of a name whose properties satisfy a predicate, counted as events of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.tree import Predicate

# Nothing that may be asked of an event depends on when it is asked (predicates/parse.py: About.COUNTED).
_WHENEVER = datetime(2000, 1, 1, tzinfo=UTC)


def matches(where: Predicate, properties: Mapping[str, Any]) -> bool:
    """Whether an event with these properties is of that kind."""
    return evaluate(where, Facts(attributes=properties), _WHENEVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedEvent:
    """`name_no` is the kind's own number, `base_no` that of the name it is a kind of."""

    name_no: int
    base_no: int
    where: Predicate


class DerivedEvents:
    """All kinds of events of one project. `unreadable`: of names of events, by number, one of their kinds that does not
    read: nobody can tell whether an event of that name is of that kind.
    """

    def __init__(self, kinds: Iterable[DerivedEvent] = (), unreadable: Mapping[int, int] | None = None) -> None:
        self.unreadable = unreadable or {}
        self._of: dict[int, list[DerivedEvent]] = {}
        for kind in kinds:
            self._of.setdefault(kind.base_no, []).append(kind)

    def count(self, base_no: int) -> int:
        """How many kinds there are of a name."""
        return len(self._of.get(base_no, ()))

    def of(self, base_no: int, properties: bytes) -> list[int]:
        """The numbers of the kinds that an event of this name is of. `properties` is the text of a JSON object."""
        kinds = self._of.get(base_no)
        if not kinds:
            return []
        facts = Facts(attributes=orjson.loads(properties))
        return [kind.name_no for kind in kinds if evaluate(kind.where, facts, _WHENEVER)]
