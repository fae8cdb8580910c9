"""Subjects named on the command line or, one a line, in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import read_text

#: As many as one call takes.
BATCH = 1000

SubjectIds = Annotated[list[str] | None, typer.Argument(metavar="SUBJECT_ID...", help="Who.")]
SubjectIdsFile = Annotated[
    Path | None, typer.Option("--file", "-f", help="Who, one a line; - for stdin.", metavar="PATH")
]


def read_subject_ids(subject_ids: Sequence[str] | None, file: Path | None) -> list[str]:
    """Raises CommandFailure when nobody is named, or the file cannot be read."""
    named = list(subject_ids or ())
    if file is not None:
        named += [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if not named:
        raise CommandFailure("Name at least one subject, or a file of them with --file.", USAGE)
    return named


def batches(subject_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(subject_ids), BATCH):
        yield subject_ids[start : start + BATCH]
