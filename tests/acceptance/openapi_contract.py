"""docs/openapi.json as tests hold answers against it: closed, so that a member it does not have is a fault."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from orchestrator.api.openapi import document_path

Json = dict[str, Any]

_PUBLISHED: Json = json.loads(document_path().read_text(encoding="utf-8"))


@cache
def closed() -> Json:
    """The document, with no members but those that it names. Published it is open: clients have to bear new ones."""
    found: Json = _closed(_PUBLISHED)
    return found


def answer_faults(verb: str, path: str, status: int, answer: Any) -> list[str]:
    """What of an answer is not as the document says. `path` is the document's, with its variables."""
    validator = _validator(verb, path, status)
    if validator is None:
        return [f"{verb} {path} does not answer {status}"]
    return [f"{verb} {path}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(answer)]


def rpc_answer_faults(rpc: str, answer: Any) -> list[str]:
    """The same for the answer to a call of an RPC that succeeded, by its first binding."""
    verb, path = _places()[rpc]
    return answer_faults(verb, path, 200, answer)


@cache
def _places() -> dict[str, tuple[str, str]]:
    """By `operationId`."""
    return {
        operation["operationId"]: (verb.upper(), path)
        for path, item in closed()["paths"].items()
        for verb, operation in item.items()
    }


@cache
def _validator(verb: str, path: str, status: int) -> Draft202012Validator | None:
    responses = closed()["paths"][path][verb.lower()]["responses"]
    response = responses.get(str(status))
    if response is None:
        return None
    if "$ref" in response:
        response = closed()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": closed()["components"]})


def _closed(node: Any) -> Any:
    match node:
        case dict():
            found = {name: _closed(value) for name, value in node.items()}
            if found.get("type") == "object" and "properties" in found:
                found.setdefault("additionalProperties", False)
            return found
        case list():
            return [_closed(element) for element in node]
        case _:
            return node
