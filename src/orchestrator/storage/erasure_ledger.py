"""What was forgotten, written down outside of Postgres: a backup that is restored knows nothing of what was erased
since.

A directory of files of JSON lines. Each process that writes has files of its own, adds to them, and has the disk
confirm each line; so a line that is not whole can only be a file's last, and was never confirmed. Ids stand in it as
keyed hashes (storage/tombstones.py), which the key in the restored database matches to people again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from orchestrator.storage import forced_lines

_SUFFIX = ".jsonl"


class LedgerUnreadable(Exception):
    """One sentence that says which line of which file is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """That an erasure forgets the ids with these hashes."""

    erasure_id: str
    project_id: str
    subject_ref: str
    hashes: tuple[bytes, ...]
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """That what an erasure forgot is taken in again."""

    erasure_id: str
    project_id: str
    lifted_at: datetime


Line = Forgotten | Lifted


class ErasureLedger:
    """Adds lines to the directory; one of these per process. Whatever raises OSError has to be tried again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path: Path | None = None
        self._turn = asyncio.Lock()

    async def add(self, line: Line) -> None:
        """Returns when the line is on the disk. Raises OSError."""
        async with self._turn:
            await asyncio.to_thread(self._add, _text_of(line))

    def _add(self, text: bytes) -> None:
        is_new = self._path is None
        if self._path is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._path = self._directory / f"{datetime.now().astimezone():%Y%m%dT%H%M%S}-{uuid4().hex}{_SUFFIX}"
        try:
            forced_lines.append(self._path, text)
            if is_new:
                forced_lines.force(self._directory)
        except OSError:
            # What stands at its end may not be whole.
            self._path = None
            raise


def read(directories: Sequence[Path]) -> list[Line]:
    """All lines of all files, in no order. Raises LedgerUnreadable, and OSError for a directory that is not there."""
    return [line for directory in directories for path in _files(directory) for line in _lines(path)]


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix == _SUFFIX)


def _lines(path: Path) -> Iterator[Line]:
    *whole, rest = path.read_bytes().split(b"\n")
    for number, text in enumerate(whole, 1):
        try:
            yield _line_of(orjson.loads(text))
        except (ValueError, KeyError, TypeError):
            raise LedgerUnreadable(f"{path}, line {number}: it is no line of a ledger of erasures.") from None
    if rest:
        # Not confirmed, so its erasure has written another line since; if this one happens to be whole, it is as good.
        try:
            yield _line_of(orjson.loads(rest))
        except (ValueError, KeyError, TypeError):
            return


def _text_of(line: Line) -> bytes:
    own = {"erasureId": line.erasure_id, "projectId": line.project_id}
    match line:
        case Forgotten():
            document = {
                "kind": "forgotten",
                **own,
                "subjectRef": line.subject_ref,
                "hashes": [digest.hex() for digest in line.hashes],
                "requestedAt": line.requested_at.isoformat(),
            }
        case Lifted():
            document = {"kind": "lifted", **own, "liftedAt": line.lifted_at.isoformat()}
    return orjson.dumps(document) + b"\n"


def _line_of(document: Any) -> Line:
    """Raises ValueError, KeyError or TypeError for what is none."""
    own = {"erasure_id": str(document["erasureId"]), "project_id": str(document["projectId"])}
    match document["kind"]:
        case "forgotten":
            return Forgotten(
                **own,
                subject_ref=str(document["subjectRef"]),
                hashes=tuple(bytes.fromhex(digest) for digest in document["hashes"]),
                requested_at=datetime.fromisoformat(document["requestedAt"]),
            )
        case "lifted":
            return Lifted(**own, lifted_at=datetime.fromisoformat(document["liftedAt"]))
        case kind:
            raise ValueError(kind)
