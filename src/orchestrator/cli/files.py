"""Files that are named on the command line; `-` is stdin. What is read is UTF-8, whatever the locale says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from orchestrator.cli.failure import USAGE, CommandFailure

STDIN = Path("-")

_FILE = typer.Option("--file", "-f", help="YAML or JSON; a directory for all in it, - for stdin.", metavar="PATH")
Files = Annotated[list[Path], _FILE]
FilesOrNone = Annotated[list[Path] | None, _FILE]


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Raises CommandFailure when it cannot be read."""
    if path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CommandFailure(f"{path} cannot be read: {error.strerror}.", USAGE) from error


def read_text(path: Path) -> str:
    """All of it. Raises CommandFailure, also when it is no UTF-8."""
    with opened(path) as file:
        try:
            return file.read().decode()
        except UnicodeDecodeError as error:
            raise CommandFailure(f"{path} is not UTF-8.", USAGE) from error
