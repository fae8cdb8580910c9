"""Attribute leaves as SQL: boolean expressions over the columns of `fields.py`, and when time alone changes them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.predicates.builtin import CREATED_AT
from orchestrator.predicates.paths import ENTRY, STEPS
from orchestrator.predicates.sql.constants import Constants
from orchestrator.predicates.sql.fields import Fields
from orchestrator.predicates.sql.orders import ORDERS
from orchestrator.predicates.tree import Attribute, Operator
from orchestrator.predicates.values import is_number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The product with an interval is a double, exact for 285 years to either side of this: more than any due can be away.
_FAR = datetime(2100, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Texts that are `text_of` some number: no other spelling of a number is.
_PLAIN_NUMBER = re.compile(r"(?!-0\Z)-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?")


class Comparisons:
    """Attribute leaves of the positive operators. What they make may be NULL, which is no."""

    def __init__(self, constants: Constants, fields: Fields, as_of: datetime) -> None:
        self._constants = constants
        self._fields = fields
        self._as_of = as_of
        self._due_microseconds: list[str] = []
        self._due: list[str] = []

    def holds(self, leaf: Attribute) -> str:
        if leaf.path[0] in (ENTRY, STEPS):
            return "false"  # nobody is on a journey here
        if leaf.path == CREATED_AT:
            return self._since_when(leaf)
        match leaf.operator:
            case Operator.EXISTS:
                return f"jsonb_typeof({self._fields.json(leaf.path)}) <> 'null'"
            case Operator.EQUALS:
                return self._equals(leaf)
            case Operator.IN:
                return self._is_in(leaf)
            case Operator.CONTAINS:
                return self._contains(leaf)
            case Operator.WITHIN:
                return self._within(leaf)
            case operator:
                return self._is_ordered(leaf, ORDERS[operator])

    def dues(self) -> list[str]:
        """When each of these leaves changes next, as timestamps; NULL: never."""
        if not self._due_microseconds:
            return list(self._due)
        soonest = f"LEAST({', '.join(self._due_microseconds)})"
        far = self._microseconds(_FAR)
        return [*self._due, f"{self._constants.instant(_FAR)} + ({soonest} - {far}) * interval '1 microsecond'"]

    def _equals(self, leaf: Attribute) -> str:
        if isinstance(leaf.value, str):
            return f"{self._fields.text(leaf.path)} = {self._constants.text(leaf.value)}"
        if is_number(leaf.value):
            return f"{self._fields.number(leaf.path)} = {self._numeric(leaf.value)}"
        return f"{self._fields.json(leaf.path)} = {self._json(leaf.value)}"

    def _is_in(self, leaf: Attribute) -> str:
        if leaf.texts:
            written = [text for item in leaf.value for text in _written_as(item)]
            alike: type | None = str if len(written) == len(leaf.value) else None
        else:
            written = [_text(item) for item in leaf.value]
            alike = str if all(isinstance(item, str) for item in leaf.value) else None
            alike = float if all(is_number(item) for item in leaf.value) else alike
        if alike is str:
            return f"{self._fields.text(leaf.path)} = ANY ({self._constants.texts(leaf.value)})"
        kind, column = ("numeric", self._fields.number) if alike is float else ("jsonb", self._fields.json)
        return f"{column(leaf.path)} = ANY (({self._constants.texts(written)})::{kind}[])"

    def _contains(self, leaf: Attribute) -> str:
        field = self._fields.json(leaf.path)
        value = leaf.value
        # Of scalars, containment in an array is equality with an element. Nested values are contained in more than
        # equals them: it is only the first look there.
        in_array = f"{field} @> {self._json([value])}"
        if isinstance(value, list | dict):
            items = f"jsonb_array_elements(CASE WHEN jsonb_typeof({field}) = 'array' THEN {field} END)"
            equal = f"EXISTS (SELECT FROM {items} AS item WHERE item = {self._json(value)})"
            return f"({in_array} AND {equal})"
        if not isinstance(value, str):
            return in_array
        in_text = f"strpos({field} #>> '{{}}', {self._constants.text(value)}) > 0"
        return f"CASE jsonb_typeof({field}) WHEN 'string' THEN {in_text} ELSE {in_array} END"

    def _is_ordered(self, leaf: Attribute, symbol: str) -> str:
        if isinstance(leaf.value, datetime):
            return f"{self._fields.microseconds(leaf.path)} {symbol} {self._microseconds(leaf.value)}"
        return f"{self._fields.number(leaf.path)} {symbol} {self._numeric(leaf.value)}"

    def _within(self, leaf: Attribute) -> str:
        field = self._fields.microseconds(leaf.path)
        now, cut = self._microseconds(self._as_of), self._microseconds(self._as_of - leaf.value)
        length = self._constants.bigint(leaf.value // _MICROSECOND)
        self._due_microseconds.append(
            f"CASE WHEN {field} > {now} THEN {field} WHEN {field} > {cut} THEN {field} + {length} END"
        )
        return f"({field} > {cut} AND {field} <= {now})"

    def _since_when(self, leaf: Attribute) -> str:
        """`$subject.created_at`: an instant that every subject has."""
        if leaf.operator is Operator.EXISTS:
            return "true"
        if leaf.operator in ORDERS and not isinstance(leaf.value, datetime):
            return "false"  # a number, and on no side of an instant
        if leaf.operator is not Operator.WITHIN:
            return f"created_at {ORDERS[leaf.operator]} {self._constants.instant(leaf.value)}"
        now, cut = self._constants.instant(self._as_of), self._constants.instant(self._as_of - leaf.value)
        length = self._constants.interval(leaf.value)
        self._due.append(
            f"CASE WHEN created_at > {now} THEN created_at WHEN created_at > {cut} THEN created_at + {length} END"
        )
        return f"(created_at > {cut} AND created_at <= {now})"

    def _numeric(self, value: float) -> str:
        return f"{self._constants.text(_text(value))}::numeric"

    def _json(self, value: Any) -> str:
        return f"{self._constants.text(_text(value))}::jsonb"

    def _microseconds(self, instant: datetime) -> str:
        return self._constants.bigint((instant - _EPOCH) // _MICROSECOND)


def _text(value: Any) -> str:
    """The JSON by which the database knows a value: of a float the shortest digits, as `values.py` has it."""
    return json.dumps(value, ensure_ascii=False)


def _written_as(text: str) -> list[str]:
    """The JSON of the values whose text this is (`values.text_of`)."""
    values = [_text(text)]
    if text in ("true", "false") or _PLAIN_NUMBER.fullmatch(text):
        values.append(text)
    return values
