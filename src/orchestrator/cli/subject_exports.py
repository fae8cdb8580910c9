"""The document that `subjects export` writes: one object, kind by kind, a record on each line.

It is written as pages come, so a person may have done as much as they like.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

import orjson
import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.failure import FAILED, CommandFailure
from orchestrator.client import OrchestratorClient, messages, pages

#: Records asked for at once: as many as there may be.
_PAGE = 1000


@contextmanager
def export_file(path: Path | None) -> Iterator[IO[bytes]]:
    """Where to: stdout, or a file that only its owner can read, and that is there once it is whole.

    Raises CommandFailure when it cannot be written.
    """
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                yield file
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).replace(path)
    except OSError as error:
        raise CommandFailure(f"{path} cannot be written: {error.strerror}.", FAILED) from error


async def write_export(client: OrchestratorClient, subject_id: str, file: IO[bytes]) -> int:
    """Write everything that is kept about a person; returns how many records that were.

    Raises OrchestratorError, and CommandFailure when it cannot be written.
    """
    count, kind = 0, None
    async for page in pages(
        client.subjects.ExportSubject, messages.ExportSubjectRequest(subject_id=subject_id, page_size=_PAGE)
    ):
        document = encode(page)
        text = [] if kind else [f'{{"subjectId": {_json(page.subject_id)},\n']
        if not kind:
            text.append(f'"exportedAt": {_json(document["exportedAt"])},\n"records": {{')
        for record in document["records"]:
            if record["kind"] == kind:
                text.append(",\n")
            else:
                text.append(f"{'],' if kind else ''}\n{_json(record['kind'])}: [\n")
                kind = record["kind"]
            text.append(_json(record["values"]))
            count += 1
        _write(file, "".join(text))
    _write(file, "]}}\n")
    return count


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _write(file: IO[bytes], text: str) -> None:
    try:
        file.write(text.encode())
    except BrokenPipeError:
        # Whoever read us has had enough, as `head` has.
        raise typer.Exit(FAILED) from None
    except OSError as error:
        raise CommandFailure(f"The export cannot be written: {error.strerror}.", FAILED) from error
