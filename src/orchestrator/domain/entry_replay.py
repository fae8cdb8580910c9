"""Deciding again on entries that were refused, in the background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

#: Why an entry is not even decided on: its event is no longer kept, or the journey listens to something else by now.
EVENT_GONE, NOT_HEARD = "event_gone", "not_heard"

#: Why a replay ended before all were looked at: the journey takes nobody in.
JOURNEY_NOT_ACTIVE = "journey_not_active"
#: The same: somebody has canceled it.
CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryReplay:
    """`matched` entries were refused for `reason` in [after, before) and could be decided on when it was asked for.

    Of the `looked_at`, `enrolled` were let in, held-out ones too, `refused` were refused again, by reason, and `errors`
    could not be worked on. `ended_at` None: workers are at it. `end_reason`: why it ended early.
    """

    replay_id: str
    journey_id: str
    reason: str
    after: datetime
    before: datetime
    matched: int
    requested_at: datetime
    looked_at: int = 0
    enrolled: int = 0
    errors: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    ended_at: datetime | None = None
    end_reason: str | None = None
