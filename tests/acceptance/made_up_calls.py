"""Calls that nobody would think of, of every RPC and every route, and what is wrong with how they end.

Half of a call's fields are those of a good one: what is nothing but noise is refused at the door. What a call writes is
read again, over the other transport.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from google.api.field_behavior_pb2 import OUTPUT_ONLY
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from orchestrator.api.descriptors import behaves, descriptor_of, message_in
from orchestrator.api.descriptors import given as fields_given
from orchestrator.api.field_limits import Id, text_limit
from orchestrator.api.json_encode import encode
from orchestrator.api.json_values import struct_to_json
from orchestrator.api.request_shapes import shape_of
from orchestrator.v1.error_reason_pb2 import ErrorReason
from tests.acceptance.contract_cases import CASES
from tests.acceptance.good_calls import INTERNALS_OWN, OPERATORS_OWN, documents
from tests.acceptance.ground import Ground, Project
from tests.acceptance.http_requests import camel, good_http, http_request
from tests.acceptance.made_up_values import EVIL, filled, mutated, put
from tests.acceptance.raw_calls import OK, HttpRequest, Outcome, call_grpc
from tests.acceptance.request_fields import GRAPH, STRUCT, VALUE, Place, bindings, places, variables
from tests.integration.api.callers import RPCS
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY

_NAMES = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
#: All but the reasons for which nobody is to blame but the server.
_NAMED = _NAMES - {"UNSPECIFIED", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
_REFUSALS = frozenset(
    {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED", "PERMISSION_DENIED"),
        "RESOURCE_EXHAUSTED",
    }
)
#: Of a request as a whole: no field is to blame.
_OF_THE_WHOLE = frozenset({"MALFORMED_REQUEST", "TOO_LARGE", "TOO_DEEP", "INVALID_TYPE"})

#: So many calls are under way at once.
BATCH = 3
_FRESH = b"new-0"
#: After these there is less to call.
_ENDING = ("Delete", "Archive", "Revoke", "Merge", "Cancel", "Forget", "Pause", "UpdateProject", "ImportBundle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call to be made. `rpc` None: of a documented route."""

    label: str
    key: str
    request: bytes | HttpRequest
    rpc: MethodDescriptor | None = None

    def __str__(self) -> str:
        if isinstance(self.request, HttpRequest):
            body = "" if self.request.body is None else self.request.body[:600].decode(errors="replace")
            return f"{self.label}: {self.request.verb} {self.request.path[:400]} {self.request.headers} {body}"
        assert self.rpc is not None
        try:
            message: Any = GetMessageClass(self.rpc.input_type).FromString(self.request)
        except DecodeError:
            message = self.request
        return f"{self.label}: {str(message)[:600]!r}"


@dataclass(slots=True)
class Made:
    """What came of calls. `ends` counts how they ended, by reason; `written` those that were read again."""

    ends: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    written: int = 0

    def add(self, other: Made) -> None:
        self.ends += other.ends
        self.findings += other.findings
        self.written += other.written

    def note(self, ended: str, call: Call, wrong: str | None) -> None:
        self.ends[ended] += 1
        if wrong is not None:
            self.findings.append(f"{call}\n{wrong}")

    @property
    def calls(self) -> int:
        return self.ends.total()

    def __str__(self) -> str:
        accepted = self.ends[OK]
        refused = ", ".join(f"{reason} {count}" for reason, count in self.ends.most_common(6) if reason != OK)
        return f"{self.calls} calls, {accepted} carried out, {self.written} read again; refused: {refused}"


def strategies(project: Project) -> dict[str, st.SearchStrategy[Call]]:
    """By what is called: its calls. Those that end things are the last ones."""
    found: dict[str, st.SearchStrategy[Call]] = {}
    for name, rpc in RPCS.items():
        key = OPERATOR_KEY if name in OPERATORS_OWN else INTERNAL_TOKEN if name in INTERNALS_OWN else project.owner_key
        good = [documents(name, project, number) for number in (0, 1)]
        found[name] = st.one_of(
            _grpc_calls(rpc, key, tuple(places(rpc, good[0]))),
            _http_calls(rpc, key, tuple(document for of_number in good for document in of_number)),
        )
    for label, calls in documented_calls(project).items():
        found[label] = _documented_calls(label, tuple(calls))
    return dict(sorted(found.items(), key=lambda item: item[0].startswith(_ENDING)))


async def make_up(ground: Ground, project: Project, *, calls: int, seeded: int | None = None) -> Made:
    """Make about so many calls, evenly; the same ones each time, or those of a seed."""
    made = Made()
    await _furnish(ground, project)
    by_label = strategies(project)
    # The first is always the simplest one there is.
    each = 1 + max(1, round(calls / len(by_label) / BATCH))
    loop = asyncio.get_running_loop()

    async def send_all(batch: Sequence[Call]) -> None:
        if any(_is_read_again(call) for call in batch):
            # One after the other, so that what is read is what was written.
            for call in batch:
                await _make(ground, project, call, made)
        else:
            await asyncio.gather(*(_make(ground, project, call, made) for call in batch))

    def run(strategy: st.SearchStrategy[Call]) -> None:
        @given(batch=st.lists(strategy, min_size=BATCH, max_size=BATCH))
        @settings(
            max_examples=each,
            derandomize=seeded is None,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def makes(batch: list[Call]) -> None:
            asyncio.run_coroutine_threadsafe(send_all(batch), loop).result()

        if seeded is not None:
            makes = seed(seeded)(makes)
        makes()

    for strategy in by_label.values():
        # Hypothesis blocks; whoever calls is in this loop.
        await asyncio.to_thread(run, strategy)
    return made


async def _make(ground: Ground, project: Project, call: Call, made: Made) -> None:
    if isinstance(call.request, bytes):
        assert call.rpc is not None
        outcome = await call_grpc(ground.grpc, call.rpc, call.request, call.key)
        if outcome.code == OK and _is_read_again(call):
            made.written += 1
            made.findings += [f"{call}\n{text}" for text in await _read_again(ground, call, outcome)]
    elif call.rpc is not None:
        outcome = await ground.http.call(call.rpc.name, call.request, call.key)
    else:
        ended, wrong = await _documented(ground, call)
        made.note(ended, call, wrong)
        return
    made.note(outcome.reason or outcome.code, call, _wrong(outcome))


def _wrong(outcome: Outcome) -> str | None:
    told = f"{outcome.code} {outcome.reason} {outcome.faults[:4]} {outcome.told[:200]}"
    if outcome.code == OK:
        return None
    if outcome.code not in _REFUSALS or outcome.reason not in _NAMED:
        return told
    if {reason for _, reason in outcome.faults} - _NAMED:
        return f"a reason that the contract does not have: {told}"
    if outcome.code == "INVALID_ARGUMENT":
        if not outcome.faults:
            return f"no field is named: {told}"
        if any(not path and reason not in _OF_THE_WHOLE for path, reason in outcome.faults):
            return f"a fault has no place: {told}"
    return None


async def _documented(ground: Ground, call: Call) -> tuple[str, str | None]:
    """How the call of a documented path ended, and what is wrong with that. Documents have words of their own for
    reasons: what counts are the places.
    """
    assert isinstance(call.request, HttpRequest)
    status, headers, body = await ground.http.send(call.request, call.key)
    if status < 300:
        return OK, None
    ended = f"HTTP {status}"
    if status >= 500 or headers["content-type"] != "application/json":
        return ended, f"{ended}: {body[:400]!r}"
    details = json.loads(body)["error"].get("details", [])
    placeless = [one for one in details if not one.get("path") and one.get("code", "").upper() not in _OF_THE_WHOLE]
    return ended, f"{ended}: {body[:400]!r}" if placeless and status != 404 else None


@st.composite
def _grpc_calls(draw: st.DrawFn, rpc: MethodDescriptor, key: str, found: Sequence[Place]) -> Call:
    free = [place for place in found if _is_free(place)] if _getter(rpc) is not None else []
    keeps: bool = draw(st.booleans())
    if not found or draw(st.integers(0, 7)) == 0:
        message = draw(filled(rpc.input_type))
    elif free and keeps:
        # Whatever is written here is kept.
        place = draw(st.sampled_from(free))
        message = type(place.request)()
        message.CopyFrom(place.request)
        put(draw, _holder(message, place), place.field)
    else:
        first = draw(st.sampled_from(found))
        message = type(first.request)()
        message.CopyFrom(first.request)
        beside = [place for place in found if place.request is first.request]
        for place in (first, *draw(st.lists(st.sampled_from(beside), max_size=2))):
            holder = _holder(message, place)
            if holder is not None:
                put(draw, holder, place.field)
    content = message.SerializeToString().replace(_FRESH, _fresh(draw))
    if draw(st.integers(0, 24)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + draw(st.integers(0, 2)) :]
    return Call(label=rpc.name, key=key, request=content, rpc=rpc)


def _is_free(place: Place) -> bool:
    """Whether anything may be written into the field, or nearly."""
    is_text = place.kind == "string" and not isinstance(text_limit(place.field), Id)
    return (is_text or place.kind in (STRUCT, VALUE)) and not place.is_output_only and place.field.name != "etag"


def _holder(message: Any, place: Place) -> Any:
    """The message that has the field; None: another change took it away."""
    for hop in place.hops[:-1]:
        message = getattr(message, hop.field.name)
        if hop.index is not None:
            if hop.index >= len(message):
                return None
            message = message[hop.index]
    return message


@st.composite
def _http_calls(draw: st.DrawFn, rpc: MethodDescriptor, key: str, good: Sequence[Any]) -> Call:
    document = draw(st.sampled_from(good))
    fitting = [rule for rule in bindings(rpc) if all(_at(document, name) for name in variables(rule))]
    rule = draw(st.sampled_from(fitting or bindings(rpc)))
    texts = {name: [_quoted(draw(_evil))] for name in variables(rule) if draw(st.integers(0, 5)) == 0}
    request = http_request(rule, document, texts) if fitting else good_http(rpc, document)
    names = [field.json_name for field in rpc.input_type.fields]
    return Call(label=rpc.name, key=key, request=_spoiled(draw, request, names), rpc=rpc)


def _at(document: Any, name: str) -> Any:
    for part in name.split("."):
        document = document.get(camel(part)) if isinstance(document, Mapping) else None
    return document


@st.composite
def _documented_calls(draw: st.DrawFn, label: str, calls: Sequence[Call]) -> Call:
    call = draw(st.sampled_from(calls))
    assert isinstance(call.request, HttpRequest)
    request = call.request
    if draw(st.integers(0, 5)) == 0:
        *way, last = request.path.split("/")
        request = HttpRequest(verb=request.verb, path="/".join([*way, _quoted(draw(_evil)) or last]), body=request.body)
    return Call(label=label, key=call.key, request=_spoiled(draw, request, _PARAMETERS))


_PARAMETERS = ("status", "limit", "offset", "version", "force", "pageSize", "pageToken")
_evil = st.sampled_from(EVIL)
#: A call may have too little time; that is what its caller wants.
_HEADERS = ("If-Match", "Idempotency-Key", "If-None-Match", "Content-Type", "Accept", "Origin", "X-Request-Id")


def _spoiled(draw: st.DrawFn, request: HttpRequest, names: Sequence[str]) -> HttpRequest:
    body, path, headers = request.body, request.path, []
    if body is not None:
        content = draw(mutated(json.loads(body)))
        body = json.dumps(content).encode().replace(_FRESH, _fresh(draw))
        if draw(st.integers(0, 24)) == 0:
            body = body[: draw(st.integers(0, len(body)))]
    if (body is None or draw(st.integers(0, 5)) == 0) and draw(st.booleans()):
        pairs = draw(st.lists(st.tuples(st.sampled_from(names) | _evil, _evil), max_size=3)) if names else []
        text = urlencode(pairs, errors="surrogatepass")
        path = f"{path}{'&' if '?' in path else '?'}{text}"
    if draw(st.integers(0, 9)) == 0:
        value = "".join(character for character in draw(_evil) if " " <= character < "\x7f").strip()
        headers.append((draw(st.sampled_from(_HEADERS)), value[:200]))
    return HttpRequest(verb=request.verb, path=path, body=body, headers=tuple(headers))


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def _fresh(draw: st.DrawFn) -> bytes:
    """An id that nothing has, as long as the one of the good calls: so messages stay whole around it."""
    dice = random.Random(draw(st.integers(0, 2**32)))
    return "".join(dice.choices(string.ascii_lowercase + string.digits, k=len(_FRESH))).encode()


def documented_calls(project: Project) -> dict[str, list[Call]]:
    """By route: the calls of the contract's table that succeed, in the order in which they do."""
    found: dict[str, list[Call]] = {}
    for case in CASES:
        if case.refused is not None:
            continue
        verb, path = case.documented.replace("$P", project.project_id).split(" ")
        text = None if case.body is None else json.dumps(case.body).replace("$P", project.project_id)
        label = f"{verb} {path.partition('?')[0]}"
        key = INTERNAL_TOKEN if case.by == "internal" else project.owner_key
        request = HttpRequest(verb=verb, path=path, body=None if text is None else text.encode())
        found.setdefault(label, []).append(Call(label=label, key=key, request=request))
    return found


async def _furnish(ground: Ground, project: Project) -> None:
    """Make what the calls of documented routes name."""
    for label, calls in documented_calls(project).items():
        for call in calls if label.startswith(("POST", "PUT")) and not label.endswith("archive") else ():
            await _documented(ground, call)


def _is_read_again(call: Call) -> bool:
    """Whether the call writes something that can be asked for by its id."""
    return call.rpc is not None and isinstance(call.request, bytes) and _getter(call.rpc) is not None


def _getter(rpc: MethodDescriptor) -> MethodDescriptor | None:
    body = shape_of(rpc.input_type).body
    if body is None or rpc.name in OPERATORS_OWN:
        return None
    return RPCS.get(f"Get{message_in(rpc.input_type.fields_by_name[body]).name}")


#: What workers go on with as soon as it is there.
_MOVING = frozenset({"GetEnrollmentJob", "GetSegment"})


async def _read_again(ground: Ground, call: Call, outcome: Outcome) -> list[str]:
    """How what is there now differs from what was sent, and from what the answer said."""
    assert call.rpc is not None
    assert isinstance(call.request, bytes)
    getter, body = _getter(call.rpc), shape_of(call.rpc.input_type).body
    assert getter is not None
    assert body is not None
    request: Any = GetMessageClass(call.rpc.input_type).FromString(call.request)
    sent = getattr(request, body)
    if getattr(request, "validate_only", False) or getattr(request, "request_id", ""):
        return []  # Nothing was written, or at another time.
    response: Any = GetMessageClass(call.rpc.output_type).FromString(outcome.response)
    shown = response if descriptor_of(response).full_name == descriptor_of(sent).full_name else getattr(response, body)
    id_field = next(field for field in getter.input_type.fields if field.name.endswith("_id"))
    got = await ground.http.call(getter.name, good_http(getter, {id_field.json_name: shown.id}), call.key)
    found = list(_differences(sent, shown, "", masked=_masked(request)))
    if got.code != OK or (getter.name not in _MOVING and got.response != encode(shown)):
        found.append(f"answered {encode(shown)}, and read {got.response or got}")
    return found


def _masked(request: Any) -> frozenset[str]:
    """The names of fields that an update leaves alone, whole or in part."""
    paths = list(request.update_mask.paths) if "update_mask" in descriptor_of(request).fields_by_name else []
    if not paths or "*" in paths:
        return frozenset()
    body = getattr(request, str(shape_of(descriptor_of(request)).body))
    return frozenset(field.name for field, _ in fields_given(body) if field.name not in paths)


def _differences(sent: Message, shown: Message, path: str, masked: frozenset[str] = frozenset()) -> Iterator[str]:
    """What was sent and is not shown as it was. More may be shown."""
    there = {member.number: value for member, value in fields_given(shown)}
    for member, value in fields_given(sent):
        at = f"{path}.{member.name}"
        if behaves(member, OUTPUT_ONLY) or member.name in ("etag", *masked):
            continue
        if member.message_type is not None and member.message_type.full_name == GRAPH:
            continue  # It is drawn anew: tests/fuzzing/targets.py.
        found = there.get(member.number)
        if member.message_type is None or found is None:
            if found != value and not _says_nothing(member, value):
                yield f"{at}: sent {value!r}, shown {found!r}"
        elif member.message_type.full_name == STRUCT and not member.is_repeated:
            if not _is_in(struct_to_json(value), struct_to_json(found)):
                yield f"{at}: sent {value}, shown {found}"
        elif member.is_repeated:
            if len(found) != len(value):
                yield f"{at}: sent {len(value)}, shown {len(found)}"
            for index, (one, other) in enumerate(zip(value, found, strict=False)):
                yield from _differences(one, other, f"{at}[{index}]")
        else:
            yield from _differences(value, found, at)


def _is_in(sent: Any, shown: Any) -> bool:
    """Whether an object was taken over, or into what was there (RFC 7396): null takes away."""
    if not isinstance(sent, dict) or not isinstance(shown, dict):
        return bool(sent == shown)
    return all(shown.get(name) is None if one is None else _is_in(one, shown.get(name)) for name, one in sent.items())


def _says_nothing(field: Any, value: Any) -> bool:
    """Whether a message holds nothing that anybody could have asked for."""
    return field.message_type is not None and not field.is_repeated and not fields_given(value)
