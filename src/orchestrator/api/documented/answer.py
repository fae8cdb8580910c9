"""What a documented call answers with: how it is written, and of what form docs/openapi.json says it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.api.openapi_schemas import Schemas

Document = dict[str, Any]

#: (answer, request) -> what is sent back. Messages of any kind: a row knows its RPC's.
Write = Callable[[Any, Any], Any]
#: The JSON schema of what is sent back; what it refers to is made by the `Schemas`.
Describe = Callable[[Schemas], Document]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Stands together, so that no answer is written that the contract does not describe: rows take nothing else."""

    write: Write
    schema: Describe


def described(schema: Describe) -> Callable[[Write], Answer]:
    """Makes the answer of a function that writes it."""
    return lambda write: Answer(write=write, schema=schema)


def object_of(members: Mapping[str, Document], *, always: tuple[str, ...]) -> Document:
    """An object with these members, some of them in every answer."""
    return {"type": "object", "required": list(always), "properties": dict(members)}


def list_of(schema: Document) -> Document:
    return {"type": "array", "items": schema}


def or_null(schema: Document) -> Document:
    """What is null where there is none."""
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    description = {"description": schema["description"]} if "description" in schema else {}
    rest = {name: value for name, value in schema.items() if name != "description"}
    return {**description, "anyOf": [rest, {"type": "null"}]}
