"""Requests that a project's owner may make with success: what tests of bad ones begin with."""

from __future__ import annotations

import copy
from typing import Any

from tests.acceptance.ground import Project

Json = dict[str, Any]

OPERATORS_OWN = frozenset({"ListProjects", "CreateProject"})
#: Those that only the internal token may make, of a project that they name.
INTERNALS_OWN = frozenset({"DispatchEntries", "StartExecution"})


def predicate(cohort_id: str) -> Json:
    """A node of each kind, a leaf with each kind of window."""
    return {
        "kind": "and",
        "clauses": [
            {"kind": "attribute", "fieldPath": "age", "operator": "gt", "value": 10},
            {"kind": "event_fired", "eventName": "buy", "window": {"type": "last_n_days", "days": 7}, "atLeast": 2},
            {"kind": "event_not_fired", "eventName": "buy", "window": {"type": "last", "duration": "7d"}, "atLeast": 1},
            {"kind": "event_fired", "eventName": "buy", "window": {"type": "ever"}},
            {"kind": "event_fired", "eventName": "buy", "window": {"type": "since", "time": "2026-01-01T00:00:00Z"}},
            {"kind": "event_fired", "eventName": "buy", "where": _OF_AN_EVENT},
            {"kind": "any_event", "window": {"type": "last_n_days", "days": 7}},
            {"kind": "or", "clauses": [{"kind": "everyone"}]},
            {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": cohort_id}},
        ],
    }


_OF_AN_EVENT: Json = {
    "kind": "and",
    "clauses": [
        {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 10},
        {"kind": "or", "clauses": [{"kind": "everyone"}]},
        {"kind": "not", "clause": {"kind": "attribute", "fieldPath": "test", "operator": "exists"}},
    ],
}

_HOURS: Json = {"start": "09:00", "end": "18:30", "weekdays": ["monday", "tuesday"]}

_SENDING: Json = {
    "frequencyCaps": [{"channel": "log", "category": "marketing", "limit": 3, "window": "1w"}],
    "quietHours": {"start": "21:00", "end": "08:00", "channels": ["log"]},
    "globalHoldout": {"percent": 2, "salt": "2026"},
    "channelRates": [{"channel": "log", "ratePerSecond": 12.5, "burst": 5}],
    "shownFields": ["plan", "$entry.amount"],
}

_HAPPENING: Json = {"eventName": "return", "where": _OF_AN_EVENT, "entryKeyPath": "order.id"}


_CONTENT = ("channel", "category", "subject", "body", "settings")


def documents(rpc: str, project: Project, number: int) -> list[Json]:
    """Requests of this RPC in JSON, as if all of them were the body. The first one succeeds, once for each number.

    The others hold what the first one cannot: they may be refused, yet not for the values of single fields.
    """
    name = {"name": f"Name {number}"}
    description = {"description": "All of it"}
    segment_id = f"segment-{number}"
    rules = predicate(segment_id)
    journey: Json = {
        **name,
        **description,
        "audienceId": f"audience-{number}",
        "triggerContractId": f"trigger_contract-{number}",
        "reentry": {"policy": "interval", "interval": "1w"},
        "maxDurationDays": 30,
        "followLiveCommunications": True,
        "exitRules": [
            {"id": "left-us", "when": rules},
            {"id": "returned-it", "event": {**_HAPPENING, "after": "entry"}},
        ],
        "exitOnGoal": True,
        "start": "welcome",
        "canvas": {"graph": {"viewport": {"zoom": 2}}, "entry": {"id": "in", "at": 1}},
        "sendWindow": _HOURS,
        "holdout": {"percent": 10, "salt": "spring"},
        "autoPause": {"failureRate": 0.25, "complaintRate": 0.01, "minimum": 50, "window": "30m"},
        "startsAt": "2026-03-01T12:00:00Z",
        "endsAt": "2126-03-01T12:00:00Z",
        "whilePaused": "hold",
        "entryGrace": "5m",
        "schedule": {"cron": "0 9 * * mon", "timeZone": "Europe/Berlin", "segmentId": segment_id, "ratePerSecond": 50},
        "steps": [
            {
                "id": "welcome",
                "next": "pause",
                "canvas": {"node": {"position": {"x": 1, "y": 2.5}}},
                "send": {
                    "communicationId": f"communication-{number}",
                    "onBlocked": "wait",
                    "waitAtMost": "2d",
                    "sendWindow": _HOURS,
                },
            },
            {"id": "pause", "next": "check", "wait": {"duration": "36h"}},
            {
                "id": "check",
                "branch": {"arms": [{"id": "bought", "when": rules, "next": "end"}], "otherwise": "end"},
            },
            {
                "id": "morning",
                "next": "renewal",
                "wait": {"timeOfDay": {"time": "09:30", "weekdays": ["monday", "friday"]}},
            },
            {
                "id": "renewal",
                "next": "later",
                "wait": {"date": {"fieldPath": "renewal", "before": "3d", "time": "10:00:30"}},
            },
            {"id": "later", "next": "reply", "wait": {"date": {"fieldPath": "renewal", "after": "90m"}}},
            {
                "id": "reply",
                "next": "plan",
                "waitFor": {"event": {**_HAPPENING, "after": "step"}, "timeout": "36h", "otherwise": "half"},
            },
            {"id": "plan", "next": "active", "waitFor": {"changed": {"fieldPath": "plan.name"}}},
            {"id": "active", "next": "half", "waitFor": {"when": rules, "timeout": "3d", "otherwise": "end"}},
            {
                "id": "half",
                "split": {
                    "arms": [{"id": "a", "weight": 1, "next": "end"}, {"id": "b", "weight": 3, "next": "end"}],
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
        "goal": {"eventName": "buy", "window": "1w"},
        # What only the server writes.
        "entryProblems": [{"reason": "audience"}],
        "enrollsNext": [{"dueAt": "2026-03-01T12:00:00Z"}],
    }
    own: Json = {"eventName": "buy", "predicate": _OF_AN_EVENT, "entryKeyPath": "order.id", "maxEventAge": "2h"}
    entered: Json = {
        **name,
        "entryCondition": {
            "segmentId": segment_id,
            "transition": "left",
            "includeDefinitionChanges": True,
            "predicate": rules,
        },
        "schedule": {"at": "2126-03-01T12:00:00Z", "everyone": True},
    }
    drawn: Json = {
        **name,
        "entryCondition": own,
        "definition": {
            "nodes": [
                {"id": "in", "type": "entry_trigger", "position": {"x": 1, "y": 2.5}, "data": {}},
                {"id": "ask", "type": "condition_split", "data": {"condition": rules}},
                {"id": "end", "type": "exit", "data": {}},
            ],
            "edges": [
                {"source": "in", "target": "ask"},
                {"source": "ask", "sourceHandle": "true", "target": "end"},
                {"source": "ask", "sourceHandle": "false", "target": "end"},
            ],
        },
    }
    audience: Json = {**name, **description, "subjectType": "end_user", "predicate": rules}
    communication: Json = {
        **name,
        "channel": "log",
        "category": "marketing",
        "subject": "Hi",
        "body": "Hello {{ name }}",
        "settings": {},
    }
    contract: Json = {**name, "eventName": "buy", "entryKeyPath": "order.id", "maxEventAge": "600d"}
    of_segment: Json = {
        **name,
        "segmentId": segment_id,
        "transition": "left",
        "includeDefinitionChanges": True,
        "predicate": rules,
    }
    contracts: list[Json] = [{**contract, "predicate": _OF_AN_EVENT}, {**contract, "predicate": rules}, of_segment]
    segments: list[Json] = [{**name, **description, "kind": "static"}, {**name, "kind": "dynamic", "rules": rules}]
    subject: Json = {"attributes": {"plan": "pro"}, "timeZone": "Europe/Berlin"}
    settings: Json = {"timeZone": "UTC", "goalWindow": "1w", "maxJourneys": 5000, "eventRetention": "500d", **_SENDING}
    subject_id = {"subjectId": f"subject-{number}"}
    draft, active = {"journeyId": f"draft-{number}"}, {"journeyId": f"journey-{number}"}
    learning = {"journeyId": f"learning-{number}"}
    choose = {**learning, "stepId": "choose"}
    new = {"id": f"new-{number}"}
    job: Json = {**new, **active, "ratePerSecond": 50, "refused": [{"reason": "re_entry", "count": 1}]}
    crowds: list[Json] = [{"audienceId": f"audience-{number}"}, {"segmentId": segment_id}, {"everyone": True}]
    of_job = {"enrollmentJobId": f"job-{number}"}
    of_replay = {"entryReplayId": project.replays[number]} if project.replays else {}
    execution = {"executionId": project.executions[number]} if project.executions else {}
    mapped: Json = {"carry": "mapped", "stepMapping": [{"fromStepId": "pause", "toStepId": "end"}]}
    cancellation = {"cancellationId": project.cancellations[number]} if project.cancellations else {}
    refused = {"refusedAfter": "2026-03-01T12:00:00Z", "refusedBefore": "2026-03-02T12:00:00Z"}
    api_key = {"apiKeyId": project.api_keys[number]} if project.api_keys else {}
    project_id, project_key = {"projectId": project.project_id}, {"projectKey": project.project_id}
    page = {"pageSize": 10}
    members: Json = {"segmentId": segment_id, "subjectIds": ["member-2", "member-3"]}
    channel = {"channel": "log"}
    event: Json = {
        "eventId": f"event-{number}",
        "name": "buy",
        **subject_id,
        "occurTime": "2026-03-01T12:00:00Z",
        "properties": {"amount": 12.5},
    }
    report: Json = {
        "kind": "clicked",
        "idempotencyKey": "0" * 64,
        "providerId": f"message-{number}",
        "reportId": f"report-{number}",
        "occurTime": "2026-03-01T12:00:00Z",
        "link": "https://example.com/sale",
    }
    ends = [{"id": "end", "exit": {"reason": "finished"}}]
    ends = [{"id": "end", "exit": {"reason": "finished"}}]
    published: Json = {
        **new,
        **name,
        "status": "active",
        "steps": [{"id": "say", "next": "end", "send": {"communicationId": f"communication-{number}"}}, *ends],
        "draft": {"steps": ends},
        "pinnedTexts": [
            {
                "communicationId": f"communication-{number}",
                "content": {member: communication[member] for member in _CONTENT},
            }
        ],
    }
    parts: list[Json] = [
        {"segments": [{**new, **name}]},
        {"settings": settings},
        {"audiences": [{**new, **name, "predicate": {"kind": "everyone"}}]},
        {"communications": [{**new, **communication}]},
        {"triggerContracts": [{**new, **name, "eventName": "buy"}]},
        {"journeys": [{**new, **name, **description, "steps": ends, "goal": journey["goal"]}]},
        {"journeys": [published]},
    ]
    by_rpc: dict[str, Json | list[Json]] = {
        "ExportBundle": {"withoutSettings": True, "journeyIds": [f"draft-{number}"]},
        "ImportBundle": [{"bundle": {"formatVersion": 1, **part}, **project_key} for part in parts],
        "ListApiKeys": page,
        "CreateApiKey": {"apiKey": {**name, "role": "editor", "expiresAt": "2199-01-01T00:00:00Z"}},
        "RevokeApiKey": api_key,
        "RotateApiKey": {**api_key, "overlap": "1d"},
        "ListAudiences": page,
        "CreateAudience": {"audience": {**new, **audience}},
        "GetAudience": {"audienceId": f"audience-{number}"},
        "UpdateAudience": {"audience": {"id": f"audience-{number}", **audience}},
        "DeleteAudience": {"audienceId": f"audience-{number}"},
        "CheckAudience": {"audienceId": f"audience-{number}", **subject_id},
        "EstimateAudience": {"audienceId": f"audience-{number}"},
        "ListAuditEntries": {**page, "resourceKind": "journey", "resourceId": f"draft-{number}"},
        "VerifyAuditLog": {"anchors": [{"seq": "1", "hash": "0" * 64}]},
        "ListCommunications": page,
        "CreateCommunication": {"communication": {**new, **communication}},
        "GetCommunication": {"communicationId": f"communication-{number}"},
        "UpdateCommunication": {"communication": {"id": f"communication-{number}", **communication}},
        "DeleteCommunication": {"communicationId": f"communication-{number}"},
        "TranslatePinpoint": {
            "exports": [{"SegmentResponse": {"Id": "vip", "Name": "Very important"}}],
            "smsUrl": "https://sms.example.com/in",
            "pushUrl": "https://push.example.com/in",
            **project_key,
        },
        "PreviewCommunication": [
            {
                "communicationId": f"communication-{number}",
                "contentRevision": 1,
                **subject_id,
                "entry": {"amount": 12.5},
                "showValues": True,
            },
            {
                "content": {name: value for name, value in communication.items() if name != "name"},
                "attributes": {"name": "Ann"},
            },
        ],
        "SendTestCommunication": [
            {
                "communicationId": f"communication-{number}",
                "contentRevision": 1,
                **subject_id,
                "entry": {"amount": 12.5},
                "addresses": ["one", "two"],
            },
            {
                "content": {name: value for name, value in communication.items() if name != "name"},
                "attributes": {"name": "Ann"},
                "addresses": ["one"],
            },
        ],
        "GetTestSend": {"testSendId": project.test_sends[number]} if project.test_sends else {},
        "ListCommunicationRevisions": {"communicationId": f"communication-{number}", **page},
        "ReportDeliveries": {"reports": [report]},
        "IngestEvents": {"events": [event], "backfill": False},
        "DispatchEntries": {
            **project_key,
            "subjectIds": [f"subject-{number}"],
            "maxSubjects": 10,
            "timeLimit": "5s",
        },
        "StartExecution": {
            **project_key,
            **active,
            **subject_id,
            "entryKey": f"order-{number}",
            "event": {name: value for name, value in event.items() if name != "subjectId"},
        },
        "ListExecutions": {**active, **page, "subjectId": "member-0"},
        "GetExecution": execution,
        "ExplainExecution": execution,
        "ListStuckExecutions": {**active, **page, "overdueBy": "90m"},
        "CancelExecution": {**execution, "reason": "wrong-price"},
        "CancelExecutions": [
            {**active, "filter": {"stepIds": ["pause"], "subjectIds": ["member-0"]}, "reason": "why", "atMost": 5},
            {
                **active,
                "filter": {
                    "version": 2,
                    "startedAfter": "2026-03-01T12:00:00Z",
                    "startedBefore": "2026-03-02T12:00:00Z",
                    "parked": True,
                },
                "atMost": 5,
            },
            {**active, "filter": {"all": True}, "atMost": 5},
        ],
        "GetCancellation": cancellation,
        "ListJourneys": {**page, "status": "active", "offset": 1},
        "CreateJourney": [
            {"journey": {**new, **journey}},
            {"journey": {**new, **drawn}},
            {"journey": {**new, **entered}},
        ],
        "GetJourney": {**draft, "form": "graph"},
        "UpdateJourney": [
            {"journey": {"id": f"draft-{number}", **journey}, "toStatus": "draft"},
            {"journey": {"id": f"draft-{number}", **drawn}},
            {"journey": {"id": f"draft-{number}", **entered}},
        ],
        "DeleteJourney": {**draft, "force": False},
        "ListJourneyVersions": {**active, **page},
        "GetJourneyVersion": {**active, "version": 1, "form": "steps"},
        "ValidateJourney": draft,
        "PublishJourney": [
            draft,
            {**active, "fromVersion": 1, "pins": "newest"},
            {**active, **mapped, "token": "AQ" + "A" * 32},
        ],
        "PreviewCarry": [
            {**active, "carry": "compatible"},
            {**active, **mapped, "fromVersion": 1, "pins": "newest"},
        ],
        "ListCarries": {**active, **page},
        "GetCarry": {**active, "version": 2},
        "PauseJourney": active,
        "ResumeJourney": {"journeyId": f"paused-{number}"},
        "ArchiveJourney": {**active, "onArchive": "end"},
        "EnrollSubjects": {**active, "subjectIds": [f"subject-{number}"]},
        "ExplainEntry": {**active, **subject_id},
        "BacktestJourney": {"journeyId": f"listening-{number}", "days": 28},
        "StartPolicyUpdate": {"journeyId": f"learning-{number}"},
        "SimulateJourney": [
            {
                **active,
                **subject_id,
                "entry": {"order": {"id": "o-1"}},
                "events": [
                    {"name": "buy", "properties": {"amount": 12.5}, "after": "3d"},
                    {"name": "buy", "at": "2126-03-01T12:00:00Z"},
                ],
                "changes": [
                    {"attributes": {"plan": "pro"}, "after": "36h"},
                    {"attributes": {"plan": "pro"}, "at": "2126-03-01T12:00:00Z"},
                ],
                "answers": {},
                "enterAnyway": True,
                "allPaths": True,
            },
            {
                **draft,
                "subjectAttributes": {"plan": "pro"},
                "timeZone": "Europe/Berlin",
                "overrides": ["opt_out", "suppression", "frequency_cap", "holdout"],
                "startsAt": "2126-03-01T12:00:00Z",
            },
        ],
        "ListEnrollmentJobs": {**active, **page, "state": "running"},
        "CreateEnrollmentJob": [{"enrollmentJob": {**job, **crowd}} for crowd in crowds],
        "GetEnrollmentJob": of_job,
        "PauseEnrollmentJob": of_job,
        "ResumeEnrollmentJob": {"enrollmentJobId": f"paused_job-{number}"},
        "CancelEnrollmentJob": of_job,
        "GetStepStats": {**active, "version": 1},
        "GetJourneyFunnel": active,
        "GetCalibratedImpact": {**learning, "goalRevision": 1},
        "GetBranchPerformance": {**learning, "goalRevision": 1},
        "EstimatePolicyValue": [
            {**choose, "policy": {"weights": [{"armId": "a", "weight": 0.5}]}},
            {**choose, "policy": {"uniform": True}},
            {**choose, "policy": {"greedy": True}},
            {**choose, "policy": {"armId": "b"}},
        ],
        "ListPolicyVersions": {**choose, **page},
        "GetPolicyVersion": {**choose, "policyVersion": 1},
        "ListArmChoices": {**choose, **page, **subject_id},
        "PlanImpact": {
            "baseRate": 0.05,
            "lift": 0.1,
            "holdoutPercent": 10,
            "weeklyVolume": 1000.5,
            "window": "7d",
            "power": 0.9,
        },
        "ListJourneyAuditEntries": {**draft, **page},
        "ForgetSubject": {**subject_id, **project_key},
        "ListErasures": page,
        "GetErasure": {"erasureId": project.erasures[number], **project_key} if project.erasures else {},
        "LiftTombstone": {"subjectId": f"forgotten-{number}"},
        "ListSendsPauses": page,
        "PauseSends": [active, {"allJourneys": True}],
        "ResumeSends": [active, {"allJourneys": True}],
        "GetRefusedEntries": {**active, **refused},
        "ReplayRefusedEntries": {**active, **refused, "reason": "audience", "atMost": 5},
        "GetEntryReplay": of_replay,
        "CancelEntryReplay": of_replay,
        "ListProjects": page,
        "CreateProject": {"project": {"id": f"{project.project_id}-{number}", **name, "settings": settings}},
        "GetProject": project_id,
        "UpdateProject": {"project": {"id": project.project_id, **name, "settings": settings}},
        "ListSegments": page,
        "CreateSegment": [{"segment": {**new, **segment}} for segment in segments],
        "GetSegment": {"segmentId": segment_id},
        "UpdateSegment": [
            {"segment": {"id": segment_id, **name, **description}},
            {"segment": {"id": segment_id, **segments[1]}},
        ],
        "EvaluateSegment": {"segmentId": "everyone"},
        "DeleteSegment": {"segmentId": segment_id, "force": False},
        "ListSegmentMembers": {"segmentId": segment_id, **page},
        "AddSegmentMembers": members,
        "RemoveSegmentMembers": members,
        "ListSubjects": page,
        "UpsertSubject": {"subject": {"id": f"subject-{number}", **subject}},
        "BatchUpsertSubjects": {"subjects": [{**new, **subject}]},
        "GetSubject": subject_id,
        "DeleteSubject": subject_id,
        "MergeSubjects": {**subject_id, "intoSubjectId": f"survivor-{number}"},
        "ListTimeline": {**subject_id, **page},
        "ExportSubject": {**subject_id, **page},
        "GetPreferences": subject_id,
        "UpdatePreferences": {**subject_id, "changes": [{**channel, "category": "marketing", "optedOut": True}]},
        "ListSuppressions": {**subject_id, **page},
        "CreateSuppression": {"suppression": {**subject_id, **channel, "reason": "bounce"}},
        "DeleteSuppression": {**subject_id, **channel},
        "ListTriggerContracts": page,
        "CreateTriggerContract": [{"triggerContract": {**new, **contract}} for contract in contracts],
        "GetTriggerContract": {"triggerContractId": f"trigger_contract-{number}"},
        "UpdateTriggerContract": [
            {"triggerContract": {"id": f"trigger_contract-{number}", **contract}} for contract in contracts
        ],
        "DeleteTriggerContract": {"triggerContractId": f"trigger_contract-{number}"},
    }
    found = by_rpc[rpc]
    return copy.deepcopy(found if isinstance(found, list) else [found])
