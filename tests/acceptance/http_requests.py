"""Requests over HTTP, from documents: good ones, and such as differ in one place."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor

from orchestrator.api.request_shapes import url_of
from tests.acceptance.good_calls import Json
from tests.acceptance.raw_calls import HttpRequest
from tests.acceptance.request_fields import VARIABLE, Place, bindings, variables

_MARK = "@@here@@"
_QUOTED_MARK = json.dumps(_MARK)


def good_http(rpc: MethodDescriptor, document: Json) -> HttpRequest:
    """The request by its first binding."""
    return http_request(bindings(rpc)[0], document)


def http_request(rule: HttpRule, document: Json, texts: dict[str, list[str]] | None = None) -> HttpRequest:
    """`texts` replaces variables and parameters, by their names in the contract; they are percent-encoded already."""
    texts = texts or {}
    rest = json.loads(json.dumps(document))
    values = {}
    for variable in variables(rule):
        *way, last = (camel(part) for part in variable.split("."))
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
        body = json.dumps(rest.pop(camel(rule.body), {})).encode()
    parameters = [
        (name, quote(value if isinstance(value, str) else json.dumps(value), safe=""))
        for name, values_of in query.items()
        if name not in map(camel, texts)
        for value in (values_of if isinstance(values_of, list) else [values_of])
    ]
    parameters += [(camel(name), text) for name, found in texts.items() if name not in values for text in found]
    text = "&".join(f"{name}={value}" for name, value in parameters)
    verb = str(rule.WhichOneof("pattern")).upper()
    return HttpRequest(verb=verb, path=f"{url}?{text}" if text else url, body=body)


def with_body(place: Place, rule: HttpRule, text: str) -> HttpRequest:
    """The good request with this JSON in place of the field's value."""
    document = json.loads(json.dumps(place.document))
    holder: Any = document
    for part in place.json_way[:-1]:
        holder = holder[part]
    holder[place.json_way[-1]] = _MARK
    template = http_request(rule, document)
    assert template.body is not None
    quoted = _QUOTED_MARK.encode()
    assert template.body.count(quoted) == 1
    return HttpRequest(verb=template.verb, path=template.path, body=template.body.replace(quoted, text.encode()))


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
