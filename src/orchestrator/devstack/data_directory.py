"""The directory in which a stack keeps everything: one stack at a time, closed to other users."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from orchestrator.devstack.failure import StackFailure

#: Files that keep the keys made by a stack.
OWNER_KEY = "owner.key"
OPERATOR_KEY = "operator.key"

_LEAST_FREE_BYTES = 512 * 2**20


class DataDirectory:
    """Made at first use. Holds a lock from `open` to `close`; the system releases it if we die."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def open(self) -> None:
        """Raises StackFailure if the directory cannot be used, is in use, or has no room."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise StackFailure(
                f"The data directory {self.path} cannot be written ({error.strerror}): choose another with --data-dir."
            ) from error
        try:
            self._take(self._lock)
            free = shutil.disk_usage(self.path).free
            if free < _LEAST_FREE_BYTES:
                raise StackFailure(
                    f"Only {free >> 20} MiB are free under {self.path}, and {_LEAST_FREE_BYTES >> 20} MiB are needed: "
                    "make room, or choose another --data-dir."
                )
        except StackFailure:
            self.close()
            raise

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode().strip()
            raise StackFailure(
                f"Another orchestrator (process {holder or 'unknown'}) runs on {self.path}: "
                "stop it, or choose another --data-dir and other ports."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def marked(self, name: str) -> bool:
        return (self.path / name).exists()

    def mark(self, name: str) -> None:
        (self.path / name).touch()

    def kept(self, name: str) -> str:
        """The secret kept in the file `name`; empty if there is none."""
        path = self.path / name
        return path.read_text().strip() if path.exists() else ""

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """The secret kept in the file `name` with mode 0600; made if there is none."""
        path = self.path / name
        if kept := self.kept(name):
            return kept
        made = make()
        half = path.with_name(f"{name}.new")
        half.unlink(missing_ok=True)
        with os.fdopen(os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{made}\n")
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
        return made
