"""Files of documents: each says its `kind` and is otherwise a resource in its JSON form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.api.fault_relations import unrelated
from orchestrator.api.field_masks import paths_of_document
from orchestrator.api.json_decode import decode
from orchestrator.api.message_check import check_message
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import STDIN, read_text
from orchestrator.cli.kinds import KINDS, Kind
from orchestrator.cli.yaml_text import NotYaml, parse_documents
from orchestrator.predicates.faults import Fault

_ENDINGS = (".yaml", ".yml", ".json")
_KINDS = {kind.word: kind for kind in KINDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A resource as somebody wants it. `place` is where it stands; `paths` are the fields that it speaks of."""

    place: str
    kind: Kind
    resource: Any
    body: dict[str, Any]
    paths: tuple[str, ...]

    @property
    def id(self) -> str:
        resource_id: str = self.resource.id
        return resource_id

    def __str__(self) -> str:
        return f"{self.place} ({self.kind.word} {self.id})"


def read_documents(files: Sequence[Path]) -> list[Document]:
    """The documents of files, and of the files in directories, each after those that it may name.

    Raises CommandFailure with everything that is wrong in any of them, as far as it can be seen without a server.
    """
    documents: list[Document] = []
    wrong: list[str] = []
    for place, body in _bodies(files):
        document = _read(place, body, wrong)
        if document is not None:
            documents.append(document)
    wrong += _repetitions(documents)
    if wrong:
        raise CommandFailure("\n".join(["Nothing was changed.", *wrong]))
    if not documents:
        raise CommandFailure("There is no document in there.", USAGE)
    return sorted(documents, key=lambda document: KINDS.index(document.kind))


def sentence_of(place: str, fault: Fault) -> str:
    return f"{place}: {fault.path}{': ' if fault.path else ''}{fault.message} ({fault.reason})"


def _bodies(files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    for file in files:
        for path in _files_of(file):
            try:
                found = list(parse_documents(read_text(path)))
            except NotYaml as error:
                raise CommandFailure(f"{path}, {error}.", USAGE) from error
            for number, body in enumerate(found, start=1):
                yield f"{path}, document {number}" if len(found) > 1 else str(path), body


def _files_of(file: Path) -> list[Path]:
    if file == STDIN or not file.is_dir():
        return [file]
    return sorted(path for path in file.rglob("*") if path.suffix in _ENDINGS and path.is_file())


def _read(place: str, body: Any, wrong: list[str]) -> Document | None:
    if not isinstance(body, dict):
        wrong.append(f"{place}: must be an object")
        return None
    word = body.pop("kind", None)
    kind = _KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        wrong.append(f"{place}: kind must be one of {', '.join(_KINDS)}")
        return None
    resource, faults = decode(type(kind.empty()), body)
    faults += unrelated(faults, check_message(kind.creation(resource)))
    if not resource.id and all(fault.path != "id" for fault in faults):
        faults.append(Fault(path="id", reason="REQUIRED", message="must be given"))
    wrong += [sentence_of(place, fault) for fault in faults]
    # Documents may be what somebody has got earlier; they say how things shall be, not how they were.
    resource.ClearField("etag")
    resource.ClearField("update_time")
    paths = paths_of_document(resource.DESCRIPTOR, body)
    return Document(place=place, kind=kind, resource=resource, body=body, paths=tuple(paths))


def _repetitions(documents: Sequence[Document]) -> Iterator[str]:
    seen: dict[tuple[str, str], str] = {}
    for document in documents:
        first = seen.setdefault((document.kind.word, document.id), document.place)
        if document.id and first != document.place:
            yield f"{document}: stands in {first} too"
