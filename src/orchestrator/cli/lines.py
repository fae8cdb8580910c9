"""Input of one JSON object a line, from a file or from stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from google.protobuf.message import Message

from orchestrator.api.json_decode import decode
from orchestrator.api.json_text import parse_json
from orchestrator.cli.documents import STDIN, sentence_of
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.predicates.faults import Fault, Wrong

_M = TypeVar("_M", bound=Message)


def read_messages(path: Path, kind: type[_M]) -> Iterator[tuple[int, _M | list[Fault]]]:
    """The number of each line that is not empty, counted from 1, and its message or what is wrong with it.

    Lazily, so that input may be endless. Raises CommandFailure when there is no such file.
    """
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _read(line, kind)


def require(path: Path, number: int, read: _M | list[Fault]) -> _M:
    """The message. Raises CommandFailure when the line is none."""
    if isinstance(read, list):
        raise CommandFailure("\n".join(sentence_of(f"{path}, line {number}", fault) for fault in read), USAGE)
    return read


def _read(line: str, kind: type[_M]) -> _M | list[Fault]:
    document: Any
    try:
        document = parse_json(line.encode(errors="surrogatepass"))
    except Wrong as wrong:
        fault = wrong.fault
        return [Fault(path=fault.path, reason=fault.reason, message=fault.message.removeprefix("the body "))]
    message, faults = decode(kind, document)
    return faults or message


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path == STDIN:
        yield sys.stdin
        return
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise CommandFailure(f"{path} cannot be read: {error.strerror}.", USAGE) from error
    with file:
        yield file
