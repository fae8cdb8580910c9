"""Calls that mean the same over gRPC, `/v1` and at a documented path, in the order in which they are made.

Everything is written down here as callers write it: the request of the RPC in JSON (gRPC gets the message, `/v1` its
verb, URL and body), and the documented call. Answers are not: the surfaces are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """`code` is gRPC's; `faults` are (path, reason) as `/v1` tells them; the first one's is the reason. `told` is the
    documented code; left out: that reason, as the document spells it.
    """

    code: str
    reason: str
    faults: tuple[tuple[str, str], ...] = ()
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`by` is whose key is shown: a role, stranger (the owner of another project), nobody, or wrong (one not known).

    `only_json`: what is wrong can be written in JSON alone. `$P` is the project, wherever it stands.
    """

    name: str
    rpc: str
    request: Json
    documented: str
    body: Any = None
    by: str = "owner"
    refused: Refusal | None = None
    only_json: bool = False


def _case(
    name: str,
    rpc: str,
    request: Json,
    documented: str,
    body: Any = None,
    *,
    by: str = "owner",
    refused: Refusal | None = None,
    only_json: bool = False,
) -> Case:
    return Case(
        name=name,
        rpc=rpc,
        request=request,
        documented=documented,
        body=body,
        by=by,
        refused=refused,
        only_json=only_json,
    )


def _invalid(*faults: tuple[str, str], told: str = "") -> Refusal:
    return Refusal(code="INVALID_ARGUMENT", reason=faults[0][1], faults=faults, told=told)


def _not_now(reason: str, *faults: tuple[str, str], told: str = "") -> Refusal:
    return Refusal(code="FAILED_PRECONDITION", reason=reason, faults=faults, told=told)


def _missing(noun: str, told: str = "") -> Refusal:
    return Refusal(code="NOT_FOUND", reason=f"{noun}_NOT_FOUND", told=told)


_TAKEN = Refusal(code="ALREADY_EXISTS", reason="ALREADY_EXISTS")
_STALE = Refusal(code="ABORTED", reason="ETAG_MISMATCH")
_LOW = Refusal(code="PERMISSION_DENIED", reason="ROLE_TOO_LOW")
_UNKNOWN = Refusal(code="UNAUTHENTICATED", reason="UNAUTHENTICATED")
_OLD = "1-1"

_PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
_ACTIVE = {"kind": "event_fired", "eventName": "used", "window": {"type": "last_n_days", "days": 7}, "atLeast": 2}
_FAULTY = {
    "kind": "or",
    "clauses": [
        {"kind": "event_fired", "eventName": "", "window": {"type": "ever"}},
        {"kind": "in_cohort", "cohortId": "gone"},
        {"kind": "not", "clause": {"kind": "attribute", "fieldPath": "", "operator": "equals", "value": 1}},
    ],
}
_IN_FAULTY = (
    ("clauses[0].eventName", "EVENT_NAME_REQUIRED"),
    ("clauses[1].cohortId", "COHORT_NOT_FOUND"),
    ("clauses[2].clause.fieldPath", "FIELD_PATH_REQUIRED"),
)
_PREDICATE_FAULTS = tuple((f"predicate.{path}", reason) for path, reason in _IN_FAULTY)
_RULES_FAULTS = tuple((f"rules.{path}", reason) for path, reason in _IN_FAULTY)

_AUDIENCES = (
    _case(
        "an audience is created",
        "CreateAudience",
        {"audience": {"id": "pro", "name": "Pro", "predicate": {"kind": "and", "clauses": [_PRO, _ACTIVE]}}},
        "POST /api/audiences",
        {"id": "pro", "name": "Pro", "predicate": {"kind": "and", "clauses": [_PRO, _ACTIVE]}},
    ),
    _case(
        "an id that is taken",
        "CreateAudience",
        {"audience": {"id": "pro", "name": "Pro", "predicate": _PRO}},
        "POST /api/audiences",
        {"id": "pro", "name": "Pro", "predicate": _PRO},
        refused=_TAKEN,
    ),
    _case(
        "everything wrong with an audience",
        "CreateAudience",
        {"audience": {"id": "two words", "subjectType": "user", "predicate": _FAULTY}},
        "POST /api/audiences",
        {"id": "two words", "subjectType": "user", "predicate": _FAULTY},
        refused=_invalid(
            ("id", "INVALID_ID"),
            ("name", "REQUIRED"),
            ("subjectType", "INVALID_VALUE"),
            *_PREDICATE_FAULTS,
            told="event_name_required",
        ),
    ),
    _case(
        "wrong types, and what there is not",
        "CreateAudience",
        {"audience": {"name": 5, "nmae": "Pro", "predicate": [], "description": {}}},
        "POST /api/audiences",
        {"name": 5, "nmae": "Pro", "predicate": [], "description": {}},
        refused=_invalid(
            ("name", "INVALID_TYPE"),
            ("nmae", "UNKNOWN_FIELD"),
            ("predicate", "INVALID_VALUE"),
            ("description", "INVALID_TYPE"),
        ),
        only_json=True,
    ),
    _case("an audience is read", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro"),
    _case(
        "an audience is changed",
        "UpdateAudience",
        {"audience": {"id": "pro", "description": "For upgrades"}},
        "PATCH /api/audiences/pro",
        {"description": "For upgrades"},
    ),
    _case(
        "a stale etag",
        "UpdateAudience",
        {"audience": {"id": "pro", "name": "Late", "etag": _OLD}},
        "PATCH /api/audiences/pro",
        {"name": "Late", "etag": _OLD},
        refused=_STALE,
    ),
    _case(
        "an audience that there is not",
        "UpdateAudience",
        {"audience": {"id": "gone", "name": "Gone"}},
        "PATCH /api/audiences/gone",
        {"name": "Gone"},
        refused=_missing("AUDIENCE"),
    ),
    _case(
        "an audience of another project",
        "GetAudience",
        {"audienceId": "pro"},
        "GET /api/audiences/pro",
        by="stranger",
        refused=_missing("AUDIENCE"),
    ),
    _case("no key", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro", by="nobody", refused=_UNKNOWN),
    _case("a wrong key", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro", by="wrong", refused=_UNKNOWN),
    _case("a low role", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro", by="viewer", refused=_LOW),
    _case(
        "an audience of filters",
        "CreateAudience",
        {
            "audience": {
                "name": "Romans",
                "predicate": {
                    "kind": "and",
                    "clauses": [
                        {"kind": "attribute", "fieldPath": "age", "operator": "gte", "value": 25},
                        {"kind": "attribute", "fieldPath": "city", "operator": "in", "value": ["Rome", "Ostia"]},
                        {"kind": "any_event", "window": {"type": "last_n_days", "days": 7}},
                    ],
                },
            }
        },
        "POST /audiences",
        {"name": "Romans", "filters": {"age": {"minAge": 25}, "city": ["Rome", "Ostia"]}, "days_back": 7},
    ),
    _case(
        "everything wrong with an audience of filters",
        "CreateAudience",
        {
            "audience": {
                "predicate": {
                    "kind": "and",
                    "clauses": [
                        {"kind": "or", "clauses": [{"kind": "in_cohort", "cohortId": "gone"}]},
                        {"kind": "any_event", "window": {"type": "last_n_days", "days": 0}},
                    ],
                }
            }
        },
        "POST /audiences",
        {"filters": {}, "segment": ["gone"], "days_back": 0},
        refused=_invalid(
            ("name", "REQUIRED"),
            ("predicate.clauses[0].clauses[0].cohortId", "COHORT_NOT_FOUND"),
            ("predicate.clauses[1].window.days", "INVALID_WINDOW"),
            told="VALIDATION_ERROR",
        ),
    ),
    _case("audiences are listed", "ListAudiences", {}, "GET /api/audiences"),
    _case(
        "an editor does not delete",
        "DeleteAudience",
        {"audienceId": "pro"},
        "DELETE /api/audiences/pro",
        by="editor",
        refused=_LOW,
    ),
    _case("an admin deletes", "DeleteAudience", {"audienceId": "pro"}, "DELETE /api/audiences/pro", by="admin"),
    _case(
        "an audience that was deleted",
        "DeleteAudience",
        {"audienceId": "pro"},
        "DELETE /api/audiences/pro",
        refused=_missing("AUDIENCE"),
    ),
)

_SEGMENTS_PATH = "/admin/projects/$P/segments"
_WITHIN = {"kind": "attribute", "fieldPath": "seen_at", "operator": "within", "value": "3d"}
_NOT_WITHIN = {"kind": "attribute", "fieldPath": "ends_at", "operator": "not_within", "value": {"days": 14}}
_RULES = {"kind": "and", "clauses": [_PRO, _WITHIN, _NOT_WITHIN]}

_SEGMENTS = (
    _case(
        "a segment is created",
        "CreateSegment",
        {"segment": {"id": "pros", "name": "Pros", "description": "About", "rules": _RULES}},
        f"POST {_SEGMENTS_PATH}",
        {"id": "pros", "name": "Pros", "description": "About", "rules": _RULES},
    ),
    _case(
        "everything wrong with a segment",
        "CreateSegment",
        {"segment": {"description": "x" * 2001, "rules": _FAULTY}},
        f"POST {_SEGMENTS_PATH}",
        {"description": "x" * 2001, "rules": _FAULTY},
        refused=_invalid(("name", "REQUIRED"), ("description", "TOO_LONG"), *_RULES_FAULTS),
    ),
    _case("a segment is read", "GetSegment", {"segmentId": "pros"}, f"GET {_SEGMENTS_PATH}/pros"),
    _case(
        "a segment is changed",
        "UpdateSegment",
        {"segment": {"id": "pros", "name": "Professionals"}},
        f"PATCH {_SEGMENTS_PATH}/pros",
        {"name": "Professionals"},
    ),
    _case(
        "a segment whose etag is stale",
        "UpdateSegment",
        {"segment": {"id": "pros", "name": "Late", "etag": _OLD}},
        f"PATCH {_SEGMENTS_PATH}/pros",
        {"name": "Late", "etag": _OLD},
        refused=_STALE,
    ),
    _case("segments are listed", "ListSegments", {}, f"GET {_SEGMENTS_PATH}"),
    _case(
        "a segment of ours is changed",
        "UpdateSegment",
        {"segment": {"id": "everyone", "name": "Mine"}},
        f"PATCH {_SEGMENTS_PATH}/everyone",
        {"name": "Mine"},
        refused=Refusal(code="PERMISSION_DENIED", reason="SYSTEM_SEGMENT"),
    ),
    _case(
        "a segment of ours is deleted",
        "DeleteSegment",
        {"segmentId": "everyone"},
        f"DELETE {_SEGMENTS_PATH}/everyone",
        refused=Refusal(code="PERMISSION_DENIED", reason="SYSTEM_SEGMENT"),
    ),
    _case(
        "a segment is evaluated",
        "EvaluateSegment",
        {"segmentId": "everyone"},
        f"POST {_SEGMENTS_PATH}/everyone/evaluate",
    ),
    _case(
        "a segment that there is not is evaluated",
        "EvaluateSegment",
        {"segmentId": "gone"},
        f"POST {_SEGMENTS_PATH}/gone/evaluate",
        refused=_missing("SEGMENT", told="NOT_FOUND"),
    ),
    _case(
        "a segment of another project",
        "GetSegment",
        {"segmentId": "pros"},
        f"GET {_SEGMENTS_PATH}/pros",
        by="stranger",
        refused=_missing("SEGMENT", told="NOT_FOUND"),
    ),
    _case(
        "a viewer evaluates",
        "EvaluateSegment",
        {"segmentId": "pros"},
        f"POST {_SEGMENTS_PATH}/pros/evaluate",
        by="viewer",
        refused=_LOW,
    ),
    _case("a segment is deleted", "DeleteSegment", {"segmentId": "pros"}, f"DELETE {_SEGMENTS_PATH}/pros"),
)

_STEPS = [
    {"id": "rest", "wait": {"duration": "3d"}, "next": "choose"},
    {
        "id": "choose",
        "branch": {"arms": [{"id": "pro", "when": _PRO, "next": "done"}], "otherwise": "rest-again"},
    },
    {"id": "rest-again", "wait": {"duration": {"days": 2}}, "next": "rest-more"},
    {"id": "rest-more", "wait": {"duration": "PT36H"}, "next": "done"},
    {"id": "done", "exit": {"reason": "done"}},
]
_BROKEN_STEPS = [
    {"id": "tell", "send": {"communicationId": "gone"}, "next": "nowhere"},
    {"id": "rest", "wait": {"duration": "1d"}, "next": "rest"},
]
_LEARNING_STEPS = [
    {"id": "offer", "adaptiveBranch": {"arms": [{"id": "discount", "next": "end"}, {"id": "lesson", "next": "end"}]}},
    {"id": "end", "exit": {}},
]
_NOW = {"subjectAttributes": {"tier": "pro"}}

_JOURNEYS = (
    _case(
        "a journey is created",
        "CreateJourney",
        {"journey": {"id": "j", "name": "J", "goal": {"eventName": "buy", "window": "14d"}, "steps": _STEPS}},
        "POST /api/journeys",
        {"id": "j", "name": "J", "goalEventName": "buy", "goalEventWindowDays": 14, "steps": _STEPS},
    ),
    _case(
        "everything wrong with a journey",
        "CreateJourney",
        {
            "journey": {
                "goal": {"eventName": "x" * 129, "window": "400d"},
                "steps": [{"id": "a b", "wait": {"duration": "1s"}}],
            }
        },
        "POST /api/journeys",
        {
            "goalEventName": "x" * 129,
            "goalEventWindowDays": 400,
            "steps": [{"id": "a b", "wait": {"duration": "1s"}}],
        },
        refused=_invalid(
            ("name", "REQUIRED"),
            ("goal.eventName", "TOO_LONG"),
            ("goal.window", "OUT_OF_RANGE"),
            ("steps[0].id", "INVALID_ID"),
        ),
    ),
    _case(
        "a journey of wrong types",
        "CreateJourney",
        {"journey": {"name": [], "steps": {"id": "a"}, "audienceId": 5, "setps": []}},
        "POST /api/journeys",
        {"name": [], "steps": {"id": "a"}, "audienceId": 5, "setps": []},
        refused=_invalid(
            ("name", "INVALID_TYPE"),
            ("steps", "INVALID_TYPE"),
            ("audienceId", "INVALID_TYPE"),
            ("setps", "UNKNOWN_FIELD"),
        ),
        only_json=True,
    ),
    _case("a journey is read", "GetJourney", {"journeyId": "j"}, "GET /api/journeys/j"),
    _case(
        "a journey is changed",
        "UpdateJourney",
        {"journey": {"id": "j", "description": "Of new ones", "goal": {"window": "7d"}}},
        "PATCH /api/journeys/j",
        {"description": "Of new ones", "goalEventWindowDays": 7},
    ),
    _case(
        "a journey that has changed since",
        "UpdateJourney",
        {"journey": {"id": "j", "name": "Late", "updatedAt": "2026-01-31T09:00:00Z"}},
        "PATCH /api/journeys/j",
        {"name": "Late", "updatedAt": "2026-01-31T09:00:00Z"},
        refused=_STALE,
    ),
    _case("journeys are listed", "ListJourneys", {"status": "draft"}, "GET /api/journeys?status=draft"),
    _case(
        "a status that there is not",
        "ListJourneys",
        {"status": "asleep"},
        "GET /api/journeys?status=asleep",
        refused=_invalid(("status", "UNKNOWN_ENUM_VALUE")),
        only_json=True,
    ),
    _case(
        "a journey that cannot be",
        "CreateJourney",
        {"journey": {"id": "broken", "name": "Broken", "steps": _BROKEN_STEPS}},
        "POST /api/journeys",
        {"id": "broken", "name": "Broken", "steps": _BROKEN_STEPS},
    ),
    _case(
        "what cannot be is not published",
        "PublishJourney",
        {"journeyId": "broken"},
        "POST /api/journeys/broken/publish",
        refused=_not_now(
            "INVALID_DEFINITION",
            ("steps[0].next", "NEXT_NOT_FOUND"),
            ("steps[0].send.communicationId", "COMMUNICATION_NOT_FOUND"),
            ("steps[1].next", "CYCLE"),
            told="communication_not_found",
        ),
    ),
    _case(
        "what is not published is not paused",
        "PauseJourney",
        {"journeyId": "j"},
        "POST /api/journeys/j/pause",
        refused=_not_now("JOURNEY_NOT_ACTIVE"),
    ),
    _case("a journey is published", "PublishJourney", {"journeyId": "j"}, "POST /api/journeys/j/publish"),
    _case(
        "a journey without a draft is not published",
        "PublishJourney",
        {"journeyId": "j"},
        "POST /api/journeys/j/publish",
        refused=_not_now("NO_DRAFT"),
    ),
    _case("a journey is paused", "PauseJourney", {"journeyId": "j"}, "POST /api/journeys/j/pause"),
    _case(
        "a journey that is paused enrolls nobody",
        "EnrollSubjects",
        {"journeyId": "j", "subjectIds": ["ann"]},
        "POST /api/v1/journeys/j/enroll",
        {"customerIds": ["ann"]},
        refused=_not_now("JOURNEY_NOT_ACTIVE"),
    ),
    _case("a journey is resumed", "ResumeJourney", {"journeyId": "j"}, "POST /api/journeys/j/resume"),
    _case(
        "a customer is enrolled",
        "EnrollSubjects",
        {"journeyId": "j", "subjectIds": ["ann"]},
        "POST /api/v1/journeys/j/enroll",
        {"customerId": "ann"},
    ),
    _case(
        "who is enrolled is passed over",
        "EnrollSubjects",
        {"journeyId": "j", "subjectIds": ["ann", "ann"]},
        "POST /api/v1/journeys/j/enroll",
        {"customerIds": ["ann", "ann"]},
    ),
    _case(
        "nobody is enrolled",
        "EnrollSubjects",
        {"journeyId": "j"},
        "POST /api/v1/journeys/j/enroll",
        {},
        refused=_invalid(("subjectIds", "REQUIRED")),
    ),
    _case(
        "too many are enrolled",
        "EnrollSubjects",
        {"journeyId": "j", "subjectIds": ["ann"] * 1001},
        "POST /api/v1/journeys/j/enroll",
        {"customerIds": ["ann"] * 1001},
        refused=_invalid(("subjectIds", "TOO_LARGE")),
    ),
    _case(
        "whom no id can name",
        "EnrollSubjects",
        {"journeyId": "j", "subjectIds": ["ann", "two words", ""]},
        "POST /api/v1/journeys/j/enroll",
        {"customerIds": ["ann", "two words", ""]},
        refused=_invalid(("subjectIds[1]", "INVALID_ID"), ("subjectIds[2]", "REQUIRED")),
    ),
    _case(
        "a journey that there is not enrolls nobody",
        "EnrollSubjects",
        {"journeyId": "gone", "subjectIds": ["ann"]},
        "POST /api/v1/journeys/gone/enroll",
        {"customerId": "ann"},
        refused=_missing("JOURNEY"),
    ),
    _case(
        "a journey of another project enrolls nobody",
        "EnrollSubjects",
        {"journeyId": "j", "subjectIds": ["ann"]},
        "POST /api/v1/journeys/j/enroll",
        {"customerId": "ann"},
        by="stranger",
        refused=_missing("JOURNEY"),
    ),
    _case(
        "a viewer enrolls nobody",
        "EnrollSubjects",
        {"journeyId": "j", "subjectIds": ["ann"]},
        "POST /api/v1/journeys/j/enroll",
        {"customerId": "ann"},
        by="viewer",
        refused=_LOW,
    ),
    _case(
        "executions are listed", "ListExecutions", {"journeyId": "j", "pageSize": 50}, "GET /api/journeys/j/executions"
    ),
    _case("steps are counted", "GetStepStats", {"journeyId": "j"}, "GET /api/journeys/j/step-stats", by="viewer"),
    _case("the funnel", "GetJourneyFunnel", {"journeyId": "j"}, "GET /api/v1/journeys/j/analytics", by="viewer"),
    _case(
        "the impact", "GetCalibratedImpact", {"journeyId": "j"}, "GET /api/journeys/j/calibrated-impact", by="viewer"
    ),
    _case(
        "the impact of what there is not",
        "GetCalibratedImpact",
        {"journeyId": "gone"},
        "GET /api/journeys/gone/calibrated-impact",
        refused=_missing("JOURNEY"),
    ),
    _case(
        "a journey that learns",
        "CreateJourney",
        {"journey": {"id": "offers", "name": "Offers", "goal": {"eventName": "buy"}, "steps": _LEARNING_STEPS}},
        "POST /api/journeys",
        {"id": "offers", "name": "Offers", "goalEventName": "buy", "steps": _LEARNING_STEPS},
    ),
    _case(
        "a journey that learns is published",
        "PublishJourney",
        {"journeyId": "offers"},
        "POST /api/journeys/offers/publish",
    ),
    _case(
        "how arms do",
        "GetBranchPerformance",
        {"journeyId": "offers"},
        "GET /api/journeys/offers/branch-performance",
        by="viewer",
    ),
    _case("a simulation", "SimulateJourney", {"journeyId": "j", **_NOW}, "POST /api/journeys/j/simulate", _NOW),
    _case(
        "a simulation of a draft",
        "SimulateJourney",
        {"journeyId": "broken", **_NOW},
        "POST /api/journeys/broken/simulate",
        _NOW,
        refused=_not_now(
            "INVALID_DEFINITION",
            ("steps[0].next", "NEXT_NOT_FOUND"),
            ("steps[0].send.communicationId", "COMMUNICATION_NOT_FOUND"),
            ("steps[1].next", "CYCLE"),
            told="communication_not_found",
        ),
    ),
    _case(
        "a simulation of somebody who is real and made up",
        "SimulateJourney",
        {"journeyId": "j", "subjectId": "ann", **_NOW},
        "POST /api/journeys/j/simulate",
        {"subjectId": "ann", **_NOW},
        refused=_invalid(("subjectAttributes", "INVALID_VALUE")),
    ),
    _case(
        "overrides are for owners",
        "SimulateJourney",
        {"journeyId": "j", "overrides": ["holdout"], **_NOW},
        "POST /api/journeys/j/simulate",
        {"overrides": ["holdout"], **_NOW},
        by="admin",
        refused=_LOW,
    ),
    _case(
        "a journey is archived",
        "ArchiveJourney",
        {"journeyId": "offers", "onArchive": "end"},
        "POST /api/journeys/offers/archive",
        {"onArchive": "end"},
    ),
    _case(
        "what is archived is not changed",
        "UpdateJourney",
        {"journey": {"id": "offers", "name": "Late"}},
        "PATCH /api/journeys/offers",
        {"name": "Late"},
        refused=_not_now("JOURNEY_ARCHIVED"),
    ),
    _case(
        "what is archived is not resumed",
        "ResumeJourney",
        {"journeyId": "offers"},
        "POST /api/journeys/offers/resume",
        refused=_not_now("JOURNEY_ARCHIVED"),
    ),
    _case("the audit log", "ListJourneyAuditEntries", {"journeyId": "j"}, "GET /api/journeys/j/audit"),
    _case(
        "a journey with executions is not deleted",
        "DeleteJourney",
        {"journeyId": "j"},
        "DELETE /api/v1/journeys/j",
        refused=_not_now("JOURNEY_HAS_RUNNING_EXECUTIONS"),
    ),
    _case(
        "an editor deletes no journey",
        "DeleteJourney",
        {"journeyId": "j"},
        "DELETE /api/v1/journeys/j",
        by="editor",
        refused=_LOW,
    ),
    _case(
        "a journey is deleted all the same",
        "DeleteJourney",
        {"journeyId": "j", "force": True},
        "DELETE /api/v1/journeys/j?force=true",
        by="admin",
    ),
)

_GRAPH = {
    "nodes": [
        {"id": "in", "type": "entry_trigger", "position": {"x": 1, "y": 2}},
        {"id": "rest", "type": "wait", "data": {"duration": {"days": 3}}},
        {"id": "pro", "type": "condition_split", "data": {"condition": _PRO}},
        {"id": "out", "type": "exit"},
    ],
    "edges": [
        {"source": "in", "target": "rest"},
        {"source": "rest", "target": "pro"},
        {"source": "pro", "sourceHandle": "true", "target": "out"},
        {"source": "pro", "sourceHandle": "false", "target": "out"},
    ],
}

_JOURNEYS_V1 = (
    _case(
        "a journey is drawn",
        "CreateJourney",
        {"journey": {"id": "g", "name": "G", "definition": _GRAPH, "maxDurationDays": 30}},
        "POST /api/v1/journeys",
        {"id": "g", "name": "G", "definition": _GRAPH},
    ),
    _case(
        "everything wrong with a journey that is drawn",
        "CreateJourney",
        {
            "journey": {
                "description": "x" * 2001,
                "definition": {"nodes": [{"id": "a", "type": "leap"}], "edges": []},
                "maxDurationDays": 366,
            }
        },
        "POST /api/v1/journeys",
        {
            "description": "x" * 2001,
            "definition": {"nodes": [{"id": "a", "type": "leap"}], "edges": []},
            "maxDurationDays": 366,
        },
        refused=_invalid(
            ("name", "REQUIRED"),
            ("description", "TOO_LONG"),
            ("maxDurationDays", "OUT_OF_RANGE"),
            ("definition.nodes[0].type", "UNKNOWN_ENUM_VALUE"),
        ),
    ),
    _case(
        "a journey that is drawn is read",
        "GetJourney",
        {"journeyId": "g", "form": "graph"},
        "GET /api/v1/journeys/g",
    ),
    _case(
        "a page of journeys",
        "ListJourneys",
        {"pageSize": 1, "offset": 1},
        "GET /api/v1/journeys?limit=1&offset=1",
    ),
    _case(
        "a journey is renamed and brought out",
        "UpdateJourney",
        {"journey": {"id": "g", "name": "Drawn"}, "toStatus": "active"},
        "PUT /api/v1/journeys/g",
        {"name": "Drawn", "status": "active"},
    ),
    _case(
        "no journey becomes a draft again",
        "UpdateJourney",
        {"journey": {"id": "g", "name": "Never"}, "toStatus": "draft"},
        "PUT /api/v1/journeys/g",
        {"name": "Never", "status": "draft"},
        refused=_not_now("JOURNEY_WAS_PUBLISHED"),
    ),
    _case(
        "a test",
        "SimulateJourney",
        {"journeyId": "g", "enterAnyway": True, **_NOW},
        "POST /api/v1/journeys/g/test",
        {"customerAttributes": _NOW["subjectAttributes"]},
    ),
    _case(
        "a test of a journey that there is not",
        "SimulateJourney",
        {"journeyId": "gone", "enterAnyway": True, **_NOW},
        "POST /api/v1/journeys/gone/test",
        {"customerAttributes": _NOW["subjectAttributes"]},
        refused=_missing("JOURNEY"),
    ),
    _case("a drawn journey is deleted", "DeleteJourney", {"journeyId": "g"}, "DELETE /api/v1/journeys/g"),
    _case(
        "a journey that was deleted",
        "GetJourney",
        {"journeyId": "g", "form": "graph"},
        "GET /api/v1/journeys/g",
        refused=_missing("JOURNEY"),
    ),
)

_START = {"journeyId": "entered", "entryKey": "order-7"}
_EVENT = {"name": "order_placed", "properties": {"amount": 12.5}}

_ALL = {"id": "all", "name": "All", "predicate": {"kind": "everyone"}}
_BUNDLED = {"id": "bundled", "name": "Bundled", "status": "active", "audienceId": "all", "steps": _STEPS}
_BUNDLE = {"formatVersion": 1, "audiences": [_ALL], "journeys": [_BUNDLED]}
_BAD_BUNDLE = {"formatVersion": 1, "audiences": [{**_ALL, "name": ""}]}

_EXPORTS = [{"SMSTemplateResponse": {"TemplateName": "hello", "TemplateType": "SMS", "Body": "Hello"}}]

_INTERNAL = (
    _case(
        "a journey that an operator's machinery starts",
        "CreateJourney",
        {"journey": {"id": "entered", "name": "Entered", "steps": _STEPS}},
        "POST /api/journeys",
        {"id": "entered", "name": "Entered", "steps": _STEPS},
    ),
    _case("it is published", "PublishJourney", {"journeyId": "entered"}, "POST /api/journeys/entered/publish"),
    _case(
        "an execution is started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "ann", **_START, "event": _EVENT},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "ann", **_START, "event": _EVENT},
        by="internal",
    ),
    _case(
        "it has been started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "ann", **_START, "event": _EVENT},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "ann", **_START, "event": _EVENT},
        by="internal",
    ),
    _case(
        "everything wrong with a start",
        "StartExecution",
        {"projectKey": "$P", "journeyId": "entered", "subjectId": "two words"},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "journeyId": "entered", "endUserId": "two words"},
        by="internal",
        refused=_invalid(("subjectId", "INVALID_ID"), ("entryKey", "REQUIRED")),
    ),
    _case(
        "a journey that cannot be started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "ann", "journeyId": "gone", "entryKey": "order-7"},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "ann", "journeyId": "gone", "entryKey": "order-7"},
        by="internal",
        refused=_missing("JOURNEY"),
    ),
    _case(
        "entries are dispatched",
        "DispatchEntries",
        {"projectKey": "$P", "subjectIds": ["ann"], "timeLimit": {"seconds": 2}},
        "POST /api/journeys/internal/dispatch",
        {"projectKey": "$P", "endUserIds": ["ann"], "timeLimit": {"seconds": 2}},
        by="internal",
    ),
    _case(
        "entries of a project that there is not",
        "DispatchEntries",
        {"projectKey": "gone"},
        "POST /api/journeys/internal/dispatch",
        {"projectKey": "gone"},
        by="internal",
        refused=_missing("PROJECT"),
    ),
    _case(
        "somebody is forgotten",
        "ForgetSubject",
        {"projectKey": "$P", "subjectId": "zoe"},
        "POST /api/journeys/internal/forget-end-user",
        {"projectKey": "$P", "endUserId": "zoe"},
        by="internal",
    ),
    _case(
        "whoever was forgotten is not started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "zoe", **_START},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "zoe", **_START},
        by="internal",
        refused=_not_now("SUBJECT_FORGOTTEN"),
    ),
    _case(
        "somebody is to be forgotten who cannot be",
        "ForgetSubject",
        {"projectKey": "$P", "subjectId": "two words"},
        "POST /api/journeys/internal/forget-end-user",
        {"projectKey": "$P", "endUserId": "two words"},
        by="internal",
        refused=_invalid(("subjectId", "INVALID_ID")),
    ),
    _case(
        "an owner forgets nobody at the internal path",
        "DispatchEntries",
        {"projectKey": "$P"},
        "POST /api/journeys/internal/forget-end-user",
        {"projectKey": "$P", "endUserId": "ann"},
        refused=_LOW,
    ),
    _case(
        "an export is translated",
        "TranslatePinpoint",
        {"projectKey": "$P", "exports": _EXPORTS, "smsUrl": "https://sms.example.com/in"},
        "POST /api/journeys/internal/translate-pinpoint",
        {"projectKey": "$P", "exports": _EXPORTS, "smsUrl": "https://sms.example.com/in"},
        by="internal",
    ),
    _case(
        "an export that is none",
        "TranslatePinpoint",
        {"projectKey": "$P", "exports": [{"JourneyResponse": {"Name": 5}}]},
        "POST /api/journeys/internal/translate-pinpoint",
        {"projectKey": "$P", "exports": [{"JourneyResponse": {"Name": 5}}]},
        by="internal",
        refused=_invalid(("exports[0].JourneyResponse.Name", "INVALID_TYPE")),
    ),
    _case(
        "what a bundle would change",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BUNDLE, "validateOnly": True},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BUNDLE, "dryRun": True},
        by="internal",
    ),
    _case(
        "a bundle is imported",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        by="internal",
    ),
    _case(
        "once more, which changes nothing",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        by="internal",
    ),
    _case(
        "a bundle with something wrong in it",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BAD_BUNDLE},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BAD_BUNDLE},
        by="internal",
        refused=_invalid(("audiences[0].name", "REQUIRED")),
    ),
    _case(
        "an owner dispatches nothing",
        "DispatchEntries",
        {"projectKey": "$P"},
        "POST /api/journeys/internal/dispatch",
        {"projectKey": "$P"},
        refused=_LOW,
    ),
    _case(
        "the internal token opens nothing else",
        "GetJourney",
        {"journeyId": "entered"},
        "GET /api/journeys/entered",
        by="internal",
        refused=_LOW,
    ),
)

CASES: tuple[Case, ...] = (*_AUDIENCES, *_SEGMENTS, *_JOURNEYS, *_JOURNEYS_V1, *_INTERNAL)
