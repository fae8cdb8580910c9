"""One good JSON request for every RPC, in which every field that a caller can give has a value."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

TIME = "2026-03-01T12:00:00.000Z"
EVENT_PREDICATE: Json = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 10}
PREDICATE: Json = {
    "kind": "and",
    "clauses": [
        {"kind": "event_fired", "eventName": "buy", "window": {"type": "last_n_days", "days": 7}, "atLeast": 2},
        {"kind": "event_fired", "eventName": "buy", "where": EVENT_PREDICATE},
        {"kind": "any_event", "window": {"type": "last", "duration": "36h"}},
        {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "vip"}},
        {"kind": "attribute", "fieldPath": "plan", "operator": "in", "value": ["pro", 5, {"deep": [None, True, 0.5]}]},
    ],
}
STAMPS: Json = {"updatedAt": TIME, "etag": "abc"}
SETTINGS: Json = {"url": "https://example.com", "nested": {"list": [1, "two", False]}}
HOURS: Json = {"start": "09:00", "end": "18:30", "weekdays": ["monday"]}
DEFINITION: Json = {
    "sendWindow": HOURS,
    "holdout": {"percent": 10, "salt": "spring"},
    "autoPause": {"failureRate": 0.25, "complaintRate": 0.01, "minimum": 50, "window": "30m"},
    "audienceId": "buyers",
    "reentry": {"policy": "interval", "interval": "1w"},
    "maxDurationDays": 30,
    "followLiveCommunications": True,
    "exitRules": [
        {"id": "left-us", "when": PREDICATE},
        {
            "id": "returned-it",
            "event": {"eventName": "return", "where": EVENT_PREDICATE, "entryKeyPath": "order.id", "after": "entry"},
        },
    ],
    "exitOnGoal": True,
    "startsAt": TIME,
    "endsAt": "2026-09-01T12:00:00.000Z",
    "whilePaused": "hold",
    "entryGrace": "90s",
    "entryCondition": {
        "eventName": "buy",
        "predicate": EVENT_PREDICATE,
        "entryKeyPath": "order.id",
        "maxEventAge": "2h",
    },
    "schedule": {
        "cron": "0 9 * * mon",
        "timeZone": "Europe/Berlin",
        "segmentId": "vip",
        "ratePerSecond": 50,
    },
    "start": "welcome",
    "canvas": {"graph": {"viewport": {"zoom": 2}}, "entry": {"id": "in", "at": 1, "data": {"label": "Bought"}}},
    "steps": [
        {
            "id": "welcome",
            "next": "pause",
            "canvas": {"node": {"position": {"x": 1, "y": 2.5}}, "edges": {"next": {"label": "then"}}},
            "send": {"communicationId": "hello", "onBlocked": "wait", "waitAtMost": "2d", "sendWindow": HOURS},
        },
        {"id": "pause", "next": "check", "wait": {"duration": "36h"}},
        {
            "id": "check",
            "branch": {"arms": [{"id": "bought", "when": PREDICATE, "next": "end"}], "otherwise": "end"},
        },
        {
            "id": "morning",
            "next": "renewal",
            "wait": {"timeOfDay": {"time": "09:30", "weekdays": ["monday", "friday"]}},
        },
        {
            "id": "renewal",
            "next": "past",
            "wait": {"date": {"fieldPath": "renewal", "before": "3d", "time": "10:00:30"}},
        },
        {"id": "past", "next": "reply", "wait": {"date": {"fieldPath": "renewal", "after": "90m"}}},
        {
            "id": "reply",
            "next": "plan",
            "waitFor": {
                "event": {"eventName": "reply", "where": EVENT_PREDICATE, "entryKeyPath": "order.id", "after": "step"},
                "timeout": "36h",
                "otherwise": "half",
            },
        },
        {"id": "plan", "next": "active", "waitFor": {"changed": {"fieldPath": "plan.name"}}},
        {"id": "active", "next": "half", "waitFor": {"when": PREDICATE, "timeout": "3d", "otherwise": "end"}},
        {
            "id": "half",
            "split": {
                "arms": [{"id": "a", "weight": 1, "next": "end"}, {"id": "b", "weight": 1_000_000, "next": "end"}],
                "salt": "spring",
            },
        },
        {
            "id": "learn",
            "adaptiveBranch": {
                "arms": [
                    {"id": "a", "next": "end"},
                    {"id": "b", "next": "end", "share": 0.25},
                    {"id": "c", "next": "end", "paused": True},
                ],
                "stickiness": "visit",
                "salt": "spring",
                "learning": {"minShare": 0.05, "halfLifeDays": 30.5, "delayModel": "matured", "graceDays": 2},
            },
        },
        {
            "id": "best",
            "nbaDecision": {
                "arms": [{"id": "a", "next": "end"}, {"id": "b", "next": "end"}],
                "context": ["plan.name", "age"],
                "stickiness": "subject",
                "salt": "spring",
                "learning": {"explorationScale": 5.5, "minShare": 0.05, "halfLifeDays": 30.5, "graceDays": 2},
            },
        },
        {
            "id": "mark",
            "next": "tell",
            "updateSubject": {"attributes": {"plan": "pro", "old": None, "score": {"$path": "$steps.call.score"}}},
        },
        {"id": "tell", "next": "call", "emitEvent": {"eventName": "upgraded", "properties": {"plan": "pro"}}},
        {
            "id": "call",
            "next": "end",
            "webhook": {
                "url": "https://example.com/{{ subject.id }}",
                "method": "put",
                "headers": {"x-team": "growth"},
                "body": {"name": "{{ subject.attributes.name }}"},
                "timeout": "5s",
                "retryFor": "2h",
                "otherwise": "end",
            },
        },
        {"id": "end", "exit": {"reason": "finished"}},
    ],
}
JOURNEY: Json = {
    "id": "spring",
    "name": "Spring",
    "description": "All of it",
    **DEFINITION,
    "goal": {"eventName": "buy", "window": "1w"},
    **STAMPS,
}
AUDIENCE: Json = {
    "id": "buyers",
    "name": "Buyers",
    "description": "Who bought",
    "subjectType": "end_user",
    "predicate": PREDICATE,
    **STAMPS,
}
SEGMENT: Json = {
    "id": "vip",
    "name": "VIP",
    "description": "The best",
    "kind": "dynamic",
    "rules": PREDICATE,
    **STAMPS,
}
COMMUNICATION: Json = {
    "id": "hello",
    "name": "Hello",
    "channel": "webhook",
    "category": "marketing",
    "subject": "Hi",
    "body": "Hello {{ name }}",
    "settings": SETTINGS,
    **STAMPS,
}
TRIGGER_CONTRACT: Json = {
    "id": "bought",
    "name": "Bought",
    "eventName": "buy",
    "predicate": EVENT_PREDICATE,
    "entryKeyPath": "order.id",
    "maxEventAge": "600d",
    "segmentId": "vip",
    "transition": "left",
    "includeDefinitionChanges": True,
    **STAMPS,
}
SUBJECT: Json = {
    "id": "ann",
    "attributes": {"plan": "pro", "n": [1, {"x": None}]},
    "timeZone": "Europe/Berlin",
    **STAMPS,
}
_SENDING: Json = {
    "frequencyCaps": [{"channel": "log", "category": "marketing", "limit": 3, "window": "1w"}],
    "quietHours": {"start": "21:00", "end": "08:00", "channels": ["log"]},
    "globalHoldout": {"percent": 2, "salt": "2026"},
    "channelRates": [{"channel": "log", "ratePerSecond": 12.5, "burst": 5}],
    "shownFields": ["plan", "$entry.amount"],
}
PROJECT: Json = {
    "id": "acme",
    "name": "Acme",
    "settings": {"timeZone": "UTC", "goalWindow": "1w", "maxJourneys": 5, "eventRetention": "90d", **_SENDING},
    **STAMPS,
}
ENROLLMENT_JOB: Json = {
    "id": "spring-pros",
    "journeyId": "spring",
    "audienceId": "buyers",
    "segmentId": "vip",
    "everyone": True,
    "ratePerSecond": 50,
}
EVENT: Json = {
    "eventId": "e/1",
    "name": "buy",
    "subjectId": "ann",
    "occurTime": TIME,
    "properties": {"amount": 12.5},
}
REPORT: Json = {
    "kind": "clicked",
    "idempotencyKey": "0" * 64,
    "providerId": "<m-1@example.com>",
    "reportId": "e/1",
    "occurTime": TIME,
    "link": "https://example.com/sale",
}
PAGE: Json = {"pageSize": 10, "pageToken": "abc"}
ONCE: Json = {"requestId": "r-1"}
CHANGE: Json = {**ONCE, "validateOnly": True}


def _crud(noun: str, plural: str, resource: Json) -> dict[str, Json]:
    """`noun` in camelCase, as fields are called; `plural` as RPCs have it."""
    rpc = noun[0].upper() + noun[1:]
    return {
        f"List{plural}": dict(PAGE),
        f"Create{rpc}": {noun: resource, **CHANGE},
        f"Get{rpc}": {f"{noun}Id": resource["id"]},
        f"Update{rpc}": {noun: resource, "updateMask": "name", **CHANGE},
        f"Delete{rpc}": {f"{noun}Id": resource["id"], "etag": "abc", **ONCE},
    }


_CONTENT = {name: COMMUNICATION[name] for name in ("channel", "category", "subject", "body", "settings")}
BUNDLE: Json = {
    "formatVersion": 1,
    "settings": PROJECT["settings"],
    "segments": [{"id": "vip", "name": "VIP"}],
    "audiences": [{"id": "buyers", "name": "Buyers", "predicate": EVENT_PREDICATE}],
    "communications": [COMMUNICATION],
    "triggerContracts": [{"id": "bought", "name": "Bought", "eventName": "buy"}],
    "journeys": [
        {
            "id": "spring",
            "name": "Spring",
            "description": "All of it",
            "status": "active",
            "steps": [{"id": "end", "exit": {"reason": "finished"}}],
            "goal": JOURNEY["goal"],
            "draft": {"steps": [{"id": "end", "exit": {}}]},
            "etag": "abc",
            "pinnedTexts": [{"communicationId": "hello", "content": _CONTENT}],
        }
    ],
}

_OF_JOURNEY: Json = {"journeyId": "spring"}
_MAPPING = [{"fromStepId": "pause", "toStepId": "rest"}]
_OF_SUBJECT: Json = {"subjectId": "ann"}
_OF_JOB: Json = {"enrollmentJobId": "spring-pros"}

#: By RPC: the request as one document, as if all of it were the body.
REQUESTS: dict[str, Json] = {
    **_crud("audience", "Audiences", AUDIENCE),
    **_crud("segment", "Segments", SEGMENT),
    **_crud("communication", "Communications", COMMUNICATION),
    **_crud("triggerContract", "TriggerContracts", TRIGGER_CONTRACT),
    **_crud("journey", "Journeys", JOURNEY),
    "ListJourneys": {**PAGE, "status": "active", "offset": 3},
    "UpdateJourney": {"journey": JOURNEY, "updateMask": "name", **CHANGE, "toStatus": "paused"},
    "DeleteJourney": {**_OF_JOURNEY, "etag": "abc", **ONCE, "force": True},
    "ExportBundle": {"withoutSettings": True, "journeyIds": ["spring", "autumn"]},
    "ImportBundle": {"bundle": BUNDLE, "etag": "abc", "projectKey": "acme", **CHANGE},
    "EvaluateSegment": {"segmentId": "vip", **ONCE},
    "DeleteSegment": {"segmentId": "vip", "etag": "abc", **ONCE, "force": True},
    "CheckAudience": {"audienceId": "buyers", "subjectId": "ann"},
    "EstimateAudience": {"audienceId": "buyers"},
    "ListSegmentMembers": {"segmentId": "vip", **PAGE},
    "AddSegmentMembers": {"segmentId": "vip", "subjectIds": ["ann", "bob"], **ONCE},
    "RemoveSegmentMembers": {"segmentId": "vip", "subjectIds": ["ann"], **ONCE},
    "TranslatePinpoint": {
        "exports": [{"SegmentResponse": {"Id": "vip", "Name": "Very important"}}],
        "smsUrl": "https://sms.example.com/in",
        "pushUrl": "https://push.example.com/in",
        "projectKey": "acme",
    },
    "PreviewCommunication": {
        "communicationId": "hello",
        "contentRevision": 3,
        "content": {name: COMMUNICATION[name] for name in ("channel", "category", "subject", "body", "settings")},
        "subjectId": "ann",
        "attributes": {"plan": "pro"},
        "entry": {"amount": 5},
        "showValues": True,
    },
    "SendTestCommunication": {
        "communicationId": "hello",
        "contentRevision": 3,
        "content": {name: COMMUNICATION[name] for name in ("channel", "category", "subject", "body", "settings")},
        "subjectId": "ann",
        "attributes": {"plan": "pro"},
        "entry": {"amount": 5},
        "addresses": ["ann@example.com", "bob@example.com"],
        **CHANGE,
    },
    "GetTestSend": {"testSendId": "tst-1"},
    "ListCommunicationRevisions": {"communicationId": "hello", **PAGE},
    "ListJourneyVersions": {**_OF_JOURNEY, **PAGE},
    "GetJourney": {**_OF_JOURNEY, "form": "graph"},
    "GetJourneyVersion": {**_OF_JOURNEY, "version": 3, "form": "steps"},
    "ValidateJourney": dict(_OF_JOURNEY),
    "PublishJourney": {
        **_OF_JOURNEY,
        "etag": "abc",
        "fromVersion": 2,
        "pins": "newest",
        "carry": "mapped",
        "stepMapping": _MAPPING,
        "token": "AQ",
        **CHANGE,
    },
    "PreviewCarry": {**_OF_JOURNEY, "carry": "mapped", "stepMapping": _MAPPING, "fromVersion": 2, "pins": "newest"},
    "ListCarries": {**_OF_JOURNEY, **PAGE},
    "GetCarry": {**_OF_JOURNEY, "version": 2},
    "PauseJourney": {**_OF_JOURNEY, "etag": "abc", **ONCE},
    "ResumeJourney": {**_OF_JOURNEY, "etag": "abc", **ONCE},
    "ArchiveJourney": {**_OF_JOURNEY, "onArchive": "end", "etag": "abc", **CHANGE},
    "EnrollSubjects": {**_OF_JOURNEY, "subjectIds": ["ann", "bob"], **ONCE},
    "ListEnrollmentJobs": {**PAGE, **_OF_JOURNEY, "state": "running"},
    "CreateEnrollmentJob": {"enrollmentJob": ENROLLMENT_JOB, **CHANGE},
    "GetEnrollmentJob": dict(_OF_JOB),
    "PauseEnrollmentJob": {**_OF_JOB, "etag": "abc", **ONCE},
    "ResumeEnrollmentJob": {**_OF_JOB, "etag": "abc", **ONCE},
    "CancelEnrollmentJob": {**_OF_JOB, "etag": "abc", **ONCE},
    "GetStepStats": {**_OF_JOURNEY, "version": 2},
    "GetJourneyFunnel": dict(_OF_JOURNEY),
    "GetCalibratedImpact": {**_OF_JOURNEY, "goalRevision": 2},
    "GetBranchPerformance": {**_OF_JOURNEY, "goalRevision": 2},
    "EstimatePolicyValue": {
        **_OF_JOURNEY,
        "stepId": "pick",
        "policy": {"uniform": True, "greedy": True, "armId": "a", "weights": [{"armId": "a", "weight": 0.5}]},
    },
    "ListPolicyVersions": {**_OF_JOURNEY, "stepId": "pick", **PAGE},
    "GetPolicyVersion": {**_OF_JOURNEY, "stepId": "pick", "policyVersion": 2},
    "ListArmChoices": {**_OF_JOURNEY, "stepId": "pick", "subjectId": "ann", **PAGE},
    "PlanImpact": {
        "baseRate": 0.05,
        "lift": 0.1,
        "holdoutPercent": 10,
        "weeklyVolume": 1000.5,
        "window": "7d",
        "power": 0.9,
    },
    "ListJourneyAuditEntries": {**_OF_JOURNEY, **PAGE},
    "ListAuditEntries": {**PAGE, "resourceKind": "journey", "resourceId": "spring"},
    "VerifyAuditLog": {"anchors": [{"seq": "7", "hash": "0" * 64}]},
    "ListExecutions": {**_OF_JOURNEY, **PAGE, "subjectId": "ann"},
    "GetExecution": {"executionId": "0197-aa"},
    "ExplainExecution": {"executionId": "0197-aa"},
    "ListStuckExecutions": {**_OF_JOURNEY, **PAGE, "overdueBy": "90m"},
    "CancelExecution": {"executionId": "0197-aa", "reason": "wrong-price", **CHANGE},
    "CancelExecutions": {
        **_OF_JOURNEY,
        "filter": {
            "all": True,
            "version": 2,
            "stepIds": ["pause", "reply"],
            "subjectIds": ["ann", "bob"],
            "startedAfter": TIME,
            "startedBefore": TIME,
            "parked": True,
        },
        "reason": "wrong-price",
        "atMost": 1000,
        **CHANGE,
    },
    "GetCancellation": {"cancellationId": "can-1"},
    "ExplainEntry": {**_OF_JOURNEY, **_OF_SUBJECT},
    "BacktestJourney": {**_OF_JOURNEY, "days": 28},
    "StartPolicyUpdate": {**_OF_JOURNEY, **ONCE},
    "SimulateJourney": {
        **_OF_JOURNEY,
        **_OF_SUBJECT,
        "subjectAttributes": {"plan": "pro"},
        "timeZone": "Europe/Berlin",
        "overrides": ["opt_out", "holdout"],
        "entry": {"amount": 5},
        "events": [{"name": "buy", "properties": {"amount": 12.5}, "at": TIME, "after": "3d"}],
        "changes": [{"attributes": {"plan": None}, "at": TIME, "after": "36h"}],
        "answers": {"check": {"score": 7}},
        "startsAt": TIME,
        "enterAnyway": True,
        "allPaths": True,
    },
    "ListTimeline": {**_OF_SUBJECT, **PAGE},
    "ExportSubject": {**_OF_SUBJECT, **PAGE},
    "ListSubjects": dict(PAGE),
    "UpsertSubject": {"subject": SUBJECT, **CHANGE},
    "BatchUpsertSubjects": {"subjects": [SUBJECT], **CHANGE},
    "GetSubject": dict(_OF_SUBJECT),
    "DeleteSubject": {**_OF_SUBJECT, "etag": "abc", **ONCE},
    "MergeSubjects": {**_OF_SUBJECT, "intoSubjectId": "anna", **CHANGE},
    "ForgetSubject": {**_OF_SUBJECT, "projectKey": "acme", **ONCE},
    "ListErasures": dict(PAGE),
    "GetErasure": {"erasureId": "era-1", "projectKey": "acme"},
    "LiftTombstone": {**_OF_SUBJECT, **ONCE},
    "GetPreferences": dict(_OF_SUBJECT),
    "UpdatePreferences": {
        **_OF_SUBJECT,
        "changes": [{"channel": "log", "category": "marketing", "optedOut": False}],
        **ONCE,
    },
    "ListSuppressions": {**_OF_SUBJECT, **PAGE},
    "CreateSuppression": {"suppression": {**_OF_SUBJECT, "channel": "log", "reason": "bounce"}, **CHANGE},
    "DeleteSuppression": {**_OF_SUBJECT, "channel": "log", **ONCE},
    "ReportDeliveries": {"reports": [REPORT]},
    "IngestEvents": {"events": [EVENT], "backfill": True},
    "DispatchEntries": {"projectKey": "acme", "subjectIds": ["ann", "bob"], "maxSubjects": 500, "timeLimit": "3s"},
    "StartExecution": {
        "projectKey": "acme",
        **_OF_JOURNEY,
        **_OF_SUBJECT,
        "entryKey": "order-7",
        "event": {"eventId": "e-1", "name": "buy", "occurTime": TIME, "properties": {"amount": 12.5}},
        **ONCE,
    },
    "ListSendsPauses": dict(PAGE),
    "PauseSends": {**_OF_JOURNEY, "allJourneys": True, **ONCE},
    "ResumeSends": {**_OF_JOURNEY, "allJourneys": True, **ONCE},
    "GetRefusedEntries": {**_OF_JOURNEY, "refusedAfter": TIME, "refusedBefore": TIME},
    "ReplayRefusedEntries": {
        **_OF_JOURNEY,
        "reason": "audience_not_found",
        "refusedAfter": TIME,
        "refusedBefore": TIME,
        "atMost": 1000,
        **CHANGE,
    },
    "GetEntryReplay": {"entryReplayId": "rpl-1"},
    "CancelEntryReplay": {"entryReplayId": "rpl-1", **ONCE},
    "ListProjects": dict(PAGE),
    "CreateProject": {"project": PROJECT, **CHANGE},
    "GetProject": {"projectId": "acme"},
    "UpdateProject": {"project": PROJECT, "updateMask": "settings.time_zone", **CHANGE},
    "ListApiKeys": dict(PAGE),
    "CreateApiKey": {"apiKey": {"name": "ci", "role": "editor", "expiresAt": TIME}, **CHANGE},
    "RevokeApiKey": {"apiKeyId": "k1", **ONCE},
    "RotateApiKey": {"apiKeyId": "k1", "overlap": "1d", **ONCE},
}
