"""From JSON to the tree, with everything that is wrong and where. `docs/predicates.md` describes the language.

Whatever the input, this returns: depth, leaves, lists and texts are bounded, and reading stops where a bound is passed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, ParamSpec, TypeVar

from orchestrator.predicates.builtin import OPERATORS_OF, SUBJECT
from orchestrator.predicates.canonical import canonical
from orchestrator.predicates.faults import Fault, Wrong, under
from orchestrator.predicates.fields import read_text, unknown_fields, whole_number
from orchestrator.predicates.operands import OPERATORS, read_operand
from orchestrator.predicates.paths import ENTRY, STEPS, join_path, split_path
from orchestrator.predicates.tree import (
    ANY_EVENT,
    AllOf,
    AnyOf,
    Attribute,
    EventFired,
    Everyone,
    InCohort,
    Not,
    Operator,
    Predicate,
    Source,
    Where,
)
from orchestrator.predicates.windows import read_window

MAX_DEPTH = 16
MAX_LEAVES = 200
#: `atLeast` is also how many instants have to be loaded to answer a window.
MAX_AT_LEAST = 1000

_KINDS = "everyone, event_fired, event_not_fired, any_event, attribute, in_cohort, and, or, not"

_TIMED = frozenset({Operator.WITHIN, Operator.NOT_WITHIN})

_P = ParamSpec("_P")
_T = TypeVar("_T")


class About(Enum):
    """What is asked about, which decides what may be asked."""

    #: A subject: audiences and segments.
    SUBJECT = auto()
    #: A subject on a journey: `$entry.` reads the event that started it, `$steps.` what webhooks answered.
    EXECUTION = auto()
    #: One event: its properties are the attributes, and nothing else is known.
    EVENT = auto()
    #: One event, which is counted when it arrives: as EVENT, and nothing that depends on when it is asked.
    COUNTED = auto()


_OF_ONE_EVENT = frozenset({About.EVENT, About.COUNTED})


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
        return self._leaf(document, path, depth)

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

    def _leaf(self, document: dict[str, Any], path: str, depth: int) -> Predicate | None:
        kind = document.get("kind")
        at = under(path, "kind")
        match kind:
            case "everyone":
                self.faults += unknown_fields(document, ("kind",), path)
                return Everyone()
            case "attribute":
                return self._attribute(document, path)
            case "event_fired" | "event_not_fired" | "any_event" | "in_cohort" if self._about in _OF_ONE_EVENT:
                raise Wrong(at, "LEAF_NOT_ALLOWED", "only the event's own properties can be asked about here")
            case "event_fired" | "event_not_fired":
                return self._event(document, path, depth, negated=kind == "event_not_fired")
            case "any_event":
                return self._any_event(document, path)
            case "in_cohort":
                return self._cohort(document, path)
            case _:
                raise Wrong(at, "UNKNOWN_KIND", f"one of {_KINDS}")

    def _event(self, document: dict[str, Any], path: str, depth: int, *, negated: bool) -> EventFired | None:
        name = self._collect(read_text, document, "eventName", path, "EVENT_NAME_REQUIRED")
        window = self._collect(read_window, document.get("window"), under(path, "window"), self.faults)
        at_least = self._collect(_at_least, document.get("atLeast"), under(path, "atLeast"))
        where = self._where(document.get("where"), under(path, "where"), depth)
        self.faults += unknown_fields(document, ("kind", "eventName", "window", "atLeast", "where"), path)
        if name is None or window is None or at_least is None:
            return None
        return EventFired(source=Source(name=name, where=where), window=window, at_least=at_least, negated=negated)

    def _where(self, document: object, path: str, depth: int) -> Where | None:
        """What is asked about each event's properties; its leaves count like any others."""
        if document is None:
            return None
        about, self._about = self._about, About.COUNTED
        faults = len(self.faults)
        predicate = self.node(document, path, depth + 1)
        self._about = about
        if predicate is None or len(self.faults) > faults:
            return None  # what is faulty may hold what no text can be made of
        return Where(text=canonical(document), predicate=predicate)

    def _any_event(self, document: dict[str, Any], path: str) -> EventFired | None:
        window = self._collect(read_window, document.get("window"), under(path, "window"), self.faults)
        self.faults += unknown_fields(document, ("kind", "window"), path)
        if window is None:
            return None
        return EventFired(source=ANY_EVENT, window=window, at_least=1, negated=False)

    def _attribute(self, document: dict[str, Any], path: str) -> Attribute | None:
        field_path = self._collect(self._field_path, document, path)
        operator = self._collect(self._operator, document.get("operator"), under(path, "operator"), field_path)
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
        if root == SUBJECT and self._about in _OF_ONE_EVENT:
            raise Wrong(at, "LEAF_NOT_ALLOWED", "only the event's own properties can be asked about here")
        if root == SUBJECT and names not in OPERATORS_OF:
            raise Wrong(at, "INVALID_VALUE", f"one of {', '.join(map(join_path, OPERATORS_OF))}")
        if root in (ENTRY, STEPS) and self._about is not About.EXECUTION:
            raise Wrong(at, "LEAF_NOT_ALLOWED", f"{root} is known on a journey only")
        if root == ENTRY and len(names) == 1:
            raise Wrong(at, "INVALID_VALUE", f"{ENTRY} is followed by a property, such as {ENTRY}.amount")
        if root == STEPS and len(names) < 3:
            raise Wrong(
                at, "INVALID_VALUE", f"{STEPS} is followed by a step and a member of its answer: {STEPS}.check.score"
            )
        return names

    def _operator(self, value: object, path: str, field_path: tuple[str, ...] | None) -> Operator:
        operator = OPERATORS.get(value) if isinstance(value, str) else None
        if operator is None:
            raise Wrong(path, "UNKNOWN_OPERATOR", f"one of {', '.join(OPERATORS)}")
        allowed = OPERATORS_OF.get(field_path) if field_path else None
        if allowed is not None and operator not in allowed:
            names = ", ".join(sorted(one.value for one in allowed))
            raise Wrong(path, "OPERATOR_NOT_ALLOWED", f"of {join_path(field_path or ())} may be asked: {names}")
        if self._about is About.COUNTED and operator in _TIMED:
            raise Wrong(path, "OPERATOR_NOT_ALLOWED", "an event is counted once, whatever the time of asking")
        return operator

    def _cohort(self, document: dict[str, Any], path: str) -> InCohort | None:
        cohort_id = self._collect(read_text, document, "cohortId", path, "COHORT_NOT_FOUND")
        self.faults += unknown_fields(document, ("kind", "cohortId"), path)
        return InCohort(cohort_id=cohort_id) if cohort_id is not None else None


def _at_least(value: object, path: str) -> int:
    if value is None:
        return 1
    count = whole_number(value)
    if count is None or not 1 <= count <= MAX_AT_LEAST:
        raise Wrong(path, "INVALID_VALUE", f"a whole number, 1 to {MAX_AT_LEAST}")
    return count
