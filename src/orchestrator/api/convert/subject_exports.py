"""Exports of subjects as messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_values import fill_value, write_time
from orchestrator.api.page_tokens import page_start, page_token
from orchestrator.application.subject_exports import Begun, ExportPage, cannot_go_on
from orchestrator.domain.durations import format_duration
from orchestrator.storage.exporting import Kept, KeyPart, Place, key_types
from orchestrator.v1.subject_record_pb2 import SubjectRecord
from orchestrator.v1.subject_service_pb2 import ExportSubjectRequest, ExportSubjectResponse

_MAX_INTEGER = 2**63 - 1


def export_message(request: ExportSubjectRequest, page: ExportPage) -> ExportSubjectResponse:
    return ExportSubjectResponse(
        records=map(_record_message, page.records),
        next_page_token=_token(request, page.end) if page.end is not None else "",
        subject_id=page.subject_id,
        export_time=to_timestamp(page.at),
    )


def begun_of(request: ExportSubjectRequest) -> Begun | None:
    """The export that the request goes on with; None: it begins one. Raises InvalidArgument PAGE_TOKEN_INVALID."""
    start = page_start(request, datetime, str, str)
    if start is None:
        return None
    at, kind, packed = start
    try:
        return Begun(at=at, place=Place(kind=kind, key=_key(json.loads(packed), key_types(kind))))
    except (ValueError, OverflowError, RecursionError):
        raise cannot_go_on() from None


def _token(request: ExportSubjectRequest, end: Begun) -> str:
    packed = json.dumps([part if isinstance(part, int) else str(part) for part in end.place.key])
    return page_token(request, end.at, end.place.kind, packed)


def _key(packed: Any, types: Sequence[type[KeyPart]] | None) -> tuple[KeyPart, ...]:
    """Raises ValueError unless it is the key of a record of that kind."""
    if types is None or not isinstance(packed, list):
        raise ValueError("no key")
    return tuple(_part(part, kind) for part, kind in zip(packed, types, strict=True))


def _part(packed: Any, kind: type[KeyPart]) -> KeyPart:
    match packed:
        case bool():
            pass
        case int() if kind is int and abs(packed) <= _MAX_INTEGER:
            return packed
        case str() if kind is str and "\0" not in packed:
            packed.encode()
            return packed
        case str() if kind is UUID:
            return UUID(packed)
        case str() if kind is date:
            return date.fromisoformat(packed)
        case str() if kind is datetime:
            return datetime.fromisoformat(packed).astimezone(UTC)
    raise ValueError("a part of another kind")


def _record_message(record: Kept) -> SubjectRecord:
    message = SubjectRecord(kind=record.place.kind)
    fields = message.values.fields
    for name, value in record.values.items():
        fill_value(fields[name], _plain(value))
    return message


def _plain(value: Any) -> Any:
    """The JSON value of what Postgres has."""
    match value:
        case datetime():
            return write_time(to_timestamp(value))
        case date():
            return value.isoformat()
        case timedelta():
            return format_duration(value)
        case UUID():
            return str(value)
        case Mapping():
            return dict(value)
        case _:
            return value
