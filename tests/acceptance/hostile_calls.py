"""Bad requests over both transports: every field of an RPC × every way in which such a field can be wrong.

A case that says nothing of a kind of field is left out for it: `CASES` says which ones mean what.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api.descriptors import enum_in, message_in, owner_of
from orchestrator.api.field_limits import Bytes, Characters, Id, list_limit, request_bytes, text_limit
from orchestrator.api.request_shapes import url_of
from tests.acceptance.good_calls import Json
from tests.acceptance.raw_calls import HttpRequest
from tests.acceptance.request_fields import (
    DURATION,
    FIELD_MASK,
    LEAVES,
    PREDICATE,
    STRUCT,
    TIMESTAMP,
    VALUE,
    VARIABLE,
    WINDOW,
    Place,
    bindings,
    length_delimited,
    tag,
    variables,
    varint,
)

CASES = {
    "wrong type": "every field",
    "too long": "every field in JSON; texts on the wire",
    "too deep": "every field in JSON; predicates and objects of free form on the wire",
    "NUL": "every field in JSON and in URLs; texts on the wire",
    "lone surrogate": "every field in JSON and in URLs; texts on the wire",
    "not a number": "every field in JSON; numbers and words in queries; numbers of free form on the wire",
    "beyond 2^53": "every field in JSON; numbers and words in queries; numbers on the wire",
    "year 99999": "times",
    "before 1900": "times",
    "unknown word": "enums, and texts that are words: channels, operators, kinds, zones",
    "unknown field": "messages, and the request itself",
    "page token": "page tokens: garbage, of another list, of another page of the same list's arguments",
    "stale etag": "etags and times of change, in requests and in If-Match",
    "other project": "ids of what another project has: refused as if there were no such thing",
    "huge": "lists, objects of free form, and the request itself",
    "twice": "every member of JSON and parameter of a query; every field on the wire",
    "both of a oneof": "members of oneofs",
    "empty": "what is required",
}

HTTP, GRPC = "http", "grpc"
TRUNCATED = "2^53 + 1 as a varint"
MALFORMED = "MALFORMED_REQUEST"

_MARK = "@@here@@"
_QUOTED_MARK = json.dumps(_MARK)
_TEXT_KINDS = frozenset({"string", "enum", TIMESTAMP, DURATION, FIELD_MASK})
_WORDS = frozenset(
    {"Communication.channel", "Audience.subject_type", "Subject.time_zone", "ProjectSettings.time_zone"}
    | {"AttributeLeaf.operator"}
)

_JSON_TYPES = {
    "text": '"text"',
    "whole": "5",
    "fraction": "1.5",
    "true": "true",
    "list": "[]",
    "object": "{}",
}
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e400")
_UNKNOWN = b"\xf8\x3f\x01"  # field 1023


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One bad call. `at`: the path by which its fault is told, or None where no field is at fault.

    `reasons`: those that may be told of it; none are named where the language of predicates decides.
    """

    rpc: MethodDescriptor
    place: Place | None
    case: str
    label: str
    transport: str
    request: HttpRequest | bytes
    at: str | None
    reasons: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset({"INVALID_ARGUMENT"})
    #: For page tokens: the list that gave it, if one did.
    token_of: str = ""
    #: For ids: the same call with an id that nothing has; the answers must not differ otherwise.
    twin: HttpRequest | bytes | None = None

    def __str__(self) -> str:
        where = self.place.name if self.place is not None else f"{self.rpc.name} (as a whole)"
        return f"{where} | {self.case} | {self.label} | {self.transport}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What tests know of the project that is called, and of another one. Ids are by the kind of thing.

    `absent` has as many characters as the foreign id, and is nowhere.
    """

    foreign: dict[str, str]
    stale: dict[str, str]
    stale_times: dict[str, str]
    tokens: dict[str, str]

    def absent(self, kind: str) -> str:
        return "absent".ljust(len(self.foreign[kind]), "-")


def probes(rpc: MethodDescriptor, found: list[Place], document: Json, known: Known) -> Iterator[Probe]:
    """Every bad call of an RPC. `document` is a good request."""
    yield from _whole(rpc, document, found[0])
    for place in found:
        yield from _json_probes(place, known)
        yield from _wire_probes(place, known)


# Requests as a whole


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
    good = _http_request(rule, document)

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
    yield grpc("unknown field", "field 1023", message + _UNKNOWN, "#1023", "UNKNOWN_FIELD")


# JSON: bodies, queries, paths


def _json_probes(place: Place, known: Known) -> Iterator[Probe]:
    if place.is_inline:
        return  # JSON knows its members only.
    for rule in bindings(place.rpc):
        if place.dotted in variables(rule):
            yield from _in_url(place, rule, known)
        elif rule.body == "*" or place.hops[0].field.name == rule.body:
            yield from _in_body(place, rule, known)
        elif len(place.hops) == 1:
            yield from _in_query(place, rule, known)
        else:
            raise NotImplementedError(f"{place.name} has no place in HTTP")


@dataclass(frozen=True, slots=True)
class _Maker:
    place: Place
    rule: HttpRule

    def _probe(self, case: str, label: str, request: HttpRequest, **more: Any) -> Probe:
        return Probe(
            rpc=self.place.rpc, place=self.place, case=case, label=label, transport=HTTP, request=request, **more
        )

    def body(
        self, case: str, text: str, *reasons: str, at: str = "", label: str = "", within_predicate: bool = False
    ) -> Probe:
        """`text` is JSON in place of the field's value; `at` is appended to its path.

        `within_predicate`: the predicate as a whole is at fault.
        """
        return self._probe(
            case,
            label or _short(text),
            _with_body(self.place, self.rule, text),
            at=None if within_predicate else _joined(self.place.path, at),
            reasons=frozenset(reasons) if not _is_language(self.place) else frozenset(),
        )

    def text(self, case: str, text: str, *reasons: str, codes: tuple[str, ...] = ("INVALID_ARGUMENT",)) -> Probe:
        """`text` is percent-encoded, in the URL's path or query."""
        request = _http_request(self.rule, self.place.document, {self.place.dotted: [text]})
        at = self.place.path if "INVALID_ARGUMENT" in codes else None
        return self._probe(case, _short(text), request, at=at, reasons=frozenset(reasons), codes=frozenset(codes))

    def texts(self, case: str, texts: list[str], *reasons: str) -> Probe:
        request = _http_request(self.rule, self.place.document, {self.place.dotted: texts})
        return self._probe(case, _short("&".join(texts)), request, at=self.place.path, reasons=frozenset(reasons))


def _in_body(place: Place, rule: HttpRule, known: Known) -> Iterator[Probe]:
    if place.is_body:
        return  # That is the body as a whole.
    make, kind = _Maker(place, rule).body, _json_kind(place)
    wrong = [text for name, text in _JSON_TYPES.items() if name not in _right_types(kind)]
    for text in wrong[-2:] if _is_language(place) else wrong:
        yield make("wrong type", text, "INVALID_TYPE", "INVALID_VALUE")
    yield from _everywhere(place, rule, kind)
    yield from _by_kind(place, rule, kind)
    if isinstance(place.json_way[-1], str) and not place.is_alternative:
        yield _twice(place, rule)
    if _others_in_oneof(place):
        yield from _both(place, rule)
    if place.is_required:
        for text in _empty(kind):
            yield make("empty", text, "REQUIRED")
    yield from _by_meaning(
        place, known, HTTP, lambda text: _with_body(place, rule, json.dumps([text] if kind == "list" else text))
    )


def _everywhere(place: Place, rule: HttpRule, kind: str) -> Iterator[Probe]:
    """What no field takes, whatever it is."""
    make = _Maker(place, rule).body
    if kind != "string":
        yield make("too long", json.dumps("x" * 20_000), *_NO_SUCH_VALUE)
    yield make("too deep", "[" * 400 + "]" * 400, *_NO_SUCH_VALUE)
    for case, text in (("NUL", '"a\\u0000b"'), ("lone surrogate", '"a\\ud800b"')):
        yield make(case, text, *_NO_SUCH_VALUE, "INVALID_VALUE")
    is_number = kind in ("integer", VALUE)
    for text in _NO_NUMBERS if is_number else ("NaN", "1e400"):
        yield make("not a number", text, "INVALID_TYPE", "INVALID_VALUE", "OUT_OF_RANGE")
    for number in (2**53 + 1, 2**63, 10**50, -(2**53) - 1) if is_number else (2**53 + 1,):
        yield make("beyond 2^53", str(number), "INVALID_TYPE", "OUT_OF_RANGE")


_NO_SUCH_VALUE = ("INVALID_TYPE", "INVALID_VALUE", "UNKNOWN_ENUM_VALUE", "UNKNOWN_FIELD", "TOO_DEEP", "TOO_LONG")


def _by_kind(place: Place, rule: HttpRule, kind: str) -> Iterator[Probe]:
    make = _Maker(place, rule).body
    match kind:
        case "string":
            long = "x" * 20_000 if _is_language(place) else _too_long(place)
            yield make("too long", json.dumps(long), "TOO_LONG")
        case "enum":
            for text in ('"no such word"', '"unspecified"', '""', '"active\\u0000"'):
                yield make("unknown word", text, "UNKNOWN_ENUM_VALUE")
            yield make("unknown word", "99", "INVALID_TYPE")
        case "list":
            yield make("huge", json.dumps([None] * (list_limit(place.field) + 1)), "TOO_LARGE", label="too many")
            for case, text in (("wrong type", "[5]"), ("wrong type", "[[]]"), ("NUL", '["\\u0000"]')):
                yield make(case, text, "INVALID_TYPE", "INVALID_VALUE", at="[0]")
            yield make("lone surrogate", '["\\ud800"]', "INVALID_TYPE", "INVALID_VALUE", at="[0]")
            yield make("not a number", "[NaN]", "INVALID_TYPE", at="[0]")
            yield make("beyond 2^53", f"[{2**53 + 1}]", "INVALID_TYPE", at="[0]")
            if place.field.message_type is None:
                yield make("too long", json.dumps(["a" * 129]), "TOO_LONG", at="[0]")
                yield make("empty", '[""]', "REQUIRED", at="[0]")
            elif message_in(place.field).full_name != PREDICATE:
                yield make("unknown field", '[{"noSuchField": 1}]', "UNKNOWN_FIELD", at="[0].noSuchField")
        case "message":
            yield make("unknown field", '{"noSuchField": 1}', "UNKNOWN_FIELD", at="noSuchField")
        case "node":
            yield make("unknown field", '{"kind": "everyone", "noSuchField": 1}', at="noSuchField")
            yield make("unknown word", '{"kind": "magic"}', at="kind")
            yield make("both of a oneof", '{"kind": "everyone", "clauses": []}', at="clauses")
            yield make("too deep", json.dumps(_negations(17)), label="17 levels")
            wide = {"kind": "or", "clauses": [{"kind": "everyone"}] * 201}
            yield make("huge", json.dumps(wide), label="201 leaves", within_predicate=True)
        case "window":
            yield make("unknown field", '{"type": "ever", "noSuchField": 1}', at="noSuchField")
            yield make("unknown word", '{"type": "never"}', at="type")
            yield make("both of a oneof", '{"type": "ever", "days": 7}', at="days")
        case name if name == TIMESTAMP:
            for year in ("99999", "10000", "2201"):
                yield make("year 99999", f'"{year}-01-01T00:00:00Z"', "OUT_OF_RANGE")
            for year in ("1899", "0001"):
                yield make("before 1900", f'"{year}-12-31T00:00:00Z"', "OUT_OF_RANGE")
            for text in ("soon", "", "2026-02-30T12:00:00Z", "2026-03-01T12:00:00"):
                yield make("wrong type", json.dumps(text), "INVALID_VALUE")
        case name if name == DURATION:
            for text in ("soon", "", "-5s", "P1M", "1.5h", "5"):
                yield make("wrong type", json.dumps(text), "INVALID_VALUE")
            yield make("huge", '"1043000w"', "OUT_OF_RANGE")
        case name if name == FIELD_MASK:
            yield make("unknown field", '"name,nonsense"', "UNKNOWN_FIELD")
        case name if name == STRUCT:
            yield from _objects(place, rule)
    if kind == VALUE or place.dotted.endswith("since.time"):
        yield make("year 99999", '"99999-01-01T00:00:00Z"')
        yield make("before 1900", '"1899-12-31T00:00:00Z"')
    if _full(place) in _WORDS:
        yield make("unknown word", '"no-such-word"', "INVALID_VALUE")


def _objects(place: Place, rule: HttpRule) -> Iterator[Probe]:
    make = _Maker(place, rule).body
    deep = "{}"
    for _ in range(24):
        deep = f'{{"d": {deep}}}'
    yield make("too deep", deep, "TOO_DEEP", at=".".join(["d"] * 24), label="25 objects")
    for case, value in (("NUL", '"\\u0000"'), ("lone surrogate", '"\\ud800"'), ("not a number", "NaN")):
        yield make(case, f'{{"a": {value}}}', "INVALID_VALUE", at="a")
    for case, name in (("NUL", "\\u0000"), ("lone surrogate", "\\ud800")):
        yield make(case, f'{{"{name}": 1}}', "INVALID_VALUE", at="?")
    yield make("not a number", '{"a": [1e400]}', "OUT_OF_RANGE", at="a[0]")
    yield make("beyond 2^53", f'{{"a": {2**53 + 1}}}', "OUT_OF_RANGE", at="a")
    yield make("huge", json.dumps({f"k{number}": number for number in range(501)}), "TOO_LARGE", label="501 members")
    yield make("too long", json.dumps({"a": "x" * 66_000}), "TOO_LARGE", label="66,000 bytes")
    yield make("twice", '{"a": 1, "a": 1}', "DUPLICATE_FIELD", at="a")


def _twice(place: Place, rule: HttpRule) -> Probe:
    """The member once more."""
    request = _with_body(place, rule, "null")
    name = json.dumps(place.json_way[-1])
    once = f"{name}: null".encode()
    assert request.body is not None
    assert request.body.count(once) == 1, "the member is found by its null"
    twice = HttpRequest(verb=request.verb, path=request.path, body=request.body.replace(once, once + b", " + once))
    return Probe(
        rpc=place.rpc,
        place=place,
        case="twice",
        label="null, null",
        transport=HTTP,
        request=twice,
        at=place.path,
        reasons=frozenset() if place.in_predicate else frozenset({"DUPLICATE_FIELD"}),
    )


def _both(place: Place, rule: HttpRule) -> Iterator[Probe]:
    """Each of the other members beside this one."""
    if place.is_alternative or _is_language(place):
        return  # JSON has a kind there: see "node" and "window".
    *above, last = place.json_way
    for other in _others_in_oneof(place):
        document = json.loads(json.dumps(place.document))
        holder: Any = document
        for part in above:
            holder = holder[part]
        holder.setdefault(last, {})
        holder[other.json_name] = {}
        path = place.path.rpartition(".")[0]
        yield Probe(
            rpc=place.rpc,
            place=place,
            case="both of a oneof",
            label=other.name,
            transport=HTTP,
            request=_http_request(rule, document),
            at=path,
            reasons=frozenset({"INVALID_VALUE"}),
        )


def _in_query(place: Place, rule: HttpRule, known: Known) -> Iterator[Probe]:
    maker, kind = _Maker(place, rule), place.kind
    make = maker.text
    if kind in ("integer", "bool"):
        for text in ("x", "1.5", "%5B%5D", "%7B%7D", "", "+", "0x10"):
            yield make("wrong type", text, "INVALID_TYPE")
    if kind == "enum":
        for text in ("no_such", "99", "unspecified", ""):
            yield make("unknown word", text, "UNKNOWN_ENUM_VALUE")
    if kind in ("integer", "bool", "enum"):
        yield make("too long", "9" * 5000, *_NO_SUCH_VALUE)
        for text in (*_NO_NUMBERS, "nan"):
            yield make("not a number", text, *_NO_SUCH_VALUE)
        for number in (2**53 + 1, 2**31, 2**64, -1):
            yield make("beyond 2^53", str(number), *_NO_SUCH_VALUE, "OUT_OF_RANGE")
    if kind == "string":
        yield make("too long", quote(_too_long(place)), "TOO_LONG")
    if kind == FIELD_MASK:
        yield make("unknown field", "name,nonsense", "UNKNOWN_FIELD")
        yield make("unknown field", "name.first", "UNKNOWN_FIELD")
        yield make("too long", ",".join(["name"] * 101), "TOO_LARGE")
    for case, text in (("NUL", "a%00b"), ("lone surrogate", "a%ED%A0%80"), ("lone surrogate", "%FF")):
        yield make(case, text, *_NO_SUCH_VALUE)
    yield maker.texts("twice", ["1", "1"], "DUPLICATE_FIELD")
    yield from _by_meaning(place, known, HTTP, _in_text(place, rule))


def _in_url(place: Place, rule: HttpRule, known: Known) -> Iterator[Probe]:
    make, kind = _Maker(place, rule).text, place.kind
    if kind == "integer":
        for text in ("x", "1.5", "%5B%5D"):
            yield make("wrong type", text, "INVALID_TYPE")
        for text in ("NaN", "Infinity"):
            yield make("not a number", text, "INVALID_TYPE")
        for number in (2**53 + 1, 2**31, -1, 0):
            yield make("beyond 2^53", str(number), "OUT_OF_RANGE", "REQUIRED")
        yield make("too long", "9" * 5000, "INVALID_TYPE")
    elif isinstance(text_limit(place.field), Id):
        for text in ("%5B%5D", "a%20b", "a%2Fb", "%2E%2E", "%C3%A9"):
            yield make("wrong type", text, "INVALID_ID", "INVALID_VALUE")
    if kind == "string":
        yield make("too long", quote(_too_long(place)), "TOO_LONG")
    for case, text in (("NUL", "a%00b"), ("lone surrogate", "a%ED%A0%80"), ("lone surrogate", "%FF")):
        yield make(case, text, "INVALID_VALUE", "INVALID_ID", "INVALID_TYPE")
    yield make("empty", "", "METHOD_NOT_FOUND", codes=("NOT_FOUND", "UNIMPLEMENTED"))
    yield from _by_meaning(place, known, HTTP, _in_text(place, rule))


def _in_text(place: Place, rule: HttpRule) -> _Put:
    return lambda text: _http_request(rule, place.document, {place.dotted: [quote(text, safe="")]})


# The wire


def _wire_probes(place: Place, known: Known) -> Iterator[Probe]:
    number, kind = place.field.number, place.kind
    right = 0 if kind in ("integer", "bool", "enum") else 2

    def make(case: str, replacement: bytes, at: str | None, *reasons: str, label: str, **more: Any) -> Probe:
        return Probe(
            rpc=place.rpc, place=place, case=case, label=label, transport=GRPC, request=place.wire(replacement), at=at,
            reasons=frozenset(reasons), **more,
        )  # fmt: skip

    contents = {0: b"\x05", 1: b"\0" * 8, 2: varint(2) + b"ab", 5: b"\0" * 4}
    unknown = _joined(place.wire_path, f"#{number}")
    for wire_type, content in contents.items():
        if wire_type != right:
            label = f"wire type {wire_type}"
            yield make("wrong type", tag(number, wire_type) + content, unknown, "UNKNOWN_FIELD", label=label)
    for wire_type in (3, 6):
        yield make("wrong type", tag(number, wire_type), None, MALFORMED, label=f"wire type {wire_type}")
    yield make("wrong type", tag(number, right) + b"\xff", None, MALFORMED, label="cut off")
    for case, label, content, reasons, at in _contents(place):
        yield make(case, content, at, *reasons, label=label)
    if kind in (PREDICATE, WINDOW, "message", *LEAVES):
        good = _given(place)
        within = _joined(place.wire_path_within, "#1023")
        yield make("unknown field", length_delimited(number, good + _UNKNOWN), within, "UNKNOWN_FIELD", label="#1023")
        yield make("wrong type", length_delimited(number, b"\xff\xff"), None, MALFORMED, label="garbage inside")
    if kind != "list" and not place.is_body:
        once = _once(place)
        yield make("twice", once + once, place.path, label="last one counts")
    for other in _others_in_oneof(place):
        beside = _once(place) + length_delimited(other.number, b"")
        yield make("both of a oneof", beside, place.path, label=f"{other.name}, the last one counts")
    if place.is_required:
        reasons = () if _is_language(place) else ("REQUIRED",)
        yield make("empty", b"", None if place.is_body else place.path, *reasons, label="absent")

    def put(text: str) -> bytes:
        return place.wire(length_delimited(number, _timestamp_of(text) if kind == TIMESTAMP else text.encode()))

    yield from _by_meaning(place, known, GRPC, put)


_Content = tuple[str, str, bytes, tuple[str, ...], str | None]


def _contents(place: Place) -> Iterator[_Content]:
    """(case, label, bytes in place of the field, reasons, path)"""
    number, kind, path = place.field.number, place.kind, place.path

    def inside(content: bytes) -> bytes:
        return length_delimited(number, content)

    match kind:
        case "string":
            language = _is_language(place)
            long = ("x" * 20_000 if language else _too_long(place)).encode()
            yield "too long", _short(long.decode()), inside(long), () if language else ("TOO_LONG",), path
            yield "NUL", "a, NUL, b", inside(b"a\0b"), () if language else ("INVALID_VALUE",), path
            for label, content in (("half of a pair", b"a\xed\xa0\x80"), ("no UTF-8", b"\xff\xfe")):
                yield "lone surrogate", label, inside(content), (MALFORMED,), None
        case "enum":
            for value in (99, -1, 2**31 - 1):
                assert value not in enum_in(place.field).values_by_number
                content = tag(number, 0) + varint(value)
                yield "unknown word", str(value), content, ("UNKNOWN_ENUM_VALUE",), path
        case "integer":
            for value in (-1, 2**31):
                reasons = () if _is_language(place) else ("OUT_OF_RANGE",)
                yield "beyond 2^53", str(value), tag(number, 0) + varint(value), reasons, path
            yield "beyond 2^53", TRUNCATED, tag(number, 0) + varint(2**53 + 1), (), path
        case "list":
            yield from _list_contents(place)
        case name if name == TIMESTAMP:
            for case, seconds in (("year 99999", 3_093_527_980_800), ("before 1900", -2_208_988_801)):
                yield case, str(seconds), inside(_varints(seconds)), ("OUT_OF_RANGE",), path
            yield "beyond 2^53", "2^53 + 1", inside(_varints(2**53 + 1)), ("OUT_OF_RANGE",), path
            for nanos in (-1, 10**9):
                yield "wrong type", f"{nanos} nanos", inside(_varints(0, nanos)), ("INVALID_VALUE",), path
        case name if name == DURATION:
            yield "beyond 2^53", "2^53 + 1", inside(_varints(2**53 + 1)), ("OUT_OF_RANGE",), path
            yield "wrong type", "negative", inside(_varints(-5)), ("INVALID_VALUE",), path
            for nanos in (-1, 1, 10**9):
                yield "wrong type", f"{nanos} nanos", inside(_varints(5, nanos)), ("INVALID_VALUE",), path
        case name if name == FIELD_MASK:
            for label, text in (("nonsense", b"nonsense"), ("into a text", b"name.first"), ("NUL", b"a\0")):
                case = "NUL" if label == "NUL" else "unknown field"
                yield case, label, inside(length_delimited(1, text)), ("UNKNOWN_FIELD",), path
            yield "lone surrogate", "no UTF-8", inside(length_delimited(1, b"\xff")), (MALFORMED,), None
            yield "huge", "101 paths", inside(length_delimited(1, b"name") * 101), ("TOO_LARGE",), path
        case name if name == STRUCT:
            yield from _struct_contents(place)
        case name if name == VALUE:
            for label, double in _BAD_DOUBLES.items():
                yield "not a number", label, inside(double), (), path
            yield "too deep", "150 lists", inside(_lists(150)), (MALFORMED,), None
            yield "too deep", "20 lists", inside(_lists(20)), (), path
            yield "NUL", "text", inside(length_delimited(3, b"\0")), (), path
            yield "lone surrogate", "no UTF-8", inside(length_delimited(3, b"\xff")), (MALFORMED,), None
            yield "too long", "20,000 bytes", inside(length_delimited(3, b"x" * 20_000)), (), path
            for case, text in (("year 99999", b"99999-01-01T00:00:00Z"), ("before 1900", b"1899-12-31T00:00:00Z")):
                yield case, text.decode(), inside(length_delimited(3, text)), (), path
            yield "wrong type", "no kind", inside(b""), (), path
        case name if name == PREDICATE:
            yield "unknown word", "empty", inside(b""), (), path
            yield "too deep", "17 levels", inside(_wire_negations(16)), (), path
            yield "too deep", "150 levels", inside(_wire_negations(150)), (MALFORMED,), None
            yield "huge", "201 leaves", inside(length_delimited(7, length_delimited(1, b"\x0a\0") * 201)), (), None
        case name if name == WINDOW:
            yield "unknown word", "empty", inside(b""), (), path
    if _full(place) in _WORDS:
        reasons = () if _is_language(place) else ("INVALID_VALUE",)
        yield "unknown word", "no-such-word", inside(b"no-such-word"), reasons, path
    if place.dotted.endswith("since.time"):
        for case, text in (("year 99999", b"99999-01-01T00:00:00Z"), ("before 1900", b"1899-12-31T00:00:00Z")):
            yield case, text.decode(), inside(text), (), path


def _list_contents(place: Place) -> Iterator[_Content]:
    number, path = place.field.number, place.path
    most = list_limit(place.field)
    if place.field.message_type is not None:
        reasons = () if _is_language(place) else ("TOO_LARGE",)
        at = path if reasons else None
        yield "huge", "too many", length_delimited(number, b"") * (most + 1), reasons, at
        unknown = _joined(f"{place.wire_path_within}[0]", "#1023")
        yield "unknown field", "#1023", length_delimited(number, _UNKNOWN), ("UNKNOWN_FIELD",), unknown
        return
    yield "huge", "too many", length_delimited(number, b"a") * (most + 1), ("TOO_LARGE",), path
    yield "too long", "129", length_delimited(number, b"a" * 129), ("TOO_LONG",), f"{path}[0]"
    yield "NUL", "a, NUL", length_delimited(number, b"a\0"), ("INVALID_VALUE",), f"{path}[0]"
    yield "lone surrogate", "no UTF-8", length_delimited(number, b"\xff"), (MALFORMED,), None
    yield "empty", "an empty element", length_delimited(number, b""), ("REQUIRED",), f"{path}[0]"


def _struct_contents(place: Place) -> Iterator[_Content]:
    number, path = place.field.number, place.path

    def member(name: bytes, value: bytes) -> bytes:
        return length_delimited(1, length_delimited(1, name) + length_delimited(2, value))

    def inside(content: bytes) -> bytes:
        return length_delimited(number, content)

    deep = b""
    for _ in range(24):
        deep = member(b"d", length_delimited(5, deep))
    yield "too deep", "25 objects", inside(deep), ("TOO_DEEP",), path
    yield "too deep", "150 lists", inside(member(b"a", _lists(150))), (MALFORMED,), None
    for label, double in _BAD_DOUBLES.items():
        yield "not a number", label, inside(member(b"a", double)), ("INVALID_VALUE",), f"{path}.a"
    yield "NUL", "text", inside(member(b"a", length_delimited(3, b"\0"))), ("INVALID_VALUE",), f"{path}.a"
    yield "NUL", "name", inside(member(b"\0", length_delimited(3, b"a"))), ("INVALID_VALUE",), f"{path}.?"
    yield "lone surrogate", "text", inside(member(b"a", length_delimited(3, b"\xff"))), (MALFORMED,), None
    yield "lone surrogate", "name", inside(member(b"\xff", length_delimited(3, b"a"))), (MALFORMED,), None
    one = tag(2, 1) + struct.pack("<d", 1.0)
    many = b"".join(member(f"k{index}".encode(), one) for index in range(501))
    yield "huge", "501 members", inside(many), ("TOO_LARGE",), path
    large = member(b"a", length_delimited(3, b"x" * 66_000))
    yield "too long", "66,000 bytes", inside(large), ("TOO_LARGE",), path
    yield "unknown field", "in a value", inside(member(b"a", _UNKNOWN)), ("UNKNOWN_FIELD",), path
    wrong = member(b"a", tag(3, 0) + b"\x05")
    yield "wrong type", "a number as a text", inside(wrong), ("UNKNOWN_FIELD",), path
    nested = member(b"a", length_delimited(6, length_delimited(1, _UNKNOWN)))
    yield "unknown field", "in a list", inside(nested), ("UNKNOWN_FIELD",), path


_BAD_DOUBLES = {
    str(number): tag(2, 1) + struct.pack("<d", number) for number in (float("nan"), float("inf"), float("-inf"))
}


def _lists(levels: int) -> bytes:
    value = b""
    for _ in range(levels):
        value = length_delimited(6, length_delimited(1, value))
    return value


def _wire_negations(levels: int) -> bytes:
    node = length_delimited(1, b"")
    for _ in range(levels):
        node = length_delimited(8, node)
    return node


def _varints(*values: int) -> bytes:
    return b"".join(tag(place, 0) + varint(value) for place, value in enumerate(values, start=1) if value)


def _timestamp_of(text: str) -> bytes:
    time = Timestamp()
    time.FromJsonString(text)
    return time.SerializeToString()


def _given(place: Place) -> bytes:
    """The content of a message field in the good request; nothing where it has none."""
    parent = place.parent()
    content: bytes = getattr(parent, place.field.name).SerializeToString()
    return content


def _once(place: Place) -> bytes:
    """The field with its tag, as the good request has it; else with some value."""
    parent, number = place.parent(), place.field.number
    if place.field.message_type is not None:
        return length_delimited(number, _given(place))
    value = getattr(parent, place.field.name)
    if place.kind == "string":
        return length_delimited(number, value.encode())
    return tag(number, 0) + varint(int(value))


# What values mean


#: By field: whose id it is. Others called *_id, too, where they name something of a project.
_REFERENCES = {
    "audience_id": "audience",
    "trigger_contract_id": "trigger_contract",
    "communication_id": "communication",
    "cohort_id": "segment",
    "segment_id": "segment",
    "journey_id": "journey",
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
_Put = Callable[[str], HttpRequest | bytes]


def _by_meaning(place: Place, known: Known, transport: str, put: _Put) -> Iterator[Probe]:
    def probe(case: str, text: str, at: str | None, reason: str, code: str) -> Probe:
        return Probe(
            rpc=place.rpc, place=place, case=case, label=_short(text), transport=transport, request=put(text), at=at,
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
        for text in sorted({stale.get(_id_of(place), other), other}):
            yield probe("stale etag", text, None, "ETAG_MISMATCH", "ABORTED")
    kind = reference(place)
    if kind is not None:
        foreign = known.foreign[kind]
        codes = {"NOT_FOUND"} if place.is_named else {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
        yield Probe(
            rpc=place.rpc, place=place, case="other project", label=foreign, transport=transport, request=put(foreign),
            at=None, codes=frozenset(codes), twin=put(known.absent(kind)),
        )  # fmt: skip


def _id_of(place: Place) -> str:
    """The id that the good request names beside this field."""
    for hop in place.rpc.input_type.fields:
        if hop.name.endswith("_id") and hop.name != "request_id":
            return str(place.document.get(hop.json_name, ""))
    holder: Any = place.document
    for part in place.json_way[:-1]:
        holder = holder[part]
    return str(holder.get("id", ""))


def if_match(rpc: MethodDescriptor, found: list[Place], known: Known) -> Iterator[Probe]:
    """A stale etag in the header, for calls that have a place for one."""
    for place in found:
        if place.field.name != "etag" or place.is_output_only:
            continue
        rule = bindings(rpc)[0]
        good = _http_request(rule, place.document)
        stale = known.stale.get(_id_of(place), "another")
        for etag in (f'"{stale}"', f'W/"{stale}"', "another"):
            request = HttpRequest(verb=good.verb, path=good.path, body=good.body, headers=(("If-Match", etag),))
            yield Probe(
                rpc=rpc, place=place, case="stale etag", label=f"If-Match: {etag}", transport=HTTP, request=request,
                at=None, reasons=frozenset({"ETAG_MISMATCH"}), codes=frozenset({"ABORTED"}),
            )  # fmt: skip
        request = HttpRequest(verb=good.verb, path=good.path, body=good.body, headers=(("If-Match", '"a", "b"'),))
        yield Probe(
            rpc=rpc, place=place, case="stale etag", label="If-Match: two", transport=HTTP, request=request,
            at="If-Match", reasons=frozenset({"INVALID_VALUE"}),
        )  # fmt: skip


# Parts of requests


def good_http(rpc: MethodDescriptor, document: Json) -> HttpRequest:
    """The request by its first binding."""
    return _http_request(bindings(rpc)[0], document)


def _http_request(rule: HttpRule, document: Json, texts: dict[str, list[str]] | None = None) -> HttpRequest:
    """`texts` replaces variables and parameters, by their names in the contract; they are percent-encoded already."""
    texts = texts or {}
    rest = json.loads(json.dumps(document))
    values = {}
    for variable in variables(rule):
        *way, last = (_camel(part) for part in variable.split("."))
        holder = rest
        for part in way:
            holder = holder[part]
        value = quote(str(holder.pop(last, "")), safe="")
        values[variable] = texts[variable][0] if variable in texts else value
    url = VARIABLE.sub(lambda variable: values[variable[1]], url_of(rule))
    body, query = None, rest
    if rule.body == "*":
        body, query = json.dumps(rest).encode(), {}
    elif rule.body:
        body = json.dumps(rest.pop(_camel(rule.body), {})).encode()
    parameters = [
        (name, quote(value if isinstance(value, str) else json.dumps(value), safe=""))
        for name, value in query.items()
        if name not in map(_camel, texts)
    ]
    parameters += [(_camel(name), text) for name, found in texts.items() if name not in values for text in found]
    text = "&".join(f"{name}={value}" for name, value in parameters)
    verb = str(rule.WhichOneof("pattern")).upper()
    return HttpRequest(verb=verb, path=f"{url}?{text}" if text else url, body=body)


def _with_body(place: Place, rule: HttpRule, text: str) -> HttpRequest:
    """The good request with this JSON in place of the field's value."""
    document = json.loads(json.dumps(place.document))
    holder: Any = document
    for part in place.json_way[:-1]:
        holder = holder[part]
    holder[place.json_way[-1]] = _MARK
    template = _http_request(rule, document)
    assert template.body is not None
    quoted = _QUOTED_MARK.encode()
    assert template.body.count(quoted) == 1
    return HttpRequest(verb=template.verb, path=template.path, body=template.body.replace(quoted, text.encode()))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _full(place: Place) -> str:
    return f"{owner_of(place.field).name}.{place.field.name}"


def _json_kind(place: Place) -> str:
    if place.kind == PREDICATE or (place.is_alternative and owner_of(place.field).full_name == PREDICATE):
        return "node"
    if place.kind == WINDOW or place.is_alternative:
        return "window"
    return place.kind


def _is_language(place: Place) -> bool:
    return place.in_predicate or place.kind == PREDICATE


def _right_types(kind: str) -> tuple[str, ...]:
    """The JSON types that fields of this kind take."""
    match kind:
        case "bool":
            return ("true",)
        case "integer":
            return ("whole",)
        case "list":
            return ("list",)
        case name if name == VALUE:
            return ("whole", "fraction")
        case _ if kind in _TEXT_KINDS:
            return ("text",)
        case _:
            return ("object",)


def _empty(kind: str) -> tuple[str, ...]:
    match kind:
        case "string":
            return ('""', "null")
        case "list":
            return ("[]", "null")
        case _:
            return ("null",)


def _too_long(place: Place) -> str:
    match text_limit(place.field):
        case Id():
            return "a" * 129
        case Characters(most):
            return "é" * (most + 1)
        case Bytes(most):
            return "é" * (most // 2) + "ab"


def _others_in_oneof(place: Place) -> list[FieldDescriptor]:
    """The other members of the field's oneof; none for what is merely optional."""
    oneof = place.field.containing_oneof
    return [] if oneof is None else [other for other in oneof.fields if other.number != place.field.number]


def _negations(levels: int) -> Json:
    node: Json = {"kind": "everyone"}
    for _ in range(levels - 1):
        node = {"kind": "not", "clause": node}
    return node


def _joined(path: str, further: str) -> str:
    if not path or not further:
        return path or further
    return f"{path}{further}" if further.startswith("[") else f"{path}.{further}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}… ({len(text):,} characters)"
