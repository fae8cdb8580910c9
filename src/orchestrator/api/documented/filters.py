"""`POST /audiences`: lists and ranges of attributes, compiled to the predicate that is stored and shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.documented.answer import Document, described, object_of
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.row import IGNORED, Body, Given, Meant
from orchestrator.api.field_limits import MAX_STRUCT_DEPTH
from orchestrator.api.json_text import NoNumber, repetition_faults, tell, text_fault
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.parse import MAX_LEAVES
from orchestrator.predicates.paths import join_path
from orchestrator.v1.audience_pb2 import Audience
from orchestrator.v1.audience_service_pb2 import CreateAudienceRequest, CreateAudienceResponse

ERRORS = ErrorForm(of_input="VALIDATION_ERROR", in_capitals=True)

AGE, MIN_AGE, MAX_AGE = "age", "minAge", "maxAge"
EVERYONE: Document = {"kind": "everyone"}


def compile_filters(given: Given, meant: Meant) -> None:
    """Put the predicate into the place of what it stands for."""
    compiled = _Compiler(meant.faults)
    filters = given.document.get("filters")
    if filters is None:
        meant.faults.append(Fault(path="filters", reason="REQUIRED", message="must be given"))
    elif not isinstance(filters, dict):
        meant.faults.append(Fault(path="filters", reason="INVALID_TYPE", message="must be an object"))
    else:
        compiled.object(filters, (), "filters")
    if "segment" in given.document:
        compiled.segments(given.document["segment"])
    if "days_back" in given.document:
        compiled.days_back(given.document["days_back"])
    meant.document["predicate"], meant.places = compiled.predicate()


_FILTERS: Document = {
    "type": "object",
    "description": "Attributes: a value, a list of values, or an object of attributes within. All of them hold.",
    "properties": {AGE: {"type": "object", "properties": {MIN_AGE: {"type": "number"}, MAX_AGE: {"type": "number"}}}},
}
CREATION = Body(
    members={"name": "name", "filters": IGNORED, "segment": IGNORED, "days_back": IGNORED},
    own={
        "filters": _FILTERS,
        "segment": {"type": "array", "minItems": 1, "items": {"type": "string"}, "description": "In any of these."},
        "days_back": {"type": "integer", "minimum": 1, "description": "Something happened within so many days."},
    },
    required=("filters",),
    finish=compile_filters,
)


def _creation(schemas: Schemas) -> Document:
    return object_of({"audienceId": schemas.of(descriptor_of(Audience).fields_by_name["id"])}, always=("audienceId",))


@described(_creation)
def created(answer: CreateAudienceResponse, request: CreateAudienceRequest) -> Document:
    return {"audienceId": answer.audience.id}


class _Compiler:
    """Collects clauses that are and-ed, each with the place in the request that it stands for."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults
        self._clauses: list[tuple[Document, dict[str, str]]] = []

    def predicate(self) -> tuple[Document, dict[str, str]]:
        """The predicate, and the places of its parts."""
        at = "predicate"
        match self._clauses:
            case []:
                return EVERYONE, {at: "filters"}
            case [(clause, places)]:
                return clause, {at + within: place for within, place in places.items()}
        places = {at: "filters"}
        for index, (_, its_places) in enumerate(self._clauses):
            places |= {f"{at}.clauses[{index}]{within}": place for within, place in its_places.items()}
        return {"kind": "and", "clauses": [clause for clause, _ in self._clauses]}, places

    def object(self, members: Document, way: tuple[str, ...], path: str) -> None:
        """All of these members, each of them an attribute or an object of attributes."""
        self._faults.extend(repetition_faults(members, path))
        for name, value in members.items():
            at = under(path, tell(name))
            here = (*way, name)
            if not name or text_fault(name, at):
                self._fault(at, "INVALID_VALUE", "is not the name of an attribute")
            elif here == (AGE,):
                self._age(value, at)
            elif isinstance(value, dict):
                if len(here) >= MAX_STRUCT_DEPTH:
                    self._fault(at, "TOO_DEEP", f"at most {MAX_STRUCT_DEPTH} objects within each other")
                else:
                    self.object(value, here, at)
            elif isinstance(value, list):
                self._any_of(value, here, at)
            elif self._is_plain(value, at):
                self._attribute(here, "equals", value, at)

    def segments(self, segment_ids: Any) -> None:
        """In any of these."""
        path = "segment"
        if not isinstance(segment_ids, list):
            self._fault(path, "INVALID_TYPE", "must be a list")
        elif not segment_ids:
            self._fault(path, "REQUIRED", "an empty list is nobody: leave it out")
        elif len(segment_ids) > MAX_LEAVES:
            self._fault(path, "TOO_LARGE", f"has at most {MAX_LEAVES} elements")
        else:
            wrong = [index for index, one in enumerate(segment_ids) if not isinstance(one, str) or not one]
            for index in wrong:
                self._fault(under(path, index), "INVALID_TYPE", "must be the id of a segment")
            if not wrong:
                clauses = [{"kind": "in_cohort", "cohortId": one} for one in segment_ids]
                places = {
                    f".clauses[{index}]{within}": under(path, index)
                    for index in range(len(clauses))
                    for within in ("", ".cohortId")
                }
                self._clauses.append(({"kind": "or", "clauses": clauses}, {"": path, **places}))

    def days_back(self, days: Any) -> None:
        """Something happened within these."""
        path = "days_back"
        if isinstance(days, float) and days.is_integer():
            days = int(days)
        if isinstance(days, NoNumber):
            self._fault(path, days.reason, days.message)
        elif isinstance(days, bool) or not isinstance(days, int):
            self._fault(path, "INVALID_TYPE", "must be a whole number")
        else:
            window = {"type": "last_n_days", "days": days}
            self._clauses.append(({"kind": "any_event", "window": window}, {"": path, ".window.days": path}))

    def _age(self, age: Any, path: str) -> None:
        if not isinstance(age, dict):
            self._fault(path, "INVALID_TYPE", f"must be an object of {MIN_AGE} and {MAX_AGE}")
            return
        self._faults.extend(repetition_faults(age, path))
        for name in age:
            if name not in (MIN_AGE, MAX_AGE):
                self._fault(under(path, tell(name)), "UNKNOWN_FIELD", f"there are {MIN_AGE} and {MAX_AGE}")
        bounds = dict(self._bounds(age, path))
        if len(bounds) == 2 and bounds[MIN_AGE] > bounds[MAX_AGE]:
            self._fault(path, "INVALID_VALUE", f"{MIN_AGE} is greater than {MAX_AGE}: nobody is that old")
        for name, number in bounds.items():
            self._attribute((AGE,), "gte" if name == MIN_AGE else "lte", number, under(path, name))

    def _bounds(self, age: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name in (MIN_AGE, MAX_AGE):
            if name not in age:
                continue
            at, number = under(path, name), age[name]
            if isinstance(number, NoNumber):
                self._fault(at, number.reason, number.message)
            elif isinstance(number, bool) or not isinstance(number, int | float):
                self._fault(at, "INVALID_TYPE", "must be a number")
            else:
                yield name, number

    def _any_of(self, values: list[Any], way: tuple[str, ...], path: str) -> None:
        plain = [self._is_plain(value, under(path, index)) for index, value in enumerate(values)]
        if not values:
            self._fault(path, "REQUIRED", "an empty list is nobody: leave it out")
        elif all(plain):
            self._attribute(way, "in", values, path)

    def _is_plain(self, value: Any, path: str) -> bool:
        """A text, a number, true or false. Null would have to mean everybody, or nobody."""
        if isinstance(value, NoNumber):
            self._fault(path, value.reason, value.message)
        elif not isinstance(value, str | int | float):
            self._fault(path, "INVALID_TYPE", "must be a text, a number, true or false, or a list of them")
        elif isinstance(value, str) and (fault := text_fault(value, path)):
            self._faults.append(fault)
        else:
            return True
        return False

    def _attribute(self, way: tuple[str, ...], operator: str, value: Any, path: str) -> None:
        leaf = {"kind": "attribute", "fieldPath": join_path(way), "operator": operator, "value": value}
        self._clauses.append((leaf, {"": path, ".value": path, ".fieldPath": path}))

    def _fault(self, path: str, reason: str, message: str) -> None:
        self._faults.append(Fault(path=path, reason=reason, message=message))
