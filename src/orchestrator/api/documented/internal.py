"""The calls of an operator's machinery, as `/api/journeys/internal` has them: whoever travels is an end user there."""

from __future__ import annotations

from orchestrator.api.documented.members import same, with_all
from orchestrator.api.documented.row import Body, Document
from orchestrator.api.json_encode import encode
from orchestrator.v1 import internal_service_pb2 as rpc

DISPATCH = Body(members={**same("projectKey", "timeLimit"), "endUserIds": "subjectIds", "maxEndUsers": "maxSubjects"})
START = Body(members={**same("projectKey", "journeyId", "entryKey", "event"), "endUserId": "subjectId"})


def dispatched(answer: rpc.DispatchEntriesResponse, request: object) -> Document:
    return {
        "endUsers": answer.subject_count,
        "entries": answer.entry_count,
        "started": answer.started_count,
        "poked": answer.poked_count,
        "failed": answer.failed_count,
        "more": answer.more,
    }


def started(answer: rpc.StartExecutionResponse, request: object) -> Document:
    """What does not apply is null."""
    said = dict.fromkeys(("reason", "version", "executionId", "executionArn"))
    return with_all({**encode(answer), "already": answer.already}, said)
