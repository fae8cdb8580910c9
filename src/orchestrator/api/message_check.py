"""Requests as messages: what is wrong with them beyond their form, the same for both transports.

Paths are those of JSON and start at the body: the resource in calls that create or change one, else the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.api.field_behavior_pb2 import REQUIRED
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from orchestrator.api import field_masks
from orchestrator.api.descriptors import behaves, descriptor_of, given, is_inline, is_map
from orchestrator.api.field_checks import MAX_MASK_PATHS, check_of, required
from orchestrator.api.field_limits import request_bytes
from orchestrator.api.json_text import tell
from orchestrator.api.request_shapes import Shape, shape_of
from orchestrator.predicates.faults import Fault, under


def check_message(request: Message) -> list[Fault]:
    """Everything that is wrong with a request of one of our RPCs, whatever transport it came by.

    Also brings it into the one form in which handlers see it: output-only fields are cleared, a resource that is not
    there is an empty one, and `update_mask` names what to change: never nothing for everything, never `*`, no field
    that cannot be changed, each path as the contract spells it.
    """
    descriptor = descriptor_of(request)
    size = request.ByteSize()
    if size > (most := request_bytes(descriptor)):
        return [Fault(path="", reason="TOO_LARGE", message=f"a request has at most {most} bytes")]
    shape = shape_of(descriptor)
    faults = list(_unknown_fields(request, size, shape))
    is_update = "update_mask" in descriptor.fields_by_name
    if shape.body is not None:
        resource = getattr(request, shape.body)
        resource.SetInParent()
        check_of(descriptor_of(resource), partial=is_update)(resource, "", faults)
    check_of(descriptor, without=shape.body)(request, "", faults)
    for path in shape.named:
        at = shape.json_path(descriptor, path)
        if not field_masks.populated(request, path) and all(fault.path != at for fault in faults):
            faults.append(required(at))
    if is_update:
        assert shape.body is not None, "updates carry their resource"
        faults += _spell_out(request, resource)
    return faults


def divide(request: Message, faults: list[Fault]) -> tuple[list[Fault], dict[int, list[Fault]]]:
    """What is wrong with the request as a whole, and with each of those items that stand for themselves, by place."""
    items = shape_of(descriptor_of(request)).items
    whole: list[Fault] = []
    by_item: dict[int, list[Fault]] = {}
    for fault in faults:
        if items is not None and fault.path.startswith(f"{items}["):
            place = int(fault.path[len(items) + 1 :].split("]", 1)[0])
            by_item.setdefault(place, []).append(fault)
        else:
            whole.append(fault)
    return whole, by_item


def _spell_out(request: Any, resource: Message) -> list[Fault]:
    """Make `update_mask` say what is to be changed; returns what is wrong with it, or with what it asks for."""
    faults = []
    descriptor = descriptor_of(resource)
    asked = list(request.update_mask.paths[:MAX_MASK_PATHS])
    paths: dict[str, None] = {}
    if not asked:
        paths |= dict.fromkeys(field_masks.paths_of_message(resource))
    for path in asked:
        resolved = field_masks.resolve(descriptor, path)
        if path == field_masks.WHOLE:
            paths |= dict.fromkeys(field_masks.changeable_paths(descriptor))
        elif resolved is None:
            faults.append(Fault(path="updateMask", reason="UNKNOWN_FIELD", message=f"there is no field {tell(path)}"))
        elif field_masks.leads_to_changeable(descriptor, resolved):
            paths[resolved] = None
    request.update_mask.Clear()
    request.update_mask.paths.extend(sorted(paths))
    for path in paths:
        field = descriptor.fields_by_name.get(path)
        if field is not None and behaves(field, REQUIRED) and not field_masks.populated(resource, path):
            faults.append(required(field.json_name))
    return faults


def _unknown_fields(request: Message, size: int, shape: Shape) -> Iterator[Fault]:
    """Fields that came over the wire and are not in the contract."""
    known = type(request)()
    known.CopyFrom(request)
    known.DiscardUnknownFields()
    if known.ByteSize() == size:
        return
    pending: list[tuple[Message, str]] = [(request, "")]
    while pending:
        message, path = pending.pop()
        unknown = UnknownFieldSet(message)
        for place in range(len(unknown)):
            at = under(path, f"#{unknown[place].field_number}")
            yield Fault(path=at, reason="UNKNOWN_FIELD", message="this version of the contract has no such field")
        for field, value in given(message):
            if field.message_type is None:
                continue
            is_unnamed = is_inline(field) or _is_free(message) or (not path and field.name == shape.body)
            at = path if is_unnamed else under(path, field.json_name)
            if not field.is_repeated:
                pending.append((value, at))
            elif is_map(field):
                # Only objects of free form have maps: their members.
                pending.extend((value[name], under(at, tell(name))) for name in value)
            else:
                pending.extend((element, under(at, index)) for index, element in enumerate(value))


def _is_free(message: Message) -> bool:
    """Whether the message is part of a JSON value, whose members stand without the names of fields."""
    return descriptor_of(message).full_name in (
        "google.protobuf.ListValue",
        "google.protobuf.Struct",
        "google.protobuf.Value",
    )
