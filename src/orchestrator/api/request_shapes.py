"""What the contract says about a request as a whole: which of its fields is the HTTP body, and what its URL names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from google.api.annotations_pb2 import http
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor

from orchestrator.api import field_masks
from orchestrator.api.descriptors import message_in
from orchestrator.api.methods import services

_VARIABLE = re.compile(r"\{([a-z_.]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`body` is the field that stands for the resource in calls that create or change one; else None.

    `named` holds the paths that every URL of the call has a value for. `items` is the list whose elements stand for
    themselves: one that is wrong does not touch the others.
    """

    body: str | None
    named: tuple[str, ...]
    items: str | None

    def json_path(self, request: Descriptor, path: str) -> str:
        """A path of the request as faults tell it: in JSON spelling, from the body on."""
        if self.body is not None and path.startswith(f"{self.body}."):
            return field_masks.json_path(
                message_in(request.fields_by_name[self.body]), path.removeprefix(f"{self.body}.")
            )
        return field_masks.json_path(request, path)


_ITEMS = {
    "orchestrator.v1.IngestEventsRequest": "events",
    "orchestrator.v1.ReportDeliveriesRequest": "reports",
}


def shape_of(request: Descriptor) -> Shape:
    """The shape of a request of one of our RPCs. Raises KeyError for other messages."""
    return _shapes()[request.full_name]


@cache
def _shapes() -> dict[str, Shape]:
    return {
        method.input_type.full_name: _shape(method.input_type.full_name, method.GetOptions().Extensions[http])
        for service in services()
        for method in service.methods
    }


def _shape(request: str, rule: HttpRule) -> Shape:
    variables = [set(_VARIABLE.findall(url_of(binding))) for binding in (rule, *rule.additional_bindings)]
    return Shape(
        body=rule.body if rule.body not in ("", "*") else None,
        named=tuple(sorted(set.intersection(*variables))),
        items=_ITEMS.get(request),
    )


def holder_of_etag(request: Descriptor, verb: str, body: str) -> str | None:
    """Where the etag of an HTTP request belongs: the name of the field with the resource it brings, or empty for the
    request itself; None: it has no place for one.
    """
    if "etag" in request.fields_by_name:
        return ""
    if body in ("", "*") or verb.upper() == "POST":
        return None  # What is made has no earlier state.
    return body if "etag" in message_in(request.fields_by_name[body]).fields_by_name else None


def url_of(rule: HttpRule) -> str:
    """The URL template of a binding."""
    pattern = rule.WhichOneof("pattern")
    assert pattern is not None, "every binding has a URL"
    assert pattern != "custom", "every binding has a verb of its own"
    url: str = getattr(rule, pattern)
    return url
