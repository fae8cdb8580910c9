"""What is traced, and what leaves with it."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, cast

import pytest

import orchestrator
from orchestrator import otlp, traces
from orchestrator.logs import FIELDS
from orchestrator.settings import InvalidSettings, Settings
from orchestrator.temporal.trace_headers import trace_of, with_trace
from orchestrator.traces import Attributes, Shared, begun, carried, joined, named, part
from tests.otlp import PROMPTLY, Received, ancestry, receiving_traces
from tests.otlp import named as spans_named

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0bf7651916cd43dd8448eb211c80319d-b7ad6b7169203332-01"


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """What has come, once the block that records has ended."""
    for name, value in PROMPTLY.items():
        monkeypatch.setenv(name, value)
    with receiving_traces() as received:
        yield received


def test_without_a_recorder_nothing_is_carried() -> None:
    with begun("call", "server", CALLER) as span, part("transaction"), Shared("inbox") as shared:
        shared.join([("ann", CALLER)])
        span.note(code="OK")

        assert carried() is carried("ann") is None
        assert span.trace_id is None


def test_only_what_records_imports_opentelemetry_and_is_imported_when_it_is_to_record() -> None:
    sources = Path(orchestrator.__file__).parents[1].rglob("*.py")
    imports = re.compile(r"^\s*(from|import) opentelemetry", re.MULTILINE)
    users = [path.name for path in sources if imports.search(path.read_text())]
    program = "import sys, orchestrator.otlp; sys.exit('orchestrator.otlp_recorder' in sys.modules)"

    assert users == ["otlp_recorder.py"]
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_spans_go_out_by_either_protocol(
    protocol: Literal["grpc", "http/protobuf"], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving_traces(protocol) as received:
        with otlp.recording(received.endpoint, protocol, service="test"), begun("call", "server", CALLER) as span:
            trace_id = span.trace_id

    (call,) = received.spans()
    assert (call.name, call.kind, call.service) == ("call", "server", "test")
    assert (call.trace_id, call.parent_id) == (trace_id, CALLER[36:52]) == (CALLER[3:35], call.parent_id)


def test_a_sampler_is_asked_where_a_trace_begins(received: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    with otlp.recording(received.endpoint, "grpc", service="test"):
        with begun("mine", "server", None), part("transaction"):
            assert carried() is None
        with begun("theirs", "server", CALLER), part("transaction"):
            assert carried() is not None

    assert [span.name for span in received.spans()] == ["theirs", "transaction"]


def test_what_is_not_on_the_list_does_not_leave(received: Received) -> None:
    secret = cast(Attributes, {"subject_id": "ann@example.com", "code": "OK", "state": ["ann@example.com"]})
    with otlp.recording(received.endpoint, "grpc", service="test"), begun("call", "server", None) as span:
        span.note(**secret)

    (call,) = received.spans()
    assert call.attributes == {"rpc.response.status_code": "OK"}
    assert b"example.com" not in b"".join(received.messages)


def test_of_an_error_its_type_leaves_and_not_what_it_says(received: Received) -> None:
    with otlp.recording(received.endpoint, "grpc", service="test"):
        with pytest.raises(ValueError, match="ann"), begun("call", "server", None), part("transaction"):
            raise ValueError("ann@example.com is no number")

    assert {(span.name, span.failed, span.attributes["error.type"]) for span in received.spans()} == {
        ("call", True, "ValueError"), ("transaction", True, "ValueError"),
    }  # fmt: skip
    assert b"example.com" not in b"".join(received.messages)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "no trace",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "ff" + CALLER[2:],
        CALLER + "-more",
        "00-" + "a" * 10_000,
    ],
)
def test_who_sends_what_is_no_traceparent_begins_a_trace(parent: str, received: Received) -> None:
    with otlp.recording(received.endpoint, "grpc", service="test"), begun("call", "server", parent):
        pass

    (call,) = received.spans()
    assert call.parent_id == ""
    assert call.trace_id not in parent or parent == ""


def test_who_is_not_recorded_carries_nothing_and_takes_part_in_nothing(received: Received) -> None:
    with otlp.recording(received.endpoint, "grpc", service="test"), begun("outer", "server", None):
        with begun("call", "server", CALLER[:-1] + "0") as span, part("transaction"):
            assert carried() is span.trace_id is None
        assert carried() is not None

    assert [span.name for span in received.spans()] == ["outer"]


def test_work_for_many_is_a_span_of_each_trace_and_what_is_carried_is_each_ones_own(received: Received) -> None:
    with otlp.recording(received.endpoint, "grpc", service="test"):
        with Shared("inbox") as shared:
            shared.join([("ann", CALLER), ("bob", OTHER), ("cat", None), ("dan", OTHER), ("ann", OTHER)])
            told = {who: carried(who) for who in ("ann", "bob", "cat", "eve")}
        assert carried("ann") is None
        with joined("start", "producer", told["ann"]):
            pass

    inboxes, (start,) = spans_named("inbox", received.spans()), spans_named("start", received.spans())
    assert {span.trace_id for span in inboxes} == {CALLER[3:35], OTHER[3:35]}
    assert told["ann"] == told["bob"] is not None
    assert told["cat"] is told["eve"] is None
    assert ancestry(start, received.spans()) == ["start", "inbox"]
    assert start.trace_id == OTHER[3:35]


async def test_tasks_that_run_beside_each_other_do_not_mix_their_traces(received: Received) -> None:
    async def call(parent: str) -> None:
        with begun("call", "server", parent):
            await asyncio.sleep(0)
            with part("transaction"):
                await asyncio.sleep(0)

    with otlp.recording(received.endpoint, "grpc", service="test"):
        await asyncio.gather(call(CALLER), call(OTHER))

    spans = received.spans()
    assert len(spans) == 4
    assert {(span.trace_id, *ancestry(span, spans)) for span in spans_named("transaction", spans)} == {
        (CALLER[3:35], "transaction", "call"), (OTHER[3:35], "transaction", "call"),
    }  # fmt: skip


def test_a_receiver_that_is_away_keeps_nobody() -> None:
    with otlp.recording("http://127.0.0.1:1", "grpc", service="test"), begun("call", "server", None):
        pass

    assert traces.recorder() is None


def test_a_process_is_called_what_its_operator_says(received: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ({}, "test"), ({"OTEL_SERVICE_NAME": "ours"}, "ours"):
        for name, text in variable.items():
            monkeypatch.setenv(name, text)
        with otlp.recording(received.endpoint, "grpc", service="test"), begun("call", "server", None):
            pass
        assert {span.service for span in received.spans()} == {value}
        received.messages.clear()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    monkeypatch.delitem(sys.modules, "orchestrator.otlp_recorder", raising=False)
    monkeypatch.delattr(orchestrator, "otlp_recorder", raising=False)

    with pytest.raises(otlp.PackagesMissing, match=r"orchestrator\[traces\]"):
        with otlp.recording("http://localhost:4317", "grpc", service="test"):
            pass


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://localhost"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ],
)
def test_what_cannot_be_used_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidSettings, match=variable):
        Settings.load()


def test_temporal_carries_it_and_ignores_what_is_none() -> None:
    headers = with_trace({}, CALLER)

    assert trace_of(headers) == CALLER
    assert with_trace(headers, None) is headers
    assert trace_of({}) is None
    for text in ("", "00-nonsense", CALLER.upper(), CALLER + "-more", 7, None):
        assert trace_of(with_trace({}, cast(str, text) if text is not None else "")) is None


def test_lines_of_the_log_may_have_what_spans_have() -> None:
    of_spans_alone = {"attempt", "database", "service", "woken_by"}

    assert Attributes.__annotations__.keys() - FIELDS == of_spans_alone


def test_lines_of_the_log_say_which_trace_they_belong_to(received: Received) -> None:
    inside, outside = logging.makeLogRecord({}), logging.makeLogRecord({})
    with otlp.recording(received.endpoint, "grpc", service="test"):
        with begun("call", "server", CALLER), part("transaction"):
            assert traces.TraceIds().filter(inside)
        assert traces.TraceIds().filter(outside)

    assert vars(inside)["trace_id"] == CALLER[3:35]
    assert "trace_id" not in vars(outside)


def test_every_attribute_has_a_name_of_its_own() -> None:
    full: Mapping[str, str] = dict.fromkeys(Attributes.__annotations__, "x")

    assert len(named(cast(Attributes, full))) == len(Attributes.__annotations__)
