"""A whole crowd that is being enrolled: what a job is, and how fast it may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from math import ceil, floor
from typing import Any

from orchestrator.domain.scope import SubjectKey

#: Entries a second that a job may be held to.
MAX_RATE = 10_000

#: What a job with a rate could not do in time, since nobody worked on it, is made up for if it is no older than this.
MAKE_UP = timedelta(seconds=5)

#: A job with a rate is worth a look so often, in seconds; with less than one entry in this time, once for each entry.
TICK = 0.2

#: Subjects that are looked at for one page: at least, and at most.
FEWEST, MOST = 64, 8192


class JobState(Enum):
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELED = "canceled"
    FAILED = "failed"


#: A job that is in one of these stays so.
ENDED = frozenset({JobState.DONE, JobState.CANCELED, JobState.FAILED})


class StandStill(Enum):
    """Why a job stands still although nobody paused it, or has failed; the values stand in the API."""

    JOURNEY_PAUSED = "journey_paused"
    JOURNEY_ARCHIVED = "journey_archived"
    JOURNEY_NOT_FOUND = "journey_not_found"
    JOURNEY_NOT_STARTED = "journey_not_started"
    JOURNEY_ENDED = "journey_ended"
    AUDIENCE_NOT_FOUND = "audience_not_found"
    COHORT_NOT_FOUND = "cohort_not_found"
    # what it asks about events is still being counted
    EVENTS_BEING_COUNTED = "events_being_counted"
    TOO_MANY_ERRORS = "too_many_errors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Who is to be enrolled: an audience, a segment, or, where neither is named, everyone."""

    audience_id: str | None = None
    segment_id: str | None = None

    @property
    def is_everyone(self) -> bool:
        return self.audience_id is None and self.segment_id is None

    def document(self, audience: Any | None) -> Any | None:
        """The predicate, given that of its audience; None: the audience is gone."""
        if self.segment_id is not None:
            return {"kind": "in_cohort", "cohortId": self.segment_id}
        return audience if self.audience_id is not None else {"kind": "everyone"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentJob:
    """`rate` None: as fast as Temporal can be told. `place` is the last subject that was looked at.

    `looked_at` subjects were held against the crowd's predicate. Of those it holds for, `enrolled` were let in,
    `refused` were not, by reason, and `errors` could not be worked on; `estimate` is how many there are, roughly, None:
    unknown.
    `revision` and `updated_at` are raised by what people do and by the job's end, and not by progress.
    """

    job_id: str
    journey_id: str
    crowd: Crowd
    rate: int | None
    state: JobState
    reason: str | None
    place: SubjectKey
    looked_at: int = 0
    enrolled: int = 0
    # among those
    held_out: int = 0
    errors: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    estimate: int | None = None
    # it was tried to estimate it
    estimated: bool = False
    paced_to: datetime
    next_at: datetime
    created_by: str
    revision: int
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None

    @property
    def has_paused_itself(self) -> bool:
        """Something has to be mended before it goes on. Whom people pause has no reason."""
        return self.state is JobState.PAUSED and self.reason is not None

    @property
    def skipped(self) -> int:
        return sum(self.refused.values())

    @property
    def found(self) -> int:
        """Those who belong to the crowd, as far as it was looked at."""
        return self.enrolled + self.skipped + self.errors

    def allowance(self, now: datetime, most: int) -> int:
        """How many may be let in now, at most `most`."""
        if self.rate is None:
            return most
        # To the microsecond is how times are kept: what is due within one is due.
        due = floor((now - self._paced_from(now)).total_seconds() * self.rate + 0.01)
        return min(due, most)

    def paced(self, now: datetime, entries: int, most: int) -> tuple[datetime, datetime]:
        """Up to when the rate is used once so many are let in at `now`, and when to look next, with pages of `most`."""
        if self.rate is None:
            return now, now
        paced_to = self._paced_from(now) + timedelta(seconds=entries / self.rate)
        worthwhile = min(most, max(1, round(self.rate * TICK)))
        return paced_to, paced_to + timedelta(seconds=worthwhile / self.rate)

    def _paced_from(self, now: datetime) -> datetime:
        return max(self.paced_to, now - MAKE_UP)

    def candidates(self, allowed: int, most: int) -> int:
        """How many of the crowd to hold so that about `allowed` of them get in, by how many did so far."""
        if not self.found:
            return min(allowed, most)
        return min(most, ceil(allowed * self.found / self.enrolled)) if self.enrolled else most

    def outlook(self, wanted: int) -> int:
        """How many subjects to look at so that about `wanted` belong to the crowd, by how many did so far."""
        if not self.looked_at:
            return max(FEWEST, wanted)
        if not self.found:
            return min(MOST, max(FEWEST, self.looked_at))
        return min(MOST, max(FEWEST, wanted, ceil(1.25 * wanted * self.looked_at / self.found)))
