"""Logs: one line for each thing that happened, on stderr, as JSON or for people.

A line says which things, never what is in them: only the fields named here get through, and an error's own words, which
may hold values, stay out; its type and where it was raised go in. Libraries know nothing of that: of theirs only
warnings are written, and of these the first line, without the ids of workflows, for they hold the ids of subjects.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import orjson

#: What `extra` may carry: ids made by the instance, ids of definitions, counts, codes, durations, ports.
FIELDS = frozenset(
    {
        "actor", "asked", "binding", "call_id", "calls", "channel", "code", "communication_id", "count", "erasure_id",
        "error", "execution_id", "grpc_port", "hash", "holder", "http_port", "in_flight", "journey_id", "kid",
        "limit", "method", "ms", "part", "pid", "policy_version", "project_id", "reason", "revision", "seconds",
        "seq", "set_aside", "state", "status", "step_id", "subject_ref", "told", "trace_id", "transport", "version",
    }
)  # fmt: skip

#: The loggers that keep to this: our packages, and what is started as a program.
_OURS = ("orchestrator", "workers", "__main__")

#: `disp:{journey}__v{n}__{subject}__{entry}`, with the project before it or without.
_WORKFLOW_ID = re.compile(r"(?:[\w.~%:-]{1,256}/)?disp:[\w.~%:-]+", re.ASCII)

_SECONDS_BETWEEN_WRITES = 0.2
_LINES_AT_ONCE = 500


class Sink(Protocol):
    """Where lines go. Either may raise OSError."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


def configure(
    level: str,
    log_format: Literal["json", "text"],
    stream: Sink | None = None,
    *,
    completing: Iterable[logging.Filter] = (),
) -> None:
    """Send every logger's lines to `stream` (stderr), replacing what was configured before.

    Each of `completing` sees a line before it is written, and may add fields to it.
    """
    handler = _Lines(stream or _Stderr())
    handler.setFormatter(JsonLine() if log_format == "json" else TextLine())
    for one in completing:
        handler.addFilter(one)
    root = logging.getLogger()
    for replaced in root.handlers:
        replaced.close()
    root.handlers = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
    # Never shown, and looking it up is half the price of a line (docs.python.org, Logging: Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class _Stderr:
    """Without a buffer in between: what could not be written is known to be lost, and nobody tries again at the end."""

    def write(self, text: str) -> None:
        if sys.stderr is None:
            return  # It was closed when the process began, and its number may be another file's by now.
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            rest = rest[os.write(2, rest) :]

    def flush(self) -> None:
        pass


class _Lines(logging.Handler):
    """Writes lines in batches: several a second, so that a line for each call costs no system call each.

    A warning takes what came before it along at once; so does the end of the process. Lines that cannot be written, for
    a disk is full or a reader has gone, are counted and given up: no call fails because it cannot be written of.
    """

    def __init__(self, stream: Sink) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: list[str] = []
        # Not the handler's own lock: `logging.shutdown` holds that while it waits for the writer to end.
        self._turn = threading.RLock()
        self._lost = 0
        self._ended = threading.Event()  # not _closed: that is the Handler's
        self._writer = threading.Thread(target=self._write_now_and_then, name="log lines", daemon=True)
        self._writer.start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            line = self.format(_line("a line could not be put into words", record, error=type(error).__name__))
        with self._turn:
            self._waiting.append(line)
        if record.levelno >= logging.WARNING or len(self._waiting) >= _LINES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting, or give it up."""
        with self._turn:
            lines, self._waiting = self._waiting, []
            if not lines:
                return
            if self._lost:
                lines.insert(0, self.format(_line("lines of the log were lost", count=self._lost)))
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: it was closed
                self._lost += len(lines) - bool(self._lost)
            else:
                self._lost = 0

    def close(self) -> None:
        self._ended.set()
        self._writer.join()
        self.flush()
        atexit.unregister(self.flush)
        super().close()

    def _write_now_and_then(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_WRITES):
            self.flush()


class JsonLine(logging.Formatter):
    """`{"time", "level", "logger", "message", …fields, "error", "trace"}`"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _text(record),
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
        line = f"{time} {record.levelname.lower()} {record.name}: {_text(record)}{fields}"
        error = _error(record)
        if error:
            line += f" error={error['error']}\n    " + "\n    ".join(error["trace"])
        return line


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.name.partition(".")[0] in _OURS:
        return text
    first, _, _ = text.partition("\n")
    return _WORKFLOW_ID.sub("disp:…", first)


def _line(message: str, instead_of: logging.LogRecord | None = None, **fields: object) -> logging.LogRecord:
    """A line about the log itself."""
    level = logging.WARNING if instead_of is None else instead_of.levelno
    name = __name__ if instead_of is None else instead_of.name
    return logging.makeLogRecord(
        {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": message, **fields}
    )


def _error(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    trace = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__ or error.__context__
    names = type(error).__qualname__ + (f" from {type(cause).__qualname__}" if cause else "")
    return {"error": names, "trace": trace}
