"""Where the parts of a running stack are, kept in a file of its data directory: who comes later need not be told.

A stack holds a lock on its file for as long as it runs, and the system releases it if it is killed: so a file that was
left behind is known for what it is.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_NAME = "addresses.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything is.

    `temporal_ui` is empty for a Temporal that is not ours; a user's settings for Temporal apply to such a one alone.
    `codec` is empty where nothing is encrypted.
    What is kept for others has no `database_url` of a database that is not ours: its password is not for us to write
    down.
    """

    grpc: str
    http: str
    database_url: str
    temporal: str
    temporal_namespace: str
    temporal_ui: str
    codec: str
    metrics: tuple[str, ...]
    data_dir: Path


class AddressFile:
    """The file of one running stack, in its data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _NAME
        self._lock: int | None = None

    def write(self, addresses: Addresses) -> None:
        """All of it appears at once, locked."""
        half = self._path.with_name(f"{_NAME}.new")
        half.unlink(missing_ok=True)
        self._lock = os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        with os.fdopen(os.dup(self._lock), "w") as file:
            json.dump(asdict(addresses), file, indent=1, default=str)
        half.replace(self._path)

    def remove(self) -> None:
        """Nothing happens if it was not written."""
        if self._lock is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def find_running(data_dir: Path) -> Addresses | None:
    """Those of the stack that runs on this directory; None when there is none."""
    try:
        descriptor = os.open(data_dir / _NAME, os.O_RDONLY)
    except OSError:
        return None
    with os.fdopen(descriptor) as file:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None  # whoever wrote it is gone
        try:
            kept = json.load(file)
            return Addresses(**kept | {"metrics": tuple(kept["metrics"]), "data_dir": Path(kept["data_dir"])})
        except (ValueError, TypeError, KeyError):
            return None  # of another release
