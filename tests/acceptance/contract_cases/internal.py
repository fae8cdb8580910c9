"""Calls with the internal token, which name their project."""

from __future__ import annotations

from tests.acceptance.contract_cases.case import LOW, case, invalid, missing, not_now
from tests.acceptance.contract_cases.journeys import STEPS

_START = {"journeyId": "entered", "entryKey": "order-7"}
_EVENT = {"name": "order_placed", "properties": {"amount": 12.5}}

_ALL = {"id": "all", "name": "All", "predicate": {"kind": "everyone"}}
_BUNDLED = {"id": "bundled", "name": "Bundled", "status": "active", "audienceId": "all", "steps": STEPS}
_BUNDLE = {"formatVersion": 1, "audiences": [_ALL], "journeys": [_BUNDLED]}
_BAD_BUNDLE = {"formatVersion": 1, "audiences": [{**_ALL, "name": ""}]}

_EXPORTS = [{"SMSTemplateResponse": {"TemplateName": "hello", "TemplateType": "SMS", "Body": "Hello"}}]

CASES = (
    case(
        "a journey that an operator's machinery starts",
        "CreateJourney",
        {"journey": {"id": "entered", "name": "Entered", "steps": STEPS}},
        "POST /api/journeys",
        {"id": "entered", "name": "Entered", "steps": STEPS},
    ),
    case("it is published", "PublishJourney", {"journeyId": "entered"}, "POST /api/journeys/entered/publish"),
    case(
        "an execution is started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "ann", **_START, "event": _EVENT},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "ann", **_START, "event": _EVENT},
        by="internal",
    ),
    case(
        "it has been started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "ann", **_START, "event": _EVENT},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "ann", **_START, "event": _EVENT},
        by="internal",
    ),
    case(
        "everything wrong with a start",
        "StartExecution",
        {"projectKey": "$P", "journeyId": "entered", "subjectId": "two words"},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "journeyId": "entered", "endUserId": "two words"},
        by="internal",
        refused=invalid(("subjectId", "INVALID_ID"), ("entryKey", "REQUIRED")),
    ),
    case(
        "a journey that cannot be started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "ann", "journeyId": "gone", "entryKey": "order-7"},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "ann", "journeyId": "gone", "entryKey": "order-7"},
        by="internal",
        refused=missing("JOURNEY"),
    ),
    case(
        "entries are dispatched",
        "DispatchEntries",
        {"projectKey": "$P", "subjectIds": ["ann"], "timeLimit": {"seconds": 2}},
        "POST /api/journeys/internal/dispatch",
        {"projectKey": "$P", "endUserIds": ["ann"], "timeLimit": {"seconds": 2}},
        by="internal",
    ),
    case(
        "entries of a project that there is not",
        "DispatchEntries",
        {"projectKey": "gone"},
        "POST /api/journeys/internal/dispatch",
        {"projectKey": "gone"},
        by="internal",
        refused=missing("PROJECT"),
    ),
    case(
        "somebody is forgotten",
        "ForgetSubject",
        {"projectKey": "$P", "subjectId": "zoe"},
        "POST /api/journeys/internal/forget-end-user",
        {"projectKey": "$P", "endUserId": "zoe"},
        by="internal",
    ),
    case(
        "whoever was forgotten is not started",
        "StartExecution",
        {"projectKey": "$P", "subjectId": "zoe", **_START},
        "POST /api/journeys/internal/start-execution",
        {"projectKey": "$P", "endUserId": "zoe", **_START},
        by="internal",
        refused=not_now("SUBJECT_FORGOTTEN"),
    ),
    case(
        "somebody is to be forgotten who cannot be",
        "ForgetSubject",
        {"projectKey": "$P", "subjectId": "two words"},
        "POST /api/journeys/internal/forget-end-user",
        {"projectKey": "$P", "endUserId": "two words"},
        by="internal",
        refused=invalid(("subjectId", "INVALID_ID")),
    ),
    case(
        "an owner forgets nobody at the internal path",
        "DispatchEntries",
        {"projectKey": "$P"},
        "POST /api/journeys/internal/forget-end-user",
        {"projectKey": "$P", "endUserId": "ann"},
        refused=LOW,
    ),
    case(
        "an export is translated",
        "TranslatePinpoint",
        {"projectKey": "$P", "exports": _EXPORTS, "smsUrl": "https://sms.example.com/in"},
        "POST /api/journeys/internal/translate-pinpoint",
        {"projectKey": "$P", "exports": _EXPORTS, "smsUrl": "https://sms.example.com/in"},
        by="internal",
    ),
    case(
        "an export that is none",
        "TranslatePinpoint",
        {"projectKey": "$P", "exports": [{"JourneyResponse": {"Name": 5}}]},
        "POST /api/journeys/internal/translate-pinpoint",
        {"projectKey": "$P", "exports": [{"JourneyResponse": {"Name": 5}}]},
        by="internal",
        refused=invalid(("exports[0].JourneyResponse.Name", "INVALID_TYPE")),
    ),
    case(
        "what a bundle would change",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BUNDLE, "validateOnly": True},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BUNDLE, "dryRun": True},
        by="internal",
    ),
    case(
        "a bundle is imported",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        by="internal",
    ),
    case(
        "once more, which changes nothing",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BUNDLE},
        by="internal",
    ),
    case(
        "a bundle with something wrong in it",
        "ImportBundle",
        {"projectKey": "$P", "bundle": _BAD_BUNDLE},
        "POST /api/journeys/internal/import-bundle",
        {"projectKey": "$P", "bundle": _BAD_BUNDLE},
        by="internal",
        refused=invalid(("audiences[0].name", "REQUIRED")),
    ),
    case(
        "an owner dispatches nothing",
        "DispatchEntries",
        {"projectKey": "$P"},
        "POST /api/journeys/internal/dispatch",
        {"projectKey": "$P"},
        refused=LOW,
    ),
    case(
        "the internal token opens nothing else",
        "GetJourney",
        {"journeyId": "entered"},
        "GET /api/journeys/entered",
        by="internal",
        refused=LOW,
    ),
)
