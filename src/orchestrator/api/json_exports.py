"""Exports of Amazon Pinpoint between their message, which holds them as text, and their document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.json_text import parse_json, value_faults, write_json
from orchestrator.predicates.faults import Fault, Wrong
from orchestrator.v1.pinpoint_service_pb2 import PinpointExport

#: Levels of lists and objects in an export: some 15 in what Pinpoint knows.
_DEPTH = 100


def export_to_document(export: PinpointExport) -> Any:
    """The document. Of a text that is no JSON, the text: no document is one, so it is told as what it is not."""
    try:
        return parse_json(export.json.encode())
    except (Wrong, UnicodeEncodeError):
        return export.json


def export_from_document(document: Mapping[str, Any]) -> PinpointExport:
    """The message of a document whose texts and numbers are good."""
    return PinpointExport(json=write_json(document).decode())


def export_faults(document: Any, path: str) -> list[Fault]:
    """What is wrong with an export as a JSON value; what it says is looked at when it is translated."""
    if not isinstance(document, dict):
        return [Fault(path=path, reason="INVALID_TYPE", message="must be an object")]
    return value_faults(document, path, max_depth=_DEPTH)
