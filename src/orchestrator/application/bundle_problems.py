"""What stands against importing a bundle, collected from all use cases that it goes through."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.domain.refusals import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
)
from orchestrator.predicates.faults import Fault

_T = TypeVar("_T")

#: By kind of resource: what is said of whoever names one that is not there.
_ABSENCES = {
    "segment": ("COHORT_NOT_FOUND", "SEGMENT_NOT_FOUND"),
    "audience": ("AUDIENCE_NOT_FOUND",),
    "communication": ("COMMUNICATION_NOT_FOUND",),
    "triggerContract": ("TRIGGER_CONTRACT_NOT_FOUND",),
}


class BundleProblems:
    """Faults with their places in the bundle. What is only there because something else of the bundle is wrong is left
    out: who names a segment whose own rules are at fault does not hear that there is no such segment.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._wrong_in_itself = False
        self._exhausted: ResourceExhausted | None = None
        self._failed: set[tuple[str, str]] = set()

    async def collect(
        self, kind: str, resource_id: str, place: str, work: Awaitable[_T], body: Mapping[str, Any] | None = None
    ) -> _T | None:
        """What `work` returns; None where it was refused, which is noted. `body` is the document that its faults are
        about. Raises Conflict as it comes."""
        try:
            return await work
        except InvalidArgument as refused:
            found, self._wrong_in_itself = list(refused.faults), True
        except FailedPrecondition as refused:
            found = list(refused.faults) or [Fault(path="", reason=refused.reason, message=refused.message)]
        except (AlreadyExists, PermissionDenied) as refused:
            found = [Fault(path="", reason=refused.reason, message=refused.message)]
        except ResourceExhausted as refused:
            found, self._exhausted = [], refused
        self.add(place, [fault for fault in found if (fault.reason, _value_at(body, fault.path)) not in self._failed])
        self.miss(kind, resource_id)
        return None

    def miss(self, kind: str, resource_id: str) -> None:
        """Say nothing of whoever names this resource, which was not made because something is wrong with it."""
        self._failed |= {(reason, resource_id) for reason in _ABSENCES.get(kind, ())}

    def add(self, place: str, faults: Iterable[Fault]) -> None:
        """Note what is wrong with what stands at this place."""
        self.faults += (replace(fault, path=_joined(place, fault.path)) for fault in faults)

    def add_wrong(self, faults: Iterable[Fault]) -> None:
        """Note what is wrong with the bundle in itself."""
        found = list(faults)
        self._wrong_in_itself |= bool(found)
        self.faults += found

    def require_none(self) -> None:
        """Raises InvalidArgument, FailedPrecondition BUNDLE_REFUSED or ResourceExhausted if there was any."""
        if self._exhausted is not None and not self.faults:
            raise self._exhausted
        if self.faults and self._wrong_in_itself:
            raise InvalidArgument(self.faults)
        if self.faults:
            first = self.faults[0]
            raise FailedPrecondition(
                "BUNDLE_REFUSED", f"nothing was imported: {first.path}: {first.message}", self.faults
            )


def _joined(place: str, path: str) -> str:
    return f"{place}.{path}" if place and path else place or path


def _value_at(body: Mapping[str, Any] | None, path: str) -> Any:
    """What stands in a document where a path leads; None: nothing."""
    value: Any = body
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            value = value[int(index)] if index else value[name]
        except (KeyError, IndexError, TypeError):
            return None
    return value if isinstance(value, str) else None
