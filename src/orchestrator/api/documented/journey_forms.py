"""What both documents about journeys have in common."""

from __future__ import annotations

from typing import Any

from orchestrator.api.convert.journeys import definition_in
from orchestrator.api.documented.answer import Document
from orchestrator.api.documented.members import with_all
from orchestrator.api.json_encode import encode
from orchestrator.v1 import journey_pb2 as pb

#: `version` of what is not published; else it is a number.
DRAFT = "draft"
VERSION: Document = {
    "description": "The number of a version, or that it is the draft.",
    "oneOf": [{"type": "integer", "minimum": 1}, {"const": DRAFT}],
}


def in_form(journey: pb.Journey, form: pb.DefinitionForm.ValueType) -> Document:
    """The journey's document with its definition, where it has one, in this form."""
    shown = pb.Journey()
    shown.CopyFrom(journey)
    if shown.HasField("definition"):
        shown.definition.CopyFrom(definition_in(journey.definition, form))
    return with_all(encode(shown), {"description": "", "latestVersion": None})


def version_of(number: int) -> Any:
    """How a version is called; 0 is the draft."""
    return number or DRAFT
