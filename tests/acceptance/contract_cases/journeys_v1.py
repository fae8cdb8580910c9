"""Journeys of nodes and edges."""

from __future__ import annotations

from tests.acceptance.contract_cases.case import PRO, case, invalid, missing, not_now
from tests.acceptance.contract_cases.journeys import NOW

_GRAPH = {
    "nodes": [
        {"id": "in", "type": "entry_trigger", "position": {"x": 1, "y": 2}},
        {"id": "rest", "type": "wait", "data": {"duration": {"days": 3}}},
        {"id": "pro", "type": "condition_split", "data": {"condition": PRO}},
        {"id": "out", "type": "exit"},
    ],
    "edges": [
        {"source": "in", "target": "rest"},
        {"source": "rest", "target": "pro"},
        {"source": "pro", "sourceHandle": "true", "target": "out"},
        {"source": "pro", "sourceHandle": "false", "target": "out"},
    ],
}

CASES = (
    case(
        "a journey is drawn",
        "CreateJourney",
        {"journey": {"id": "g", "name": "G", "definition": _GRAPH, "maxDurationDays": 30}},
        "POST /api/v1/journeys",
        {"id": "g", "name": "G", "definition": _GRAPH},
    ),
    case(
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
        refused=invalid(
            ("name", "REQUIRED"),
            ("description", "TOO_LONG"),
            ("maxDurationDays", "OUT_OF_RANGE"),
            ("definition.nodes[0].type", "UNKNOWN_ENUM_VALUE"),
        ),
    ),
    case(
        "a journey that is drawn is read",
        "GetJourney",
        {"journeyId": "g", "form": "graph"},
        "GET /api/v1/journeys/g",
    ),
    case(
        "a page of journeys",
        "ListJourneys",
        {"pageSize": 1, "offset": 1},
        "GET /api/v1/journeys?limit=1&offset=1",
    ),
    case(
        "a journey is renamed and brought out",
        "UpdateJourney",
        {"journey": {"id": "g", "name": "Drawn"}, "toStatus": "active"},
        "PUT /api/v1/journeys/g",
        {"name": "Drawn", "status": "active"},
    ),
    case(
        "no journey becomes a draft again",
        "UpdateJourney",
        {"journey": {"id": "g", "name": "Never"}, "toStatus": "draft"},
        "PUT /api/v1/journeys/g",
        {"name": "Never", "status": "draft"},
        refused=not_now("JOURNEY_WAS_PUBLISHED"),
    ),
    case(
        "a test",
        "SimulateJourney",
        {"journeyId": "g", "enterAnyway": True, **NOW},
        "POST /api/v1/journeys/g/test",
        {"customerAttributes": NOW["subjectAttributes"]},
    ),
    case(
        "a test of a journey that there is not",
        "SimulateJourney",
        {"journeyId": "gone", "enterAnyway": True, **NOW},
        "POST /api/v1/journeys/gone/test",
        {"customerAttributes": NOW["subjectAttributes"]},
        refused=missing("JOURNEY"),
    ),
    case("a drawn journey is deleted", "DeleteJourney", {"journeyId": "g"}, "DELETE /api/v1/journeys/g"),
    case(
        "a journey that was deleted",
        "GetJourney",
        {"journeyId": "g", "form": "graph"},
        "GET /api/v1/journeys/g",
        refused=missing("JOURNEY"),
    ),
)
