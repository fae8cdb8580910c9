"""Graphs of journeys between their message, which holds them as text, and their document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.json_text import parse_json, value_faults, write_json
from orchestrator.predicates.faults import Fault, Wrong
from orchestrator.v1.journey_pb2 import JourneyGraph

#: Levels of lists and objects in a graph: a predicate of 16 levels in the arm of a node, and some.
_DEPTH = 100


def graph_to_document(graph: JourneyGraph) -> Any:
    """The document. Of a text that is no JSON, the text: no document is one, so it is told as what it is not."""
    try:
        return parse_json(graph.json.encode())
    except (Wrong, UnicodeEncodeError):
        return graph.json


def graph_from_document(document: Mapping[str, Any]) -> JourneyGraph:
    """The message of a document whose texts and numbers are good."""
    return JourneyGraph(json=write_json(document).decode())


def graph_faults(document: Any, path: str) -> list[Fault]:
    """What is wrong with a graph as a JSON value; what it says is looked at with the whole definition."""
    if not isinstance(document, dict):
        return [Fault(path=path, reason="INVALID_TYPE", message="must be an object")]
    return value_faults(document, path, max_depth=_DEPTH)
