"""Changing a definition that is kept, whichever of its two forms the change is written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.graph_form import STEPS_MEMBERS, WRITTEN_AS
from orchestrator.domain.journey_form import kept

Json = dict[str, Any]


def edited_definition(before: Mapping[str, Any], changes: Mapping[str, Any]) -> Json:
    """The definition with these members set, or removed where they are None.

    A graph takes the place of the steps, and steps that of the graph; steps that say nothing of their canvas keep what
    a step of their id has there, so that who edits them by hand does not tear up the canvas.
    """
    graph = changes.get("definition")
    if graph is not None:
        rest = {name: value for name, value in before.items() if name not in (*STEPS_MEMBERS, WRITTEN_AS)}
        others = {name: value for name, value in changes.items() if name not in ("definition", *STEPS_MEMBERS)}
        return kept(_without_nulls({**rest, **others, "definition": graph}))
    changes = {name: value for name, value in changes.items() if name != "definition"}
    if any(changes.get(name) is not None for name in STEPS_MEMBERS):
        before = {name: value for name, value in before.items() if name != WRITTEN_AS}
    after = {**before, **changes}
    if changes.get("steps") is not None:
        after["steps"] = _with_canvas(changes["steps"], before.get("steps") or [])
        if "start" not in changes and "start" in before and before["start"] not in [s["id"] for s in after["steps"]]:
            del after["start"]
    return _without_nulls(after)


def _with_canvas(steps: list[Json], before: list[Json]) -> list[Json]:
    kept_of = {step["id"]: step["canvas"] for step in before if step.get("canvas")}
    return [{**step, "canvas": kept_of[step["id"]]} if _is_silent(step, kept_of) else step for step in steps]


def _is_silent(step: Json, kept_of: Mapping[str, Json]) -> bool:
    return step.get("canvas") is None and step["id"] in kept_of


def _without_nulls(document: Mapping[str, Any]) -> Json:
    return {name: member for name, member in document.items() if member is not None}
