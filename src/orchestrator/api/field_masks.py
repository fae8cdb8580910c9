"""Which fields an update changes, and changing them.

A path names a field of the resource, or of one of the messages inside it whose fields stand for themselves
(`goal.window`). Everything else (a predicate, steps, re-entry) is replaced as a whole. The members of a journey's
definition are named as in JSON (`audienceId`) or as in the contract (`definition.audience_id`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.api.field_behavior_pb2 import OUTPUT_ONLY
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from orchestrator.api.descriptors import behaves, given, is_inline, json_fields

#: Messages that an update goes into.
_DIVISIBLE = frozenset({
    "orchestrator.v1.Goal",
    "orchestrator.v1.JourneyDefinition",
    "orchestrator.v1.ProjectSettings",
})  # fmt: skip

#: What says which resource is meant, and which state of it.
_IDENTITY = frozenset({"id", "etag", "update_time"})

WHOLE = "*"


def is_divisible(message: Descriptor) -> bool:
    """Whether an update can change some fields of such a message and leave the others."""
    return message.full_name in _DIVISIBLE


def changeable_paths(resource: Descriptor) -> list[str]:
    """The top-level paths of everything that an update can change."""
    return [field.name for field in resource.fields if _is_changeable(field)]


def resolve(resource: Descriptor, path: str) -> str | None:
    """A path in the contract's spelling, from either spelling; None: there is no such field."""
    names: list[str] = []
    message: Descriptor | None = resource
    for part in path.split("."):
        found = _member(message, part) if message is not None else None
        if found is None:
            return None
        way, field = found
        names += [*way, field.name]
        message = _inside(field)
    return ".".join(names)


def as_in_messages(resource: Descriptor, path: str) -> str:
    """A path of a URL as messages have it: a name that JSON has for a field means that field, and not one of this name
    that JSON does not know."""
    found = _json_member(resource, path)
    return ".".join((*found[0], found[1].name)) if found is not None else path


def leads_to_changeable(resource: Descriptor, path: str) -> bool:
    """Whether an update can change what a resolved path names."""
    return _is_changeable(resource.fields_by_name[path.split(".")[0]])


def paths_of_document(resource: Descriptor, document: dict[str, Any]) -> list[str]:
    """The paths of the members that a JSON document has, whatever their values: null takes a field's value away."""
    paths: list[str] = []
    for name, value in document.items():
        found = _json_member(resource, name)
        if found is None or not _is_changeable(found[1]):
            continue
        way, field = found
        at = ".".join((*way, field.name))
        inside = _inside(field)
        if inside is not None and isinstance(value, dict):
            paths += [f"{at}.{path}" for path in paths_of_document(inside, value)]
        else:
            paths.append(at)
    return paths


def paths_of_message(message: Message) -> list[str]:
    """The paths of the fields that are set in a message."""
    paths: list[str] = []
    for field, value in given(message):
        if not _is_changeable(field):
            continue
        if _inside(field) is not None:
            paths += [f"{field.name}.{path}" for path in paths_of_message(value)]
        else:
            paths.append(field.name)
    return paths


def apply_update(resource: Message, changes: Message, paths: Iterable[str]) -> None:
    """Give the named fields of `resource` the values they have in `changes`; what is not set there is cleared."""
    for path in paths:
        *way, name = path.split(".")
        target, source = resource, changes
        for step in way:
            target, source = getattr(target, step), getattr(source, step)
        target.ClearField(name)
        for field, value in given(source):
            if field.name != name:
                continue
            if field.is_repeated or field.message_type is not None:
                _copy(target, name, value, repeated=field.is_repeated)
            else:
                setattr(target, name, value)


def populated(message: Message, path: str) -> bool:
    """Whether a field has a value other than its empty one."""
    *way, name = path.split(".")
    for step in way:
        message = getattr(message, step)
    return any(field.name == name for field, _ in given(message))


def json_path(resource: Descriptor, path: str) -> str:
    """A resolved path as it is spelled in JSON."""
    return ".".join(_json_names(resource, path))


def _json_names(resource: Descriptor, path: str) -> Iterator[str]:
    message: Descriptor | None = resource
    for name in path.split("."):
        assert message is not None, "resolved paths end where messages do"
        field = message.fields_by_name[name]
        if not is_inline(field):
            yield field.json_name
        message = field.message_type


def _copy(target: Message, name: str, value: Any, *, repeated: bool) -> None:
    if repeated:
        getattr(target, name).MergeFrom(value)
    else:
        getattr(target, name).CopyFrom(value)


def _member(message: Descriptor, name: str) -> tuple[tuple[str, ...], FieldDescriptor] | None:
    """A field by either spelling, with the way to the message that has it: those of inline messages stand here too."""
    if (named := message.fields_by_name.get(name)) is not None:
        return (), named
    return _json_member(message, name)


def _json_member(message: Descriptor, name: str) -> tuple[tuple[str, ...], FieldDescriptor] | None:
    """A member of the message's document: what is inline is none, though another field may be called so there."""
    return next(((way, field) for way, field in json_fields(message) if name in (field.json_name, field.name)), None)


def _inside(field: FieldDescriptor) -> Descriptor | None:
    """The message that a path can go into, if there is one."""
    message = field.message_type
    return message if message is not None and not field.is_repeated and is_divisible(message) else None


def _is_changeable(field: FieldDescriptor) -> bool:
    return field.name not in _IDENTITY and not behaves(field, OUTPUT_ONLY)
