"""Journeys as `/api/journeys` has them: steps, and the goal in two members."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchestrator.api.descriptors import descriptor_of, json_fields
from orchestrator.api.documented.answer import Document, described, list_of, object_of, or_null
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.journey_forms import DRAFT, VERSION, in_form, version_of
from orchestrator.api.documented.members import same, with_all
from orchestrator.api.documented.row import IGNORED, Body, Given, Meant
from orchestrator.api.json_encode import encode
from orchestrator.api.json_text import NoNumber
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.domain.durations import format_duration
from orchestrator.domain.project import MAX_GOAL_WINDOW
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import audit_pb2 as audits
from orchestrator.v1 import execution_pb2 as execution
from orchestrator.v1 import execution_service_pb2 as executions
from orchestrator.v1 import journey_pb2 as pb
from orchestrator.v1 import journey_service_pb2 as rpc
from orchestrator.v1 import journey_stats_pb2 as stats
from orchestrator.v1 import simulation_pb2 as simulations

ERRORS = ErrorForm(named=frozenset({"SEND_STEP_USES_TRANSACTIONAL_COMM"}))

EXECUTIONS = 50
AUDIT_ENTRIES = 200
#: Members of a definition that are null where nothing was chosen.
_CHOICES = ("audienceId", "triggerContractId")

_DAYS = "goalEventWindowDays"
#: All that the answers have may be sent back.
_MEMBERS = {
    **{field.json_name: field.json_name for _, field in json_fields(descriptor_of(pb.Journey))},
    "goalEventName": "goal.eventName",
    _DAYS: "goal.window",
    "version": IGNORED,
}
del _MEMBERS["goal"]


def read_days(given: Given, meant: Meant) -> None:
    """The goal's window, which is a number here."""
    days = given.document.get(_DAYS)
    if days is None:
        return
    window = _window(days)
    if isinstance(window, Fault):
        meant.faults.append(window)
        del meant.document["goal"]["window"]
    else:
        meant.document["goal"]["window"] = window


_ALWAYS = (
    *("id", "name", "description", "status", "version", "latestVersion", "hasDraft", "goalEventName", _DAYS),
    *("createdAt", "updatedAt", "etag"),
)


def _members(schemas: Schemas) -> dict[str, Document]:
    members = schemas.members(descriptor_of(pb.Journey))
    del members["goal"]
    members["goalEventName"] = or_null(schemas.of(descriptor_of(pb.Goal).fields_by_name["event_name"]))
    members[_DAYS] = {"type": "number", "description": "So many days after the trigger the goal's event counts."}
    nulls = {name: or_null(members[name]) for name in ("latestVersion", *_CHOICES)}
    return {**members, **nulls, "version": VERSION}


def _listed(schemas: Schemas) -> Document:
    return schemas.named("DocumentedJourneyInList", object_of(_members(schemas), always=_ALWAYS))


_WHOLE = (*_ALWAYS, *_CHOICES, "steps")


def _shown(schemas: Schemas) -> Document:
    return schemas.named("DocumentedJourney", object_of(_members(schemas), always=_WHOLE))


#: Of a new journey, and of a change of one.
WRITTEN = Body(
    members=_MEMBERS,
    own={
        _DAYS: {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_GOAL_WINDOW.days,
            "description": "So many days after the trigger the goal's event counts. Left out: the project's.",
        }
    },
    finish=read_days,
)
ARCHIVAL = Body(members=same("onArchive"))
SIMULATION = Body(members=same("subjectId", "subjectAttributes", "overrides"))


@described(lambda schemas: list_of(_listed(schemas)))
def listed(answer: rpc.ListJourneysResponse, request: object) -> list[Document]:
    return [journey_document(journey) for journey in answer.journeys]


@described(_shown)
def shown(answer: Any, request: object) -> Document:
    """Of every answer that has a journey."""
    return journey_document(answer.journey)


def journey_document(journey: pb.Journey) -> Document:
    document = in_form(journey, pb.DEFINITION_FORM_STEPS)
    goal = document.pop("goal")
    document["goalEventName"] = goal.get("eventName")
    document[_DAYS] = _days(journey.goal.window.ToTimedelta())
    document["version"] = DRAFT if journey.has_draft else version_of(journey.latest_version)
    return with_all(document, dict.fromkeys(_CHOICES)) if journey.HasField("definition") else document


def _published(schemas: Schemas) -> Document:
    told = {name: {"type": "string"} for name in ("path", "code", "message")}
    members = {
        "id": schemas.of(descriptor_of(pb.Journey).fields_by_name["id"]),
        "version": schemas.of(descriptor_of(rpc.PublishJourneyResponse).fields_by_name["version"]),
        "warnings": list_of(object_of(told, always=("path", "code", "message"))),
    }
    return object_of(members, always=("id", "version", "warnings"))


@described(_published)
def published(answer: rpc.PublishJourneyResponse, request: object) -> Document:
    """Warnings are told as faults are."""
    warnings = [
        {"path": warning.path, "code": ERRORS.spelled(warning.reason), "message": warning.message}
        for warning in answer.warnings
    ]
    return {"id": answer.id, "version": answer.version, "warnings": warnings}


def _archived(schemas: Schemas) -> Document:
    running = schemas.of(descriptor_of(rpc.ArchiveJourneyResponse).fields_by_name["running_executions"])
    return object_of({**_members(schemas), "runningExecutions": running}, always=(*_WHOLE, "runningExecutions"))


@described(_archived)
def archived(answer: rpc.ArchiveJourneyResponse, request: object) -> Document:
    return {**journey_document(answer.journey), "runningExecutions": answer.running_executions}


def _audit(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(audits.AuditEntry))
    return list_of(object_of(members, always=("timestamp", "actor", "action", "metadata")))


@described(_audit)
def audit(answer: rpc.ListJourneyAuditEntriesResponse, request: object) -> list[Document]:
    return [encode(entry) for entry in answer.audit_entries]


def _executions(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(execution.Execution))
    always = ("executionArn", "endUserId", "status", "startedAt", "currentStepId")
    return list_of(object_of(members, always=always))


@described(_executions)
def execution_list(answer: executions.ListExecutionsResponse, request: object) -> list[Document]:
    return [encode(each) for each in answer.executions]


def _step_stats(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(stats.StepStats))
    return list_of(object_of(members, always=("stepId", "stepKind", "executed", "skipped", "failed", "active")))


@described(_step_stats)
def step_stats(answer: rpc.GetStepStatsResponse, request: object) -> list[Document]:
    return [encode(step) for step in answer.steps]


def _simulated(schemas: Schemas) -> Document:
    members = {
        "journeyId": schemas.of(descriptor_of(rpc.SimulateJourneyResponse).fields_by_name["journey_id"]),
        "version": VERSION,
        "simulation": schemas.reference(descriptor_of(simulations.Simulation)),
    }
    return object_of(members, always=("journeyId", "version", "simulation"))


@described(_simulated)
def simulated(answer: rpc.SimulateJourneyResponse, request: object) -> Document:
    return {
        "journeyId": answer.journey_id,
        "version": version_of(answer.version),
        "simulation": encode(answer.simulation),
    }


def _window(days: Any) -> str | Fault:
    """A number of days as `/v1` writes a duration."""
    if isinstance(days, NoNumber):
        return Fault(path=_DAYS, reason=days.reason, message=days.message)
    if isinstance(days, bool) or not isinstance(days, int | float):
        return Fault(path=_DAYS, reason="INVALID_TYPE", message="must be a number of days")
    if not 0 < days <= MAX_GOAL_WINDOW.days:
        text = f"must be more than 0 and at most {MAX_GOAL_WINDOW.days}"
        return Fault(path=_DAYS, reason="OUT_OF_RANGE", message=text)
    return format_duration(timedelta(days=days))


def _days(window: timedelta) -> int | float:
    days = window / timedelta(days=1)
    return int(days) if days.is_integer() else days
