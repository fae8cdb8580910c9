"""Journeys as `/api/v1/journeys` has them: nodes and edges, a status that is written, customers."""

from __future__ import annotations

from typing import Any

from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.journey_forms import in_form, version_of
from orchestrator.api.documented.members import IGNORED, same, taken, with_all
from orchestrator.api.documented.row import Document, Given, Meant
from orchestrator.api.json_encode import encode
from orchestrator.domain.graph_form import ENTRY_TRIGGER, node_type
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import journey_pb2 as pb
from orchestrator.v1 import journey_service_pb2 as rpc
from orchestrator.v1 import simulation_pb2 as simulations

ERRORS = ErrorForm(named=frozenset({"SEND_STEP_USES_TRANSACTIONAL_COMM"}))

DEFAULT_DAYS = 30
PAGE, MAX_PAGE = 50, 200

_WRITTEN = same("name", "description", "definition", "entryCondition", "maxDurationDays")
#: What answers have besides, and requests may send back.
_TOLD = ("status", "latestVersion", "hasDraft", "createdAt")
_NEW = {**_WRITTEN, "id": "id"}
_CHANGED = {**_WRITTEN, **same("id", "updatedAt", "etag"), **dict.fromkeys(_TOLD, IGNORED)}
_OF_THE_DEFINITION = ("entryCondition", "maxDurationDays")
_OF_ENROLLING = ("journeyId", "journeyName", "enrolled", "skipped", "errors", "total", "refused")


def creation(given: Given) -> Meant:
    meant = taken(given, _NEW)
    if meant.document.get("definition") is None:
        meant.document["definition"] = {"nodes": [], "edges": []}
    if meant.document.get("maxDurationDays") is None:
        meant.document["maxDurationDays"] = DEFAULT_DAYS
    return meant


def change(given: Given) -> Meant:
    meant = taken(given, _CHANGED)
    meant.places = {"toStatus": "status"}
    if given.document.get("definition", ...) is None:
        del meant.document["definition"]  # A definition can be empty, but not absent.
    status = given.document.get("status")
    if isinstance(status, str) and status:
        meant.query.append(("toStatus", status))
    elif status is not None:
        meant.faults.append(Fault(path="toStatus", reason="INVALID_VALUE", message="must be the name of a status"))
    return meant


def selection(given: Given) -> Meant:
    meant = taken(given, {}, {"status": "status", "limit": "pageSize", "offset": "offset"})
    for name, text in given.query:
        if name == "limit" and not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= MAX_PAGE):
            # Whoever goes on by as many as he asked for must not be shown fewer.
            meant.query = [(each, value) for each, value in meant.query if each != "pageSize"]
            meant.faults.append(Fault(path="pageSize", reason="OUT_OF_RANGE", message=f"must be 1 to {MAX_PAGE}"))
            break
    return meant


def deletion(given: Given) -> Meant:
    return taken(given, {}, same("force"))


def enrollment(given: Given) -> Meant:
    """One customer or many: both as a list."""
    meant = taken(given, {"customerId": IGNORED, "customerIds": "subjectIds"})
    one, many = given.document.get("customerId"), given.document.get("customerIds")
    if one is not None and many is not None:
        text = "either customerId or customerIds can be given, not both"
        meant.faults.append(Fault(path="subjectIds", reason="INVALID_VALUE", message=text))
    elif one is not None:
        meant.document["subjectIds"] = [one]
        meant.places = {"subjectIds": "customerId", "subjectIds[0]": "customerId"}
    return meant


def trial(given: Given) -> Meant:
    meant = taken(given, {"customerAttributes": "subjectAttributes"})
    if meant.document.get("subjectAttributes") is None:
        meant.document["subjectAttributes"] = {}
    meant.document["enterAnyway"] = True
    return meant


def listed(answer: rpc.ListJourneysResponse, request: rpc.ListJourneysRequest) -> Document:
    return {
        "journeys": [journey_document(journey) for journey in answer.journeys],
        "limit": request.page_size or PAGE,
        "offset": request.offset,
        "hasMore": bool(answer.next_page_token),
    }


def shown(answer: Any, request: object) -> Document:
    """Of every answer that has a journey."""
    return journey_document(answer.journey)


def journey_document(journey: pb.Journey) -> Document:
    document = in_form(journey, pb.DEFINITION_FORM_GRAPH)
    if journey.HasField("definition"):
        document = with_all(document, dict.fromkeys(_OF_THE_DEFINITION))
    return {name: value for name, value in document.items() if name in _CHANGED}


def enrolled(answer: rpc.EnrollSubjectsResponse, request: object) -> Document:
    document = encode(answer)
    return {name: document.get(name, "") for name in _OF_ENROLLING}


def tried(answer: rpc.SimulateJourneyResponse, request: object) -> Document:
    """The nodes that somebody of these attributes comes to."""
    document = encode(answer.simulation)
    entered = {"type": ENTRY_TRIGGER, "result": "executed", "enteredAt": document["startedAt"]}
    return {
        "journeyId": answer.journey_id,
        "version": version_of(answer.version),
        "trace": [entered, *(_node(step) for step in answer.simulation.steps)],
        "entry": document.get("entry"),
        "stop": document["stop"],
        "outcome": document.get("outcome"),
        "reason": document.get("reason", ""),
        "stoppedAt": document["stoppedAt"],
    }


def funnel(answer: rpc.GetJourneyFunnelResponse, request: object) -> Document:
    return with_all(encode(answer.funnel), {"completionRate": None})


def _node(step: simulations.SimulatedStep) -> Document:
    document = encode(step)
    return {
        "nodeId": document.pop("stepId"),
        "type": node_type(document.pop("stepKind")),
        **document,
    }
