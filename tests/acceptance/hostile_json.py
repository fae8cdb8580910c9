"""Fields that are wrong in JSON bodies, queries and paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.api.http_pb2 import HttpRule

from orchestrator.api.descriptors import message_in, owner_of
from orchestrator.api.field_limits import Id, list_limit, text_limit
from tests.acceptance.good_calls import Json
from tests.acceptance.hostile_meaning import Put, by_meaning
from tests.acceptance.http_requests import http_request, with_body
from tests.acceptance.probes import (
    HTTP,
    WORDS,
    Known,
    Probe,
    full_name,
    is_language,
    joined,
    others_in_oneof,
    short,
    too_long,
)
from tests.acceptance.raw_calls import HttpRequest
from tests.acceptance.request_fields import (
    DURATION,
    FIELD_MASK,
    PREDICATE,
    STRUCT,
    TIMESTAMP,
    VALUE,
    WINDOW,
    Place,
    bindings,
    variables,
)

_TEXT_KINDS = frozenset({"string", "enum", TIMESTAMP, DURATION, FIELD_MASK})

_JSON_TYPES = {
    "text": '"text"',
    "whole": "5",
    "fraction": "1.5",
    "true": "true",
    "list": "[]",
    "object": "{}",
}
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e400")


def json_probes(place: Place, known: Known) -> Iterator[Probe]:
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
            label or short(text),
            with_body(self.place, self.rule, text),
            at=None if within_predicate else joined(self.place.path, at),
            reasons=frozenset(reasons) if not is_language(self.place) else frozenset(),
        )

    def text(self, case: str, text: str, *reasons: str, codes: tuple[str, ...] = ("INVALID_ARGUMENT",)) -> Probe:
        """`text` is percent-encoded, in the URL's path or query."""
        request = http_request(self.rule, self.place.document, {self.place.dotted: [text]})
        at = self.place.path if "INVALID_ARGUMENT" in codes else None
        return self._probe(case, short(text), request, at=at, reasons=frozenset(reasons), codes=frozenset(codes))

    def texts(self, case: str, texts: list[str], *reasons: str) -> Probe:
        request = http_request(self.rule, self.place.document, {self.place.dotted: texts})
        return self._probe(case, short("&".join(texts)), request, at=self.place.path, reasons=frozenset(reasons))


def _in_body(place: Place, rule: HttpRule, known: Known) -> Iterator[Probe]:
    if place.is_body:
        return  # That is the body as a whole.
    make, kind = _Maker(place, rule).body, _json_kind(place)
    wrong = [text for name, text in _JSON_TYPES.items() if name not in _right_types(kind)]
    for text in wrong[-2:] if is_language(place) else wrong:
        yield make("wrong type", text, "INVALID_TYPE", "INVALID_VALUE")
    yield from _everywhere(place, rule, kind)
    yield from _by_kind(place, rule, kind)
    if isinstance(place.json_way[-1], str) and not place.is_alternative:
        yield _twice(place, rule)
    if others_in_oneof(place):
        yield from _both(place, rule)
    if place.is_required:
        for text in _empty(kind):
            yield make("empty", text, "REQUIRED")
    yield from by_meaning(
        place, known, HTTP, lambda text: with_body(place, rule, json.dumps([text] if kind == "list" else text))
    )


def _everywhere(place: Place, rule: HttpRule, kind: str) -> Iterator[Probe]:
    """What no field takes, whatever it is."""
    make = _Maker(place, rule).body
    if kind != "string":
        yield make("too long", json.dumps("x" * 20_000), *_NO_SUCH_VALUE)
    yield make("too deep", "[" * 400 + "]" * 400, *_NO_SUCH_VALUE)
    for case, text in (("NUL", '"a\\u0000b"'), ("lone surrogate", '"a\\ud800b"')):
        yield make(case, text, *_NO_SUCH_VALUE, "INVALID_VALUE")
    is_number = kind in ("integer", "double", VALUE)
    for text in _NO_NUMBERS if is_number else ("NaN", "1e400"):
        yield make("not a number", text, "INVALID_TYPE", "INVALID_VALUE", "OUT_OF_RANGE")
    for number in (2**53 + 1, 2**63, 10**50, -(2**53) - 1) if is_number else (2**53 + 1,):
        yield make("beyond 2^53", str(number), "INVALID_TYPE", "OUT_OF_RANGE")


_NO_SUCH_VALUE = ("INVALID_TYPE", "INVALID_VALUE", "UNKNOWN_ENUM_VALUE", "UNKNOWN_FIELD", "TOO_DEEP", "TOO_LONG")


def _by_kind(place: Place, rule: HttpRule, kind: str) -> Iterator[Probe]:
    make = _Maker(place, rule).body
    match kind:
        case "string":
            long = "x" * 20_000 if is_language(place) else too_long(place)
            yield make("too long", json.dumps(long), "TOO_LONG")
        case "enum":
            for text in ('"no such word"', '"unspecified"', '""', '"active\\u0000"'):
                yield make("unknown word", text, "UNKNOWN_ENUM_VALUE")
            yield make("unknown word", "99", "INVALID_TYPE")
        case "list":
            yield make("huge", json.dumps([None] * (list_limit(place.field) + 1)), "TOO_LARGE", label="too many")
            no_word = ("UNKNOWN_ENUM_VALUE",) if place.field.enum_type is not None else ()
            for case, text in (("wrong type", "[5]"), ("wrong type", "[[]]"), ("NUL", '["\\u0000"]')):
                yield make(case, text, "INVALID_TYPE", "INVALID_VALUE", *no_word, at="[0]")
            yield make("lone surrogate", '["\\ud800"]', "INVALID_TYPE", "INVALID_VALUE", *no_word, at="[0]")
            yield make("not a number", "[NaN]", "INVALID_TYPE", at="[0]")
            yield make("beyond 2^53", f"[{2**53 + 1}]", "INVALID_TYPE", at="[0]")
            if place.field.message_type is None:
                yield make("too long", json.dumps([too_long(place)]), "TOO_LONG", *no_word, at="[0]")
                yield make("empty", '[""]', "REQUIRED", *no_word, at="[0]")
            if no_word:
                yield make("unknown word", '["no such word"]', *no_word, at="[0]")
                yield make("unknown word", '["unspecified"]', *no_word, at="[0]")
            if place.field.message_type is not None and message_in(place.field).full_name != PREDICATE:
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
    if full_name(place) in WORDS:
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
    request = with_body(place, rule, "null")
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
    if place.is_alternative or is_language(place):
        return  # JSON has a kind there: see "node" and "window".
    *above, last = place.json_way
    for other in others_in_oneof(place):
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
            request=http_request(rule, document),
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
        yield make("too long", quote(too_long(place)), "TOO_LONG")
    if kind == FIELD_MASK:
        yield make("unknown field", "name,nonsense", "UNKNOWN_FIELD")
        yield make("unknown field", "name.first", "UNKNOWN_FIELD")
        yield make("too long", ",".join(["name"] * 101), "TOO_LARGE")
    for case, text in (("NUL", "a%00b"), ("lone surrogate", "a%ED%A0%80"), ("lone surrogate", "%FF")):
        yield make(case, text, *_NO_SUCH_VALUE)
    yield maker.texts("twice", ["1", "1"], "DUPLICATE_FIELD")
    yield from by_meaning(place, known, HTTP, _in_text(place, rule))


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
        yield make("too long", quote(too_long(place)), "TOO_LONG")
    for case, text in (("NUL", "a%00b"), ("lone surrogate", "a%ED%A0%80"), ("lone surrogate", "%FF")):
        yield make(case, text, "INVALID_VALUE", "INVALID_ID", "INVALID_TYPE")
    yield make("empty", "", "METHOD_NOT_FOUND", codes=("NOT_FOUND", "UNIMPLEMENTED"))
    yield from by_meaning(place, known, HTTP, _in_text(place, rule))


def _in_text(place: Place, rule: HttpRule) -> Put:
    return lambda text: http_request(rule, place.document, {place.dotted: [quote(text, safe="")]})


def _json_kind(place: Place) -> str:
    if place.kind == PREDICATE or (place.is_alternative and owner_of(place.field).full_name == PREDICATE):
        return "node"
    if place.kind == WINDOW or place.is_alternative:
        return "window"
    return place.kind


def _right_types(kind: str) -> tuple[str, ...]:
    """The JSON types that fields of this kind take."""
    match kind:
        case "bool":
            return ("true",)
        case "integer":
            return ("whole",)
        case "list":
            return ("list",)
        case "double":
            return ("whole", "fraction")
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


def _negations(levels: int) -> Json:
    node: Json = {"kind": "everyone"}
    for _ in range(levels - 1):
        node = {"kind": "not", "clause": node}
    return node
