"""What has to be known of a subject's earlier entries into a journey, to decide about others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from orchestrator.domain.journey import Reentry, ReentryKind
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage.enrollments import Question


def question(
    key: SubjectKey, journey_id: str, policy: Reentry, entry_keys: Iterable[str], ats: Sequence[datetime]
) -> Question:
    """What has to be known of earlier entries to decide about these."""
    reach = policy.interval if policy.kind is ReentryKind.INTERVAL and policy.interval is not None else None
    return Question(
        key=key,
        journey_id=journey_id,
        any_entry=policy.kind is ReentryKind.ONCE,
        entry_keys=frozenset(entry_keys),
        since=_shifted(min(ats), -reach) if reach is not None else None,
        until=_shifted(max(ats), reach) if reach is not None else None,
    )


_FIRST, _LAST = datetime.fromisoformat("1800-01-01T00:00:00+00:00"), datetime.fromisoformat("2300-01-01T00:00:00+00:00")


def _shifted(at: datetime, by: timedelta) -> datetime:
    return min(max(at + by, _FIRST), _LAST)
