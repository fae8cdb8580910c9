"""Which state of a resource a request says it was made from."""

from __future__ import annotations

from datetime import UTC

from google.protobuf.message import Message

from orchestrator.api.descriptors import fields_of
from orchestrator.domain.etag import Expected


def expected(source: Message) -> Expected:
    """Read `etag` and, where there is one, `update_time`: of the request, or in updates of the resource inside it."""
    fields = source.DESCRIPTOR.fields_by_name
    etag = fields_of(source).etag if "etag" in fields else ""
    if "update_time" not in fields or not source.HasField("update_time"):
        return Expected(etag=etag)
    return Expected(etag=etag, updated_at=fields_of(source).update_time.ToDatetime(UTC))
