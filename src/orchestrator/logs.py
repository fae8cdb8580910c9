"""Logs: one line for each thing that happened, on stderr, as JSON or for people.

A line says which things, never what is in them: only the fields named here get through, and an error's own words, which
may hold values, stay out; its type and where it was raised go in.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson

#: What `extra` may carry: ids made by the instance, ids of definitions, counts, codes, durations, ports.
FIELDS = frozenset(
    {
        "actor", "asked", "call_id", "channel", "code", "communication_id", "count", "error", "execution_id",
        "grpc_port", "http_port", "journey_id", "method", "ms", "part", "pid", "project_id", "reason", "revision",
        "seconds", "set_aside", "state", "status", "step_id", "subject_ref", "told", "transport", "version",
    }
)  # fmt: skip

_SECONDS_BETWEEN_WRITES = 0.2
_LINES_AT_ONCE = 500


def configure(level: str, log_format: Literal["json", "text"], stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (stderr), replacing what was configured before."""
    handler = _Lines(stream or sys.stderr)
    handler.setFormatter(JsonLine() if log_format == "json" else TextLine())
    root = logging.getLogger()
    for replaced in root.handlers:
        replaced.close()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Never shown, and looking it up is half the price of a line (docs.python.org, Logging: Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Lines of every connection and request, which we write ourselves.
    for chatty in ("uvicorn", "asyncio", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class _Lines(logging.Handler):
    """Writes lines in batches: several a second, so that a line for each call costs no system call each.

    A warning takes what came before it along at once; so does the end of the process.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: list[str] = []
        self._closed = threading.Event()
        self._writer = threading.Thread(target=self._write_now_and_then, name="log lines", daemon=True)
        self._writer.start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.append(self.format(record))
        except Exception:
            self.handleError(record)
        if record.levelno >= logging.WARNING or len(self._waiting) >= _LINES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        with self.lock or threading.RLock():
            lines, self._waiting = self._waiting, []
            if lines:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()

    def close(self) -> None:
        self._closed.set()
        self._writer.join()
        self.flush()
        atexit.unregister(self.flush)
        super().close()

    def _write_now_and_then(self) -> None:
        while not self._closed.wait(_SECONDS_BETWEEN_WRITES):
            self.flush()


class JsonLine(logging.Formatter):
    """`{"time", "level", "logger", "message", …fields, "error", "trace"}`"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in vars(record).items():
            if key in FIELDS:
                line[key] = value
        if record.exc_info:
            line.update(_error(record))
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode()


class TextLine(logging.Formatter):
    """The same for people: `12:30:01.250 info orchestrator.server: serving grpc_port=50051`"""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in vars(record).items() if key in FIELDS)
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:12]
        line = f"{time} {record.levelname.lower()} {record.name}: {record.getMessage()}{fields}"
        error = _error(record)
        if error:
            line += f" error={error['error']}\n    " + "\n    ".join(error["trace"])
        return line


def _error(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    trace = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__ or error.__context__
    names = type(error).__qualname__ + (f" from {type(cause).__qualname__}" if cause else "")
    return {"error": names, "trace": trace}
