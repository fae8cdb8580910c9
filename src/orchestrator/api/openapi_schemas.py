"""JSON schemas of the contract's messages, as the codec reads and writes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.api.field_behavior_pb2 import OUTPUT_ONLY, REQUIRED
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from orchestrator.api.descriptors import behaves, enum_in, is_map, json_fields, message_in, owner_of
from orchestrator.api.field_limits import (
    Bytes,
    Characters,
    Id,
    integer_limit,
    list_limit,
    text_limit,
)
from orchestrator.api.field_masks import is_divisible
from orchestrator.api.json_enums import words
from orchestrator.api.methods import services
from orchestrator.domain.ids import MAX_ID_LENGTH
from orchestrator.predicates.operands import OPERATORS

_STRING = {"type": "string"}

_SPECIAL: Mapping[str, dict[str, Any]] = {
    "google.protobuf.Duration": {**_STRING, "examples": ["90m", "12h", "3d", "1w", "1d12h", "PT90M"]},
    "google.protobuf.FieldMask": {**_STRING, "examples": ["name,description"]},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {**_STRING, "format": "date-time"},
    "orchestrator.v1.JourneyGraph": {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": {"type": "object", "additionalProperties": True}}
            for name in ("nodes", "edges")
        },
        "additionalProperties": True,
    },
    "orchestrator.v1.PinpointExport": {"type": "object", "additionalProperties": True},
    "orchestrator.v1.Predicate": {"$ref": "#/components/schemas/Predicate"},
}

ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "status", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {**_STRING, "description": "The gRPC code's name.", "examples": ["INVALID_ARGUMENT"]},
                "message": {**_STRING, "description": "For people; it may change."},
                "details": {
                    "type": "array",
                    "description": "Exactly one ErrorInfo with the stable reason, and for bad requests all violations.",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": {
                            "@type": {**_STRING, "examples": ["type.googleapis.com/google.rpc.ErrorInfo"]},
                            "reason": {**_STRING, "examples": ["EMPTY_CLAUSES"]},
                            "domain": {**_STRING, "const": "orchestrator"},
                            "metadata": {"type": "object", "additionalProperties": _STRING},
                            "fieldViolations": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {
                                        "field": {**_STRING, "examples": ["predicate.clauses[1].eventName"]},
                                        "reason": _STRING,
                                        "description": _STRING,
                                    },
                                },
                            },
                            "violations": {
                                "type": "array",
                                "description": "Of what cannot be done as things are, or no more of.",
                                "items": {
                                    "type": "object",
                                    "properties": {
                                        "type": {**_STRING, "examples": ["NEXT_NOT_FOUND"]},
                                        "subject": {**_STRING, "examples": ["steps[0].next"]},
                                        "description": _STRING,
                                    },
                                },
                            },
                            "resourceType": {**_STRING, "examples": ["journey"]},
                            "resourceName": _STRING,
                            "retryDelay": {**_STRING, "examples": ["1s"]},
                            "requestId": _STRING,
                        },
                    },
                },
            },
        }
    },
}


class Schemas:
    """Makes schemas and collects those that others refer to. `texts` are the comments of the protos."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._made: dict[str, dict[str, Any]] = {}

    def components(self) -> dict[str, Any]:
        """Everything that was referred to, by name."""
        return {**dict(sorted(self._made.items())), **_predicates(self._texts["orchestrator.v1.Predicate"])}

    def reference(self, message: Descriptor, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        """A message; `without` names fields that the URL has, so that the body needs none of them."""
        return self._component(_name(message) + ("Body" if without else ""), message, without, partial=False)

    def changes(self, message: Descriptor) -> dict[str, Any]:
        """A message in an update: nothing is required."""
        return self._component(f"{_name(message)}Changes", message, frozenset(), partial=True)

    def named(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """A schema that no message has, under a name of its own."""
        assert self._made.setdefault(name, schema) == schema, f"there are two schemas of the name {name}"
        return {"$ref": f"#/components/schemas/{name}"}

    def members(self, message: Descriptor) -> dict[str, dict[str, Any]]:
        """The members of a message's document."""
        return {field.json_name: self.of(field) for _, field in json_fields(message)}

    def of(self, field: FieldDescriptor, *, partial: bool = False) -> dict[str, Any]:
        """A field, with its comment."""
        if is_map(field):
            value = self._value(message_in(field).fields_by_name["value"], partial)
            schema: dict[str, Any] = {"type": "object", "additionalProperties": value}
        elif field.is_repeated:
            limit = {"maxItems": list_limit(field)} if _is_limited(field) else {}
            schema = {"type": "array", "items": self._value(field, partial), **limit}
        else:
            schema = self._value(field, partial)
        return {"description": self._texts[field.full_name], **schema}

    def _component(self, name: str, message: Descriptor, without: frozenset[str], *, partial: bool) -> dict[str, Any]:
        if name not in self._made:
            self._made[name] = {}
            self._made[name] |= self._schema(message, without, partial)
        return {"$ref": f"#/components/schemas/{name}"}

    def _schema(self, message: Descriptor, without: frozenset[str], partial: bool) -> dict[str, Any]:
        fields = [field for _, field in json_fields(message) if field.name not in without]
        required = [field.json_name for field in fields if behaves(field, REQUIRED) and not partial]
        properties = {}
        for field in fields:
            read_only = {"readOnly": True} if behaves(field, OUTPUT_ONLY) else {}
            properties[field.json_name] = {**self.of(field, partial=partial), **read_only}
        return {
            "type": "object",
            "description": self._texts[message.full_name],
            **({"required": required} if required else {}),
            "properties": properties,
        }

    def _value(self, field: FieldDescriptor, partial: bool) -> dict[str, Any]:
        match field.type:
            case FieldDescriptor.TYPE_MESSAGE:
                message = message_in(field)
                if message.full_name in _SPECIAL:
                    return dict(_SPECIAL[message.full_name])
                return self.changes(message) if partial and is_divisible(message) else self.reference(message)
            case FieldDescriptor.TYPE_ENUM:
                return {**_STRING, "enum": list(words(enum_in(field)).values())}
            case FieldDescriptor.TYPE_BOOL:
                return {"type": "boolean"}
            case FieldDescriptor.TYPE_DOUBLE:
                return {"type": "number"}
            case FieldDescriptor.TYPE_INT64:
                return {"type": "integer", "format": "int64"}
            case FieldDescriptor.TYPE_INT32 if not _is_limited(field):
                return {"type": "integer"}
            case FieldDescriptor.TYPE_INT32:
                limit = integer_limit(field)
                return {"type": "integer", "minimum": limit.least, "maximum": limit.most}
            case _:
                return _text(field)


@cache
def _in_requests() -> frozenset[str]:
    """The messages that callers send, by their full names: their fields have limits."""
    found: set[str] = set()

    def take(message: Descriptor) -> None:
        if message.full_name not in found:
            found.add(message.full_name)
            for field in message.fields:
                if field.message_type is not None and not behaves(field, OUTPUT_ONLY):
                    take(message_in(field))

    for service in services():
        for method in service.methods:
            take(method.input_type)
    return frozenset(found)


def _is_limited(field: FieldDescriptor) -> bool:
    """Whether callers write it. What only the server says may be longer than what it takes."""
    return owner_of(field).full_name in _in_requests() and not behaves(field, OUTPUT_ONLY)


def _text(field: FieldDescriptor) -> dict[str, Any]:
    if not _is_limited(field):
        return dict(_STRING)
    match text_limit(field):
        case Id():
            return {**_STRING, "pattern": "^[A-Za-z0-9_.:-]*$", "maxLength": MAX_ID_LENGTH}
        case Characters(most) | Bytes(most):
            return {**_STRING, "maxLength": most}


def _name(message: Descriptor) -> str:
    return message.full_name.removeprefix("orchestrator.v1.").replace(".", "")


def _predicates(text: str) -> dict[str, Any]:
    """The tree and its windows: the one form that the protos do not spell out."""
    node = {"$ref": "#/components/schemas/Predicate"}
    clauses = {"type": "array", "minItems": 1, "items": node}
    window = {"$ref": "#/components/schemas/Window"}
    event = {
        "eventName": _STRING,
        "window": window,
        "atLeast": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1},
        "where": node,
    }
    return {
        "Predicate": {
            "description": text,
            "oneOf": [
                _tagged("kind", "everyone"),
                _tagged("kind", "event_fired", event, ["eventName"]),
                _tagged("kind", "event_not_fired", event, ["eventName"]),
                _tagged("kind", "any_event", {"window": window}),
                _tagged(
                    "kind",
                    "attribute",
                    {"fieldPath": _STRING, "operator": {**_STRING, "enum": list(OPERATORS)}, "value": {}},
                    ["fieldPath", "operator"],
                ),
                _tagged("kind", "in_cohort", {"cohortId": _STRING}, ["cohortId"]),
                _tagged("kind", "and", {"clauses": clauses}, ["clauses"]),
                _tagged("kind", "or", {"clauses": clauses}, ["clauses"]),
                _tagged("kind", "not", {"clause": node}, ["clause"]),
            ],
        },
        "Window": {
            "description": "A stretch of time that ends at the instant of the question.",
            "oneOf": [
                _tagged("type", "ever"),
                _tagged("type", "last_n_days", {"days": {"type": "integer", "minimum": 1}}, ["days"]),
                _tagged("type", "last", {"duration": {**_STRING, "examples": ["36h"]}}, ["duration"]),
                _tagged("type", "since", {"time": {**_STRING, "format": "date-time"}}, ["time"]),
            ],
        },
    }


def _tagged(
    tag: str, value: str, members: Mapping[str, Any] | None = None, required: list[str] | None = None
) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [tag, *(required or [])],
        "properties": {tag: {"const": value}, **(members or {})},
        "additionalProperties": False,
    }
