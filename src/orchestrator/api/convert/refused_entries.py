"""Refused entries and their replays as messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from orchestrator.api.convert.times import from_timestamp, to_timestamp
from orchestrator.application.entry_replays import Refused
from orchestrator.domain.entry_replay import EntryReplay
from orchestrator.v1 import enrollment_job_pb2 as jobs_pb
from orchestrator.v1 import refused_entry_pb2 as pb
from orchestrator.v1 import refused_entry_service_pb2 as rpc


def span_of(
    request: rpc.GetRefusedEntriesRequest | rpc.ReplayRefusedEntriesRequest,
) -> tuple[datetime | None, datetime | None]:
    """From when on, and before when; None: it does not say."""
    return (
        from_timestamp(request.refused_after) if request.HasField("refused_after") else None,
        from_timestamp(request.refused_before) if request.HasField("refused_before") else None,
    )


def summary_message(refused: Refused) -> pb.RefusalSummary:
    kept = refused.kept
    return pb.RefusalSummary(
        reason=refused.reason,
        refused_count=refused.total,
        replayable_count=kept.total if kept else 0,
        first_refuse_time=to_timestamp(kept.first_at) if kept else None,
        last_refuse_time=to_timestamp(kept.last_at) if kept else None,
    )


def refused_messages(refused: Mapping[str, int]) -> list[jobs_pb.RefusedEntries]:
    return [jobs_pb.RefusedEntries(reason=reason, count=count) for reason, count in sorted(refused.items())]


def replay_message(replay: EntryReplay) -> pb.EntryReplay:
    return pb.EntryReplay(
        id=replay.replay_id,
        journey_id=replay.journey_id,
        reason=replay.reason,
        refused_after=to_timestamp(replay.after),
        refused_before=to_timestamp(replay.before),
        matched_count=replay.matched,
        looked_at_count=replay.looked_at,
        enrolled_count=replay.enrolled,
        refused=refused_messages(replay.refused),
        error_count=replay.errors,
        request_time=to_timestamp(replay.requested_at),
        end_time=to_timestamp(replay.ended_at) if replay.ended_at else None,
        end_reason=replay.end_reason or "",
    )
