"""docs/openapi.json: valid, of today, and true of what the codec does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from scripts import generate_protos

from orchestrator.api import openapi
from orchestrator.api.documented.rows import ROWS
from orchestrator.api.json_decode import decode
from orchestrator.api.json_encode import encode
from orchestrator.api.methods import services
from orchestrator.v1.audience_pb2 import Audience
from orchestrator.v1.communication_pb2 import Communication
from orchestrator.v1.journey_pb2 import Journey
from orchestrator.v1.segment_pb2 import Segment
from orchestrator.v1.subject_pb2 import Subject
from orchestrator.v1.trigger_contract_pb2 import TriggerContract
from tests.unit.api import good_requests

DOCUMENT: dict[str, Any] = json.loads(openapi.document_path().read_text(encoding="utf-8"))
OPERATIONS = [operation for item in DOCUMENT["paths"].values() for operation in item.values()]


def test_the_committed_document_is_that_of_the_protos(tmp_path: Path) -> None:
    made = tmp_path / "openapi.json"
    generate_protos.write_openapi(made)

    assert made.read_text(encoding="utf-8") == openapi.document_path().read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["Journey", "JourneyChanges", "JourneyVersion"])
def test_the_members_of_a_definition_stand_in_the_schemas_that_have_one(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]

    assert {"audienceId", "triggerContractId", "reentry", "maxDurationDays", "steps"} <= set(schema["properties"])
    assert set(schema["properties"]["definition"]["properties"]) == {"nodes", "edges"}  # the graph, and not all of it


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_rpc_is_in_the_document() -> None:
    told = {operation["operationId"].split("_")[0] for operation in OPERATIONS}

    assert told == {method.name for service in services() for method in service.methods}


def test_every_operation_and_every_parameter_says_what_it_is() -> None:
    for operation in OPERATIONS:
        assert operation["summary"].endswith(".")
        assert all("description" in parameter for parameter in operation["parameters"] if "$ref" not in parameter)


def test_a_path_and_its_parameters_fit() -> None:
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            named = [parameter["name"] for parameter in operation["parameters"] if parameter.get("in") == "path"]
            assert sorted(named) == sorted(part.split("}")[0] for part in path.split("{")[1:]), path


def test_a_header_is_offered_where_it_is_understood_and_nowhere_else() -> None:
    offered = {
        operation["operationId"]: {
            parameter["$ref"].rpartition("/")[2] for parameter in operation["parameters"] if "$ref" in parameter
        }
        for operation in OPERATIONS
    }

    assert {"IdempotencyKey", "IfMatch"} <= offered["UpsertSubject"]
    assert {"IdempotencyKey", "IfMatch"} <= offered["UpdateAudience"]
    assert offered["CreateAudience"] == {"IdempotencyKey"}
    assert offered["UpdatePreferences"] == {"IdempotencyKey"}
    assert offered["IngestEvents"] == set()
    assert offered["GetAudience"] == set()


def test_a_documented_call_whose_answer_nothing_describes_keeps_the_server_from_starting() -> None:
    def undescribed(answer: object, request: object) -> dict[str, Any]:
        return {}

    with pytest.raises(TypeError, match=r"GET /api/audiences writes what nothing describes"):
        replace(next(row for row in ROWS if row.path == "/api/audiences"), answer=undescribed)  # type: ignore[arg-type]


def test_every_answer_is_described_and_every_failure_is_told_by_its_status() -> None:
    for path, item in DOCUMENT["paths"].items():
        for verb, operation in item.items():
            responses = operation["responses"]
            success = [status for status in responses if status.startswith("2")]
            failures = {status: response["$ref"] for status, response in responses.items() if status not in success}
            prefix = "Error" if path.startswith("/v1/") else "DocumentedError"
            assert len(success) == 1, (verb, path)
            assert success == ["204"] or responses[success[0]]["content"]["application/json"]["schema"], (verb, path)
            assert failures == {status: f"#/components/responses/{prefix}{status}" for status in failures}
            assert {"400", "401", "403", "429", "500"} <= failures.keys(), (verb, path)
            assert "default" not in responses


def test_what_only_the_server_says_has_no_limits() -> None:
    message = DOCUMENT["components"]["schemas"]["SimulatedMessage"]["properties"]
    written = DOCUMENT["components"]["schemas"]["Communication"]["properties"]

    assert "maxLength" in written["body"]
    assert "maxLength" not in message["body"]


def test_the_document_knows_every_way_to_bring_a_key() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]

    assert {(scheme["type"], scheme.get("in"), scheme.get("name")) for scheme in schemes.values()} == {
        ("apiKey", "header", "X-Api-Key"),
        ("apiKey", "cookie", "session"),
        ("http", None, None),
    }
    assert {name for way in DOCUMENT["security"] for name in way} == set(schemes)


@pytest.mark.parametrize(
    ("name", "kind", "document"),
    [
        ("Audience", Audience, good_requests.AUDIENCE),
        ("Segment", Segment, good_requests.SEGMENT),
        ("Communication", Communication, good_requests.COMMUNICATION),
        ("TriggerContract", TriggerContract, good_requests.TRIGGER_CONTRACT),
        ("Journey", Journey, good_requests.JOURNEY),
        ("Subject", Subject, good_requests.SUBJECT),
    ],
)
def test_what_the_codec_reads_and_writes_fits_the_schemas(name: str, kind: Any, document: dict[str, Any]) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    validator = Draft202012Validator(schema)
    message, faults = decode(kind, document)

    assert faults == []
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors(encode(message))) == []
    assert not validator.is_valid({**document, "name": 5, "attributes": 5})
