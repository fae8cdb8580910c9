"""Erasures as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_timestamp
from orchestrator.domain.erasure import Erasure, Origin, Phase
from orchestrator.v1 import erasure_pb2 as pb

_PHASES = {phase: pb.Erasure.Phase.Value(f"PHASE_{phase.name}") for phase in Phase}
_ORIGINS = {origin: pb.Erasure.Origin.Value(f"ORIGIN_{origin.name}") for origin in Origin}


def erasure_message(erasure: Erasure) -> pb.Erasure:
    return pb.Erasure(
        id=erasure.erasure_id,
        subject_ref=erasure.subject_ref,
        origin=_ORIGINS[erasure.origin],
        phase=_PHASES[erasure.phase],
        phases=[
            pb.Erasure.PhaseReport(
                phase=_PHASES[phase],
                end_time=to_timestamp(passed.ended_at) if passed.ended_at else None,
                counts=passed.counts,
            )
            for phase in Phase
            if (passed := erasure.phases.get(phase)) is not None
        ],
        id_count=erasure.ids,
        request_time=to_timestamp(erasure.requested_at),
        end_time=to_timestamp(erasure.ended_at) if erasure.ended_at else None,
        refused_count=erasure.refused,
        refuse_time=to_timestamp(erasure.refused_at) if erasure.refused_at else None,
        lift_time=to_timestamp(erasure.lifted_at) if erasure.lifted_at else None,
    )
