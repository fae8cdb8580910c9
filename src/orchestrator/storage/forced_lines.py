"""Files that are only added to, a line at a time, and forced to the disk: what has to outlive the database."""

from __future__ import annotations

import os
from pathlib import Path


def append(path: Path, data: bytes) -> None:
    """Add whole lines; they are on the disk when this returns. Raises OSError; then a part may have been added."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(file).st_size
        # A line that a dying machine left unfinished must not swallow the next one.
        if data and size and os.pread(file, 1, size - 1) != b"\n":
            data = b"\n" + data
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    finally:
        os.close(file)


def force(directory: Path) -> None:
    """That a file is there is on the disk, too. Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
