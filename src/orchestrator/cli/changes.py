"""What is to be done so that what is there is as documents say, and what there will be then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode

from orchestrator.api.field_masks import apply_update, json_path
from orchestrator.cli.documents import Document, Finding
from orchestrator.cli.forms import form_of, keep_canvas
from orchestrator.cli.kinds import COMMUNICATION, JOURNEY, SEGMENT, Kind
from orchestrator.client import OrchestratorClient, OrchestratorError, messages
from orchestrator.domain.ids import id_fault
from orchestrator.predicates.faults import Fault

#: What makes a new revision of a communication when it is changed.
_CONTENT = frozenset({"channel", "category", "subject", "body", "settings"})

#: Told by the server of one change; all others are failures of the call.
_REFUSALS = (StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION, StatusCode.ABORTED)


@dataclass(slots=True, kw_only=True)
class Change:
    """What is to be done about a document. `found` None: the resource is not there. `paths`: what differs."""

    document: Document
    found: Any | None
    paths: tuple[str, ...]
    published: int | None = None

    @property
    def is_needed(self) -> bool:
        return self.found is None or bool(self.paths)

    @property
    def after(self) -> Any:
        """The resource as it will be."""
        after = self.document.kind.empty()
        if self.found is None:
            after.CopyFrom(self.document.resource)
            if self.document.kind is JOURNEY and not (after.definition.steps or after.definition.HasField("graph")):
                after.definition.steps.add(id="exit", exit=messages.ExitStep(reason="finished"))
            return after
        after.CopyFrom(self.found)
        apply_update(after, self.document.resource, self.paths)
        if self.document.kind is COMMUNICATION and not _CONTENT.isdisjoint(self.paths):
            after.content_revision += 1
        return after

    def told(self) -> dict[str, Any]:
        action = "created" if self.found is None else "updated" if self.paths else "unchanged"
        told: dict[str, Any] = {"kind": self.document.kind.word, "id": self.document.id, "action": action}
        if action == "updated":
            told["fields"] = ", ".join(json_path(self.document.resource.DESCRIPTOR, path) for path in self.paths)
        if self.published is not None:
            told["action"] = "published" if action == "unchanged" else f"{action}, published"
            told["version"] = self.published
        return told


async def find_changes(client: OrchestratorClient, documents: Iterable[Document]) -> list[Change]:
    return [await _find_change(client, document) for document in documents]


async def _find_change(client: OrchestratorClient, document: Document) -> Change:
    found = await find(client, document.kind, document.id, document.resource)
    if found is None:
        return Change(document=document, found=None, paths=())
    if document.kind is JOURNEY:
        keep_canvas(document.resource, found)
    paths = tuple(path for path in document.paths if _at(document.resource, path) != _at(found, path))
    return Change(document=document, found=found, paths=paths)


async def find(client: OrchestratorClient, kind: Kind, resource_id: str, like: Any = None) -> Any | None:
    """A resource as it is now; None: there is none, nor can there be where a name is no id. A journey comes in the form
    in which `like` is written, or else with steps."""
    form = {"form": form_of(like or kind.empty())} if kind is JOURNEY else {}
    if id_fault(resource_id, "id") is not None:
        return None
    try:
        return await kind.find(client, resource_id, **form)
    except OrchestratorError as error:
        if error.code is StatusCode.NOT_FOUND:
            return None
        raise


def _at(resource: Any, path: str) -> Any:
    for name in path.split("."):
        resource = getattr(resource, name)
    return resource


async def make(client: OrchestratorClient, change: Change, *, validate_only: bool = False) -> None:
    document = change.document
    if change.found is None:
        await document.kind.create(client, document.resource, validate_only=validate_only)
        return
    document.resource.etag = change.found.etag
    await document.kind.update(client, document.resource, change.paths, validate_only=validate_only)


async def refusals(
    client: OrchestratorClient, changes: Sequence[Change], more: Iterable[Document] = ()
) -> list[Finding]:
    """All that the server has against any of the changes. `more` documents are to come, too, once they are mended."""
    coming = {c.document.id for c in changes if c.document.kind is SEGMENT and c.found is None}
    coming |= {document.id for document in more if document.kind is SEGMENT}
    findings: list[Finding] = []
    for change in changes:
        if not change.is_needed:
            continue
        try:
            await make(client, change, validate_only=True)
        except OrchestratorError as error:
            if error.code not in _REFUSALS:
                raise
            told = [Fault(path=v.path, reason=v.reason, message=v.message) for v in error.violations]
            faults = told or [Fault(path="", reason=error.reason, message=error.message)]
            findings += (
                Finding(place=change.document.place, document=change.document, fault=fault)
                for fault in faults
                if not _is_coming(fault, change.document.body, coming)
            )
    return findings


def _is_coming(fault: Fault, body: dict[str, Any], coming: set[str]) -> bool:
    """Whether what is missing is a segment that another document is about to create."""
    if fault.reason not in ("COHORT_NOT_FOUND", "SEGMENT_NOT_FOUND"):
        return False
    value: Any = body
    for part in fault.path.replace("[", ".").replace("]", "").split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value in coming


class Prospect:
    """What there will be when changes are made: resources of documents, else those that are there."""

    def __init__(
        self, client: OrchestratorClient, changes: Iterable[Change] = (), unsound: Iterable[Document] = ()
    ) -> None:
        """Of `unsound` documents it is taken that they are mended, in whatever way nobody else minds."""
        self._client = client
        self._known: dict[tuple[str, str], Any | None] = {(d.kind.word, d.id): d.resource for d in unsound if d.id}
        self._known |= {(change.document.kind.word, change.document.id): change.after for change in changes}

    async def find(self, kind: Kind, resource_id: str) -> Any | None:
        """None: there will be none."""
        key = (kind.word, resource_id)
        if key not in self._known:
            self._known[key] = await find(self._client, kind, resource_id)
        return self._known[key]
