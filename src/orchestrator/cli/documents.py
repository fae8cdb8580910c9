"""Files of documents: each says its `kind` and is otherwise a resource in its JSON form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from orchestrator.api.fault_relations import unrelated
from orchestrator.api.field_masks import paths_of_document
from orchestrator.api.json_decode import decode
from orchestrator.api.message_check import check_message
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import STDIN, read_text
from orchestrator.cli.forms import settle
from orchestrator.cli.kinds import JOURNEY, KINDS, SEGMENT, Kind
from orchestrator.cli.names import names_in
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
        return f"{self.place} ({self.kind.word} {self.id})" if self.id else self.place


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a document; `document` is None where it could not be read as one."""

    place: str
    document: Document | None
    fault: Fault

    def __str__(self) -> str:
        return sentence_of(self.place if self.document is None else str(self.document), self.fault)

    def told(self) -> dict[str, str]:
        told = {"place": self.place}
        if self.document is not None:
            told |= {"kind": self.document.kind.word, "id": self.document.id}
        return told | {"path": self.fault.path, "reason": self.fault.reason, "message": self.fault.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What files say: each document after those that it may name. `unsound` ones cannot be meant as they are."""

    sound: list[Document]
    unsound: list[Document]
    faults: list[Finding]


def read_documents(files: Sequence[Path]) -> list[Document]:
    """The documents of files, and of the files in directories, each after those that it may name.

    Raises CommandFailure with everything that is wrong in any of them, as far as it can be seen without a server.
    """
    documents = look_through(files)
    if documents.faults:
        raise CommandFailure("\n".join(["Nothing was changed.", *map(str, documents.faults)]))
    return documents.sound


def look_through(files: Sequence[Path]) -> Documents:
    """The same, with everything that is wrong beside it. Raises CommandFailure when a file cannot be read at all."""
    documents: list[Document] = []
    faults: list[Finding] = []
    for place, body in _bodies(files):
        document, found = _read(place, body)
        faults += (Finding(place=place, document=document, fault=fault) for fault in found)
        if document is not None:
            documents.append(document)
    if not documents and not faults:
        raise CommandFailure("There is no document in there.", USAGE)
    faults += _repetitions(documents)
    segments = {document.id: document for document in documents if document.kind is SEGMENT}
    naming = {name: names_in(document.resource)[SEGMENT] & segments.keys() for name, document in segments.items()}
    if cycle := _segment_cycle(naming):
        # One by one each of them would be refused, for naming what is not there yet.
        document = segments[cycle[0]]
        fault = Fault(
            path="rules", reason="COHORT_CYCLE", message=f"the segment would ask about itself: {' → '.join(cycle)}"
        )
        faults.append(Finding(place=document.place, document=document, fault=fault))
        naming = {}
    rank = {name: number for number, name in enumerate(TopologicalSorter(naming).static_order())}
    ordered = sorted(
        documents,
        key=lambda document: (KINDS.index(document.kind), rank.get(document.id, 0) if document.kind is SEGMENT else 0),
    )
    wrong = {id(finding.document) for finding in faults}
    return Documents(
        sound=[document for document in ordered if id(document) not in wrong],
        unsound=[document for document in ordered if id(document) in wrong],
        faults=faults,
    )


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


def _read(place: str, body: Any) -> tuple[Document | None, list[Fault]]:
    if not isinstance(body, dict):
        return None, [Fault(path="", reason="INVALID_TYPE", message="must be an object")]
    word = body.pop("kind", None)
    kind = _KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        return None, [Fault(path="kind", reason="INVALID_VALUE", message=f"must be one of {', '.join(_KINDS)}")]
    resource, faults = decode(type(kind.empty()), body)
    faults += unrelated(faults, check_message(kind.creation(resource)))
    if not resource.id and all(fault.path != "id" for fault in faults):
        faults.append(Fault(path="id", reason="REQUIRED", message="must be given"))
    if kind is JOURNEY and not faults:
        settle(resource)
    # Documents may be what somebody has got earlier; they say how things shall be, not how they were.
    resource.ClearField("etag")
    resource.ClearField("update_time")
    paths = paths_of_document(resource.DESCRIPTOR, body)
    return Document(place=place, kind=kind, resource=resource, body=body, paths=tuple(paths)), faults


def _repetitions(documents: Sequence[Document]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    for document in documents:
        first = seen.setdefault((document.kind.word, document.id), document.place)
        if document.id and first != document.place:
            fault = Fault(path="", reason="ALREADY_EXISTS", message=f"stands in {first} too")
            yield Finding(place=document.place, document=document, fault=fault)


def _segment_cycle(naming: Mapping[str, set[str]]) -> list[str]:
    """The way from a segment to itself by way of what each names, empty if there is none."""
    try:
        TopologicalSorter(naming).prepare()
    except CycleError as error:
        way: list[str] = error.args[1]
        return way[::-1]
    return []
