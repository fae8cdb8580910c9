"""The contract itself: what holds for every message and every RPC, and that what is generated is generated from it."""

from __future__ import annotations

import ast
import filecmp
import keyword
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api.annotations_pb2 import http
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from scripts import generate_protos

from orchestrator.api.descriptors import is_map, message_in
from orchestrator.api.methods import services
from orchestrator.api.request_shapes import url_of
from orchestrator.v1.error_reason_pb2 import ErrorReason

SOURCE = generate_protos.ROOT / "src"
METHODS = [method for service in services() for method in service.methods]
BUF = Path(sysconfig.get_path("scripts")) / "buf"

# The id of an event, and of a report, is the key of its repetition; entries that were dispatched are there no more.
WITHOUT_REQUEST_ID = {"IngestEvents", "ReportDeliveries", "DispatchEntries"}


def messages() -> Iterator[Descriptor]:
    """Every message that can be reached from an RPC, once."""
    pending = [message for method in METHODS for message in (method.input_type, method.output_type)]
    seen: set[str] = set()
    while pending:
        message = pending.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        yield message
        pending += [message_in(field) for field in message.fields if field.message_type is not None]


def of_ours() -> list[FieldDescriptor]:
    return [
        field for message in messages() if message.full_name.startswith("orchestrator.") for field in message.fields
    ]


def named(method: MethodDescriptor) -> str:
    return method.name


def test_the_committed_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    generate_protos.write_stubs(tmp_path)

    made = sorted(path.name for path in (tmp_path / generate_protos.PACKAGE).iterdir())
    committed = sorted(path.name for path in (SOURCE / generate_protos.PACKAGE).glob("*_pb2*"))
    assert made == committed
    _, different, unreadable = filecmp.cmpfiles(
        tmp_path / generate_protos.PACKAGE, SOURCE / generate_protos.PACKAGE, made, shallow=False
    )
    assert (different, unreadable) == ([], [])


@pytest.mark.parametrize("arguments", [["lint"], ["breaking", "--against", str(generate_protos.BASELINE)]])
def test_buf_finds_nothing(arguments: list[str], tmp_path: Path) -> None:
    image = tmp_path / "api.binpb"
    generate_protos.write_image(image, comments=True)
    verb, *options = arguments

    done = subprocess.run(
        [BUF, verb, image, *options], cwd=generate_protos.ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_the_protos_are_formatted() -> None:
    done = subprocess.run(
        [BUF, "format", "-d", "--exit-code"], cwd=generate_protos.ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_no_field_is_named_by_a_word_that_python_keeps_for_itself() -> None:
    assert [field.full_name for field in of_ours() if keyword.iskeyword(field.name)] == []


def test_no_two_fields_of_a_message_are_called_the_same_in_json() -> None:
    for message in messages():
        names = [name for field in message.fields for name in {field.name, field.json_name}]
        assert len(names) == len(set(names)), message.full_name


def test_only_types_that_json_can_hold_exactly_are_used() -> None:
    held = {
        FieldDescriptor.TYPE_STRING,
        FieldDescriptor.TYPE_BOOL,
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_DOUBLE,
        FieldDescriptor.TYPE_ENUM,
        FieldDescriptor.TYPE_MESSAGE,
    }
    assert [field.full_name for field in of_ours() if field.type not in held] == []
    assert [field.full_name for field in of_ours() if is_map(field) and "Request" in field.full_name] == []


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_every_rpc_has_a_url_under_v1_and_says_whether_it_changes_something(method: MethodDescriptor) -> None:
    options = method.GetOptions()
    rule = options.Extensions[http]

    assert all(url_of(binding).startswith("/v1/") for binding in (rule, *rule.additional_bindings))
    assert options.idempotency_level in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)
    told = (
        "Backtest",
        "Check",
        "Estimate",
        "Explain",
        "Export",
        "Plan",
        "Preview",
        "Simulate",
        "Translate",
        "Validate",
        "Verify",
    )
    reads = method.name.startswith(("Get", "List", *told))
    assert (options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS) == reads


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_every_rpc_keeps_the_habits_of_its_kind(method: MethodDescriptor) -> None:
    request, response = method.input_type.fields_by_name, method.output_type.fields_by_name
    reads = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS

    if not reads and method.name not in WITHOUT_REQUEST_ID:
        assert "request_id" in request
    if method.name.startswith(("Create", "Update", "Publish")) and method.name != "UpdatePreferences":
        assert "validate_only" in request
    if method.name.startswith("Update") and method.name != "UpdatePreferences":
        resource = message_in(request[method.GetOptions().Extensions[http].body])
        assert "update_mask" in request
        assert {"id", "etag"} <= set(resource.fields_by_name)
    if method.name.startswith("List"):
        assert {"page_size", "page_token"} <= set(request)
        assert response["next_page_token"].number == 2
        assert response[method.output_type.fields[0].name].is_repeated


def reasons_in(tree: ast.AST) -> Iterator[str]:
    """The constants that stand where a reason belongs: `Fault(reason=…)`, `Wrong(path, …)`, refusals."""
    refusals = {"Unauthenticated", "PermissionDenied", "NotFound", "AlreadyExists", "FailedPrecondition", "Conflict"}
    refusals |= {"ResourceExhausted", "Unavailable", "TooManyCalls"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = {"Wrong": 1, "of": 1, "NoNumber": 0, "fault": 1}.get(called, 0 if called in refusals else None)
        found = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
        if place is not None and len(node.args) > place:
            found.append(node.args[place])
        for value in found:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.isupper():
                yield value.value


def test_every_reason_that_is_given_is_in_the_contract() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    given = {
        (reason, path.name)
        for path in SOURCE.rglob("*.py")
        if "v1" not in path.parts
        for reason in reasons_in(ast.parse(path.read_text(encoding="utf-8")))
    }

    assert len(given) > 50
    assert sorted((reason, name) for reason, name in given if reason not in known) == []
