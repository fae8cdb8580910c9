"""Anchors of the audit log in a directory: a file that is only added to, one JSON object a line, forced to the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from orchestrator.domain.audit_chain import Seal, hash_of
from orchestrator.storage import forced_lines
from orchestrator.storage.audit_seals import Anchor

#: What is written to. Whatever else in the directory ends like it is read as well: files of other machines.
FILE = "anchors.jsonl"
_PATTERN = "*.jsonl"


def prepare(directory: Path) -> None:
    """Make the directory and its file, and see that it can be added to. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    forced_lines.append(directory / FILE, b"")
    for place in (directory, directory.parent):
        forced_lines.force(place)


def append(directory: Path, anchors: Sequence[Anchor]) -> None:
    """Add them; they are on the disk when this returns. Raises OSError; then some may have been added."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    lines = [
        {"anchoredAt": now, "projectId": anchor.project_id, "seq": anchor.seal.seq, "hash": anchor.seal.hash.hex()}
        for anchor in anchors
    ]
    forced_lines.append(directory / FILE, b"".join(orjson.dumps(line) + b"\n" for line in lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Anchors, each with its project's id, and lines that do not read, each by its place."""

    anchors: Sequence[tuple[str, Seal]]
    unreadable: Sequence[str]


def read(directories: Iterable[Path]) -> Found:
    """All anchors in these directories. Raises OSError; also when one of them has no file of anchors."""
    anchors: list[tuple[str, Seal]] = []
    unreadable: list[str] = []
    for directory in directories:
        files = sorted(directory.glob(_PATTERN))
        if not files:
            raise FileNotFoundError(2, "there is no file of anchors", str(directory / FILE))
        for path in files:
            for number, line in enumerate(path.read_bytes().splitlines(), start=1):
                try:
                    anchors.append(_anchor_of(line))
                except (KeyError, TypeError, ValueError):
                    unreadable.append(f"{path}:{number}")
    return Found(anchors=anchors, unreadable=unreadable)


def _anchor_of(line: bytes) -> tuple[str, Seal]:
    """Raises KeyError, TypeError or ValueError."""
    told = orjson.loads(line)
    project_id, seq = told["projectId"], told["seq"]
    if not isinstance(project_id, str) or type(seq) is not int or seq < 1:
        raise ValueError("not an anchor")
    return project_id, Seal(seq=seq, hash=hash_of(told["hash"]))
