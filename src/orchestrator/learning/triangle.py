"""What is known of a branch at an instant: who was assigned when, and after how long they converted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.learning.arrays import Counts

#: Cohorts older than this are counted as if they were of this age; all of them have long matured.
OLDEST = 730
#: The longest goal window, in days.
LONGEST_WINDOW = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """So many subjects of an arm, assigned `age` days before the cutoff; `lag`: converted so many days after it, or
    None: assigned, whether or not they converted.

    Days are periods of 24 hours that end at the cutoff, of which the one that ends there is 0. `age` is the day of the
    assignment, `lag` that minus the day of the conversion. So what is known of a cohort of age a is all of its
    conversions with lags up to a, and none is cut off in the middle of a day.
    """

    arm_id: str
    age: int
    lag: int | None
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CohortTriangle:
    """Arms × age × lag. `assigned` is (arms, ages), `converted` (arms, ages, window_days + 1): first conversions only,
    by the time of the event, within the goal window. Arms are in the order of their ids.
    """

    arm_ids: tuple[str, ...]
    window_days: int
    assigned: Counts
    converted: Counts

    def __post_init__(self) -> None:
        arms, ages = self.assigned.shape
        if len(set(self.arm_ids)) != arms or list(self.arm_ids) != sorted(self.arm_ids):
            raise ValueError("arms are named once each, in the order of their ids")
        if not 1 <= self.window_days <= LONGEST_WINDOW:
            raise ValueError(f"a window has 1 to {LONGEST_WINDOW} days")
        if self.converted.shape != (arms, ages, self.window_days + 1):
            raise ValueError("a conversion belongs to an arm, an age and a lag within the window")
        if (self.assigned < 0).any() or (self.converted < 0).any():
            raise ValueError("counts are not negative")
        if (self.converted.sum(axis=-1) > self.assigned).any():
            raise ValueError("more subjects converted than were assigned")
        ages_of, lags_of = np.ogrid[:ages, : self.window_days + 1]
        if self.converted[:, lags_of > ages_of].any():
            raise ValueError("a conversion lies after the cutoff")

    def fingerprint(self) -> str:
        """SHA-256 of the counts, in hexadecimal."""
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """JSON from which `from_document` makes an equal triangle: cells that are not empty, in order."""
        return {
            "armIds": list(self.arm_ids),
            "windowDays": self.window_days,
            "assigned": [[*map(int, at), int(self.assigned[tuple(at)])] for at in np.argwhere(self.assigned)],
            "converted": [[*map(int, at), int(self.converted[tuple(at)])] for at in np.argwhere(self.converted)],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CohortTriangle:
        """Raises ValueError when it is not a triangle's."""
        try:
            arm_ids = tuple(document["armIds"])
            cells = [
                Cell(arm_id=arm_ids[arm], age=age, lag=None, subjects=subjects)
                for arm, age, subjects in document["assigned"]
            ] + [
                Cell(arm_id=arm_ids[arm], age=age, lag=lag, subjects=subjects)
                for arm, age, lag, subjects in document["converted"]
            ]
            return cls.of(arm_ids, document["windowDays"], cells)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError("not the document of a triangle") from error

    @classmethod
    def of(cls, arm_ids: Iterable[str], window_days: int, cells: Iterable[Cell]) -> CohortTriangle:
        """Counted from cells in any order; a cell may come in parts. Raises ValueError when they contradict each other,
        or name an arm that is not among `arm_ids`.
        """
        if not 1 <= window_days <= LONGEST_WINDOW:
            raise ValueError(f"a window has 1 to {LONGEST_WINDOW} days")
        cells = list(cells)
        names = tuple(sorted(arm_ids))
        places = {arm_id: place for place, arm_id in enumerate(names)}
        oldest = max(OLDEST, 2 * window_days)
        ages = 1 + max((min(cell.age, oldest) for cell in cells), default=0)
        assigned = np.zeros((len(names), ages), dtype=np.int64)
        converted = np.zeros((len(names), ages, window_days + 1), dtype=np.int64)
        for cell in cells:
            if cell.arm_id not in places:
                raise ValueError("a cell names an arm that is not there")
            if cell.age < 0 or (cell.lag is not None and not 0 <= cell.lag <= window_days):
                raise ValueError("an age or a lag is out of range")
            at = places[cell.arm_id], min(cell.age, oldest)
            if cell.lag is None:
                assigned[at] += cell.subjects
            else:
                converted[(*at, cell.lag)] += cell.subjects
        return cls(arm_ids=names, window_days=window_days, assigned=assigned, converted=converted)
