"""Values of the right form that mean the wrong thing: tokens of other lists, stale etags, ids of another project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor

from orchestrator.api.descriptors import owner_of
from tests.acceptance.good_calls import Json
from tests.acceptance.http_requests import http_request
from tests.acceptance.probes import HTTP, Known, Probe, short
from tests.acceptance.raw_calls import HttpRequest
from tests.acceptance.request_fields import Place, bindings

#: By field: whose id it is. Others called *_id, too, where they name something of a project.
_REFERENCES = {
    "audience_id": "audience",
    "trigger_contract_id": "trigger_contract",
    "communication_id": "communication",
    "cohort_id": "segment",
    "segment_id": "segment",
    "journey_id": "journey",
    "journey_ids": "journey",
    "subject_id": "subject",
    "subject_ids": "subject",
    "execution_id": "execution",
    "api_key_id": "api_key",
    "project_id": "project",
    "resource_id": "journey",
    "Audience.id": "audience",
    "Segment.id": "segment",
    "Communication.id": "communication",
    "TriggerContract.id": "trigger_contract",
    "Journey.id": "journey",
    "Subject.id": "subject",
    "Project.id": "project",
}


def reference(place: Place) -> str | None:
    """What kind of thing the field names by id, if it does."""
    name = place.field.name
    kind = _REFERENCES.get(f"{owner_of(place.field).name}.{name}") or _REFERENCES.get(name)
    return None if place.is_output_only else kind


#: Puts a text in place of a field: the request with it.
Put = Callable[[str], HttpRequest | bytes]


def by_meaning(place: Place, known: Known, transport: str, put: Put) -> Iterator[Probe]:
    def probe(case: str, text: str, at: str | None, reason: str, code: str) -> Probe:
        return Probe(
            rpc=place.rpc, place=place, case=case, label=short(text), transport=transport, request=put(text), at=at,
            reasons=frozenset({reason}), codes=frozenset({code}),
        )  # fmt: skip

    name = place.field.name
    if name == "page_token":
        garbage = [("", token) for token in ("garbage", "AAAA", "A", "é", "=", "//", "AbCdEfGh" * 8)]
        for rpc, token in [*garbage, *known.tokens.items()]:
            yield replace(
                probe("page token", token, place.path, "PAGE_TOKEN_INVALID", "INVALID_ARGUMENT"), token_of=rpc
            )
    if name in ("etag", "update_time") and not place.is_output_only:
        stale, other = (known.stale, "another") if name == "etag" else (known.stale_times, "2026-01-01T00:00:00Z")
        for text in sorted({stale.get(id_of(place), other), other}):
            yield probe("stale etag", text, None, "ETAG_MISMATCH", "ABORTED")
    kind = reference(place)
    if kind is not None:
        foreign = known.foreign[kind]
        codes = {"NOT_FOUND"} if place.is_named else {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
        yield Probe(
            rpc=place.rpc, place=place, case="other project", label=foreign, transport=transport, request=put(foreign),
            at=None, codes=frozenset(codes), twin=put(known.absent(kind)),
        )  # fmt: skip


def id_of(place: Place) -> str:
    """The id that the good request names beside this field."""
    for hop in place.rpc.input_type.fields:
        if hop.name.endswith("_id") and hop.name != "request_id":
            return str(place.document.get(hop.json_name, ""))
    holder: Any = place.document
    for part in place.json_way[:-1]:
        holder = holder[part]
    return str(holder.get("id", ""))


def if_match(rpc: MethodDescriptor, found: list[Place], known: Known) -> Iterator[Probe]:
    """A stale etag in the header for calls that have a place for one, and any at all for those that have none."""
    rule = bindings(rpc)[0]

    def probe(document: Json, etag: str, label: str = "", **more: Any) -> Probe:
        good = http_request(rule, document)
        request = HttpRequest(verb=good.verb, path=good.path, body=good.body, headers=(("If-Match", etag),))
        return Probe(
            rpc=rpc, case="stale etag", label=f"If-Match: {label or etag}", transport=HTTP, request=request, **more
        )

    malformed: dict[str, Any] = {"at": "If-Match", "reasons": frozenset({"INVALID_VALUE"})}
    places = [place for place in found if _takes_if_match(place, rule)]
    for place in places:
        stale = known.stale.get(id_of(place), "another")
        for etag in (f'"{stale}"', f'W/"{stale}"', "another"):
            yield probe(
                place.document, etag, place=place, at=None, reasons=frozenset({"ETAG_MISMATCH"}),
                codes=frozenset({"ABORTED"}),
            )  # fmt: skip
        yield probe(place.document, '"a", "b"', "two", place=place, **malformed)
    if not places:
        for etag in ('"another"', "another", "*"):
            yield probe(found[0].document, etag, place=None, **malformed)


def _takes_if_match(place: Place, rule: HttpRule) -> bool:
    """Whether the field is the etag of the one thing that the call changes or deletes."""
    if place.field.name != "etag" or place.is_output_only:
        return False
    is_of_resource = len(place.hops) == 2 and place.hops[0].field.name == rule.body and not rule.post
    return len(place.hops) == 1 or is_of_resource
