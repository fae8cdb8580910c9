"""What a canvas keeps beside a journey: positions, labels, whatever else. Executions ask nothing of it.

In the form with nodes and edges it stands among their members; in the form with steps it has a member of its own, so
that either form holds all of the other (graph_form.py, graph_reading.py). Its shape is checked, so that nothing in it
is without a place in the other form, but for what says nothing, and what is said of an edge that there is not (any
more): that goes when the other form is written.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from orchestrator.domain import attributes
from orchestrator.domain.form_reader import FormReader
from orchestrator.predicates.faults import under

#: What says itself what a node or an edge is, and so is no part of the canvas.
NODE_MEMBERS = ("id", "type", "data")
EDGE_MEMBERS = ("source", "sourceHandle", "target")
GRAPH_MEMBERS = ("nodes", "edges")

#: What would lead on from a node; edges do.
WAYS = ("next", "otherwise")


def read_step_canvas(form: FormReader, value: object, path: str, body_members: Collection[str]) -> None:
    """Of a step: `node`, what stands beside id, type and data; `data`, what its kind does not know; and `edges`, of
    each way out what stands beside source and target."""
    if value is None:
        return
    fields = form.members(value, path, ("node", "data", "edges"))
    if fields is None:
        return
    _free(form, fields.get("node"), under(path, "node"), NODE_MEMBERS)
    _free(form, fields.get("data"), under(path, "data"), {*body_members, *WAYS})
    edges = fields.get("edges")
    if edges is not None and not isinstance(edges, dict):
        form.fault(under(path, "edges"), "INVALID_TYPE", "must be an object")
    elif edges is not None:
        for handle, edge in edges.items():
            _free(form, edge, under(under(path, "edges"), str(handle)), EDGE_MEMBERS)
    _small(form, value, path)


def read_canvas(form: FormReader, value: object, path: str, taken: Collection[str]) -> None:
    """Of a journey: `graph`, what stands beside nodes and edges; and `entry`, the node that stands for the way in
    (null: there is none). `taken` are the members of definitions, none of which can stand there."""
    if value is None:
        return
    fields = form.members(value, path, ("graph", "entry"))
    if fields is None:
        return
    _free(form, fields.get("graph"), under(path, "graph"), {*GRAPH_MEMBERS, *taken})
    at = under(path, "entry")
    if fields.get("entry") is not None:
        entry = form.members(fields["entry"], at, ("id", "at", "node", "data", "edge"))
        if entry is not None:
            form.reference(entry.get("id"), under(at, "id"))
            form.number(entry.get("at"), under(at, "at"), 10_000)
            _free(form, entry.get("node"), under(at, "node"), NODE_MEMBERS)
            _free(form, entry.get("data"), under(at, "data"), ())
            _free(form, entry.get("edge"), under(at, "edge"), EDGE_MEMBERS)
    _small(form, value, path)


def _free(form: FormReader, value: object, path: str, taken: Collection[str]) -> None:
    """An object of free form, but for names that mean something."""
    if value is None:
        return
    if not isinstance(value, dict):
        form.fault(path, "INVALID_TYPE", "must be an object")
        return
    for name in value:
        if name in taken:
            form.fault(under(path, name), "INVALID_VALUE", "stands in the step itself")


def _small(form: FormReader, value: Any, path: str) -> None:
    if (fault := attributes.size_fault(value, path)) is not None:
        form.faults.append(fault)
