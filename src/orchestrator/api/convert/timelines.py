"""What happened to subjects as messages."""

from __future__ import annotations

from datetime import datetime

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.page_tokens import page_start, page_token
from orchestrator.storage.timelines import KINDS, Item, Place
from orchestrator.v1 import timeline_pb2 as pb
from orchestrator.v1.subject_service_pb2 import ListTimelineRequest

_KINDS = {kind: pb.TimelineItem.Kind.Value(f"KIND_{kind.upper()}") for kind in KINDS}


def item_message(item: Item) -> pb.TimelineItem:
    return pb.TimelineItem(
        time=to_timestamp(item.at),
        kind=_KINDS[item.kind],
        journey_id=item.journey_id or "",
        version=item.version or 0,
        execution_id=str(item.execution_id) if item.execution_id is not None else "",
        step_id=item.step_id or "",
        event_name=item.event_name or "",
        event_id=item.event_id or "",
        channel=item.channel or "",
        category=item.category or "",
        communication_id=item.communication_id or "",
        result=item.result or "",
        reason=item.reason or "",
    )


def place_before(request: ListTimelineRequest) -> Place | None:
    """Where the page before ended; None for the first. Raises InvalidArgument PAGE_TOKEN_INVALID."""
    start = page_start(request, datetime, int, str)
    return (start[0], start[1], start[2]) if start else None


def token_before(request: ListTimelineRequest, end: Place | None) -> str:
    """The token of the page after the one that ended there; empty after the last."""
    return page_token(request, *end) if end else ""
