"""Logs: one line for each thing that happened, on stderr, as JSON or for people.

A line says which things, never what is in them: only the fields named here get through, and an error's own words, which
may hold values, stay out; its type and where it was raised go in.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TextIO

import orjson

#: What `extra` may carry: ids made by the instance, ids of definitions, counts, codes, durations, addresses of our own.
FIELDS = frozenset(
    {
        "accepted", "action", "activity", "actor", "address", "api_key_id", "attempt", "attempts", "audience_id",
        "bucket", "call_id", "channel", "chunk", "code", "communication_id", "constraint", "count", "deleted",
        "directory", "due", "duplicates", "enrollment_id", "error", "event_count", "execution_id", "failed", "file",
        "grpc_port", "http_port", "hour", "id", "journey_id", "kind", "lag", "lag_ms", "method", "migration", "ms",
        "namespace", "outbox_no", "outcome", "parked", "part", "pid", "poke", "port", "project_id",
        "project_no", "queue", "reason", "received", "refused", "rejected", "resource_id", "result", "revision",
        "role", "rows", "seconds", "segment_id", "seq", "shard", "signal", "size", "state", "status", "step_id",
        "subject_ref", "subjects", "target", "transport", "trigger_contract_id", "until", "version", "waited_ms",
        "worker", "workers",
    }
)  # fmt: skip

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormat(Enum):
    JSON = "json"
    TEXT = "text"


def configure(level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (stderr), replacing what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLine() if log_format is LogFormat.JSON else TextLine())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Lines of every connection and request, which we write ourselves.
    for chatty in ("uvicorn", "asyncio", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class JsonLine(logging.Formatter):
    """`{"time", "level", "logger", "message", …fields, "error", "trace"}`"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_fields(record))
        line.update(_error(record))
        return orjson.dumps(line, default=str).decode()


class TextLine(logging.Formatter):
    """The same for people: `12:30:01.250 info orchestrator.server: serving grpc_port=50051`"""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in _fields(record))
        line = f"{_time(record)[11:23]} {record.levelname.lower()} {record.name}: {record.getMessage()}{fields}"
        error = _error(record)
        if error:
            line += f" error={error['error']}\n    " + "\n    ".join(error["trace"])
        return line


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    for key, value in vars(record).items():
        if key not in _STANDARD and key in FIELDS:
            yield key, value


def _error(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    trace = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__ or error.__context__
    names = type(error).__qualname__ + (f" from {type(cause).__qualname__}" if cause else "")
    return {"error": names, "trace": trace}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
