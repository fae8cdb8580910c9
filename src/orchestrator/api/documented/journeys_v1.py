"""Journeys as `/api/v1/journeys` has them: nodes and edges, a status that is written, customers."""

from __future__ import annotations

from typing import Any

from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.documented.answer import Document, described, list_of, object_of, or_null
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.journey_forms import VERSION, in_form, version_of
from orchestrator.api.documented.members import same, with_all
from orchestrator.api.documented.row import IGNORED, Body, Given, Meant
from orchestrator.api.json_encode import encode
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.domain.graph_form import ENTRY_TRIGGER, node_type
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import journey_pb2 as pb
from orchestrator.v1 import journey_service_pb2 as rpc
from orchestrator.v1 import journey_stats_pb2 as stats
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
_OF_ENROLLING = ("journeyId", "journeyName", "enrolled", "skipped", "errors", "total", "refused", "failedSubjectIds")


def begin(given: Given, meant: Meant) -> None:
    if meant.document.get("definition") is None:
        meant.document["definition"] = {"nodes": [], "edges": []}
    if meant.document.get("maxDurationDays") is None:
        meant.document["maxDurationDays"] = DEFAULT_DAYS


def read_status(given: Given, meant: Meant) -> None:
    meant.places = {"toStatus": "status"}
    if given.document.get("definition", ...) is None:
        del meant.document["definition"]  # A definition can be empty, but not absent.
    status = given.document.get("status")
    if isinstance(status, str) and status:
        meant.query.append(("toStatus", status))
    elif status is not None:
        meant.faults.append(Fault(path="toStatus", reason="INVALID_VALUE", message="must be the name of a status"))


def hold_to_limit(given: Given, meant: Meant) -> None:
    """Whoever goes on by as many as he asked for must not be shown fewer."""
    for name, text in given.query:
        if name == "limit" and not _is_limit(text):
            meant.query = [(each, value) for each, value in meant.query if each != "pageSize"]
            meant.faults.append(Fault(path="pageSize", reason="OUT_OF_RANGE", message=f"must be 1 to {MAX_PAGE}"))
            return


def _is_limit(text: str) -> bool:
    # Four digits are enough to tell, and text may have thousands.
    return text.isascii() and text.isdigit() and 1 <= int(text.lstrip("0")[:4] or 0) <= MAX_PAGE


def one_or_many(given: Given, meant: Meant) -> None:
    """Both as a list."""
    one, many = given.document.get("customerId"), given.document.get("customerIds")
    if one is not None and many is not None:
        text = "either customerId or customerIds can be given, not both"
        meant.faults.append(Fault(path="subjectIds", reason="INVALID_VALUE", message=text))
    elif one is not None:
        meant.document["subjectIds"] = [one]
        meant.places = {"subjectIds": "customerId", "subjectIds[0]": "customerId"}


def let_in(given: Given, meant: Meant) -> None:
    """Whoever has these attributes, none if they are left out."""
    if meant.document.get("subjectAttributes") is None:
        meant.document["subjectAttributes"] = {}
    meant.document["enterAnyway"] = True


_STATUS: Document = {
    "type": "string",
    "enum": ["draft", "active", "paused", "archived"],
    "description": "Brings the journey there; the one that it has is left as it is.",
}
_LIMIT: Document = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_PAGE,
    "default": PAGE,
    "description": "At most so many.",
}
_OFFSET: Document = {"type": "integer", "minimum": 0, "default": 0, "description": "Passes over so many first."}
_CUSTOMER: Document = {"type": "string", "description": "One customer: either this or customerIds."}
CREATION = Body(members=_NEW, finish=begin)
CHANGE = Body(members=_CHANGED, own={"status": _STATUS}, finish=read_status)
SELECTION = Body(members={}, own={"limit": _LIMIT, "offset": _OFFSET}, finish=hold_to_limit)
PARAMETERS = {"status": "status", "limit": "pageSize", "offset": "offset"}
ENROLLMENT = Body(
    members={"customerId": IGNORED, "customerIds": "subjectIds"},
    own={"customerId": _CUSTOMER},
    is_choice=True,
    finish=one_or_many,
)
TRIAL = Body(members={"customerAttributes": "subjectAttributes"}, finish=let_in)


_ALWAYS = ("id", "name", "description", "status", "latestVersion", "hasDraft", "createdAt", "updatedAt", "etag")


def _members(schemas: Schemas) -> dict[str, Document]:
    members = schemas.members(descriptor_of(pb.Journey))
    nulls = {name: or_null(members[name]) for name in ("latestVersion", *_OF_THE_DEFINITION)}
    return {name: schema for name, schema in {**members, **nulls}.items() if name in _CHANGED}


def _page(schemas: Schemas) -> Document:
    journey = schemas.named("DocumentedJourneyV1InList", object_of(_members(schemas), always=_ALWAYS))
    members = {
        "journeys": list_of(journey),
        "limit": _LIMIT,
        "offset": _OFFSET,
        "hasMore": {"type": "boolean", "description": "Whether there are more behind these."},
    }
    return object_of(members, always=("journeys", "limit", "offset", "hasMore"))


@described(_page)
def listed(answer: rpc.ListJourneysResponse, request: rpc.ListJourneysRequest) -> Document:
    return {
        "journeys": [journey_document(journey) for journey in answer.journeys],
        "limit": request.page_size or PAGE,
        "offset": request.offset,
        "hasMore": bool(answer.next_page_token),
    }


def _shown(schemas: Schemas) -> Document:
    always = (*_ALWAYS, "definition", *_OF_THE_DEFINITION)
    return schemas.named("DocumentedJourneyV1", object_of(_members(schemas), always=always))


@described(_shown)
def shown(answer: Any, request: object) -> Document:
    """Of every answer that has a journey."""
    return journey_document(answer.journey)


def journey_document(journey: pb.Journey) -> Document:
    document = in_form(journey, pb.DEFINITION_FORM_GRAPH)
    if journey.HasField("definition"):
        document = with_all(document, dict.fromkeys(_OF_THE_DEFINITION))
    return {name: value for name, value in document.items() if name in _CHANGED}


def _enrolled(schemas: Schemas) -> Document:
    return object_of(schemas.members(descriptor_of(rpc.EnrollSubjectsResponse)), always=_OF_ENROLLING)


@described(_enrolled)
def enrolled(answer: rpc.EnrollSubjectsResponse, request: object) -> Document:
    document = encode(answer)
    return {name: document.get(name, "") for name in _OF_ENROLLING}


def _tried(schemas: Schemas) -> Document:
    simulation = schemas.members(descriptor_of(simulations.Simulation))
    step = schemas.members(descriptor_of(simulations.SimulatedStep))
    del step["stepId"], step["stepKind"]
    node = {
        "nodeId": {"type": "string", "description": f"Of the definition; the {ENTRY_TRIGGER} is told without."},
        "type": {"type": "string", "description": "The node's type."},
    }
    members = {
        "journeyId": schemas.of(descriptor_of(rpc.SimulateJourneyResponse).fields_by_name["journey_id"]),
        "version": VERSION,
        "trace": list_of(object_of({**node, **step}, always=("type", "enteredAt", "result"))),
        "entry": or_null(simulation["entry"]),
        "stop": simulation["stop"],
        "outcome": or_null(simulation["outcome"]),
        "reason": simulation["reason"],
        "stoppedAt": simulation["stoppedAt"],
    }
    return object_of(members, always=tuple(members))


@described(_tried)
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


def _funnel(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(stats.JourneyFunnel))
    members["completionRate"] = or_null(members["completionRate"])
    always = ("journeyId", "enrolled", "active", "completed", "completionRate", "steps")
    return object_of(members, always=always)


@described(_funnel)
def funnel(answer: rpc.GetJourneyFunnelResponse, request: object) -> Document:
    return with_all(encode(answer.funnel), {"completionRate": None})


def _node(step: simulations.SimulatedStep) -> Document:
    document = encode(step)
    return {
        "nodeId": document.pop("stepId"),
        "type": node_type(document.pop("stepKind")),
        **document,
    }
