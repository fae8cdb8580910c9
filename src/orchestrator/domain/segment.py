"""Segments: named sets of subjects with stored membership. What `in_cohort` names is a segment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.domain.ids import description_faults, name_faults
from orchestrator.predicates.faults import Fault, under

STATIC = "static"
DYNAMIC = "dynamic"
SYSTEM = "system"

#: Members that one call adds or removes.
MAX_MEMBERS_PER_CALL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What an author writes. `kind` never changes.

    A static segment is a list and has no `predicate`; the members of a dynamic one, and of a system one, which is
    read-only, are whoever the predicate holds for.
    """

    kind: str
    name: str
    description: str
    predicate: Any | None


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Something that names a segment. `kind` is audience, segment, trigger_contract, journey or journey_version.

    A version's id is `journey/3`.
    """

    kind: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A subject in a segment. `place` is where the list goes on behind it; `since` None: not known."""

    place: tuple[int, int]
    subject_id: str
    since: datetime | None


def faults_in(segment: Segment, path: str) -> list[Fault]:
    """Everything that is wrong with a segment somebody wants to have."""
    faults = name_faults(segment.name, under(path, "name"))
    faults += description_faults(segment.description, under(path, "description"))
    match segment.kind:
        case "static" if segment.predicate is not None:
            message = "a static segment is a list and has no rules"
            faults.append(Fault(path=under(path, "rules"), reason="INVALID_VALUE", message=message))
        case "dynamic" if segment.predicate is None:
            message = "a dynamic segment has rules; a list is a static one"
            faults.append(Fault(path=under(path, "rules"), reason="REQUIRED", message=message))
        case "system":
            message = "system segments are made by the server"
            faults.append(Fault(path=under(path, "kind"), reason="INVALID_VALUE", message=message))
    return faults
