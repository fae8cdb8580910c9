"""Ending executions from outside: which of a journey's are meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.domain.refusals import InvalidArgument
from orchestrator.predicates.faults import Fault, under

#: What is recorded where whoever cancels gives no reason.
CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which running executions of a journey are meant: those that meet everything that is given.

    `everybody` is said in so many words, and with nothing else: a filter whose parts got lost must not mean it.
    """

    everybody: bool = False
    version: int | None = None
    step_ids: tuple[str, ...] = ()
    subject_ids: tuple[str, ...] = ()
    # then or later
    started_after: datetime | None = None
    started_before: datetime | None = None
    parked: bool = False

    @property
    def is_selective(self) -> bool:
        return bool(
            self.version is not None
            or self.step_ids
            or self.subject_ids
            or self.started_after is not None
            or self.started_before is not None
            or self.parked
        )

    def require(self, path: str) -> None:
        """Raises InvalidArgument with every fault; `path` is where the filter was written."""
        faults: list[Fault] = []
        if not self.everybody and not self.is_selective:
            message = "says nobody: name what the executions have in common, or say all"
            faults.append(Fault(path=path, reason="REQUIRED", message=message))
        if self.everybody and self.is_selective:
            faults.append(
                Fault(path=under(path, "all"), reason="INVALID_VALUE", message="stands alone: nothing narrows it down")
            )
        after, before = self.started_after, self.started_before
        if after is not None and before is not None and after >= before:
            message = "is not later than startedAfter"
            faults.append(Fault(path=under(path, "startedBefore"), reason="INVALID_VALUE", message=message))
        if faults:
            raise InvalidArgument(faults)

    @property
    def said(self) -> dict[str, str | int | bool]:
        """What the audit log says of it: the subjects only by their number."""
        said: dict[str, str | int | bool] = {}
        if self.everybody:
            said["all"] = True
        if self.version is not None:
            said["journeyVersion"] = self.version
        if self.step_ids:
            said["stepIds"] = " ".join(self.step_ids)
        if self.subject_ids:
            said["subjects"] = len(self.subject_ids)
        if self.started_after is not None:
            said["startedAfter"] = self.started_after.isoformat()
        if self.started_before is not None:
            said["startedBefore"] = self.started_before.isoformat()
        if self.parked:
            said["parked"] = True
        return said

    def to_document(self) -> dict[str, Any]:
        """As it is stored. The subjects stay out: what is kept must not say who somebody was."""
        return {
            "everybody": self.everybody,
            "version": self.version,
            "step_ids": list(self.step_ids),
            "started_after": self.started_after.isoformat() if self.started_after is not None else None,
            "started_before": self.started_before.isoformat() if self.started_before is not None else None,
            "parked": self.parked,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Filter:
        def instant(name: str) -> datetime | None:
            return datetime.fromisoformat(document[name]) if document[name] is not None else None

        return cls(
            everybody=document["everybody"],
            version=document["version"],
            step_ids=tuple(document["step_ids"]),
            started_after=instant("started_after"),
            started_before=instant("started_before"),
            parked=document["parked"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many executions meet a filter, and on which steps they stand, the most on the first."""

    total: int
    by_step: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """The cancelling of many executions. `ended_at` None: workers are at it."""

    id: str
    journey_id: str
    filter: Filter
    reason: str
    matched: int
    canceled: int
    requested_at: datetime
    ended_at: datetime | None
