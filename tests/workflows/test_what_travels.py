"""What of subjects, events, templates and journeys travels through Temporal: ids and small enums, and nothing else.
Into traces goes not even what names somebody.

A word is planted in every text that callers can write. Executions walk over every kind of step, some of which fail
first, and somebody is forgotten; then all that Temporal holds is searched. The fields are taken from the contract: one
that is added there has to be planted here, or named with the reason why it may travel.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    DescribeWorkflowExecutionRequest,
    ListSchedulesRequest,
    ListWorkflowExecutionsRequest,
    QueryWorkflowRequest,
)
from temporalio.client import Client

from orchestrator.api.json_decode import decode_stored
from orchestrator.client import messages
from orchestrator.server import running
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.codec import EncryptingCodec, kid_of
from orchestrator.temporal.keyring import Keyring, make_payload_key
from tests.eventually import eventually
from tests.integration.api.conftest import OWNER_KEY, settings_of
from tests.integration.channels.receiver import one_after_the_other, receiving
from tests.otlp import PROMPTLY, Received, receiving_traces
from tests.provider.wire import response
from tests.workflows.payloads import payloads_in
from tests.workflows.plants import Plants, readings_of, text_fields
from tests.workflows.world import Switchboard, worker
from workers.channels.channel import Accepted, ChannelUnavailable, Refused
from workers.channels.channel import Message as Sent

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Json = dict[str, Any]
V1 = "orchestrator.v1."

#: Texts that are no values: by what they name an execution travels, and is meant to.
TRAVELS = {
    f"{V1}Subject.id": "in workflow ids, which have a promised form, and in a search attribute",
    f"{V1}Event.subject_id": "the same",
    f"{V1}Event.event_id": "in workflow ids, as the entry's key",
    f"{V1}Journey.id": "in workflow ids, in a search attribute, and in the summary of a workflow",
    f"{V1}Step.id": "in effects, ids of activities, summaries",
    **{
        f"{V1}{field}": "the id of a step"
        for field in (
            "Step.next", "BranchStep.otherwise", "BranchArm.next", "SplitArm.next", "AdaptiveArm.next",
            "WaitForStep.otherwise", "WebhookStep.otherwise", "JourneyDefinition.start",
        )
    },
}  # fmt: skip

#: Texts that hold no word, since callers cannot choose one.
CLOSED = {
    f"{V1}Communication.channel": "one of few",
    f"{V1}AttributeLeaf.operator": "one of few",
    f"{V1}JourneySchedule.cron": "a clock",
    f"{V1}Hours.start": "a clock",
    f"{V1}Hours.end": "a clock",
    f"{V1}TimeOfDay.time": "a clock",
    f"{V1}DateOfAttribute.time": "a clock",
    f"{V1}LastWindow.duration": "a duration",
    f"{V1}SinceWindow.time": "an instant",
    f"{V1}Subject.etag": "the server's",
    f"{V1}Communication.etag": "the server's",
    f"{V1}Journey.etag": "the server's",
    f"{V1}JourneyDefinition.graph": "the same journey in another form",
}

#: The zone of subjects and of the schedule: words cannot be planted there, but one that nothing else has can.
ZONE = "Pacific/Chatham"

#: The activities of its steps.
EFFECTS = ("send", "update_subject", "emit_event", "webhook", "choose_arm")
STEPS = ("hello", "pause", "ask", "half", "mark", "tell", "call", "learn", "best", "await", "bye")

#: Texts in payloads that are no ids: effects, questions, outcomes, reasons, and kinds of failures, which are classes.
ENUMS = re.compile(
    r"run|sleep|end|wait|wait_for|park|running|completed|send|webhook|update_subject|emit_event|choose_arm|"
    r"journeys|journeys-behind|channel-log|webhook-steps|http_503|receiver_failed|segments|sweep|evaluate|build|"
    r"[A-Z][A-Za-z]+|"
)
#: What the SDK tells about a workflow to whoever asks.
OF_THE_SDK = {
    "JourneyExecution",
    "Something changed: look again. Carries nothing.",
    "__enhanced_stack_trace",
    "__stack_trace",
    "__temporal_workflow_metadata",
    "poke",
}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Clumsy(Switchboard):
    """Fails in ways that talk: first with an error that says what it was about, then as unavailable."""

    def __init__(self, plants: Plants) -> None:
        super().__init__()
        self._plants = plants
        self._tries = 0

    async def send(self, message: Sent) -> Accepted | Refused:
        self._tries += 1
        if self._tries == 1:
            raise ValueError(f"{message.attributes} {self._plants.word('error of a provider')}")
        if self._tries == 2:
            raise ChannelUnavailable("http_503", in_doubt=False)
        await super().send(message)
        return Accepted(provider_id=self._plants.word("answer of a provider"))


class Author:
    """Writes everything with planted words, and remembers what was written."""

    def __init__(self, http: httpx.AsyncClient, plants: Plants) -> None:
        self._http = http
        self.word = plants.word
        self.written: list[Message] = []

    async def put(self, verb: str, path: str, document: Json, kind: type[Message] | None) -> None:
        if kind is not None:
            self.written.append(decode_stored(kind, document))
        answer = await self._http.request(verb, path, json=document)
        assert answer.is_success, answer.text

    def struct(self, name: str) -> Json:
        """Names and values, deep inside too."""
        word = self.word
        return {
            word(f"{name}, member"): word(f"{name}, value"),
            "deep": {word(f"{name}, inner member"): [word(f"{name}, inner value"), 3]},
        }

    def attribute(self, name: str) -> Json:
        path, value = self.word(f"{name}, path"), self.word(f"{name}, value")
        return {"kind": "attribute", "fieldPath": path, "operator": "eq", "value": value}

    def asked(self, name: str, *, holds_for: str | None = None) -> Json:
        """A predicate with a leaf of each kind; it holds for whoever has this attribute."""
        word = self.word
        never = {
            "kind": "or",
            "clauses": [
                self.attribute(name),
                {"kind": "event_fired", "eventName": word(f"{name}, event"), "window": {"type": "ever"}, "atLeast": 1},
                {"kind": "in_cohort", "cohortId": word("segment id")},
            ],
        }  # fmt: skip
        if holds_for is None:
            return never
        return {"kind": "or", "clauses": [{"kind": "attribute", "fieldPath": holds_for, "operator": "exists"}, never]}

    async def author(self, port: int) -> None:
        """Everything that is needed, the journey that is walked, and another that holds what the first one cannot."""
        word = self.word
        named = {"name": word("name of others"), "description": word("description of others")}
        await self.put("POST", "/v1/segments", {"id": word("segment id"), **named, "kind": "static"}, None)
        holds = word("attribute of a subject, member")
        audience = {"id": word("audience id"), **named, "predicate": self.asked("audience", holds_for=holds)}
        await self.put("POST", "/v1/audiences", audience, None)
        contract = {"id": word("contract id"), "name": named["name"], "eventName": word("event name")}
        await self.put("POST", "/v1/triggerContracts", contract, None)
        for channel in ("log", "webhook"):
            communication = {
                "id": word(f"communication id, {channel}"),
                "name": word("communication name"),
                "channel": channel,
                "category": "marketing",
                "subject": f"{word('communication subject')} {{{{ subject.attributes.{holds} }}}}",
                "body": f"{word('communication body')} {{{{ subject.attributes.deep }}}}",
                "settings": {}
                if channel == "log"
                else {
                    "url": f"http://127.0.0.1:{port}/{word('communication url')}",
                    "headers": {f"x-{word('header name')}": word("header value")},
                },
            }
            await self.put("POST", "/v1/communications", communication, messages.Communication)
        entered = {
            "id": "entered",
            "name": word("journey name"),
            "entryCondition": {"segmentId": word("segment id"), "transition": "entered"},
            "steps": [{"id": "bye", "exit": {"reason": word("exit reason")}}],
        }
        for journey in (self._walked(port), self._other(), entered):
            await self.put("POST", "/v1/journeys", journey, messages.Journey)
            await self.put("POST", f"/v1/journeys/{journey['id']}:publish", {}, None)

    def _walked(self, port: int) -> Json:
        word = self.word
        end = {"next": "bye"}
        return {
            "id": "walked",
            "name": word("journey name"),
            "description": word("journey description"),
            "audienceId": word("audience id"),
            "triggerContractId": word("contract id"),
            "goal": {"eventName": word("goal event"), "window": "1w"},
            "start": "hello",
            "canvas": {"graph": self.struct("canvas of a journey")},
            "exitRules": [{"id": word("exit rule id"), "when": self.asked("exit rule")}],
            "steps": [
                {
                    "id": "hello",
                    "next": "pause",
                    "canvas": {"node": self.struct("canvas of a step")},
                    "send": {"communicationId": word("communication id, log")},
                },
                {"id": "pause", "next": "ask", "wait": {"duration": "1s"}},
                {
                    "id": "ask",
                    "branch": {
                        "arms": [{"id": word("branch arm"), "when": self.asked("branch"), **end}],
                        "otherwise": "half",
                    },
                },
                {
                    "id": "half",
                    "split": {
                        "arms": [{"id": word(f"split arm {n}"), "weight": 1, "next": "mark"} for n in range(2)],
                        "salt": word("split salt"),
                    },
                },
                {"id": "mark", "next": "tell", "updateSubject": {"attributes": self.struct("changed attribute")}},
                {
                    "id": "tell",
                    "next": "call",
                    "emitEvent": {"eventName": word("told event"), "properties": self.struct("told property")},
                },
                {
                    "id": "call",
                    "next": "learn",
                    "webhook": {
                        "url": f"http://127.0.0.1:{port}/{word('webhook url')}",
                        "headers": {f"x-{word('webhook header name')}": word("webhook header")},
                        "body": self.struct("webhook body"),
                        "otherwise": "bye",
                    },
                },
                {
                    "id": "learn",
                    "adaptiveBranch": {
                        "arms": [{"id": word(f"adaptive arm {n}"), "next": "best"} for n in range(2)],
                        "salt": word("adaptive salt"),
                    },
                },
                {
                    "id": "best",
                    "nbaDecision": {
                        "arms": [{"id": word(f"decision arm {n}"), "next": "await"} for n in range(2)],
                        "context": [word("attribute of a subject, member")],
                        "salt": word("decision salt"),
                    },
                },
                {
                    "id": "await",
                    "next": "bye",
                    "waitFor": {"event": {"eventName": word("awaited event")}, "timeout": "30d", "otherwise": "bye"},
                },
                {"id": "bye", "exit": {"reason": word("exit reason")}},
            ],
        }

    def _other(self) -> Json:
        word = self.word
        waits: list[Json] = [
            {"wait": {"date": {"fieldPath": word("date path"), "before": "3d", "time": "10:00"}}},
            {"wait": {"timeOfDay": {"time": "09:30"}}},
            {"waitFor": {"changed": {"fieldPath": word("changed path")}}},
            {
                "waitFor": {
                    "event": {
                        "eventName": word("other awaited event"),
                        "where": self.attribute("where"),
                        "entryKeyPath": word("entry key path of a wait"),
                    }
                }
            },
            {"send": {"communicationId": word("communication id, webhook")}},
        ]  # fmt: skip
        return {
            "id": "other",
            "name": word("journey name"),
            "entryCondition": {
                "eventName": word("entry event"),
                "entryKeyPath": word("entry key path"),
                "predicate": self.attribute("entry"),
            },
            "holdout": {"percent": 10, "salt": word("holdout salt")},
            "schedule": {"cron": "0 9 1 1 *", "timeZone": ZONE, "segmentId": word("segment id")},
            "steps": [
                *({"id": f"wait-{n}", "next": f"wait-{n + 1}", **wait} for n, wait in enumerate(waits)),
                {"id": f"wait-{len(waits)}", "exit": {"reason": word("exit reason")}},
            ],
        }  # fmt: skip

    async def subject(self, subject_id: str) -> None:
        document = {"id": subject_id, "attributes": self.struct("attribute of a subject"), "timeZone": ZONE}
        self.written.append(decode_stored(messages.Subject, document))
        await self.put("PUT", f"/v1/subjects/{subject_id}", {k: v for k, v in document.items() if k != "id"}, None)

    async def happens(self, name: str, subject_id: str) -> None:
        event = {
            "eventId": f"{self.word('event id')}-{name.replace(' ', '-')}-{subject_id}",
            "name": self.word(name),
            "subjectId": subject_id,
            "properties": self.struct("event property"),
        }
        self.written.append(decode_stored(messages.Event, event))
        await self.put("POST", "/v1/events", {"events": [event]}, None)


@pytest.fixture
def traces(key: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Received | None]:
    """Where traces go; histories that are encrypted are looked at without them, whose headers are not."""
    for name, value in PROMPTLY.items():
        monkeypatch.setenv(name, value)
    with receiving_traces() as received:
        yield received if key is None else None


@pytest.fixture(params=["clear", "encrypted"])
def key(request: pytest.FixtureRequest) -> str | None:
    return make_payload_key() if request.param == "encrypted" else None


async def test_ids_and_small_enums_travel_and_nothing_else(
    key: str | None,
    traces: Received | None,
    database: str,
    worker_pool: Pool[Record],
    owner: Connection[Record],
    temporal_address: str,
    temporal_namespace: str,
    session_directory: Path,
) -> None:
    plants = Plants()
    keyring = Keyring.of([key] if key else [])
    client = await connect(Target(address=temporal_address, namespace=temporal_namespace), keyring=keyring)
    ann, bob, cat = (plants.word(f"subject {name}") for name in ("ann", "bob", "cat"))
    answers = [
        response(503, plants.word("body of a refusal").encode(), {"retry-after": "0"}),
        response(200, json.dumps({plants.word("answer, member"): plants.word("answer, value")}).encode()),
    ]
    async with (
        receiving(one_after_the_other(*answers)) as receiver,
        _author(database, plants, temporal_address, temporal_namespace, key, traces) as author,
        worker(client, database, worker_pool, Clumsy(plants), searchable=True),
    ):
        await author.author(receiver.port)
        for subject_id in (ann, bob, cat):
            await author.subject(subject_id)
            await author.happens("event name", subject_id)
        await _until(owner, "count(*) = 3 FROM executions WHERE step_id = 'await'")
        await author.happens("awaited event", ann)
        await _until(owner, "count(*) = 1 FROM executions WHERE outcome = 'completed'")
        await _until(owner, "EXISTS (SELECT FROM visits WHERE step_id = 'bye')")
        # The erasure itself is a workflow, too. When it looks for rows, the runs are gone.
        await author.put("POST", f"/v1/subjects/{cat}:forget", {}, None)
        await _until(owner, "EXISTS (SELECT FROM erasures WHERE phase IN ('rows', 'done'))")
        walked = {row["step_id"] for row in await owner.fetch("SELECT DISTINCT step_id FROM visits")}
        held = [message async for message in _held(client)]
    files = _files(session_directory)

    assert walked == set(STEPS)
    _require_all_planted(author.written, plants)
    names = {"subject ann", "subject bob", "event id"}
    assert plants.found_in(reading for message in held for reading in readings_of(message)) == names
    # Its pages move from one file to the other while they are read, so some may be missed; and free ones are kept.
    assert plants.found_in(files) <= names | {"subject cat"}
    assert any(b"JourneyExecution" in file for file in files)
    assert not any(ZONE.encode() in text for message in held[1:] for text in readings_of(message))
    assert any(b"SUBJECT_ERASURE" in message.SerializeToString() for message in held)
    payloads = [payload for message in held for payload in payloads_in(message)]
    assert len(payloads) > 40
    if traces is not None:
        told = {span.name for span in traces.spans()}
        assert told >= {"inbox", "start", "poke", "execution", "advance", "provider", "webhook call", *EFFECTS}
        assert plants.found_in(traces.messages) == set()
    if key is None:
        _require_ids_and_enums(payloads)
    else:
        _require_encrypted(payloads, [*STEPS, "walked", ann, bob, cat, *await _uuids(owner)])
        _require_ids_and_enums([EncryptingCodec(keyring).opened(payload) for payload in payloads])


def _files(directory: Path) -> list[bytes]:
    """What Temporal's database is kept in."""
    return [file.read_bytes() for file in directory.glob("temporal.db*")]


def _require_all_planted(written: Sequence[Message], plants: Plants) -> None:
    """Every text of the contract holds a word, or is named above."""
    planted = {field for message in written for field in plants.fields_planted(message)}
    fields = text_fields(
        messages.Subject.DESCRIPTOR, messages.Event.DESCRIPTOR, messages.Communication.DESCRIPTOR,
        messages.Journey.DESCRIPTOR,
    )  # fmt: skip
    zones = {f"{V1}Subject.time_zone", f"{V1}JourneySchedule.time_zone"}
    assert fields - planted - TRAVELS.keys() - CLOSED.keys() - zones == set(), "plant a word in these"
    assert (TRAVELS.keys() | CLOSED.keys() | zones) - fields == set(), "there are no such fields"
    assert CLOSED.keys() & planted == set()


def _require_ids_and_enums(payloads: Sequence[Payload]) -> None:
    """All texts in payloads are ids that may travel, or one of few words."""
    strange = set()
    for payload in payloads:
        if not payload.data:
            continue
        for text in _texts_in(json.loads(payload.data)):
            is_id = text in (*STEPS, *OF_THE_SDK, "walked", "other") or UUID.fullmatch(text)
            is_drawn = re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-\d\d|era-[0-9a-f]{32}|[0-9a-f]{64}", text)
            is_summary = re.fullmatch(r"walked v1|(\w+) until [\d :-]+Z|[a-z ]+", text)
            if not (is_id or is_drawn or is_summary or ENUMS.fullmatch(text)):
                strange.add(text[:200])
    assert {text for text in strange if not text.startswith(("  File ", "| # | step | doing |"))} == set()


def _require_encrypted(payloads: Sequence[Payload], ids: Sequence[str]) -> None:
    assert {kid_of(payload) for payload in payloads} == {"k1"}
    text = b"\n".join(reading for payload in payloads for reading in readings_of(payload))
    assert [word for word in ids if len(word) > 4 and word.encode() in text] == []


def _texts_in(value: object) -> Iterator[str]:
    """Every text of a JSON document; names of members are those of our own dataclasses."""
    match value:
        case str():
            yield value
        case dict():
            for member in value.values():
                yield from _texts_in(member)
        case list():
            for member in value:
                yield from _texts_in(member)


async def _held(client: Client) -> AsyncIterator[Message]:
    """All that Temporal holds of a namespace: schedules first, workflows with their histories, and what they show."""
    service, namespace = client.workflow_service, client.namespace
    listed = await service.list_schedules(ListSchedulesRequest(namespace=namespace, maximum_page_size=100))
    yield listed
    for schedule in listed.schedules:
        described = await service.describe_schedule(
            DescribeScheduleRequest(namespace=namespace, schedule_id=schedule.schedule_id)
        )
        # Its clock is Temporal's business, and in the clear.
        described.schedule.ClearField("spec")
        described.info.ClearField("future_action_times")
        yield described

    async def two_are_listed() -> bool:
        found = await service.list_workflow_executions(
            ListWorkflowExecutionsRequest(namespace=namespace, query="WorkflowType = 'JourneyExecution'")
        )
        return len(found.executions) == 2

    await eventually(two_are_listed, within=40)
    workflows = await service.list_workflow_executions(
        ListWorkflowExecutionsRequest(namespace=namespace, page_size=100)
    )
    yield workflows
    for found in workflows.executions:
        execution = WorkflowExecution(workflow_id=found.execution.workflow_id, run_id=found.execution.run_id)
        yield await service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(namespace=namespace, execution=execution)
        )
        history = await client.get_workflow_handle(execution.workflow_id, run_id=execution.run_id).fetch_history()
        for event in history.events:
            yield event
        if found.type.name == "JourneyExecution":
            yield await service.query_workflow(
                QueryWorkflowRequest(
                    namespace=namespace,
                    execution=execution,
                    query=WorkflowQuery(query_type="__temporal_workflow_metadata"),
                )
            )


@asynccontextmanager
async def _author(
    database: str,
    plants: Plants,
    temporal_address: str,
    temporal_namespace: str,
    key: str | None,
    traces: Received | None,
) -> AsyncIterator[Author]:
    settings = settings_of(
        database,
        temporal_address=temporal_address,
        temporal_namespace=temporal_namespace,
        payload_keys=(key,) if key else (),
        webhook_plain_http=True,
        otlp_endpoint=traces.endpoint if traces is not None else None,
    )
    async with (
        running(settings) as server,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.http_port}",
            headers={"authorization": f"Bearer {OWNER_KEY}"},
            timeout=30,
        ) as http,
    ):
        yield Author(http, plants)


async def _until(owner: Connection[Record], condition: str) -> None:
    async def holds() -> bool:
        return bool(await owner.fetchval(f"SELECT {condition}"))

    await eventually(holds, within=60)


async def _uuids(owner: Connection[Record]) -> list[str]:
    ids: list[uuid.UUID] = [row["execution_id"] for row in await owner.fetch("SELECT execution_id FROM executions")]
    return [str(one) for one in ids]
