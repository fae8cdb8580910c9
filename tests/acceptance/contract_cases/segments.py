"""Segments, under the project that the path names."""

from __future__ import annotations

from tests.acceptance.contract_cases.case import (
    FAULTY,
    LOW,
    OLD,
    PRO,
    RULES_FAULTS,
    STALE,
    Refusal,
    case,
    invalid,
    missing,
)

_SEGMENTS_PATH = "/admin/projects/$P/segments"
_WITHIN = {"kind": "attribute", "fieldPath": "seen_at", "operator": "within", "value": "3d"}
_NOT_WITHIN = {"kind": "attribute", "fieldPath": "ends_at", "operator": "not_within", "value": {"days": 14}}
_RULES = {"kind": "and", "clauses": [PRO, _WITHIN, _NOT_WITHIN]}

CASES = (
    case(
        "a segment is created",
        "CreateSegment",
        {"segment": {"id": "pros", "name": "Pros", "description": "About", "rules": _RULES}},
        f"POST {_SEGMENTS_PATH}",
        {"id": "pros", "name": "Pros", "description": "About", "rules": _RULES},
    ),
    case(
        "everything wrong with a segment",
        "CreateSegment",
        {"segment": {"description": "x" * 2001, "rules": FAULTY}},
        f"POST {_SEGMENTS_PATH}",
        {"description": "x" * 2001, "rules": FAULTY},
        refused=invalid(("name", "REQUIRED"), ("description", "TOO_LONG"), *RULES_FAULTS),
    ),
    case("a segment is read", "GetSegment", {"segmentId": "pros"}, f"GET {_SEGMENTS_PATH}/pros"),
    case(
        "a segment is changed",
        "UpdateSegment",
        {"segment": {"id": "pros", "name": "Professionals"}},
        f"PATCH {_SEGMENTS_PATH}/pros",
        {"name": "Professionals"},
    ),
    case(
        "a segment whose etag is stale",
        "UpdateSegment",
        {"segment": {"id": "pros", "name": "Late", "etag": OLD}},
        f"PATCH {_SEGMENTS_PATH}/pros",
        {"name": "Late", "etag": OLD},
        refused=STALE,
    ),
    case("segments are listed", "ListSegments", {}, f"GET {_SEGMENTS_PATH}"),
    case(
        "a segment of ours is changed",
        "UpdateSegment",
        {"segment": {"id": "everyone", "name": "Mine"}},
        f"PATCH {_SEGMENTS_PATH}/everyone",
        {"name": "Mine"},
        refused=Refusal(code="PERMISSION_DENIED", reason="SYSTEM_SEGMENT"),
    ),
    case(
        "a segment of ours is deleted",
        "DeleteSegment",
        {"segmentId": "everyone"},
        f"DELETE {_SEGMENTS_PATH}/everyone",
        refused=Refusal(code="PERMISSION_DENIED", reason="SYSTEM_SEGMENT"),
    ),
    case(
        "a segment is evaluated",
        "EvaluateSegment",
        {"segmentId": "everyone"},
        f"POST {_SEGMENTS_PATH}/everyone/evaluate",
    ),
    case(
        "a segment that there is not is evaluated",
        "EvaluateSegment",
        {"segmentId": "gone"},
        f"POST {_SEGMENTS_PATH}/gone/evaluate",
        refused=missing("SEGMENT", told="NOT_FOUND"),
    ),
    case(
        "a segment of another project",
        "GetSegment",
        {"segmentId": "pros"},
        f"GET {_SEGMENTS_PATH}/pros",
        by="stranger",
        refused=missing("SEGMENT", told="NOT_FOUND"),
    ),
    case(
        "a viewer evaluates",
        "EvaluateSegment",
        {"segmentId": "pros"},
        f"POST {_SEGMENTS_PATH}/pros/evaluate",
        by="viewer",
        refused=LOW,
    ),
    case("a segment is deleted", "DeleteSegment", {"segmentId": "pros"}, f"DELETE {_SEGMENTS_PATH}/pros"),
)
