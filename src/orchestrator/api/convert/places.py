"""Page tokens of lists that go from the newest."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message

from orchestrator.api.page_tokens import page_start, page_token
from orchestrator.domain.resource import Place


def place_of(request: Message) -> Place | None:
    """Where the page before ended; None for the first. Raises InvalidArgument PAGE_TOKEN_INVALID."""
    start = page_start(request, datetime, str)
    return Place(created_at=start[0], id=start[1]) if start else None


def token_after(request: Message, end: Place | None) -> str:
    """The token of the page after the one that ended there; empty after the last."""
    return page_token(request, end.created_at, end.id) if end else ""
