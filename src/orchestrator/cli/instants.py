"""Times, as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.cli.failure import USAGE, CommandFailure


def instant(text: str) -> Timestamp | None:
    """None for nothing; without an offset it is one of UTC. Raises CommandFailure."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailure(f"{text} is no time: write 2026-05-01T12:00:00Z.", USAGE) from None
    message = Timestamp()
    message.FromDatetime(at if at.tzinfo is not None else at.replace(tzinfo=UTC))
    return message
