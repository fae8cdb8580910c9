"""Input of one JSON object a line, from a file or from stdin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from orchestrator.api.json_decode import decode
from orchestrator.api.json_text import parse_json
from orchestrator.cli.documents import sentence_of
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import opened
from orchestrator.predicates.faults import Fault, Wrong

_M = TypeVar("_M", bound=Message)

#: What a message costs beside itself in a list of them.
_FRAME = 8


def read_messages(path: Path, kind: type[_M]) -> Iterator[tuple[int, _M | list[Fault]]]:
    """The number of each line that is not empty, counted from 1, and its message or what is wrong with it.

    Lazily, so that input may be endless. Raises CommandFailure when there is no such file.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _read(line, kind)


def in_batches(
    read: Iterable[tuple[int, _M]], *, most: int, most_bytes: int = 3 * 2**20
) -> Iterator[tuple[list[int], list[_M]]]:
    """The numbers of lines and their messages, as many at a time as one call may carry, which takes 4 MiB.

    One that is too large by itself comes alone: the server says so.
    """
    numbers: list[int] = []
    messages: list[_M] = []
    size = 0
    for number, message in read:
        added = message.ByteSize() + _FRAME
        if messages and (len(messages) == most or size + added > most_bytes):
            yield numbers, messages
            numbers, messages, size = [], [], 0
        numbers.append(number)
        messages.append(message)
        size += added
    if messages:
        yield numbers, messages


def require(path: Path, number: int, read: _M | list[Fault]) -> _M:
    """The message. Raises CommandFailure when the line is none."""
    if isinstance(read, list):
        raise CommandFailure("\n".join(sentence_of(f"{path}, line {number}", fault) for fault in read), USAGE)
    return read


def _read(line: bytes, kind: type[_M]) -> _M | list[Fault]:
    document: Any
    try:
        document = parse_json(line)
    except Wrong as wrong:
        fault = wrong.fault
        return [Fault(path=fault.path, reason=fault.reason, message=fault.message.removeprefix("the body "))]
    message, faults = decode(kind, document)
    return faults or message
