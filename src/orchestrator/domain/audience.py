"""Audiences: named predicates that scope journeys, asked afresh about one subject at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.domain.ids import description_faults, name_faults
from orchestrator.predicates.faults import Fault, under

#: The only kind of subject there is.
END_USER = "end_user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """What an author writes. `predicate` stays the document that was sent; `predicates/parse.py` reads it."""

    name: str
    description: str
    subject_type: str
    predicate: Any


def faults_in(audience: Audience, path: str) -> list[Fault]:
    """Everything that is wrong, but for the predicate."""
    faults = name_faults(audience.name, under(path, "name"))
    faults += description_faults(audience.description, under(path, "description"))
    if audience.subject_type != END_USER:
        at = under(path, "subjectType")
        faults.append(Fault(path=at, reason="INVALID_VALUE", message=f"the only subject type is {END_USER}"))
    return faults
