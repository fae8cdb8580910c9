"""Pinpoint's segments as ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from orchestrator.pinpoint.conditions import (
    UNKNOWN,
    Condition,
    all_of,
    combined,
    in_cohort,
    is_exact,
    narrowed,
)
from orchestrator.pinpoint.dimensions import read_dimensions
from orchestrator.pinpoint.export import Resource
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.identifiers import as_id
from orchestrator.pinpoint.naming import Naming
from orchestrator.pinpoint.reading import place, placed, says_nothing

_SEGMENT = "segment"


@dataclass(slots=True)
class Segments:
    """The segments of an export, by their ids here."""

    found: Discoveries
    naming: Naming
    _resources: dict[str, Resource] = field(default_factory=dict)
    #: Whose rules leave somebody out whom the original has.
    _narrowed: set[str] = field(default_factory=set)
    _audiences: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self, resource: Resource) -> None:
        made_id = self.naming.take(_SEGMENT, resource)
        if made_id is not None:
            self._resources[made_id] = resource

    def condition(self, body: Mapping[str, Any], path: str) -> Condition:
        """Membership in a segment that somebody names; of one that is not in the export, too, for it may be there."""
        pinpoint_id = body.get("SegmentId")
        at = place(path, "SegmentId")
        if not pinpoint_id:
            self.found.fault(at, "REQUIRED", "names the segment")
            return UNKNOWN
        return in_cohort(self.named(pinpoint_id, at))

    def named(self, pinpoint_id: str, path: str) -> str:
        made_id = as_id(pinpoint_id)
        if made_id not in self._resources:
            message = f"the segment is not in the export: the journey cannot be published until there is {made_id}"
            self.found.find(FindingKind.MISSING, path, pinpoint_id, message)
        return made_id

    def audience(self, pinpoint_id: str, path: str) -> str:
        """An audience that is the segment: what a journey asks about those whom an event would bring in."""
        made_id = self.named(pinpoint_id, path)
        if made_id in self._resources:
            name = self.naming.name_of(self._resources[made_id], made_id)
            self._audiences[made_id] = {"id": made_id, "name": name, "predicate": in_cohort(made_id)}
        return made_id

    def audiences(self) -> list[dict[str, Any]]:
        return list(self._audiences.values())

    def paths(self) -> dict[str, str]:
        """Where each stands in the export."""
        return {made_id: resource.path for made_id, resource in self._resources.items()}

    def without_unknown(self, condition: Condition) -> Condition:
        return narrowed(condition, self._narrowed)

    def documents(self) -> list[dict[str, Any]]:
        """Each after those that it names."""
        naming = {made_id: self._bases(resource) for made_id, resource in self._resources.items()}
        try:
            order = list(TopologicalSorter(naming).static_order())
        except CycleError as error:
            way: list[str] = error.args[1]
            first = next(made_id for made_id in self._resources if made_id in way)
            at = place(self._resources[first].path, "SegmentGroups")
            self.found.fault(at, "COHORT_CYCLE", f"the segment would ask about itself: {' → '.join(way[:10])}")
            return []
        return [self._document(made_id, self._resources[made_id]) for made_id in order]

    def _bases(self, resource: Resource) -> list[str]:
        """The segments of the export that it is based on, in the order in which they stand there."""
        groups = (resource.body.get("SegmentGroups") or {}).get("Groups") or []
        bases = (base.get("Id") for group in groups for base in group.get("SourceSegments") or [])
        return [made_id for base in bases if base and (made_id := as_id(base)) in self._resources]

    def _document(self, made_id: str, resource: Resource) -> dict[str, Any]:
        document = {"id": made_id, "name": self.naming.name_of(resource, made_id)}
        if resource.body.get("SegmentType") == "IMPORT" or not says_nothing(resource.body.get("ImportDefinition")):
            self._tell_unused(resource)
            if resource.body.get("SegmentType") == "DIMENSIONAL":
                message = "it has been imported: it is a list"
                self.found.find(FindingKind.DIFFERS, place(resource.path, "SegmentType"), "DIMENSIONAL", message)
            return {**document, "kind": "static"}
        condition = self._rules(resource.body, resource.path)
        if not is_exact(condition, self._narrowed):
            self._narrowed.add(made_id)
            message = "its rules leave somebody out who was in it: see what is told of its members"
            self.found.find(FindingKind.DIFFERS, resource.path, document["name"], message)
        return {**document, "kind": "dynamic", "rules": self.without_unknown(condition)}

    def _tell_unused(self, resource: Resource) -> None:
        for member in ("Dimensions", "SegmentGroups"):
            if not says_nothing(resource.body.get(member)):
                message = "an imported segment is a list, and a list has no rules"
                at = place(resource.path, member)
                self.found.find(FindingKind.NO_COUNTERPART, at, resource.body[member], message)

    def _rules(self, body: Mapping[str, Any], path: str) -> Condition:
        dimensions = read_dimensions(self.found, body.get("Dimensions") or {}, place(path, "Dimensions"))
        groups = body.get("SegmentGroups") or {}
        at = place(path, "SegmentGroups")
        if not groups.get("Groups"):
            return dimensions
        of_groups = combined(groups.get("Include"), self._groups(groups, place(at, "Groups")))
        # Pinpoint's answers say both, and mean one.
        told_twice = any(body.get("Dimensions") in (group.get("Dimensions") or []) for group in groups["Groups"])
        return of_groups if told_twice else all_of([dimensions, of_groups])

    def _groups(self, groups: Mapping[str, Any], path: str) -> Iterator[Condition]:
        for at, group in placed(groups["Groups"], path):
            dimensions = [
                read_dimensions(self.found, body, body_path)
                for body_path, body in placed(group.get("Dimensions") or [], place(at, "Dimensions"))
                if not says_nothing(body)
            ]
            bases = list(self._sources(group, place(at, "SourceSegments")))
            yield all_of(
                [
                    combined(group.get("SourceType") if bases else None, bases),
                    combined(group.get("Type") if dimensions else None, dimensions),
                ]
            )

    def _sources(self, group: Mapping[str, Any], path: str) -> Iterator[Condition]:
        for at, base in placed(group.get("SourceSegments") or [], path):
            pinpoint_id = base.get("Id")
            if not pinpoint_id:
                self.found.fault(place(at, "Id"), "REQUIRED", "names the segment")
                yield UNKNOWN
                continue
            made_id = as_id(pinpoint_id)
            resource = self._resources.get(made_id)
            if resource is None:
                message = "the segment is not in the export: the condition counts as not met, negated or not"
                self.found.find(FindingKind.MISSING, place(at, "Id"), pinpoint_id, message)
                yield UNKNOWN
                continue
            version, exported = base.get("Version"), resource.body.get("Version")
            if version is not None and exported is not None and version != exported:
                message = f"the export has version {exported} of the segment, and that is what is asked"
                self.found.find(FindingKind.DIFFERS, place(at, "Version"), version, message)
            yield in_cohort(made_id)
