"""What a journey changed and how its arms do, as `/api/journeys` tells it.

The documents' members mean what they mean there; further ones are those of `/v1` (docs/adaptive.md).
"""

from __future__ import annotations

from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.documented.answer import Document, described, list_of, object_of, or_null
from orchestrator.api.json_encode import encode
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.v1 import branch_performance_pb2 as branches
from orchestrator.v1 import impact_pb2 as impacts
from orchestrator.v1 import impact_service_pb2 as rpc

#: Members of the document, which are null where they cannot be told.
_IMPACT = ("triggered", "converted", "exposureRate", "holdoutRate", "lift", "underpowered", "dailyTrend")
_ARM = ("armId", "subjectsReached", "goalEvents", "rate")


def _performance(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(branches.ArmPerformance))
    members["credibleInterval95"] |= {"minItems": 2, "maxItems": 2}
    arm = object_of({**members, "rate": or_null(members["rate"])}, always=_ARM)
    arm["oneOf"] = [{"required": ["credibleInterval95"]}, {"required": ["coldStart"]}]
    branch = schemas.members(descriptor_of(branches.BranchPerformance))
    branch["arms"] |= {"items": schemas.named("DocumentedArm", arm)}
    return list_of(object_of(branch, always=("stepId", "arms")))


@described(_performance)
def performance(answer: rpc.GetBranchPerformanceResponse, request: object) -> list[Document]:
    """Branch by branch."""
    return [{**encode(branch), "arms": [_arm(arm) for arm in branch.arms]} for branch in answer.branches]


def _impact(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(impacts.CalibratedImpact))
    nulls = {name: or_null(members[name]) for name in ("exposureRate", "holdoutRate", "lift")}
    return object_of({**members, **nulls}, always=_IMPACT)


@described(_impact)
def calibrated(answer: rpc.GetCalibratedImpactResponse, request: object) -> Document:
    document: Document = encode(answer.impact)
    return {name: document.get(name) for name in _IMPACT} | document


def _arm(arm: branches.ArmPerformance) -> Document:
    """With its interval, or else as a cold start: never with both members."""
    document: Document = encode(arm)
    del document["credibleInterval95" if arm.cold_start else "coldStart"]
    return {name: document.get(name) for name in _ARM} | document
