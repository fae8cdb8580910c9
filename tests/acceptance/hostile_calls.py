"""Bad requests over both transports: every field of an RPC × every way in which such a field can be wrong."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor import MethodDescriptor

from orchestrator.api.field_limits import request_bytes
from tests.acceptance.good_calls import Json
from tests.acceptance.hostile_json import json_probes
from tests.acceptance.hostile_wire import UNKNOWN, wire_probes
from tests.acceptance.http_requests import http_request
from tests.acceptance.probes import GRPC, HTTP, MALFORMED, Known, Probe
from tests.acceptance.raw_calls import HttpRequest
from tests.acceptance.request_fields import Place, bindings, length_delimited, tag


def probes(rpc: MethodDescriptor, found: list[Place], document: Json, known: Known) -> Iterator[Probe]:
    """Every bad call of an RPC. `document` is a good request."""
    yield from _whole(rpc, document, found[0])
    for place in found:
        yield from json_probes(place, known)
        yield from wire_probes(place, known)


def _whole(rpc: MethodDescriptor, document: Json, some: Place) -> Iterator[Probe]:
    def http(case: str, label: str, request: HttpRequest, at: str | None, *reasons: str) -> Probe:
        return Probe(
            rpc=rpc,
            place=None,
            case=case,
            label=label,
            transport=HTTP,
            request=request,
            at=at,
            reasons=frozenset(reasons),
        )

    def grpc(case: str, label: str, message: bytes, at: str | None, *reasons: str) -> Probe:
        return Probe(
            rpc=rpc,
            place=None,
            case=case,
            label=label,
            transport=GRPC,
            request=message,
            at=at,
            reasons=frozenset(reasons),
        )

    rule = bindings(rpc)[0]
    good = http_request(rule, document)

    def body(text: bytes) -> HttpRequest:
        return HttpRequest(verb=good.verb, path=good.path, body=text)

    for label, text in (("text", b'"text"'), ("number", b"5"), ("list", b"[]"), ("null", b"null")):
        yield http("wrong type", label, body(text), None, "INVALID_TYPE")
    for label, text in (("no JSON", b"{"), ("not UTF-8", b'{"a": "\xff"}'), ("XML", b"<a/>")):
        yield http("wrong type", label, body(text), None, MALFORMED)
    yield http("too deep", "100,000 lists", body(b"[" * 100_000), None, "TOO_DEEP")
    if rule.body:
        yield http("unknown field", "member", body(b'{"noSuchField": 1}'), "noSuchField", "UNKNOWN_FIELD")
    else:
        yield http("unknown field", "a body", body(b'{"a": 1}'), None, MALFORMED)
    sign = "&" if "?" in good.path else "?"
    query = HttpRequest(verb=good.verb, path=f"{good.path}{sign}noSuchField=1", body=good.body)
    yield http("unknown field", "parameter", query, "noSuchField", "UNKNOWN_FIELD")
    most = request_bytes(rpc.input_type)
    huge = HttpRequest(verb=good.verb, path=good.path, withheld=most + 1)
    yield http("huge", "too many bytes", huge, None, "TOO_LARGE")
    message = some.request.SerializeToString()
    yield grpc("huge", "too many bytes", message + length_delimited(1023, b"x" * most), None, "TOO_LARGE")
    yield grpc("wrong type", "garbage", b"\xff\xff\xff\xff", None, MALFORMED)
    yield grpc("wrong type", "an end without a beginning", tag(1, 4), None, MALFORMED)
    yield grpc("unknown field", "field 1023", message + UNKNOWN, "#1023", "UNKNOWN_FIELD")
