"""Texts that try to become statements, wherever a text can be written: what is sent to the database stays the same.

Statements are compared as the driver gets them: those of hostile texts are among those of plain ones. What they answer
is compared with the reference evaluator, beside another project that has the same subjects under other names.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

import orchestrator.server
from orchestrator.api.json_text import value_faults
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.event import name_fault
from orchestrator.predicates.builtin import SUBJECT
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.parse import parse
from orchestrator.predicates.paths import split_path
from orchestrator.storage import pool
from tests.acceptance.good_calls import INTERNALS_OWN, OPERATORS_OWN, documents
from tests.acceptance.ground import Ground, Project, served_ground
from tests.acceptance.heard import HeardConnection, heard
from tests.acceptance.openapi_cases import ALL_NOUNS
from tests.acceptance.raw_calls import Outcome, call_grpc
from tests.acceptance.request_fields import FIELD_MASK, STRUCT, VALUE, Place, length_delimited, places
from tests.conformance.worlds import Happened, World, facts_for
from tests.hostile import hostile
from tests.integration.api.callers import RPCS
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY
from tests.soak import SOAK

INJECTIONS = hostile("injections")
#: Texts of every form that is read as something of its own; None: what the good call has there.
PLAIN = (None, None, "plain", "*", "$subject.created_at", "12", "2026-03-01T12:00:00Z", "")
AT_ONCE = 8
#: Leaves of one predicate.
LEAVES = 100
_NOW = datetime(2126, 3, 1, tzinfo=UTC)
_HAPPENED = "2026-03-01T00:00:00Z"


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "ProjectConnection", HeardConnection)
        async with served_ground(postgres, template) as ground:
            yield ground


def test_there_are_enough_of_them() -> None:
    assert len(set(INJECTIONS)) >= 300


#: By where a text stands in a leaf.
LEAVES_WITH: dict[str, Any] = {
    "a path": lambda text: {"kind": "attribute", "fieldPath": text, "operator": "exists"},
    "a name in a path": lambda text: {"kind": "attribute", "fieldPath": f"inside.{text}", "operator": "exists"},
    "a value": lambda text: {"kind": "attribute", "fieldPath": "text", "operator": "equals", "value": text},
    "a part of a text": lambda text: {"kind": "attribute", "fieldPath": "text", "operator": "contains", "value": text},
    "a choice": lambda text: {"kind": "attribute", "fieldPath": "text", "operator": "in", "value": [text]},
    "choices as words": lambda text: {"kind": "attribute", "fieldPath": "text", "operator": "in", "value": text},
    "a member of a value": lambda text: {
        "kind": "attribute",
        "fieldPath": "object",
        "operator": "equals",
        "value": {text: 1},
    },
    "an event": lambda text: {"kind": "event_fired", "eventName": text, "window": {"type": "ever"}},
}


@pytest.mark.timeout(600)  # a busy machine takes its time
async def test_predicates_with_hostile_texts_are_plain_statements_with_right_answers(ground: Ground) -> None:
    subjects = _subjects()
    project = await ground.project("asked", ())
    foreign = await ground.project("asked-beside", ())
    await _write(ground, project, "", subjects)
    await _write(ground, foreign, "their-", subjects)

    for place, leaf_with in LEAVES_WITH.items():
        texts = [text for text in INJECTIONS if _is_good(leaf_with(text))]
        assert len(texts) >= 300, place
        for first in range(0, len(texts), LEAVES):
            asked = texts[first : first + LEAVES]
            plain = _plain(place, asked)
            await _ask(ground, project, [leaf_with(text) for text in plain])
            known = _heard()
            clauses = [leaf_with(text) for text in asked]
            size, sample = await _ask(ground, project, clauses)

            # How many words there are, and of which types, shows in a statement.
            assert place == "choices as words" or _new(known) == set(), (place, asked)
            belonging = _belonging({"kind": "or", "clauses": clauses}, subjects)
            assert size == len(belonging), (place, asked)
            assert set(sample) <= belonging


def _plain(place: str, texts: list[str]) -> list[str]:
    """As many texts with which the same is asked, of other things."""
    if "path" in place:
        return _plain_paths(texts)
    if place == "an event":
        return [f"plain-{INJECTIONS.index(text)}" for text in texts]
    return _plain_texts([LEAVES_WITH[place](text) for text in texts])


def _plain_texts(leaves: list[Any]) -> list[str]:
    """A text for each leaf, the same for those that ask the same."""
    texts: dict[str, str] = {}
    return [texts.setdefault(repr(parse(leaf)), f"plain-{len(texts)}") for leaf in leaves]


def _plain_paths(texts: list[str]) -> list[str]:
    """Paths of as many names, equal where these are equal."""
    names: dict[str, str] = {}
    plain: list[str] = []
    for text in texts:
        try:
            path = split_path(text)
        except ValueError:
            path = (text,)
        if path[0] == SUBJECT:
            plain.append(text)
        else:
            plain.append(".".join(names.setdefault(name, f"plain-{len(names)}") for name in path))
    return plain


def _subjects() -> dict[str, World]:
    """By id: one for each text that an attribute can be."""
    kept = [text for text in INJECTIONS if not value_faults({text: text}, "", max_depth=4)]
    happened = {f"plain-{number}": [Happened(_NOW)] for number, text in enumerate(INJECTIONS) if _is_event(text)}
    return {"plain": World(events=happened, created_at=_NOW)} | {
        f"hostile-{number}": World(
            attributes={text: 1, "inside": {text: 1}, "text": text, "object": {text: 1}},
            events={text: [Happened(_NOW)]} if _is_event(text) else {},
            created_at=_NOW,
        )
        for number, text in enumerate(kept)
    }


def _is_good(leaf: Any) -> bool:
    return value_faults(leaf, "", max_depth=8) == [] and parse(leaf)[1] == []


def _is_event(text: str) -> bool:
    return _is_good(LEAVES_WITH["an event"](text)) and name_fault(text, "") is None


async def _write(ground: Ground, project: Project, prefix: str, subjects: Mapping[str, World]) -> None:
    documents = [{"id": f"{prefix}{name}", "attributes": one.attributes} for name, one in subjects.items()]
    await ground.http.document(project.owner_key, "POST", "/v1/subjects:batchUpsert", {"subjects": documents})
    events = [
        {"eventId": f"{name}-event-{number}", "name": event, "subjectId": f"{prefix}{name}", "occurTime": _HAPPENED}
        for name, one in subjects.items()
        for number, event in enumerate(one.events)
    ]
    for first in range(0, len(events), 500):
        body = {"events": events[first : first + 500], "backfill": True}
        told = await ground.http.document(project.owner_key, "POST", "/v1/events", body)
        assert {result["status"] for result in told["results"]} == {"accepted"}


async def _ask(ground: Ground, project: Project, clauses: list[Any]) -> tuple[int, list[str]]:
    """How many subjects belong, as an audience's estimate says, and some of them."""
    http, key = ground.http, project.owner_key
    body = {"name": "Hostile", "predicate": {"kind": "or", "clauses": clauses}}
    made = await http.document(key, "POST", "/v1/audiences", body)
    told = await http.document(key, "POST", f"/v1/audiences/{made['id']}:estimate", {})
    assert told["exact"]
    return told.get("size", 0), told.get("sampleSubjectIds", [])


def _belonging(predicate: Any, subjects: Mapping[str, World]) -> set[str]:
    tree, faults = parse(predicate)
    assert tree is not None, faults
    return {name for name, one in subjects.items() if evaluate(tree, facts_for(tree, one), _NOW)}


@pytest.mark.faults
@pytest.mark.timeout(7200 if SOAK else 600)
async def test_hostile_texts_change_no_statement_wherever_they_are_written(ground: Ground) -> None:
    """At every field of the contract that holds texts; in `make soak`, at each of its places in every RPC, all of them.

    Plain texts come first, so that what is heard of hostile ones may be nothing new.
    """
    project = await ground.project("ours", ALL_NOUNS)
    foreign = await ground.project("theirs", ALL_NOUNS, prefix="their-")
    everywhere = list(_everywhere(project))
    if not SOAK:
        everywhere = list({place.field.full_name: (key, place) for key, place in everywhere}.values())
    texts = itertools.cycle(INJECTIONS)
    theirs = await ground.checksums(foreign.project_no)

    for plain in PLAIN:
        await _send_all(ground, [(key, place, plain) for key, place in everywhere])
    known = _heard()
    answers = await _send_all(
        ground, [(key, place, text) for key, place in everywhere for text in itertools.islice(texts, AT_EACH)]
    )

    assert len(answers) >= len(INJECTIONS)
    assert _new(known) == set()
    assert [told for told in answers if told.code in _BROKEN] == []
    assert [told for told in answers if "their-" in f"{told.response} {told.told}"] == []
    assert await ground.checksums(foreign.project_no) == theirs


#: Of the hostile texts, how many are tried at each place.
AT_EACH = len(INJECTIONS) if SOAK else 3


_MADE_UP = re.compile(r"__asyncpg_savepoint_[0-9a-f]+__|\d+")


def _heard() -> set[str]:
    """What was heard so far, without numbers (of parameters, of names in their order, of the time that calls have) and
    without the names that the driver makes up for savepoints.
    """
    return {_MADE_UP.sub("", text) for text in heard}


def _new(known: set[str]) -> set[str]:
    """What was heard besides, and does not stand in the source as it is: the server does some things by the clock."""
    return {text for text in _heard() - known - _ENTERING if text.strip() not in _sources()}


#: What a connection is told that enters a project (storage/pool.py), put together of what has changed.
_ENTERING = frozenset(
    f"SET app.project_no = ''{limit}" for limit in ("", "; SET statement_timeout = ", "; RESET statement_timeout")
)


@cache
def _sources() -> str:
    sources = Path(orchestrator.server.__file__).parent.rglob("*.py")
    return _MADE_UP.sub("", "\n".join(source.read_text(encoding="utf-8") for source in sources))


_BROKEN = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS"})


def _everywhere(project: Project) -> Iterator[tuple[str, Place]]:
    """Every field that texts can stand in, and a key to call with."""
    for name, rpc in RPCS.items():
        key = OPERATOR_KEY if name in OPERATORS_OWN else INTERNAL_TOKEN if name in INTERNALS_OWN else project.owner_key
        for place in places(rpc, documents(name, project, 0)):
            is_texts = place.kind == "list" and place.field.type == FieldDescriptor.TYPE_STRING
            if is_texts or place.kind in ("string", VALUE, STRUCT, FIELD_MASK):
                yield key, place


async def _send_all(ground: Ground, calls: Iterable[tuple[str, Place, str | None]]) -> list[Outcome]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def send(key: str, place: Place, text: str | None) -> Outcome:
        message = place.request.SerializeToString() if text is None else place.wire(_written(place, text))
        async with gate:
            return await call_grpc(ground.grpc, place.rpc, message, key)

    return await asyncio.gather(*(send(*call) for call in calls))


def _written(place: Place, text: str) -> bytes:
    """The field with this text in it; in an object of free form, as a name and as a value."""
    content = text.encode(errors="surrogatepass")
    match place.kind:
        case name if name == VALUE:
            content = length_delimited(3, content)
        case name if name == STRUCT:
            value = length_delimited(2, length_delimited(3, content))
            content = length_delimited(1, length_delimited(1, content) + value)
        case name if name == FIELD_MASK:
            content = length_delimited(1, content)
    return length_delimited(place.field.number, content)
