"""Calls that benches make."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from orchestrator.devstack.stack import Stack
from orchestrator.v1 import journey_service_pb2 as rpc


class Enroller:
    """Enrolls subjects by id, over one channel."""

    def __init__(self, stack: Stack, channel: grpc.aio.Channel) -> None:
        self._metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
        self._call = channel.unary_unary(
            "/orchestrator.v1.JourneyService/EnrollSubjects",
            request_serializer=rpc.EnrollSubjectsRequest.SerializeToString,
            response_deserializer=rpc.EnrollSubjectsResponse.FromString,
        )

    async def enroll(self, journey_id: str, subject_ids: Sequence[str]) -> None:
        """Raises AssertionError unless all of them were let in."""
        request = rpc.EnrollSubjectsRequest(journey_id=journey_id, subject_ids=subject_ids)
        answer = await self._call(request, metadata=self._metadata, timeout=60)
        if answer.enrolled != len(subject_ids):
            raise AssertionError(f"{answer.enrolled} of {len(subject_ids)} subjects were enrolled")
