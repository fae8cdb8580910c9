"""Lines of the log."""

from __future__ import annotations

import ast
import asyncio
import errno
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from orchestrator import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What has been logged; the configuration of others comes back afterwards."""
    root = logging.getLogger()
    handlers, levels = root.handlers, {name: logging.getLogger(name).level for name in (None, *logs._OURS)}
    switches = logging._srcfile, logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    root.handlers = []
    text = io.StringIO()
    yield text
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
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
        logging.getLogger("orchestrator.a").info("line", extra={"count": number})
    logging.getLogger("orchestrator.a").warning("last")

    counts = [json.loads(line).get("count") for line in stream.getvalue().splitlines()]
    assert counts == [*range(2_000), None]


class Disk(io.StringIO):
    """A file that may be full."""

    full = False

    def write(self, text: str, /) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_full_disk_costs_lines_and_nothing_else(stream: io.StringIO) -> None:
    disk = Disk()
    logs.configure("info", "json", disk)
    logger = logging.getLogger("orchestrator.a")

    disk.full = True
    logger.warning("lost")
    for number in range(1_000):
        logger.info("lost", extra={"count": number})
    disk.full = False
    logger.warning("there is room again")

    first, second = map(json.loads, disk.getvalue().splitlines())
    assert (first["message"], first["count"]) == ("lines of the log were lost", 1_001)
    assert second["message"] == "there is room again"


def test_a_process_works_and_ends_well_with_a_full_disk() -> None:
    program = """
import logging, threading, time
from orchestrator import logs
logs.configure("info", "json")
logger = logging.getLogger("orchestrator.a")
logger.warning("on a full disk")
logger.info("left to the writer")
time.sleep(0.5)
assert "log lines" in [thread.name for thread in threading.enumerate()], "the writer has ended"
logger.info("left to the end")
"""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", program], stderr=full, check=False)

    assert ended.returncode == 0


def test_a_process_without_stderr_does_not_write_into_what_has_its_number_now(tmp_path: Path) -> None:
    file = tmp_path / "data"
    program = f"""
import logging, os
from orchestrator import logs
os.dup2(os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT), 2)
logs.configure("info", "json")
logging.getLogger("orchestrator.a").warning("to nobody")
"""

    ended = subprocess.run(["/bin/sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, program], check=False)

    assert ended.returncode == 0
    assert file.read_text() == ""


def test_a_process_ends_however_slowly_its_last_lines_are_written() -> None:
    program = """
import logging, sys, time
from orchestrator import logs

class Slow:
    def write(self, text):
        time.sleep(2 * logs._SECONDS_BETWEEN_WRITES)  # meanwhile the writer's turn comes round
        sys.stderr.write(text)
    def flush(self):
        pass

logs.configure("info", "json", Slow())
logging.getLogger("orchestrator").info("stopping")
logging.shutdown()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)

    assert json.loads(ended.stderr)["message"] == "stopping"


def test_a_line_that_cannot_be_put_into_words_leaves_a_line_without_them(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)

    logging.getLogger("orchestrator.a").warning("%d of %s", "ann@example.com")

    line = json.loads(stream.getvalue())
    assert (line["message"], line["logger"], line["level"], line["error"]) == (
        "a line could not be put into words", "orchestrator.a", "warning", "TypeError",
    )  # fmt: skip


async def test_what_a_task_left_behind_is_told_without_its_words(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)

    async def fail() -> None:
        raise ValueError("ann@example.com")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task

    line = json.loads(stream.getvalue())
    assert (line["logger"], line["message"], line["error"]) == (
        "asyncio", "Task exception was never retrieved", "ValueError",
    )  # fmt: skip
    assert "ann@example.com" not in stream.getvalue()


@pytest.mark.parametrize(
    "workflow_id",
    ["disp:welcome__v1__bob.jones__e-1", "acme/disp:welcome__v1__bob.jones__e-1", "disp:w%5F__v12__bob.jones__a%2Fb"],
)
def test_a_library_names_no_subject(stream: io.StringIO, workflow_id: str) -> None:
    logs.configure("info", "json", stream)

    logging.getLogger("temporalio.worker").warning(f"Failed on workflow W with ID {workflow_id} and run ID r-1")

    assert json.loads(stream.getvalue())["message"] == "Failed on workflow W with ID disp:… and run ID r-1"


def test_of_libraries_only_warnings_are_written_whatever_the_level(stream: io.StringIO) -> None:
    logs.configure("debug", "json", stream)

    logging.getLogger("temporalio.service").debug("start_workflow_execution: bob.jones")
    logging.getLogger("httpx").info("GET /v1/subjects/bob.jones")
    logging.getLogger("orchestrator.a").debug("ours")
    logging.getLogger("workers.a").warning("last")

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["ours", "last"]


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
