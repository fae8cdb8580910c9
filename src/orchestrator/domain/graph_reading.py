"""A graph as its author wrote it, made into steps, with everything that keeps it from being any.

What can be said of steps is left to those who read them; here is what only a graph can have wrong: edges from nowhere,
two on one way, a second entry. What a kind does not know in `data`, and whatever else stands about nodes and edges, is
the canvas's, and is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.domain.canvas import EDGE_MEMBERS, GRAPH_MEMBERS, NODE_MEMBERS, WAYS
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.graph_form import (
    AS_GRAPH,
    CONDITION,
    ENTRY_TRIGGER,
    FALSE,
    KINDS_BY_TYPE,
    NEXT,
    TRUE,
    WRITTEN_AS,
    Json,
    NodePlace,
    Places,
    Way,
    default_entry_id,
    is_question,
)
from orchestrator.domain.step_forms import MAX_ARMS, MAX_STEPS, OTHERWISE, STEP_FORMS
from orchestrator.predicates.faults import under

MAX_NODES = MAX_STEPS + 1
#: One for each way out of each step, and that of the entry.
MAX_EDGES = MAX_STEPS * (MAX_ARMS + 1) + 1


class GraphReader:
    """One reading of one graph. `steps` are the members that a kept definition has in its place, and what is wrong with
    these is told by `places`; `form` has what is wrong with the graph itself. `taken` are the members of definitions:
    who writes them into the graph would be surprised to see them kept as part of the canvas."""

    def __init__(self, form: FormReader, document: object, path: str, taken: Collection[str] = ()) -> None:
        self._form = form
        self._path = path
        self.places = Places()
        self.steps: Json = {"steps": [], WRITTEN_AS: AS_GRAPH}
        self._steps: list[Json] = []
        self._by_id: dict[str, tuple[Json, NodePlace]] = {}
        self._entry: Json | None = None
        self._entry_edge: Json | None = None
        self._taken = taken
        if not isinstance(document, dict):
            form.fault(path, "INVALID_TYPE", "must be an object")
            return
        for name in document:
            if name in taken:
                form.fault(under(path, name), "UNKNOWN_FIELD", "is no part of the graph: it stands beside `definition`")
        for at, node in form.elements(document.get("nodes"), under(path, "nodes"), MAX_NODES):
            self._read_node(node, at, int(at[at.rindex("[") + 1 : -1]))
        for at, edge in form.elements(document.get("edges"), under(path, "edges"), MAX_EDGES):
            self._read_edge(edge, at, int(at[at.rindex("[") + 1 : -1]))
        self._finish(_rest(document, (*GRAPH_MEMBERS, *taken)))

    def _read_node(self, node: object, at: str, number: int) -> None:
        form = self._form
        if not isinstance(node, dict):
            form.fault(at, "INVALID_TYPE", "must be an object")
            return
        if node.get("type") is None:
            form.required(under(at, "type"), f"must be one of {', '.join((ENTRY_TRIGGER, *KINDS_BY_TYPE))}")
        kind = form.choice(node.get("type"), under(at, "type"), {ENTRY_TRIGGER: ENTRY_TRIGGER, **KINDS_BY_TYPE})
        data = node.get("data") if node.get("data") is not None else {}
        if not isinstance(data, dict):
            form.fault(under(at, "data"), "INVALID_TYPE", "must be an object")
        elif kind == ENTRY_TRIGGER:
            self._read_entry(node, data, at, number)
        elif kind is not None:
            self._read_step(kind, node, data, at, number)

    def _read_entry(self, node: Json, data: Json, at: str, number: int) -> None:
        if self._entry is not None:
            message = f"a journey has one {ENTRY_TRIGGER}, and nodes[{self.places.entry_node}] is it"
            self._form.fault(under(at, "type"), "DUPLICATE_ENTRY_TRIGGER", message)
            return
        for name in data:
            if name in self._taken:
                message = "stands beside `definition`, not in the node"
                self._form.fault(under(under(at, "data"), name), "UNKNOWN_FIELD", message)
        entry_id = self._form.own_id(node, at, set(), "node")
        self.places.entry_node = number
        self._entry = {"id": entry_id, "at": number, "node": _rest(node, NODE_MEMBERS), "data": dict(data)}

    def _read_step(self, kind: str, node: Json, data: Json, at: str, number: int) -> None:
        form, members, within = self._form, STEP_FORMS[kind].members, under(at, "data")
        body = {name: data[name] for name in members if name in data and name not in WAYS}
        for way in WAYS:
            if data.get(way) is not None:
                form.fault(under(within, way), "INVALID_VALUE", "edges say what comes after a node")
        extra = {name: value for name, value in data.items() if name not in members and name not in WAYS}
        asks = kind == "branch" and extra.pop(CONDITION, None) is not None
        if asks and data.get("arms") is not None:
            form.fault(within, "INVALID_VALUE", f"either arms or {CONDITION} can be given, not both")
        elif asks:
            body["arms"] = [{"id": TRUE, "when": data[CONDITION]}]
        for name in extra:
            if (known := _meant(name, members)) is not None:
                form.fault(under(within, name), "UNKNOWN_FIELD", f"is spelled {known}")
        arms = body.get("arms")
        if isinstance(arms, list):
            body["arms"] = [dict(arm) if isinstance(arm, dict) else arm for arm in arms]
            for index, arm in enumerate(arms):
                if isinstance(arm, dict) and arm.get(NEXT) is not None:
                    arm_at = under(under(under(within, "arms"), index), NEXT)
                    form.fault(arm_at, "INVALID_VALUE", "edges say what comes after a node")
                    body["arms"][index].pop(NEXT)
        step: Json = {"id": node.get("id"), kind: body}
        canvas = _given(node=_rest(node, NODE_MEMBERS), data=extra)
        if canvas:
            step["canvas"] = canvas
        place = NodePlace(node=number, kind=kind, is_question=asks or _asks(kind, body))
        place.ways = {handle: Way(path=path, edge=None) for handle, path in _ways(kind, body)}
        self._steps.append(step)
        self.places.steps.append(place)
        if isinstance(node.get("id"), str):
            self._by_id.setdefault(node["id"], (step, place))

    def _read_edge(self, edge: object, at: str, number: int) -> None:
        form = self._form
        if not isinstance(edge, dict):
            form.fault(at, "INVALID_TYPE", "must be an object")
            return
        for side in ("source", "target"):
            if edge.get(side) is None or edge[side] == "":
                form.required(under(at, side), "the id of a node is required")
        source, target = (form.reference(edge.get(side), under(at, side)) for side in ("source", "target"))
        handle = form.text(edge.get("sourceHandle"), under(at, "sourceHandle"), 128)
        if self._entry is not None and target and target == self._entry["id"]:
            form.fault(under(at, "target"), "INVALID_VALUE", "nothing leads to where executions come in")
            return
        if not source or not target or (handle is None and edge.get("sourceHandle") not in (None, "")):
            return
        rest = _rest(edge, EDGE_MEMBERS)
        if self._entry is not None and source == self._entry["id"]:
            self._lead_in(target, handle, rest, at, number)
        elif source in self._by_id:
            self._lead_on(*self._by_id[source], target, handle, rest, at, number)
        else:
            form.fault(under(at, "source"), "NODE_NOT_FOUND", f"there is no node {source}")

    def _lead_in(self, target: str, handle: str | None, rest: Json, at: str, number: int) -> None:
        if handle not in (None, NEXT):
            self._form.fault(under(at, "sourceHandle"), "UNKNOWN_HANDLE", "the entry has one way out, without a handle")
        elif self.places.entry_edge is not None:
            self._form.fault(at, "DUPLICATE_EDGE", f"edges[{self.places.entry_edge}] leads on from the entry already")
        else:
            self.places.entry_edge = number
            self.steps["start"] = target
            self._entry_edge = rest

    def _lead_on(
        self, step: Json, place: NodePlace, target: str, handle: str | None, rest: Json, at: str, number: int
    ) -> None:
        form, key = self._form, handle or NEXT
        if place.is_question and handle == FALSE:
            key = OTHERWISE
        way = place.ways.get(key)
        if way is None:
            known = [FALSE if place.is_question and name == OTHERWISE else name for name in place.ways if name != NEXT]
            if not place.ways:
                form.fault(under(at, "source"), "INVALID_VALUE", f"nothing comes after {step['id']}")
            elif handle is None:
                form.required(under(at, "sourceHandle"), f"must be one of {', '.join(known)}")
            else:
                message = f"{step['id']} has no such way out; it has {', '.join(known) or 'one, without a handle'}"
                form.fault(under(at, "sourceHandle"), "UNKNOWN_HANDLE", message)
            return
        if way.edge is not None:
            form.fault(at, "DUPLICATE_EDGE", f"edges[{way.edge}] leads on from there already")
            return
        place.ways[key] = Way(path=way.path, edge=number)
        _lead(step, way.path, target)
        if rest:
            step.setdefault("canvas", {}).setdefault("edges", {})[key] = rest

    def _finish(self, rest: Json) -> None:
        steps, ids = self._steps, [step["id"] for step in self._steps if isinstance(step["id"], str)]
        entry, canvas = self._entry, _given(graph=rest)
        if entry is not None:
            if entry["id"] in ids:
                place = next(p for s, p in zip(steps, self.places.steps, strict=True) if s["id"] == entry["id"])
                at = under(under(under(self._path, "nodes"), place.node), "id")
                self._form.fault(at, "DUPLICATE_ID", f"another node is called {entry['id']}")
            own = {} if entry["id"] == default_entry_id(iter(ids)) else {"id": entry["id"]}
            own |= {"at": entry["at"]} if entry["at"] else {}
            own |= _given(node=entry["node"], data=entry["data"], edge=self._entry_edge or {})
            canvas |= {"entry": own} if own else {}
        elif not self._form.faults:
            canvas["entry"] = None
        self.steps["steps"] = steps
        start = self.steps.get("start", "")
        if not steps and not start:
            self.steps.pop("start", None)
        elif steps and start == steps[0]["id"]:
            del self.steps["start"]
        else:
            self.steps["start"] = start
        if canvas:
            self.steps["canvas"] = canvas


def _ways(kind: str, body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Handle and path of each way out of a step of which nothing is certain but its kind."""
    ways: list[tuple[str, str]] = []
    for way in STEP_FORMS[kind].ways:
        if way == NEXT:
            ways.append((NEXT, NEXT))
        elif way != "arms":
            ways.append((way, f"{kind}.{way}"))
        elif isinstance(body.get("arms"), list):
            named = ((number, arm["id"]) for number, arm in enumerate(body["arms"]) if _has_id(arm))
            ways += [(arm_id, f"{kind}.arms[{number}].next") for number, arm_id in named]
    return ways


def _lead(step: Json, path: str, target: str) -> None:
    """Name the next step, where such a way has its name."""
    way: Any = step
    *parts, last = path.replace("[", ".").replace("]", "").split(".")
    for part in parts:
        way = way[int(part)] if isinstance(way, list) else way[part]
    way[last] = target


def _has_id(arm: object) -> bool:
    return isinstance(arm, dict) and isinstance(arm.get("id"), str)


def _asks(kind: str, body: Mapping[str, Any]) -> bool:
    arms = body.get("arms")
    return isinstance(arms, list) and all(isinstance(arm, dict) for arm in arms) and is_question(kind, body)


def _meant(name: str, members: tuple[str, ...]) -> str | None:
    """The member that is meant by another spelling of it."""
    plain = name.replace("_", "").replace("-", "").lower()
    return next((member for member in members if member.lower() == plain), None)


def _rest(document: Json, members: tuple[str, ...]) -> Json:
    return {name: value for name, value in document.items() if name not in members and name != WRITTEN_AS}


def _given(**parts: Json) -> Json:
    return {name: part for name, part in parts.items() if part}
