"""The form of a journey that canvases write: nodes, and edges between them. The same journey as its steps, and no less.

    {"nodes": [{"id": "in", "type": "entry_trigger", "position": {"x": 0, "y": 0}, "data": {"label": "Signed up"}},
               {"id": "greet", "type": "channel_action", "data": {"communicationId": "welcome"}},
               {"id": "done", "type": "exit", "data": {"reason": "welcomed"}}],
     "edges": [{"source": "in", "target": "greet"}, {"source": "greet", "target": "done"}]}

What is kept is always the form with steps; WRITTEN_AS beside it says that it came as a graph. So whatever reads
definitions knows one form, and faults are told in the one that the author writes (`Places`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.domain.step_forms import OTHERWISE, STEP_FORMS, STEP_KINDS
from orchestrator.predicates.faults import Fault, under

#: What a kept definition has beside its steps when its author wrote a graph, and not steps.
WRITTEN_AS, AS_GRAPH = "writtenAs", "graph"

#: The members of the form with steps in whose place the graph stands.
STEPS_MEMBERS = ("steps", "start", "canvas")

ENTRY_TRIGGER = "entry_trigger"
_DEFAULT_ENTRY = "entry"

#: The way out that most steps have: an edge says nothing of it.
NEXT = "next"
#: A branch with this one arm is a question; it is written as a `condition`, and its ways are `true` and `false`.
TRUE, FALSE, CONDITION = "true", "false", "condition"

_TYPES = {"send": "channel_action", "branch": "condition_split"}


def node_type(kind: str) -> str:
    """What nodes of a kind of step are called: its own name, but for those that canvases know by another."""
    return _TYPES.get(kind) or re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", kind)


#: By type of node: what it does.
KINDS_BY_TYPE = {node_type(kind): kind for kind in STEP_KINDS}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way out of a step. `path` leads from the step to the name of the next one; `edge` numbers what stands for it
    in the graph, None: nothing."""

    path: str
    edge: int | None


@dataclass(slots=True)
class NodePlace:
    """Where a step is in the graph."""

    node: int
    kind: str
    is_question: bool = False
    ways: dict[str, Way] = field(default_factory=dict)


@dataclass(slots=True)
class Places:
    """Where in a graph is what faults tell of steps. `steps` in their order; of the entry, its node and its edge."""

    steps: list[NodePlace] = field(default_factory=list)
    entry_node: int | None = None
    entry_edge: int | None = None

    def told(self, fault: Fault, base: str = "") -> Fault:
        """The same fault, of the graph. `base` is where the definition stands."""
        prefix = f"{base}." if base else ""
        if not fault.path.startswith(prefix):
            return fault
        path = fault.path[len(prefix) :]
        graph = under(base, "definition")
        if path == "start":
            return self._of_start(fault, graph)
        if path == "steps":
            return replace(fault, path=under(graph, "nodes"))
        if path.split(".")[0] == "canvas":
            return replace(fault, path=graph)
        match = re.match(r"steps\[(\d+)\](?:\.(.*))?", path)
        if match is None:
            return fault
        place = self.steps[int(match[1])]
        node = under(under(graph, "nodes"), place.node)
        return self._of_step(fault, place, match[2] or "", node, under(graph, "edges"))

    def _of_start(self, fault: Fault, graph: str) -> Fault:
        if self.entry_edge is not None:
            return replace(fault, path=f"{graph}.edges[{self.entry_edge}].target")
        if self.entry_node is not None:
            return replace(fault, path=f"{graph}.nodes[{self.entry_node}]", message="no edge leads on from the entry")
        return Fault(
            path=under(graph, "nodes"), reason="ENTRY_TRIGGER_REQUIRED", message=f"a journey has one {ENTRY_TRIGGER}"
        )

    def _of_step(self, fault: Fault, place: NodePlace, rest: str, node: str, edges: str) -> Fault:
        for handle, way in place.ways.items():
            if way.path == rest:
                if way.edge is not None:
                    return replace(fault, path=f"{edges}[{way.edge}].target")
                by = "" if handle == NEXT else f" by {handle}"
                return replace(fault, path=node, message=f"no edge leads on from here{by}")
        if rest == "id":
            return replace(fault, path=under(node, "id"))
        within = rest.removeprefix(f"{place.kind}")
        if within == rest:  # of the step as a whole
            return replace(fault, path=node)
        if place.is_question and within.startswith(".arms[0].when"):
            within = f".{CONDITION}{within.removeprefix('.arms[0].when')}"
        return replace(fault, path=f"{node}.data{within}")


def is_graph(document: Mapping[str, Any]) -> bool:
    """Whether a kept definition was written as a graph."""
    return document.get(WRITTEN_AS) == AS_GRAPH


def with_graph(document: Mapping[str, Any]) -> Json:
    """A kept definition with the graph, `definition`, in place of its steps."""
    rest = {name: value for name, value in document.items() if name not in (*STEPS_MEMBERS, WRITTEN_AS)}
    return {**rest, "definition": write_graph(document)[0]}


def with_steps(document: Mapping[str, Any]) -> Json:
    """A kept definition with its steps, as if it had been written so."""
    return {name: value for name, value in document.items() if name != WRITTEN_AS}


def as_written(document: Mapping[str, Any], faults: list[Fault]) -> list[Fault]:
    """Faults of a kept definition, told in the form that its author wrote."""
    if not is_graph(document) or not faults:
        return faults
    places = write_graph(document)[1]
    return [places.told(fault) for fault in faults]


def write_graph(document: Mapping[str, Any]) -> tuple[Json, Places]:
    """The graph of a definition without faults, and where its steps are in there."""
    steps: list[Json] = document.get("steps") or []
    canvas: Json = document.get("canvas") or {}
    places, nodes, edges = Places(), list[Json](), list[Json]()
    has_entry = "entry" not in canvas or canvas["entry"] is not None
    if has_entry:
        entry: Json = canvas.get("entry") or {}
        entry_id = entry.get("id") or default_entry_id(step["id"] for step in steps)
        places.entry_node = min(int(entry.get("at") or 0), len(steps))
        start = document.get("start", steps[0]["id"] if steps else "")
        if start:
            places.entry_edge = 0
            edges.append(_edge(entry_id, NEXT, start, entry.get("edge")))
    for step in steps:
        _add_step(step, places, nodes, edges)
    if has_entry:
        assert places.entry_node is not None, "set above"
        data = dict(entry.get("data") or {})
        nodes.insert(
            places.entry_node, {"id": entry_id, "type": ENTRY_TRIGGER, **(entry.get("node") or {}), "data": data}
        )
        for place in places.steps:
            place.node += place.node >= places.entry_node
    return {"nodes": nodes, "edges": edges, **(canvas.get("graph") or {})}, places


def default_entry_id(step_ids: Iterator[str]) -> str:
    """What the entry of a journey is called that nobody gave a name."""
    taken, name, number = set(step_ids), _DEFAULT_ENTRY, 1
    while name in taken:
        number += 1
        name = f"{_DEFAULT_ENTRY}-{number}"
    return name


def _add_step(step: Json, places: Places, nodes: list[Json], edges: list[Json]) -> None:
    kind = next(kind for kind in STEP_KINDS if step.get(kind) is not None)
    canvas: Json = step.get("canvas") or {}
    body = dict(step[kind])
    place = NodePlace(node=len(nodes), kind=kind, is_question=is_question(kind, body))
    for handle, path, target in ways_out(kind, step):
        shown = FALSE if place.is_question and handle == OTHERWISE else handle
        place.ways[handle] = Way(path=path, edge=len(edges) if target else None)
        if target:
            edges.append(_edge(step["id"], shown, target, (canvas.get("edges") or {}).get(handle)))
    body.pop(OTHERWISE, None)
    if place.is_question:
        body[CONDITION] = body.pop("arms")[0]["when"]
    elif "arms" in body:
        body["arms"] = [{name: value for name, value in arm.items() if name != NEXT} for arm in body["arms"]]
    data = {**body, **(canvas.get("data") or {})}
    nodes.append({"id": step["id"], "type": node_type(kind), **(canvas.get("node") or {}), "data": data})
    places.steps.append(place)


def _edge(source: str, handle: str, target: str, canvas: Json | None) -> Json:
    sides: Json = {"source": source, "target": target}
    if handle != NEXT:
        sides["sourceHandle"] = handle
    return {**(canvas or {}), **sides}


def is_question(kind: str, body: Mapping[str, Any]) -> bool:
    arms = body.get("arms")
    return kind == "branch" and isinstance(arms, list) and [arm.get("id") for arm in arms] == [TRUE]


def ways_out(kind: str, step: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Of each way out of a step: its handle, the path to the name of the next step, and that name ("": none)."""
    body = step[kind]
    for way in STEP_FORMS[kind].ways:
        if way == NEXT:
            yield NEXT, NEXT, step.get(NEXT) or ""
        elif way == "arms":
            for number, arm in enumerate(body.get("arms") or ()):
                yield arm["id"], f"{kind}.arms[{number}].next", arm.get(NEXT) or ""
        else:
            yield way, f"{kind}.{way}", body.get(way) or ""
