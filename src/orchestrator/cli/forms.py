"""The two forms of a journey's definition: with steps, and with nodes and edges."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from orchestrator.api.json_graphs import graph_from_document, graph_to_document
from orchestrator.client import messages
from orchestrator.domain.graph_form import with_graph
from orchestrator.domain.journey_form import kept


class Form(Enum):
    STEPS = "steps"
    GRAPH = "graph"
    WRITTEN = "written"


_NUMBERS = {
    Form.STEPS: messages.DEFINITION_FORM_STEPS,
    Form.GRAPH: messages.DEFINITION_FORM_GRAPH,
    Form.WRITTEN: messages.DEFINITION_FORM_UNSPECIFIED,
}

FormOption = Annotated[Form, typer.Option("--form", help="With steps, with nodes and edges, or as it was written.")]


def number_of(form: Form) -> messages.DefinitionForm.ValueType:
    return _NUMBERS[form]


def form_of(journey: Any) -> messages.DefinitionForm.ValueType:
    """The form in which this one speaks of its steps; with steps, if it does not."""
    return messages.DEFINITION_FORM_GRAPH if journey.definition.HasField("graph") else messages.DEFINITION_FORM_STEPS


def settle(journey: Any) -> None:
    """Bring the graph of a document without faults into the order in which servers tell it."""
    if not journey.definition.HasField("graph"):
        return
    document = with_graph(kept({"definition": graph_to_document(journey.definition.graph)}))
    journey.definition.graph.CopyFrom(graph_from_document(document["definition"]))


def keep_canvas(journey: Any, found: Any) -> None:
    """Give steps that say nothing of their canvas that which the step of their id has: an update leaves it alone."""
    canvas = {step.id: step.canvas for step in found.definition.steps if step.HasField("canvas")}
    for step in journey.definition.steps:
        if not step.HasField("canvas") and step.id in canvas:
            step.canvas.CopyFrom(canvas[step.id])
