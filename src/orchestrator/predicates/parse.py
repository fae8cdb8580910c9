"""From JSON to the tree, with everything that is wrong and where. `docs/predicates.md` describes the language.

Whatever the input, this returns: depth, leaves, lists and texts are bounded, and reading stops where a bound is passed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, ParamSpec, TypeVar

from orchestrator.predicates.faults import Fault, Wrong, under
from orchestrator.predicates.fields import read_text, unknown_fields, whole_number
from orchestrator.predicates.operands import OPERATORS, read_operand
from orchestrator.predicates.paths import ENTRY, split_path
from orchestrator.predicates.tree import (
    AllOf,
    AnyOf,
    Attribute,
    EventFired,
    Everyone,
    InCohort,
    Not,
    Operator,
    Predicate,
)
from orchestrator.predicates.windows import read_window

MAX_DEPTH = 16
MAX_LEAVES = 200
#: `atLeast` is also how many instants have to be loaded to answer a window.
MAX_AT_LEAST = 1000

_KINDS = "everyone, event_fired, event_not_fired, attribute, in_cohort, and, or, not"

# Words that are taken and have no meaning yet: refused by name. Whatever gives them one starts here.
_RESERVED_KINDS = frozenset({"any_event"})
_RESERVED_EVENT_FIELDS = ("where",)
_RESERVED_ROOTS = frozenset({"$subject"})
_STEPS = "$steps"

_P = ParamSpec("_P")
_T = TypeVar("_T")


class About(Enum):
    """What is asked about, which decides what may be asked."""

    #: A subject: audiences and segments.
    SUBJECT = auto()
    #: A subject on a journey: `$entry.` reads the event that started it.
    EXECUTION = auto()
    #: One event: its properties are the attributes, and nothing else is known.
    EVENT = auto()


def parse(document: object, path: str = "", *, about: About = About.SUBJECT) -> tuple[Predicate | None, list[Fault]]:
    """The tree and no faults, or None and every fault there is, each under `path`. Never raises; changes nothing."""
    reader = _Reader(path, about)
    predicate = reader.node(document, path, 1)
    return (None if reader.faults else predicate), reader.faults


class _Reader:
    """Reads one document. What could not be read is None, and has left a fault."""

    def __init__(self, root: str, about: About) -> None:
        self.faults: list[Fault] = []
        self._root = root
        self._about = about
        self._leaves = 0

    def node(self, document: object, path: str, depth: int) -> Predicate | None:
        return self._collect(self._node, document, path, depth)

    def _collect(self, read: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        try:
            return read(*args, **kwargs)
        except Wrong as wrong:
            self.faults.append(wrong.fault)
            return None

    def _node(self, document: object, path: str, depth: int) -> Predicate | None:
        if depth > MAX_DEPTH:
            self._count_leaf()
            raise Wrong(path, "TOO_DEEP", f"a predicate is at most {MAX_DEPTH} levels deep")
        if isinstance(document, dict):
            match document.get("kind"):
                case "and":
                    clauses = self._clauses(document, path, depth)
                    return AllOf(clauses=clauses)
                case "or":
                    clauses = self._clauses(document, path, depth)
                    return AnyOf(clauses=clauses)
                case "not":
                    return self._negation(document, path, depth)
        self._count_leaf()
        if not isinstance(document, dict):
            raise Wrong(path, "INVALID_VALUE", "a predicate is an object with a kind")
        return self._leaf(document, path)

    def _count_leaf(self) -> None:
        """Counts whatever has no clauses, right or wrong, so that no input makes more work than a legal tree."""
        self._leaves += 1
        if self._leaves == MAX_LEAVES + 1:
            raise Wrong(self._root, "TOO_LARGE", f"a predicate has at most {MAX_LEAVES} leaves")

    def _clauses(self, document: dict[str, Any], path: str, depth: int) -> tuple[Predicate, ...]:
        self.faults += unknown_fields(document, ("kind", "clauses"), path)
        clauses = document.get("clauses")
        at = under(path, "clauses")
        if not isinstance(clauses, list) or not clauses:
            self._count_leaf()
            if clauses is None or clauses == []:
                raise Wrong(at, "EMPTY_CLAUSES", "at least one clause is required")
            raise Wrong(at, "INVALID_VALUE", "clauses is a list of predicates")
        read: list[Predicate] = []
        for index, clause in enumerate(clauses):
            if self._leaves > MAX_LEAVES:
                break
            predicate = self.node(clause, under(at, index), depth + 1)
            if predicate is not None:
                read.append(predicate)
        return tuple(read)

    def _negation(self, document: dict[str, Any], path: str, depth: int) -> Not | None:
        self.faults += unknown_fields(document, ("kind", "clause"), path)
        clause = document.get("clause")
        at = under(path, "clause")
        if clause is None:
            self._count_leaf()
            raise Wrong(at, "CLAUSE_REQUIRED", "the clause to negate is required")
        predicate = self.node(clause, at, depth + 1)
        return Not(clause=predicate) if predicate is not None else None

    def _leaf(self, document: dict[str, Any], path: str) -> Predicate | None:
        kind = document.get("kind")
        at = under(path, "kind")
        match kind:
            case "everyone":
                self.faults += unknown_fields(document, ("kind",), path)
                return Everyone()
            case "attribute":
                return self._attribute(document, path)
            case "event_fired" | "event_not_fired" | "in_cohort" if self._about is About.EVENT:
                raise Wrong(at, "LEAF_NOT_ALLOWED", "only the event's own properties can be asked about here")
            case "event_fired" | "event_not_fired":
                return self._event(document, path, negated=kind == "event_not_fired")
            case "in_cohort":
                return self._cohort(document, path)
            case str() if kind in _RESERVED_KINDS:
                raise Wrong(at, "UNKNOWN_KIND", f"{kind} is reserved and has no meaning yet")
            case _:
                raise Wrong(at, "UNKNOWN_KIND", f"one of {_KINDS}")

    def _event(self, document: dict[str, Any], path: str, *, negated: bool) -> EventFired | None:
        name = self._collect(read_text, document, "eventName", path, "EVENT_NAME_REQUIRED")
        window = self._collect(read_window, document.get("window"), under(path, "window"), self.faults)
        at_least = self._collect(_at_least, document.get("atLeast"), under(path, "atLeast"))
        for reserved in _RESERVED_EVENT_FIELDS:
            if reserved in document:
                message = f"{reserved} is reserved and has no meaning yet"
                self.faults.append(Fault(path=under(path, reserved), reason="UNKNOWN_FIELD", message=message))
        others = {field: value for field, value in document.items() if field not in _RESERVED_EVENT_FIELDS}
        self.faults += unknown_fields(others, ("kind", "eventName", "window", "atLeast"), path)
        if name is None or window is None or at_least is None:
            return None
        return EventFired(event_name=name, window=window, at_least=at_least, negated=negated)

    def _attribute(self, document: dict[str, Any], path: str) -> Attribute | None:
        field_path = self._collect(self._field_path, document, path)
        operator = self._collect(_operator, document.get("operator"), under(path, "operator"))
        operand = None
        if operator is not None:
            at = under(path, "value")
            operand = self._collect(read_operand, operator, document.get("value"), at, self.faults)
        self.faults += unknown_fields(document, ("kind", "fieldPath", "operator", "value"), path)
        if field_path is None or operator is None or operand is None:
            return None
        return Attribute(path=field_path, operator=operator, value=operand.value, texts=operand.texts)

    def _field_path(self, document: dict[str, Any], path: str) -> tuple[str, ...]:
        text = read_text(document, "fieldPath", path, "FIELD_PATH_REQUIRED")
        at = under(path, "fieldPath")
        try:
            names = split_path(text)
        except ValueError as error:
            raise Wrong(at, "INVALID_VALUE", str(error)) from None
        root = names[0]
        if root in _RESERVED_ROOTS:
            raise Wrong(at, "INVALID_VALUE", f"{root} is reserved and has no meaning yet")
        if root == _STEPS:
            raise Wrong(at, "LEAF_NOT_ALLOWED", "no step leaves an answer that could be asked about")
        if root == ENTRY and self._about is not About.EXECUTION:
            raise Wrong(at, "LEAF_NOT_ALLOWED", f"{ENTRY} is known on a journey only")
        if root == ENTRY and len(names) == 1:
            raise Wrong(at, "INVALID_VALUE", f"{ENTRY} is followed by a property, such as {ENTRY}.amount")
        return names

    def _cohort(self, document: dict[str, Any], path: str) -> InCohort | None:
        cohort_id = self._collect(read_text, document, "cohortId", path, "COHORT_NOT_FOUND")
        self.faults += unknown_fields(document, ("kind", "cohortId"), path)
        return InCohort(cohort_id=cohort_id) if cohort_id is not None else None


def _operator(value: object, path: str) -> Operator:
    operator = OPERATORS.get(value) if isinstance(value, str) else None
    if operator is None:
        raise Wrong(path, "UNKNOWN_OPERATOR", f"one of {', '.join(OPERATORS)}")
    return operator


def _at_least(value: object, path: str) -> int:
    if value is None:
        return 1
    count = whole_number(value)
    if count is None or not 1 <= count <= MAX_AT_LEAST:
        raise Wrong(path, "INVALID_VALUE", f"a whole number, 1 to {MAX_AT_LEAST}")
    return count
