"""A file system of its own that is small, and can be filled to the last byte."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BALLAST = "ballast"


class _Full(Exception):
    """There is no room for that."""


def _write(file: int, data: bytes) -> None:
    try:
        os.write(file, data)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _Full from None
        raise


class SmallDisk:
    """Mounted on `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Not a byte is left."""
        file = os.open(self.path / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (2**20, 2**12):
                with contextlib.suppress(_Full):
                    while True:
                        _write(file, bytes(size))
        finally:
            os.close(file)

    def make_room(self) -> None:
        """What filled it is gone."""
        (self.path / _BALLAST).unlink()


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """One of so many bytes, in memory. Skips the test where nobody may mount it."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"a disk that can be filled has to be mounted: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: whoever was killed may have files there a moment longer.
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()
