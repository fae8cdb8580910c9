"""Predicates between their message and their document, the tree of objects that name their kind.

Both keep everything that has a meaning as it was written: `from_document` after `to_document` gives the same message,
and `to_document` after `from_document` gives the same document, but for members that are null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.api.json_text import value_faults
from orchestrator.api.json_values import fill_value, value_to_json
from orchestrator.predicates.parse import MAX_DEPTH, About, parse
from orchestrator.v1.predicate_pb2 import AttributeLeaf, EventLeaf, Predicate, Window

_NO_TEXTS = {"eventName": "", "fieldPath": "", "operator": "", "cohortId": ""}


def predicate_to_document(predicate: Predicate) -> dict[str, Any]:
    """The document. What is empty or unset in the message is absent, so that its faults are those of the document.

    A number that is none becomes a `NoNumber`.
    """
    match predicate.WhichOneof("node"):
        case "everyone":
            return {"kind": "everyone"}
        case "event_fired":
            return {"kind": "event_fired", **_event(predicate.event_fired)}
        case "event_not_fired":
            return {"kind": "event_not_fired", **_event(predicate.event_not_fired)}
        case "any_event":
            window = {"window": _window(predicate.any_event.window)} if predicate.any_event.HasField("window") else {}
            return {"kind": "any_event", **window}
        case "attribute":
            return {"kind": "attribute", **_attribute(predicate.attribute)}
        case "in_cohort":
            return {"kind": "in_cohort", **_given(cohortId=predicate.in_cohort.cohort_id)}
        case "all_of":
            return {"kind": "and", "clauses": [predicate_to_document(clause) for clause in predicate.all_of.clauses]}
        case "any_of":
            return {"kind": "or", "clauses": [predicate_to_document(clause) for clause in predicate.any_of.clauses]}
        case "negation":
            return {"kind": "not", "clause": predicate_to_document(predicate.negation)}
        case None:
            return {}


def predicate_from_document(document: Mapping[str, Any]) -> Predicate:
    """The message of a document in which `orchestrator.predicates.parse` finds no fault."""
    predicate = Predicate()
    _fill(predicate, document)
    return predicate


def readable_part(document: Mapping[str, Any]) -> Predicate:
    """The message of a document with faults, none of them at its root: what can be read of it, and empty nodes.

    What is wrong with the message was wrong with the document, at the same places.
    """
    predicate = Predicate()
    _fill_readable(predicate, document, 1)
    return predicate


def _event(leaf: EventLeaf) -> dict[str, Any]:
    document = _given(eventName=leaf.event_name)
    if leaf.HasField("window"):
        document["window"] = _window(leaf.window)
    if leaf.HasField("at_least"):
        document["atLeast"] = leaf.at_least
    if leaf.HasField("where"):
        document["where"] = predicate_to_document(leaf.where)
    return document


def _window(window: Window) -> dict[str, Any]:
    match window.WhichOneof("type"):
        case "ever":
            return {"type": "ever"}
        case "last_n_days":
            return {"type": "last_n_days", "days": window.last_n_days.days}
        case "last":
            return {"type": "last", **_given(duration=window.last.duration)}
        case "since":
            return {"type": "since", **_given(time=window.since.time)}
        case None:
            return {}


def _attribute(leaf: AttributeLeaf) -> dict[str, Any]:
    document = _given(fieldPath=leaf.field_path, operator=leaf.operator)
    if leaf.HasField("value"):
        document["value"] = value_to_json(leaf.value)
    return document


def _given(**texts: str) -> dict[str, Any]:
    return {name: text for name, text in texts.items() if text}


def _fill(predicate: Predicate, document: Mapping[str, Any]) -> None:
    match document["kind"]:
        case "everyone":
            predicate.everyone.SetInParent()
        case "event_fired":
            _fill_event(predicate.event_fired, document)
        case "event_not_fired":
            _fill_event(predicate.event_not_fired, document)
        case "any_event":
            predicate.any_event.SetInParent()
            if document.get("window") is not None:
                _fill_window(predicate.any_event.window, document["window"])
        case "attribute":
            predicate.attribute.field_path = document["fieldPath"]
            predicate.attribute.operator = document["operator"]
            if "value" in document:
                fill_value(predicate.attribute.value, document["value"])
        case "in_cohort":
            predicate.in_cohort.cohort_id = document["cohortId"]
        case "and":
            for clause in document["clauses"]:
                _fill(predicate.all_of.clauses.add(), clause)
        case "or":
            for clause in document["clauses"]:
                _fill(predicate.any_of.clauses.add(), clause)
        case "not":
            _fill(predicate.negation, document["clause"])
        case kind:
            raise ValueError(f"a predicate of kind {kind!r} was not checked before it came here")


def _fill_event(leaf: EventLeaf, document: Mapping[str, Any]) -> None:
    leaf.event_name = document["eventName"]
    if document.get("window") is not None:
        _fill_window(leaf.window, document["window"])
    if document.get("atLeast") is not None:
        leaf.at_least = int(document["atLeast"])
    if document.get("where") is not None:
        _fill(leaf.where, document["where"])


def _fill_window(window: Window, document: Mapping[str, Any]) -> None:
    match document["type"]:
        case "ever":
            window.ever.SetInParent()
        case "last_n_days":
            window.last_n_days.days = int(document["days"])
        case "last":
            window.last.duration = document["duration"]
        case "since":
            window.since.time = document["time"]
        case kind:
            raise ValueError(f"a window of type {kind!r} was not checked before it came here")


def _fill_readable(predicate: Predicate, document: Any, depth: int) -> None:
    if not isinstance(document, Mapping):
        return
    kind = document.get("kind")
    if kind in ("and", "or"):
        filled = predicate.all_of if kind == "and" else predicate.any_of
        filled.SetInParent()
        clauses = document.get("clauses")
        if isinstance(clauses, list) and depth <= MAX_DEPTH:
            for clause in clauses:
                _fill_readable(filled.clauses.add(), clause, depth + 1)
    elif kind == "not":
        predicate.negation.SetInParent()
        if depth <= MAX_DEPTH:
            _fill_readable(predicate.negation, document.get("clause"), depth + 1)
    else:
        faults = (*value_faults(document, "", max_depth=MAX_DEPTH), *parse(document, about=About.EXECUTION)[1])
        faulty = {re.split(r"[.\[]", fault.path)[0] for fault in faults}
        if "kind" not in faulty:
            readable = {name: value for name, value in document.items() if name not in faulty}
            _fill(predicate, {**_NO_TEXTS, **readable})
