from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from grpc import StatusCode

from orchestrator.cli.connection import failure_of, find_connection
from orchestrator.cli.failure import FAILED, NOT_ALLOWED, NOT_FOUND, UNAVAILABLE, CommandFailure
from orchestrator.client import OrchestratorError, Violation
from orchestrator.devstack.addresses import AddressFile
from tests.integration.devstack.test_addresses import addresses_in


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ADDRESS", "API_KEY", "OPERATOR_KEY", "CLIENT_CA", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        monkeypatch.delenv(f"ORCHESTRATOR_{name}", raising=False)
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("address", "target", "is_encrypted"),
    [
        ("", "127.0.0.1:50051", False),
        ("example.org", "example.org:50051", False),
        ("example.org:9", "example.org:9", False),
        ("http://example.org:9/", "example.org:9", False),
        ("https://example.org", "example.org:50051", True),
        ("dns:///example.org:9", "dns:///example.org:9", False),
        ("[::1]", "[::1]:50051", False),
        ("[::1]:9", "[::1]:9", False),
    ],
)
def test_an_address_needs_neither_scheme_nor_port(
    address: str, target: str, is_encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_ADDRESS", address)
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "a-key")

    connection = find_connection()

    assert (connection.target, connection.api_key) == (target, "a-key")
    assert (connection.tls is not None) == is_encrypted


def test_the_key_that_up_has_made_is_used_for_a_server_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "owner.key").write_text("kept\n")

    assert find_connection().api_key == "kept"


def test_who_asks_as_operator_has_a_key_of_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner.key").write_text("kept\n")
    (tmp_path / "operator.key").write_text("kept for the operator\n")
    kept = find_connection(as_operator=True).api_key
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "given")
    given = find_connection(as_operator=True).api_key
    monkeypatch.setenv("ORCHESTRATOR_OPERATOR_KEY", "given for the operator")

    assert (kept, given) == ("kept for the operator", "given")
    assert find_connection(as_operator=True).api_key == "given for the operator"
    assert find_connection().api_key == "given"


def test_the_server_that_up_runs_is_found_wherever_it_listens(tmp_path: Path) -> None:
    (tmp_path / "owner.key").write_text("kept\n")
    file = AddressFile(tmp_path)
    file.write(replace(addresses_in(tmp_path), grpc="127.0.0.2:9"))

    found = find_connection()
    file.remove()

    assert (found.target, found.api_key) == ("127.0.0.2:9", "kept")
    assert find_connection().target == "127.0.0.1:50051"


def test_the_kept_key_is_shown_to_no_other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner.key").write_text("kept\n")
    monkeypatch.setenv("ORCHESTRATOR_ADDRESS", "127.0.0.1.example.org:50051")

    with pytest.raises(CommandFailure, match="ORCHESTRATOR_API_KEY") as caught:
        find_connection()

    assert caught.value.code == NOT_ALLOWED


def test_without_any_key_the_failure_says_where_one_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CommandFailure, match=str(tmp_path / "owner.key")) as caught:
        find_connection()

    assert caught.value.code == NOT_ALLOWED


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (StatusCode.INVALID_ARGUMENT, FAILED),
        (StatusCode.ABORTED, FAILED),
        (StatusCode.INTERNAL, FAILED),
        (StatusCode.NOT_FOUND, NOT_FOUND),
        (StatusCode.UNAUTHENTICATED, NOT_ALLOWED),
        (StatusCode.PERMISSION_DENIED, NOT_ALLOWED),
        (StatusCode.UNAVAILABLE, UNAVAILABLE),
        (StatusCode.DEADLINE_EXCEEDED, UNAVAILABLE),
    ],
)
def test_each_refusal_has_its_exit_code(code: StatusCode, exit_code: int) -> None:
    failure = failure_of(OrchestratorError(code=code, reason="WHY", message="because"), "there:1")

    assert failure.code == exit_code


def test_several_violations_are_told_below_each_other() -> None:
    violations = [Violation("name", "REQUIRED", "must be given"), Violation("", "CYCLE", "goes round")]
    error = OrchestratorError(
        code=StatusCode.INVALID_ARGUMENT, reason="REQUIRED", message="name: must be given", violations=violations
    )

    assert str(failure_of(error, "there:1")).splitlines() == [
        "name: must be given (REQUIRED)",
        "  name: must be given (REQUIRED)",
        "  goes round (CYCLE)",
    ]
