"""From verb and path to the RPC."""

from __future__ import annotations

from typing import Any, cast

import pytest
from google.api.http_pb2 import HttpRule

from orchestrator.api.methods import Method, services
from orchestrator.api.routes import Match, Routes, WrongVerb, bindings_of


class _Rpc:
    """As much of a method as routes look at."""

    def __init__(self, name: str, *rules: HttpRule) -> None:
        self.name = name
        self.http = rules


def routes(*rpcs: _Rpc) -> Routes:
    return Routes(bindings_of(cast("list[Method]", rpcs)))


SUBJECTS = routes(
    _Rpc("List", HttpRule(get="/v1/subjects")),
    _Rpc("Upsert", HttpRule(put="/v1/subjects/{subject.id}", body="subject")),
    _Rpc("Get", HttpRule(get="/v1/subjects/{subject_id}")),
    _Rpc("Merge", HttpRule(post="/v1/subjects/{subject_id}:merge", body="*")),
    _Rpc("Batch", HttpRule(post="/v1/subjects:batchUpsert", body="*")),
    _Rpc("Special", HttpRule(get="/v1/subjects/special")),
    _Rpc("Preferences", HttpRule(get="/v1/subjects/{subject_id}/preferences")),
    _Rpc("Suppression", HttpRule(delete="/v1/subjects/{subject_id}/suppressions/{channel}")),
)


def found(verb: str, path: str) -> tuple[str, dict[str, str]] | tuple[str, ...] | None:
    match SUBJECTS.find(verb, path):
        case Match() as match:
            return match.binding.method.name, dict(match.path_fields)
        case WrongVerb(allowed=allowed):
            return allowed
        case None:
            return None


@pytest.mark.parametrize(
    ("verb", "path", "expected"),
    [
        ("GET", "/v1/subjects", ("List", {})),
        ("PUT", "/v1/subjects/ann", ("Upsert", {"subject.id": "ann"})),
        ("GET", "/v1/subjects/ann", ("Get", {"subject_id": "ann"})),
        ("POST", "/v1/subjects/ann:merge", ("Merge", {"subject_id": "ann"})),
        ("POST", "/v1/subjects:batchUpsert", ("Batch", {})),
        ("GET", "/v1/subjects/special", ("Special", {})),
        ("PUT", "/v1/subjects/special", ("Upsert", {"subject.id": "special"})),
        ("GET", "/v1/subjects/special/preferences", ("Preferences", {"subject_id": "special"})),
        ("DELETE", "/v1/subjects/a/suppressions/b", ("Suppression", {"subject_id": "a", "channel": "b"})),
        # Ids may hold colons; one that ends like a verb is written with %3A.
        ("GET", "/v1/subjects/tenant:ann", ("Get", {"subject_id": "tenant:ann"})),
        ("GET", "/v1/subjects/ann:merge", ("Get", {"subject_id": "ann:merge"})),
        ("GET", "/v1/subjects/ann%3Amerge", ("Get", {"subject_id": "ann:merge"})),
        ("POST", "/v1/subjects/a%3Ab:merge", ("Merge", {"subject_id": "a:b"})),
        ("GET", "/v1/subjects/a%2Fb", ("Get", {"subject_id": "a/b"})),
        ("PATCH", "/v1/subjects/ann", ("GET", "PUT")),
        ("GET", "/v1/subjects:batchUpsert", ("POST",)),
        ("GET", "/v1/subjects/", None),
        ("GET", "/v1/subject", None),
        ("GET", "/v1/subjects/a/b/c/d", None),
        ("GET", "/", None),
        ("GET", "", None),
    ],
)
def test_a_path_leads_to_its_method(verb: str, path: str, expected: Any) -> None:
    assert found(verb, path) == expected


def test_two_methods_cannot_have_one_address() -> None:
    with pytest.raises(AssertionError, match="two methods"):
        routes(_Rpc("A", HttpRule(get="/v1/a/{x}")), _Rpc("B", HttpRule(get="/v1/a/{y}")))


def test_every_rpc_of_the_contract_has_an_address() -> None:
    for service in services():
        for rpc in service.methods:
            assert any(extension.name == "http" for extension, _ in rpc.GetOptions().ListFields()), rpc.full_name
