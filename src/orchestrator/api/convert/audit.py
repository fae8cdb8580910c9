"""The audit log as messages, and the places where its pages end."""

from __future__ import annotations

from google.protobuf.message import Message

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_values import struct_of
from orchestrator.api.page_tokens import page_start, page_token
from orchestrator.domain.audit import Entry
from orchestrator.v1 import audit_pb2 as pb

#: Entries that a page shows unless told otherwise.
PAGE_SIZE = 200


def entry_message(entry: Entry) -> pb.AuditEntry:
    return pb.AuditEntry(
        id=entry.audit_no,
        timestamp=to_timestamp(entry.at),
        actor=entry.actor,
        action=entry.action,
        resource_kind=entry.resource_kind,
        resource_id=entry.resource_id,
        metadata=struct_of(entry.metadata),
    )


def number_before(request: Message) -> int | None:
    """Below which number a list that counts down goes on; None for its first page. Raises InvalidArgument."""
    start = page_start(request, int)
    return start[0] if start else None


def token_below(request: Message, end: int | None) -> str:
    """The token of the page after the one that ended with this number; empty after the last."""
    return page_token(request, end) if end is not None else ""
