"""Saying in the audit log that a journey refuses entries because its definition is broken."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.audit import ENTRY_REFUSED_AUDIENCE_NOT_FOUND, ENTRY_REFUSED_COHORT_NOT_FOUND, Action
from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.journey import JourneyVersion
from orchestrator.storage import audit

_AUDITED: Mapping[EntryRefusal, Action] = {
    EntryRefusal.AUDIENCE_NOT_FOUND: ENTRY_REFUSED_AUDIENCE_NOT_FOUND,
    EntryRefusal.COHORT_NOT_FOUND: ENTRY_REFUSED_COHORT_NOT_FOUND,
}


async def audit_refusal(
    conn: Connection[Record],
    project_no: int,
    version: JourneyVersion,
    reason: EntryRefusal,
    now: datetime,
    *,
    audience_id: str | None,
    segment_id: str | None,
) -> None:
    """Note that a journey refuses entries because its definition is broken: once an hour for each reason."""
    if reason in _AUDITED:
        said: dict[str, str | int | bool] = {"version": version.version}
        if reason is EntryRefusal.AUDIENCE_NOT_FOUND:
            said["audienceId"] = audience_id or ""
        else:
            said["segmentId"] = segment_id or ""
        await audit.append_hourly(
            conn, project_no=project_no, at=now, action=_AUDITED[reason], resource_id=version.journey_id, metadata=said
        )
