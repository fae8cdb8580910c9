"""Keys that somebody has left in files: found by what they look like, and told from look-alikes by their checksum."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.domain.api_key import KEY_LENGTH, MARK, written_in

STDIN = "-"
#: Bytes read at a time: a file may be larger than memory.
CHUNK = 1 << 20
#: What git keeps there is compressed: its history is looked at by `git log -p | orchestrator keys scan -`.
_SKIPPED = frozenset({".git"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A key, told by its prefix alone: whoever reads what is found must not have it, too."""

    path: str
    line: int
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A path that could not be looked at, and why."""

    path: str
    why: str


def scan(path: str) -> Iterator[Found | Unread]:
    """Every key in a file, or in all files under a directory. Links are not followed, devices and pipes not opened."""
    if path == STDIN:
        yield from _in(sys.stdin.buffer, path)
        return
    for file in _files(Path(path)):
        if isinstance(file, Unread):
            yield file
            continue
        try:
            with file.open("rb") as opened:
                yield from _in(opened, str(file))
        except OSError as error:
            yield Unread(path=str(file), why=_why(error))


def _files(path: Path) -> Iterator[Path | Unread]:
    try:
        mode = path.stat().st_mode  # what was named may be a link
    except OSError as error:
        yield Unread(path=str(path), why=_why(error))
        return
    if not stat.S_ISDIR(mode):
        yield path
        return
    faults: list[OSError] = []
    for directory, directories, names in os.walk(path, onerror=faults.append):
        directories[:] = sorted(name for name in directories if name not in _SKIPPED)
        for name in sorted(names):
            file = Path(directory, name)
            try:
                if stat.S_ISREG(file.lstat().st_mode):
                    yield file
            except OSError as error:
                yield Unread(path=str(file), why=_why(error))
        while faults:
            fault = faults.pop()
            yield Unread(path=str(fault.filename), why=_why(fault))
    for fault in faults:
        yield Unread(path=str(fault.filename), why=_why(fault))


def _in(opened: IO[bytes], path: str) -> Iterator[Found]:
    """Keys of a stream. The end of each part is read once more with the next: a key may stand across the two."""
    line, kept = 1, b""
    while part := opened.read(CHUNK):
        text = kept + part
        counted = 0
        done = 0
        for start, key in written_in(text):
            line += text.count(b"\n", counted, start)
            counted, done = start, start + KEY_LENGTH
            yield Found(path=path, line=line, prefix=key[: len(MARK) + 8])
        rest = max(done, len(text) - KEY_LENGTH + 1)
        line += text.count(b"\n", counted, rest)
        kept = text[rest:]


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
