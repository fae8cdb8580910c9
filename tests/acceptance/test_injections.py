"""Texts that try to become statements, wherever a text can be written: what is sent to the database stays the same.

Statements are compared as the driver gets them: those of hostile texts are among those of plain ones. What they answer
is compared with the reference evaluator, beside another project that has the same subjects under other names.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from orchestrator.api.json_text import value_faults
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.parse import parse
from orchestrator.storage import pool
from tests.acceptance.good_calls import INTERNALS_OWN, OPERATORS_OWN, documents
from tests.acceptance.ground import Ground, Project, served_ground
from tests.acceptance.heard import HeardConnection, heard
from tests.acceptance.openapi_cases import ALL_NOUNS
from tests.acceptance.raw_calls import Outcome, call_grpc
from tests.acceptance.request_fields import FIELD_MASK, STRUCT, VALUE, Place, length_delimited, places
from tests.conformance.worlds import Happened, World, facts_for
from tests.faults.soak import SOAK
from tests.hostile import hostile
from tests.integration.api.callers import RPCS
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY

INJECTIONS = hostile("injections")
#: Texts of every form that is read as something of its own.
PLAIN = ("plain", "two.names", "$entry.plain", "$subject.created_at", "plain, words", "12", "2026-03-01T12:00:00Z", "")
AT_ONCE = 8
#: Leaves of one predicate.
LEAVES = 40
_NOW = datetime(2126, 3, 1, tzinfo=UTC)
_HAPPENED = "2026-03-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    ground: Ground
    project: Project
    foreign: Project


@pytest.fixture(scope="module")
async def world(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Injected]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "ProjectConnection", HeardConnection)
        async with served_ground(postgres, template) as ground:
            yield Injected(
                ground=ground,
                project=await ground.project("ours", ALL_NOUNS),
                foreign=await ground.project("theirs", ALL_NOUNS, prefix="their-"),
            )


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


async def test_predicates_with_hostile_texts_are_plain_statements_with_right_answers(world: Injected) -> None:
    subjects = _subjects()
    for project, prefix in ((world.project, ""), (world.foreign, "their-")):
        await _write(world.ground, project, prefix, subjects)

    for place, leaf_with in LEAVES_WITH.items():
        leaves = [leaf for text in INJECTIONS if parse(leaf := leaf_with(text))[1] == []]
        plain = [leaf_with(f"plain-{number}") for number in range(LEAVES)]
        heard.clear()
        await _ask(world, plain)
        known = frozenset(heard)

        assert len(leaves) >= 300, place
        for first in range(0, len(leaves), LEAVES):
            predicate = {"kind": "or", "clauses": (leaves[first : first + LEAVES] + plain)[:LEAVES]}
            size, sample = await _ask(world, predicate["clauses"])
            belonging = _belonging(predicate, subjects)
            assert size == len(belonging), (place, predicate)
            assert set(sample) <= belonging
        assert heard - known == set(), place


def _subjects() -> dict[str, World]:
    """By id: one for each text that an attribute can be."""
    kept = [text for text in INJECTIONS if not value_faults({text: text}, "", max_depth=4)]
    return {
        f"hostile-{number}": World(
            attributes={text: 1, "inside": {text: 1}, "text": text, "object": {text: 1}},
            events={text: [Happened(_NOW)]} if _is_event(text) else {},
        )
        for number, text in enumerate(kept)
    }


def _is_event(text: str) -> bool:
    return parse(LEAVES_WITH["an event"](text))[1] == []


async def _write(ground: Ground, project: Project, prefix: str, subjects: Mapping[str, World]) -> None:
    documents = [{"id": f"{prefix}{name}", "attributes": one.attributes} for name, one in subjects.items()]
    await ground.http.document(project.owner_key, "POST", "/v1/subjects:batchUpsert", {"subjects": documents})
    events = [
        {"eventId": f"{name}-event", "name": event, "subjectId": f"{prefix}{name}", "occurTime": _HAPPENED}
        for name, one in subjects.items()
        for event in one.events
    ]
    for first in range(0, len(events), 100):
        body = {"events": events[first : first + 100], "backfill": True}
        told = await ground.http.document(project.owner_key, "POST", "/v1/events", body)
        assert {result["status"] for result in told["results"]} == {"accepted"}


async def _ask(world: Injected, clauses: list[Any]) -> tuple[int, list[str]]:
    """How many subjects belong, as an audience's estimate says, and some of them."""
    http, key = world.ground.http, world.project.owner_key
    body = {"name": "Hostile", "predicate": {"kind": "or", "clauses": clauses}}
    made = await http.document(key, "POST", "/v1/audiences", body)
    told = await http.document(key, "POST", f"/v1/audiences/{made['id']}:estimate", {})
    assert told["exact"]
    return told.get("size", 0), told.get("sampleSubjectIds", [])


def _belonging(predicate: Any, subjects: Mapping[str, World]) -> set[str]:
    tree, faults = parse(predicate)
    assert tree is not None, faults
    return {name for name, one in subjects.items() if evaluate(tree, facts_for(tree, one), _NOW)}


#: Of the hostile texts, how many are tried at each place.
AT_EACH = 2
MANY_AT_EACH = len(INJECTIONS) if SOAK else 12


async def test_hostile_texts_change_no_statement_wherever_they_are_written(world: Injected) -> None:
    await _write_everywhere(world, AT_EACH)


@pytest.mark.faults
@pytest.mark.timeout(7200)
async def test_many_hostile_texts_change_no_statement_wherever_they_are_written(world: Injected) -> None:
    await _write_everywhere(world, MANY_AT_EACH)


async def _write_everywhere(world: Injected, at_each: int) -> None:
    """Plain texts first, wherever texts can be written; then hostile ones, which may say nothing new."""
    texts = itertools.cycle(INJECTIONS)
    everywhere = list(_everywhere(world.project))
    theirs = await world.ground.checksums(world.foreign.project_no)

    heard.clear()
    for plain in PLAIN:
        await _send_all(world.ground, [(key, place, plain) for key, place in everywhere])
    known = frozenset(heard)
    answers = await _send_all(
        world.ground, [(key, place, text) for key, place in everywhere for text in itertools.islice(texts, at_each)]
    )

    assert len(answers) >= len(INJECTIONS)
    assert heard - known == set()
    assert [told for told in answers if told.code in _BROKEN] == []
    assert [told for told in answers if "their-" in f"{told.response} {told.told}"] == []
    assert await world.ground.checksums(world.foreign.project_no) == theirs


_BROKEN = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS"})


def _everywhere(project: Project) -> Iterator[tuple[str, Place]]:
    """Every field that texts can stand in, and a key to call with."""
    for name, rpc in RPCS.items():
        key = OPERATOR_KEY if name in OPERATORS_OWN else INTERNAL_TOKEN if name in INTERNALS_OWN else project.owner_key
        for place in places(rpc, documents(name, project, 0)):
            is_texts = place.kind == "list" and place.field.type == FieldDescriptor.TYPE_STRING
            if is_texts or place.kind in ("string", VALUE, STRUCT, FIELD_MASK):
                yield key, place


async def _send_all(ground: Ground, calls: Iterable[tuple[str, Place, str]]) -> list[Outcome]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def send(key: str, place: Place, text: str) -> Outcome:
        async with gate:
            return await call_grpc(ground.grpc, place.rpc, place.wire(_written(place, text)), key)

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
