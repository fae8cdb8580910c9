"""Lines of the log."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from orchestrator import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What has been logged; the configuration of others comes back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    switches = logging._srcfile, logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    root.handlers = []
    text = io.StringIO()
    yield text
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level
    logging._srcfile, logging.logThreads, logging.logProcesses, logging.logMultiprocessing = switches


def test_a_line_is_json_with_the_fields_that_are_allowed(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)

    logging.getLogger("a.b").warning("sent", extra={"execution_id": "e-1", "email": "ann@example.com"})

    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "a.b", "message": "sent", "execution_id": "e-1"}


def test_an_error_tells_its_type_and_place_and_not_its_words(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)

    try:
        raise ValueError("ann@example.com")
    except ValueError:
        logging.getLogger("a").exception("failed")

    line = json.loads(stream.getvalue())
    assert line["error"] == "ValueError"
    assert "test_logs.py" in line["trace"][-1]
    assert "ann@example.com" not in stream.getvalue()


def test_the_line_for_people_says_the_same(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)

    logging.getLogger("a").error("failed", extra={"code": "OK"}, exc_info=KeyError("ann@example.com"))

    assert "error a: failed code=OK error=KeyError" in stream.getvalue()
    assert "ann@example.com" not in stream.getvalue()


def test_lines_wait_for_each_other_and_none_is_lost(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)

    for number in range(2_000):
        logging.getLogger("a").info("line", extra={"count": number})
    logging.getLogger("a").warning("last")

    counts = [json.loads(line).get("count") for line in stream.getvalue().splitlines()]
    assert counts == [*range(2_000), None]


def test_every_field_that_is_logged_anywhere_gets_through() -> None:
    source = Path(orchestrator.__file__).parent.parent
    logged = {
        key.value
        for file in source.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict)
        for key in keyword.value.keys
        if isinstance(key, ast.Constant)
    }

    assert logged <= logs.FIELDS
    # The logging module keeps these for itself, and raises.
    assert not logged & vars(logging.makeLogRecord({})).keys()
