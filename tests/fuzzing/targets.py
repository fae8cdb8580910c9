"""Everything here that reads what others wrote, each as one function of bytes: it raises nothing, whatever they are.

What a reader declares to raise is caught here; anything else is a fault of ours. Who knows how to make up inputs calls
these: tests/fuzzing/run.py with coverage to guide it, tests/fuzzing/test_targets.py with a corpus and mutants of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from standardwebhooks import Webhook
from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from orchestrator.api import page_tokens
from orchestrator.api.client_certificates import AllowedClients
from orchestrator.api.codec_tokens import CodecTokens
from orchestrator.api.convert.subject_exports import begun_of
from orchestrator.api.decoding import Decoding
from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.errors import MAX_STATUS_BYTES, failure_of, to_fitting_status, to_json
from orchestrator.api.fault_order import in_order
from orchestrator.api.json_codec import WHOLE_REQUEST, read_request, write_response
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document, readable_part
from orchestrator.api.json_text import parse_json, value_faults
from orchestrator.api.message_check import check_message, divide
from orchestrator.api.methods import services
from orchestrator.api.request_shapes import shape_of
from orchestrator.domain import api_key, carry_token, email_address, schedule
from orchestrator.domain.carrying import CarryMode, Order
from orchestrator.domain.channels import Rules, url_faults
from orchestrator.domain.durations import format_duration, parse_duration
from orchestrator.domain.graph_form import ways_out, with_graph
from orchestrator.domain.journey_form import kept
from orchestrator.domain.journey_form import parse as parse_definition
from orchestrator.domain.journey_graph import Existing, examine
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument
from orchestrator.domain.step_forms import STEP_KINDS
from orchestrator.domain.templates import TemplateFailed, check_template, render
from orchestrator.domain.unsubscribe_link import INSTANCE, UnsubscribeLinks
from orchestrator.domain.webhook_answer import read_answer
from orchestrator.pinpoint.translation import translate
from orchestrator.predicates.canonical import canonical
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import needs
from orchestrator.predicates.faults import Wrong
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.parse import MAX_DEPTH, About
from orchestrator.predicates.parse import parse as parse_predicate
from orchestrator.predicates.paths import split_path
from orchestrator.predicates.reveal import reveal_of
from orchestrator.predicates.sql.query import compile as compile_sql
from orchestrator.storage.exporting import key_types
from orchestrator.temporal.codec import Altered, EncryptingCodec, KeyMissing, Misplaced
from orchestrator.temporal.keyring import Keyring
from orchestrator.v1.subject_service_pb2 import ExportSubjectRequest, ListSubjectsRequest
from tests.conformance.worlds import World, facts_for
from workers.channels.egress import Egress, Forbidden
from workers.channels.signature import SigningSecrets

_NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
_WORLD = World(
    attributes={"age": 30, "name": "Ann", "plan": {"name": "pro"}, "tags": ["a", "b"], "t": "2026-03-01T00:00:00Z"},
    known_cohorts=frozenset({"vip"}),
)


def predicate(data: bytes) -> None:
    """A tree: read, written again, evaluated, and made into SQL."""
    document = _json(data)
    for about in About:
        tree, faults = parse_predicate(document, "predicate", about=about)
        assert (tree is None) == bool(faults)
        assert all(fault.path.startswith("predicate") and fault.message for fault in faults)
        if tree is None:
            continue
        if not value_faults(document, "", max_depth=2 * MAX_DEPTH + 8):
            assert parse_predicate(predicate_to_document(predicate_from_document(document)), about=about)[1] == []
            canonical(document)
        if about is About.SUBJECT:
            named = set(needs([tree]).cohorts)
            evaluate(tree, facts_for(tree, World(attributes=_WORLD.attributes, known_cohorts=frozenset(named))), _NOW)
            sources = {source: number for number, source in enumerate(needs([tree]).events)}
            numbers = {cohort: number for number, cohort in enumerate(sorted(named), 1)}
            compile_sql({1: tree}, name_nos=sources, cohort_nos=numbers, as_of=_NOW)
    if isinstance(document, dict):
        readable_part({**document, "kind": document.get("kind")})


def graph(data: bytes) -> None:
    """A journey, in either form: read, looked through, and drawn again."""
    document = _json(data)
    definition, faults = parse_definition(document, "")
    assert (definition is None) == bool(faults)
    if definition is None:
        return
    assert isinstance(document, dict)
    nothing = Existing(communications={}, audiences={}, trigger_contracts=frozenset(), cohorts=frozenset())
    examine(definition, nothing)
    as_steps = kept(document)
    assert parse_definition(as_steps)[1] == []
    drawn = with_graph(as_steps)
    assert parse_definition(drawn)[1] == []
    assert _said(kept(drawn).get("steps") or []) == _said(as_steps.get("steps") or [])


def _said(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what says nothing in their canvases, or says it of an edge that there is not."""
    return [step | {"canvas": _canvas(step)} for step in steps]


def _canvas(step: dict[str, Any]) -> dict[str, Any]:
    canvas = step.get("canvas") or {}
    kind = next(kind for kind in STEP_KINDS if step.get(kind) is not None)
    leading = {handle for handle, _, target in ways_out(kind, step) if target}
    edges = {handle: edge for handle, edge in (canvas.get("edges") or {}).items() if edge and handle in leading}
    return {name: said for name, said in (canvas | {"edges": edges}).items() if said}


#: In a value that nothing shows, and in no template.
_SECRET = "\N{SKULL AND CROSSBONES}"
_VARIABLES = {"subject": dict(_WORLD.attributes), "list": [3, 1, 2], "text": f"a <b> {_SECRET}"}


def template(data: bytes) -> None:
    """A communication's text: checked, rendered where it is good, and masked where nothing may be shown."""
    source = data.decode(errors="replace").replace(_SECRET, "?")
    faults = check_template(source, "body")
    assert all(fault.path == "body" and fault.message for fault in faults)
    for escape_html in (False, True):
        text, failed = _rendered(source, escape_html=escape_html)
        assert failed in (None, "template_invalid", "template_value", "template_limit")
        assert text is None or faults == [], "what is refused when it is saved is not sent"
        masked, why = _rendered(source, escape_html=escape_html, reveal=reveal_of([]))
        assert why == failed
        assert masked is None or _SECRET not in masked


def _rendered(source: str, **how: Any) -> tuple[str | None, str | None]:
    """The text, or why there is none."""
    try:
        return render(source, _VARIABLES, **how), None
    except TemplateFailed as failed:
        return None, failed.reason


def pinpoint(data: bytes) -> None:
    """An export of Pinpoint, as a list or by itself."""
    document = _json(data)
    exports = document if isinstance(document, list) else [document]
    try:
        translate(exports)
    except InvalidArgument as refused:
        assert all(fault.path.startswith("exports") and fault.message for fault in refused.faults)


def page_token(data: bytes) -> None:
    """A page token: as it came, and signed as ours are, which anybody can."""
    _place_of_export(data)
    for token in (data.decode(errors="replace"), _signed(data, ListSubjectsRequest())):
        request = ListSubjectsRequest(page_token=token)
        for kinds in ((datetime, str), (str,), (int, int), (datetime, int, str)):
            try:
                start = page_tokens.page_start(request, *kinds)
            except InvalidArgument as refused:
                assert [(fault.path, fault.reason) for fault in refused.faults] == [("pageToken", "PAGE_TOKEN_INVALID")]
            else:
                assert start is None or [type(part) for part in start] == list(kinds)


def _place_of_export(data: bytes) -> None:
    """Where an export goes on: the key is that of a record of its kind, or none."""
    request = ExportSubjectRequest(subject_id="ann")
    request.page_token = _signed(data, request)
    try:
        begun = begun_of(request)
    except InvalidArgument as refused:
        assert [(fault.path, fault.reason) for fault in refused.faults] == [("pageToken", "PAGE_TOKEN_INVALID")]
    else:
        assert begun is not None
        assert tuple(type(part) for part in begun.place.key) == key_types(begun.place.kind)
        assert begun.at.tzinfo is not None


def _signed(key: bytes, request: Message) -> str:
    digest = page_tokens._digest(request, key)
    return base64.urlsafe_b64encode(bytes([page_tokens._VERSION]) + digest + key).rstrip(b"=").decode()


_KEYS = Keyring.of(["k1:" + base64.b64encode(bytes(32)).decode()])
_CODEC = EncryptingCodec(_KEYS).with_context(WorkflowSerializationContext(namespace="default", workflow_id="w"))
_DECODING = httpx.ASGITransport(
    Decoding(
        EncryptingCodec(_KEYS), CodecTokens(["ann:a-token"]), AllowedClients(()), origin=None, secure=False
    ).application()
)


def codec(data: bytes) -> None:
    """What travels through Temporal: as a payload, as a ciphertext of a known key, and at the codec server."""
    payloads = [Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"k1"}, data=data)]
    with suppress(DecodeError):
        payloads.append(Payload.FromString(data))
    for payload in payloads:
        for reader in (_CODEC, EncryptingCodec(_KEYS)):
            with suppress(KeyMissing, Misplaced, Altered):
                reader.opened(payload)
    assert asyncio.run(_decoded(data)) in (200, 400)


async def _decoded(body: bytes) -> int:
    async with httpx.AsyncClient(transport=_DECODING, base_url="http://codec") as client:
        answer = await client.post("/decode", content=body, headers={"Authorization": "Bearer a-token"})
        return answer.status_code


_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def webhook(data: bytes) -> None:
    """Secrets that sign webhooks; a signature of any body; what a receiver answers."""
    text = data.decode("latin-1")
    with suppress(ValueError):
        SigningSecrets.parse([text])
    at = int(datetime.now(UTC).timestamp())
    body = data.decode(errors="replace").encode()  # the library of receivers reads texts alone
    Webhook(_SECRET).verify(body, SigningSecrets.parse([_SECRET]).headers("0" * 64, at, body), json_parse=False)
    answer, why = read_answer(data)
    assert answer is None or why is None


_PREVIEWED = carry_token.Previewed(
    project_no=1, journey_id="welcome", version=2, sha256=bytes(32), order=Order(mode=CarryMode.COMPATIBLE)
)


def texts(data: bytes) -> None:
    """Short texts with a grammar of their own: durations, instants, paths, addresses, URLs, crons, keys, tokens."""
    text = data.decode(errors="replace")
    with suppress(ValueError):
        parse_duration(format_duration(parse_duration(text)))
    for read in (split_path, email_address.parse_address, email_address.parse_mailbox, schedule.read_cron):
        with suppress(ValueError):
            read(text)
    parse_instant(text)
    api_key.is_possible(text)
    list(api_key.written_in(data))
    url_faults(text, "url", Rules())
    with suppress(Forbidden):
        Egress().check_url(text)
    UnsubscribeLinks.of([INSTANCE], bytes(32), None).read(text)
    with suppress(ValueError):
        Keyring.of([text])
    with suppress(InvalidArgument, FailedPrecondition):
        _PREVIEWED.require(text, _NOW)
    tokens = CodecTokens(["ann:a-token"])
    assert tokens.whose(text) in (None, "ann")
    tokens.of_session(text)


_METHODS = {method.name.encode(): method for service in services() for method in service.methods}
_KINDS = {method.input_type.full_name: GetMessageClass(method.input_type) for method in _METHODS.values()}


def _named(data: bytes) -> tuple[MethodDescriptor, bytes]:
    """The method, and what stands below its name; one of them where no method is named."""
    name, _, rest = data.partition(b"\n")
    return _METHODS.get(name, _METHODS[b"CreateJourney"]), rest


def request_json(data: bytes) -> None:
    """A line that names an RPC, and a body: read, checked, told of, and written again."""
    method, data = _named(data)
    body_field = shape_of(method.input_type).body or WHOLE_REQUEST
    kind = _KINDS[method.input_type.full_name]
    request, faults = read_request(kind, body_field=body_field, body=data, path={}, query=[])
    _told(request, faults)
    if not faults:
        write_response(request)


def request_wire(data: bytes) -> None:
    """A line that names an RPC, and a message."""
    method, data = _named(data)
    try:
        request = _KINDS[method.input_type.full_name].FromString(data)
    except DecodeError:
        return
    faults = check_message(request)
    _told(request, faults)
    if not faults:
        write_response(request)


def _told(request: Any, faults: list[Any]) -> None:
    """Every fault finds its place, and all of them a form in which they can be sent."""
    whole, by_item = divide(request, faults)
    for of_one in (whole, *by_item.values()):
        if of_one:
            failure = failure_of(
                InvalidArgument(in_order(descriptor_of(request), of_one)), call_id="c", method=type(request).__name__
            )
            assert failure.code.name == "INVALID_ARGUMENT"
            assert to_fitting_status(failure, "c").ByteSize() <= 2 * MAX_STATUS_BYTES
            json.dumps(to_json(failure, "c"))


def _json(data: bytes) -> Any:
    """The document, as bodies of calls are read; a text where it is none."""
    try:
        return parse_json(data)
    except Wrong as wrong:
        assert wrong.fault.reason in ("MALFORMED_REQUEST", "TOO_DEEP")
        return data.decode(errors="replace")


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        predicate,
        graph,
        template,
        pinpoint,
        page_token,
        codec,
        webhook,
        texts,
        request_json,
        request_wire,
    )
}
