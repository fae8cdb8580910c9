"""Optimistic concurrency: a change may say which state it was made from, and is refused when that has passed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.refusals import Conflict
from orchestrator.domain.resource import to_tick


def etag_of(revision: int, updated_at: datetime) -> str:
    """The name of one state of a resource. Callers compare it and read nothing from it."""
    return f"{revision}-{int(updated_at.timestamp() * 1000):x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The state a caller has seen: by its etag, by its time of change, or by neither (then any state will do)."""

    etag: str = ""
    updated_at: datetime | None = None

    def require(self, *, revision: int, updated_at: datetime, **resource: str) -> None:
        """Raises Conflict ETAG_MISMATCH unless this is still the state. `resource` names it: `audienceId="aud-1"`.

        Ask under the lock that the change is made under.
        """
        current = etag_of(revision, updated_at)
        same_etag = not self.etag or self.etag == current
        same_time = self.updated_at is None or to_tick(self.updated_at) == to_tick(updated_at)
        if not (same_etag and same_time):
            raise Conflict(
                "ETAG_MISMATCH", "it has changed since it was read: read it again", **resource, currentEtag=current
            )
