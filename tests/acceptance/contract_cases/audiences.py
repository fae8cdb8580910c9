"""Audiences: predicates, their faults, and who may do what."""

from __future__ import annotations

from tests.acceptance.contract_cases.case import (
    ACTIVE,
    FAULTY,
    LOW,
    OLD,
    PREDICATE_FAULTS,
    PRO,
    STALE,
    TAKEN,
    UNKNOWN,
    case,
    invalid,
    missing,
)

CASES = (
    case(
        "an audience is created",
        "CreateAudience",
        {"audience": {"id": "pro", "name": "Pro", "predicate": {"kind": "and", "clauses": [PRO, ACTIVE]}}},
        "POST /api/audiences",
        {"id": "pro", "name": "Pro", "predicate": {"kind": "and", "clauses": [PRO, ACTIVE]}},
    ),
    case(
        "an id that is taken",
        "CreateAudience",
        {"audience": {"id": "pro", "name": "Pro", "predicate": PRO}},
        "POST /api/audiences",
        {"id": "pro", "name": "Pro", "predicate": PRO},
        refused=TAKEN,
    ),
    case(
        "everything wrong with an audience",
        "CreateAudience",
        {"audience": {"id": "two words", "subjectType": "user", "predicate": FAULTY}},
        "POST /api/audiences",
        {"id": "two words", "subjectType": "user", "predicate": FAULTY},
        refused=invalid(
            ("id", "INVALID_ID"),
            ("name", "REQUIRED"),
            ("subjectType", "INVALID_VALUE"),
            *PREDICATE_FAULTS,
            told="event_name_required",
        ),
    ),
    case(
        "wrong types, and what there is not",
        "CreateAudience",
        {"audience": {"name": 5, "nmae": "Pro", "predicate": [], "description": {}}},
        "POST /api/audiences",
        {"name": 5, "nmae": "Pro", "predicate": [], "description": {}},
        refused=invalid(
            ("name", "INVALID_TYPE"),
            ("nmae", "UNKNOWN_FIELD"),
            ("predicate", "INVALID_VALUE"),
            ("description", "INVALID_TYPE"),
        ),
        only_json=True,
    ),
    case("an audience is read", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro"),
    case(
        "an audience is changed",
        "UpdateAudience",
        {"audience": {"id": "pro", "description": "For upgrades"}},
        "PATCH /api/audiences/pro",
        {"description": "For upgrades"},
    ),
    case(
        "a stale etag",
        "UpdateAudience",
        {"audience": {"id": "pro", "name": "Late", "etag": OLD}},
        "PATCH /api/audiences/pro",
        {"name": "Late", "etag": OLD},
        refused=STALE,
    ),
    case(
        "an audience that there is not",
        "UpdateAudience",
        {"audience": {"id": "gone", "name": "Gone"}},
        "PATCH /api/audiences/gone",
        {"name": "Gone"},
        refused=missing("AUDIENCE"),
    ),
    case(
        "an audience of another project",
        "GetAudience",
        {"audienceId": "pro"},
        "GET /api/audiences/pro",
        by="stranger",
        refused=missing("AUDIENCE"),
    ),
    case("no key", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro", by="nobody", refused=UNKNOWN),
    case("a wrong key", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro", by="wrong", refused=UNKNOWN),
    case("a low role", "GetAudience", {"audienceId": "pro"}, "GET /api/audiences/pro", by="viewer", refused=LOW),
    case(
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
    case(
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
        refused=invalid(
            ("name", "REQUIRED"),
            ("predicate.clauses[0].clauses[0].cohortId", "COHORT_NOT_FOUND"),
            ("predicate.clauses[1].window.days", "INVALID_WINDOW"),
            told="VALIDATION_ERROR",
        ),
    ),
    case("audiences are listed", "ListAudiences", {}, "GET /api/audiences"),
    case(
        "an editor does not delete",
        "DeleteAudience",
        {"audienceId": "pro"},
        "DELETE /api/audiences/pro",
        by="editor",
        refused=LOW,
    ),
    case("an admin deletes", "DeleteAudience", {"audienceId": "pro"}, "DELETE /api/audiences/pro", by="admin"),
    case(
        "an audience that was deleted",
        "DeleteAudience",
        {"audienceId": "pro"},
        "DELETE /api/audiences/pro",
        refused=missing("AUDIENCE"),
    ),
)
