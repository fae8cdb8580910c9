"""A resource as somebody would write it in a document."""

from __future__ import annotations

from typing import Any

from orchestrator.api.field_masks import changeable_paths
from orchestrator.api.json_encode import encode
from orchestrator.cli.kinds import JOURNEY, SEGMENT, Kind


def written(kind: Kind, resource: Any) -> dict[str, Any]:
    """All that an author decides about it, without what the server has made of it."""
    copy: Any = kind.empty()
    copy.CopyFrom(resource)
    for field, _ in resource.ListFields():
        if field.name != "id" and field.name not in changeable_paths(resource.DESCRIPTOR):
            copy.ClearField(field.name)
    if kind is SEGMENT:  # there are rules or there are none; and `kind` is what a document says first
        copy.ClearField("kind")
    document: dict[str, Any] = encode(copy)
    return document


def document_of(kind: Kind, resource: Any) -> dict[str, Any]:
    """The document that `apply` makes it of."""
    document = written(kind, resource)
    if kind is JOURNEY and not resource.goal.event_name:  # a window of nothing
        document.pop("goal", None)
    return {"kind": kind.word, **document}
