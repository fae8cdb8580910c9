"""Messages for channels to send."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from orchestrator.domain.scope import SubjectKey
from workers.channels.channel import Message

MESSAGE = Message(
    idempotency_key=hashlib.sha256(b"1").hexdigest(),
    key=SubjectKey(project_no=1, bucket=7, subject_no=42),
    subject_id="ann@example.com",
    execution_id=UUID("019a0000-0000-7000-8000-000000000001"),
    journey_id="welcome",
    version=3,
    step_id="hello",
    communication_id="hi",
    content_revision=2,
    category="marketing",
    settings={},
    attributes={},
    unsubscribe_url=None,
    subject="Hello Ann",
    body="Good to see you, Ännchen ☺",
)


def to(url: str, message: Message = MESSAGE, headers: Mapping[str, str] | None = None) -> Message:
    """The message, for this URL."""
    settings: dict[str, Any] = {"url": url}
    if headers is not None:
        settings["headers"] = headers
    return replace(message, settings=settings)
