"""What is told of a subject that is stored: the values of fields that the owner marked, and of no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.audiences import AudienceHandlers
from orchestrator.api.handlers.communications import CommunicationHandlers
from orchestrator.api.handlers.executions import ExecutionHandlers
from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.api.handlers.projects import ProjectHandlers
from orchestrator.application import audiences, trigger_contracts
from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.communications import Communications
from orchestrator.application.executions import Executions
from orchestrator.application.previews import Previews
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sent_tests import SentTests
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.channels import Rules
from orchestrator.domain.scope import Role
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import instance
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.statuses import Statuses
from tests.integration.road import BYE, LATE, Road, wait_for
from tests.integration.served import Served

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    from orchestrator.storage.outbox import Notice

Json = dict[str, Any]

#: In each value that may not be shown. `amount` and `plan` are marked of the entry and of the attributes, not both.
SECRET = "☠"
ANN: Json = {
    "plan": "gold",
    "name": f"Ann {SECRET}",
    "address": {"city": "Köln", "street": f"{SECRET} 1"},
    "amount": SECRET,
}
PURCHASE: Json = {"amount": 4711, "card": SECRET, "plan": SECRET}
MARKED = ["plan", "address.city", "$entry.amount", "$steps.ask.score"]
BODY = (
    "{{ subject.attributes.plan }}|{{ subject.attributes.name }}|{{ subject.attributes.address.city }}|"
    "{{ subject.attributes.address }}|{{ subject.attributes.amount }}|{{ entry.amount }}|{{ entry.card }}"
)


def asks(*paths: str) -> Json:
    return {
        "kind": "and",
        "clauses": [{"kind": "attribute", "fieldPath": path, "operator": "exists"} for path in paths],
    }


OF_ATTRIBUTES = asks("plan", "name", "address", "address.city", "address.street", "amount")
OF_THE_EVENT = asks("amount", "card", "plan")
OF_BOTH = asks("plan", "name", "$entry.amount", "$entry.card", "$entry.plan")


def evidence(answer: Any) -> Iterator[tuple[str, Json]]:
    """(path, what its truth rests on) of each attribute or property that is told of."""
    if isinstance(answer, dict):
        if "fieldPath" in answer and "evidence" in answer:
            yield answer["fieldPath"], answer["evidence"]
        for member in answer.values():
            yield from evidence(member)
    elif isinstance(answer, list):
        for element in answer:
            yield from evidence(element)


def shown(answer: Any) -> dict[str, Any]:
    """Of what is told, the values that are."""
    return {path: told["value"] for path, told in evidence(answer) if "value" in told}


class Stage:
    """Ann bought something, and stands on a wait of the journey that this began."""

    def __init__(self, road: Road, served: Served, keys: dict[Role, str]) -> None:
        self.road = road
        self.served = served
        self.keys = keys

    async def mark(self, *fields: str) -> None:
        project = {"id": self.road.crowd.world.scope.project_id, "settings": {"shownFields": list(fields)}}
        await self.served.call(self.keys[Role.OWNER], "UpdateProject", project=project)

    async def ask(self, rpc: str, **request: Any) -> Json:
        return await self.served.call(self.keys[Role.EDITOR], rpc, **request)

    async def check(self) -> Json:
        return await self.ask("CheckAudience", audienceId="anns", subjectId="ann")

    async def entry(self) -> Json:
        return await self.ask("ExplainEntry", journeyId="welcome", subjectId="ann")

    async def execution(self) -> Json:
        execution_id = await self.road.owner.fetchval("SELECT execution_id FROM executions")
        return await self.ask("ExplainExecution", executionId=str(execution_id))

    async def simulation(self, **who: Any) -> Json:
        """With an answer of the webhook and an event that have no secrets: whoever gives them is shown them."""
        simulated = await self.ask(
            "SimulateJourney",
            journeyId="other",
            entry={"amount": 4711, "card": "4000"},
            answers={"ask": {"score": 7, "name": "Anna"}},
            enterAnyway=True,
            **(who or {"subjectId": "ann"}),
        )
        simulation: Json = simulated["simulation"]
        return simulation

    async def preview(self, **how: Any) -> str:
        content = {"channel": "log", "category": "marketing", "subject": "", "body": BODY}
        shown = await self.ask("PreviewCommunication", content=content, subjectId="ann", entry=PURCHASE, **how)
        body: str = shown["body"]
        return body


@pytest.fixture
async def stage(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Stage:
    async def deliver(told: Sequence[Notice]) -> None:
        raise AssertionError("nothing is told")

    road = await Road.make(owner, api_pool, worker_pool)
    world, versions = road.crowd.world, Versions()
    secret = await instance.read_secret(owner)
    previews = Previews(Rules())
    served = await Served.open(
        api_pool,
        ProjectHandlers(ApiKeys(secret)),
        AudienceHandlers(RuleBook()),
        CommunicationHandlers(Communications(Rules()), previews, SentTests(previews, Rules(), secret)),
        JourneyHandlers(versions, deliver),
        ExecutionHandlers(
            Executions(Statuses(await connect(Target(address="127.0.0.1:1"), lazy=True))), versions, deliver
        ),
    )
    await world.do(
        audiences.create,
        "anns",
        Audience(name="Anns", description="", subject_type=END_USER, predicate=OF_ATTRIBUTES),
    )
    await world.do(
        trigger_contracts.create,
        "paid",
        Contract(name="Paid", event_name="purchase", predicate=OF_THE_EVENT, entry_key_path=None),
    )
    await world.add_communication("letter", "marketing", body=BODY)
    await road.publish(wait_for({"when": asks("gone")}), BYE, LATE, triggerContractId="paid", audienceId="anns",
                       exitRules=[{"id": "left", "when": {"kind": "not", "clause": OF_BOTH}}])  # fmt: skip
    await world.draft("other", {"steps": STEPS, "triggerContractId": "paid", "audienceId": "anns"})
    await road.crowd.known(ann=ANN)
    await road.crowd.happened(("ann", "purchase", None), **PURCHASE)
    await road.crowd.settle()
    roles = (Role.EDITOR, Role.OWNER)
    return Stage(road, served, {role: await served.admit(world.scope, role) for role in roles})


STEPS = [
    {
        "id": "ask",
        "webhook": {
            "url": "https://example.com/{{ subject.attributes.plan }}/{{ subject.attributes.name }}",
            "body": {"plan": {"$path": "plan"}, "name": {"$path": "name"}, "amount": {"$path": "$entry.amount"}},
            "otherwise": "bye",
        },
        "next": "write",
    },
    {
        "id": "write",
        "updateSubject": {
            "attributes": {
                "score": {"$path": "$steps.ask.score"},
                "called": {"$path": "$steps.ask.name"},
                "note": "{{ subject.attributes.plan }} {{ subject.attributes.address.street }}",
            }
        },
        "next": "tell",
    },
    {
        "id": "tell",
        "emitEvent": {
            "eventName": "asked",
            "properties": {"card": {"$path": "$entry.card"}, "plan": {"$path": "plan"}},
        },
        "next": "hello",
    },
    {"id": "hello", "send": {"communicationId": "letter"}, "next": "choose"},
    {
        "id": "choose",
        "branch": {"arms": [{"id": "all", "when": OF_BOTH, "next": "bye"}], "otherwise": "bye"},
    },
    BYE,
]
MASKED_BODY = "|".join(["•••"] * 7)
SHOWN_BODY = "gold|•••|Köln|•••|•••|4711|•••"


async def test_nothing_is_shown_until_something_is_marked(stage: Stage) -> None:
    answers = [await stage.check(), await stage.entry(), await stage.execution()]
    simulation = await stage.simulation()

    for answer in answers:
        told = dict(evidence(answer))
        assert told, "there is something to be told"
        assert all(one.get("masked") or one["type"] == "missing" for one in told.values())
        assert not any(value in str(answer) for value in (SECRET, "gold", "Köln", "4711"))
    assert simulation["steps"][3]["message"]["body"] == MASKED_BODY
    assert shown(simulation["steps"]) == {}
    assert SECRET not in str(simulation)
    assert await stage.preview() == MASKED_BODY


async def test_evidence_shows_what_is_marked_and_nothing_else(stage: Stage) -> None:
    await stage.mark(*MARKED)

    check, entry, execution = await stage.check(), await stage.entry(), await stage.execution()

    assert shown(check) == {"plan": "gold", "address.city": "Köln"}
    assert shown(entry["explanation"]["ways"]) == {"plan": "gold", "address.city": "Köln"}
    assert shown(entry["explanation"]["events"]) == {"amount": 4711}
    assert shown(execution) == {"plan": "gold", "$entry.amount": 4711}
    told = dict(evidence(check))
    assert told["name"] == {"type": "string", "masked": True}
    assert told["address"] == {"type": "object", "masked": True}
    assert SECRET not in str([check, entry, execution])


async def test_texts_and_what_is_filled_in_show_what_is_marked_and_nothing_else(stage: Stage) -> None:
    await stage.mark(*MARKED)

    simulation = await stage.simulation()

    ask, write, tell, hello, choose, *_ = simulation["steps"]
    assert ask["call"]["url"] == "https://example.com/gold/•••"
    assert ask["call"]["body"] == {"plan": "gold", "name": "•••", "amount": 4711}
    assert write["change"]["attributes"] == {"score": 7, "called": "•••", "note": "gold •••"}
    assert tell["event"]["properties"] == {"card": "•••", "plan": "gold"}
    assert hello["message"]["body"] == SHOWN_BODY
    assert shown(choose) == {"plan": "gold", "$entry.amount": 4711}
    assert SECRET not in str(simulation)
    assert await stage.preview() == SHOWN_BODY


async def test_a_mark_shows_all_that_is_in_its_field(stage: Stage) -> None:
    await stage.mark("address")

    assert shown(await stage.check()) == {
        "address": ANN["address"],
        "address.city": "Köln",
        "address.street": ANN["address"]["street"],
    }


async def test_a_mark_that_is_taken_back_shows_nothing_any_more(stage: Stage) -> None:
    await stage.mark(*MARKED)
    await stage.mark("address.city")

    assert shown(await stage.check()) == {"address.city": "Köln"}
    assert shown(await stage.execution()) == {}


async def test_what_is_given_or_asked_for_is_shown_whatever_is_marked(stage: Stage) -> None:
    simulation = await stage.simulation(subjectAttributes=ANN)

    assert simulation["steps"][3]["message"]["body"].startswith(f"gold|Ann {SECRET}|Köln|")
    assert shown(simulation["steps"][4])["$entry.card"] == "4000"
    assert (await stage.preview(showValues=True)).startswith(f"gold|Ann {SECRET}|Köln|")
