"""Ids and names of what an export contains, each taken once."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.domain.ids import MAX_NAME_LENGTH
from orchestrator.pinpoint.export import Resource
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.identifiers import as_id
from orchestrator.pinpoint.reading import place


@dataclass(slots=True)
class Naming:
    found: Discoveries
    _taken: dict[tuple[str, str], Resource] = field(default_factory=dict)

    def take(self, kind: str, resource: Resource) -> str | None:
        """The id of a resource; None where it has none, or one that another has: then that was told."""
        written = resource.body.get("Id") or resource.body.get("Name")
        if not written:
            self.found.fault(place(resource.path, "Name"), "REQUIRED", "a name is required")
            return None
        made_id = as_id(written)
        if not resource.body.get("Id"):
            message = f"a request has no id: it is called {made_id} here"
            self.found.find(FindingKind.DIFFERS, place(resource.path, "Name"), written, message)
        elif made_id != written:
            message = f"an id is 1 to 128 of A-Z a-z 0-9 _ . : -: it is called {made_id} here"
            self.found.find(FindingKind.DIFFERS, place(resource.path, "Id"), written, message)
        earlier = self._taken.setdefault((kind, made_id), resource)
        if earlier is resource:
            return made_id
        self.repeated(earlier, resource)
        return None

    def repeated(self, earlier: Resource, later: Resource) -> None:
        if earlier.body == later.body:
            self.found.find(FindingKind.RECORD, later.path, None, f"the same stands at {earlier.path}, too")
        else:
            message = f"stands at {earlier.path}, too, and says something else there"
            self.found.fault(later.path, "DUPLICATE_ID", message)

    def name_of(self, resource: Resource, made_id: str) -> str:
        """The name for people: its own, or else its id."""
        name: str = resource.body.get("Name") or ""
        if len(name) > MAX_NAME_LENGTH:
            at = place(resource.path, "Name")
            self.found.fault(at, "TOO_LONG", f"has at most {MAX_NAME_LENGTH} characters")
        return name if name.strip() else made_id
