"""Everything that can be wrong with every field of every RPC, made from the descriptors, over JSON and as a message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.api.annotations_pb2 import http
from google.api.field_behavior_pb2 import OUTPUT_ONLY, REQUIRED
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from orchestrator.api.descriptors import behaves, json_fields, message_in
from orchestrator.api.json_codec import read_request
from orchestrator.api.json_decode import decode
from orchestrator.api.message_check import check_message
from orchestrator.api.methods import services
from orchestrator.api.request_shapes import shape_of
from orchestrator.predicates.faults import Fault, under
from tests.acceptance.request_fields import is_passed_by
from tests.unit.api import bad_values
from tests.unit.api.bad_values import RAW, RAW_END
from tests.unit.api.good_requests import REQUESTS, Json

METHODS = {method.name: method for service in services() for method in service.methods}

# Written in a form of their own; nothing inside is a field to the caller.
LEAVES = {
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.Struct",
    "orchestrator.v1.PinpointExport",
    "google.protobuf.Timestamp",
    "orchestrator.v1.Predicate",
}

# Stands in the place of the steps that the good requests have; test_graph_form.py and test_graphs.py have it.
INSTEAD = {
    "orchestrator.v1.EntryCondition.include_definition_changes",
    "orchestrator.v1.EntryCondition.segment_id",
    "orchestrator.v1.EntryCondition.transition",
    "orchestrator.v1.JourneyDefinition.graph",
    "orchestrator.v1.JourneyDefinition.trigger_contract_id",
    "orchestrator.v1.JourneySchedule.at_time",
    "orchestrator.v1.JourneySchedule.everyone",
}

Place = tuple[str | int, ...]


def good(method: MethodDescriptor) -> Message:
    message, faults = decode(GetMessageClass(method.input_type), REQUESTS[method.name])
    assert faults == []
    return message


def fields_in(descriptor: Descriptor, document: Json, at: Place = ()) -> Iterator[tuple[FieldDescriptor, Place]]:
    """Each field that has a value in the document, with the way to it."""
    for way, field in json_fields(descriptor):
        if field.json_name not in document or any(is_passed_by(descriptor.fields_by_name[name]) for name in way):
            continue
        value, place = document[field.json_name], (*at, field.json_name)
        yield field, place
        if field.message_type is None or field.message_type.full_name in LEAVES or is_passed_by(field):
            continue
        for index, element in enumerate(value if field.is_repeated else [value]):
            yield from fields_in(message_in(field), element, (*place, index) if field.is_repeated else place)


def spoiled(document: Json, place: Place, value: Any) -> Json:
    """A copy of the document with another value in this place."""
    copy: Json = json.loads(json.dumps(document))
    target: Any = copy
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    return copy


def path_of(method: MethodDescriptor, place: Place) -> str:
    """The path that faults are told by: from the body on."""
    body = shape_of(method.input_type).body
    path = ""
    for part in place:
        path = under(path, part)
    if body is not None:
        name = method.input_type.fields_by_name[body].json_name
        path = re.sub(rf"^{name}(\.|$)", "", path)
    return path


def resource_place(method: MethodDescriptor) -> Place:
    """Where the resource is in calls that create or change one; else nowhere."""
    body = shape_of(method.input_type).body
    return () if body is None else (method.input_type.fields_by_name[body].json_name,)


def on_the_wire(method: MethodDescriptor, document: Json) -> tuple[str, bytes]:
    """The HTTP body that holds this part of a request, and the body of the call's rule that fits it."""
    body = method.GetOptions().Extensions[http].body
    part = document[method.input_type.fields_by_name[body].json_name] if body not in ("", "*") else document
    return body or "*", text_of(part)


def text_of(document: Json) -> bytes:
    return re.sub(f'"{RAW}(.*?){RAW_END}"', r"\1", json.dumps(document)).encode()


def is_in_body(method: MethodDescriptor, place: Place) -> bool:
    body = method.GetOptions().Extensions[http].body
    return body in ("", "*") or place[0] == method.input_type.fields_by_name[body].json_name


def is_told(faults: list[Fault], path: str, reason: str) -> bool:
    return any((fault.path, fault.reason) == (path, reason) for fault in faults)


@pytest.mark.parametrize("name", METHODS)
def test_a_good_request_is_not_refused(name: str) -> None:
    assert check_message(good(METHODS[name])) == []


@pytest.mark.parametrize("name", METHODS)
def test_the_good_requests_have_every_field_that_callers_can_give(name: str) -> None:
    given = {field.full_name for field, _ in fields_in(METHODS[name].input_type, REQUESTS[name])}
    pending, missing = [METHODS[name].input_type], []
    while pending:
        kind = pending.pop()
        for way, field in json_fields(kind):
            if behaves(field, OUTPUT_ONLY) or field.full_name in INSTEAD:
                continue
            if any(is_passed_by(kind.fields_by_name[name]) for name in way):
                continue
            if field.full_name not in given:
                missing.append(field.full_name)
            elif field.message_type is not None and not (is_passed_by(field) or field.message_type.full_name in LEAVES):
                pending.append(field.message_type)

    assert missing == []


@pytest.mark.parametrize("name", METHODS)
def test_json_is_refused_by_name_and_place_for_every_fault_of_every_field(name: str) -> None:
    method, tried = METHODS[name], 0
    for field, place in fields_in(method.input_type, REQUESTS[name]):
        if place == resource_place(method):
            continue
        for bad in bad_values.in_json(field):
            body, text = on_the_wire(method, spoiled(REQUESTS[name], place, bad.value))
            if not is_in_body(method, place):
                # Elsewhere in the URL or in a header; as a body it shows the same.
                body, text = "*", text_of(spoiled(REQUESTS[name], place, bad.value))
            _, faults = read_request(GetMessageClass(method.input_type), body_field=body, body=text, path={}, query=[])
            path = path_of(method, place)
            expected = f"{path}{bad.at}" if path else bad.at.lstrip(".")
            assert is_told(faults, expected, bad.reason), (bad.case, expected, bad.reason, faults)
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize("name", METHODS)
def test_messages_are_refused_by_name_and_place_for_every_fault_of_every_field(name: str) -> None:
    method, tried = METHODS[name], 0
    for field, place in fields_in(method.input_type, REQUESTS[name]):
        for bad in bad_values.in_message(field):
            request = good(method)
            bad.spoil(holder(request, place))
            path = path_of(method, place)
            expected = f"{path}{bad.at}" if path else bad.at.lstrip(".")

            faults = check_message(request)

            assert is_told(faults, expected, bad.reason), (bad.case, expected, bad.reason, faults)
            tried += 1
    assert tried >= 1


def holder(request: Message, place: Place) -> Any:
    """The message that has the field in this place."""
    message: Any = request
    for depth, part in enumerate(place, start=1):
        if isinstance(part, int):
            message = message[part]
            continue
        way, name = next((way, field.name) for way, field in json_fields(message.DESCRIPTOR) if field.json_name == part)
        for step in way if depth == len(place) else (*way, name):
            message = getattr(message, step)
    return message


@pytest.mark.parametrize("name", METHODS)
def test_what_is_required_is_refused_when_it_is_not_there(name: str) -> None:
    method = METHODS[name]
    is_update = "update_mask" in method.input_type.fields_by_name
    for field, place in fields_in(method.input_type, REQUESTS[name]):
        if not behaves(field, REQUIRED) or place == resource_place(method):
            continue
        if is_update and len(place) == 2:
            continue
        request = good(method)
        holder(request, place).ClearField(field.name)

        faults = check_message(request)

        assert [fault.reason for fault in faults if fault.path == path_of(method, place)] == ["REQUIRED"], place


@pytest.mark.parametrize("name", METHODS)
def test_fields_that_the_contract_does_not_have_are_refused_wherever_they_come_over_the_wire(name: str) -> None:
    method = METHODS[name]
    kind = GetMessageClass(method.input_type)
    request = kind.FromString(good(method).SerializeToString() + b"\xf8\x3f\x01")

    assert is_told(check_message(request), "#1023", "UNKNOWN_FIELD")
