"""Trigger contracts over the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.trigger_contracts import TriggerContractHandlers
from orchestrator.application import segments, trigger_contracts
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Role, Scope
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.domain.trigger_contract import Contract
from tests.integration.projects import make_project
from tests.integration.served import Refused, Served

if TYPE_CHECKING:
    from asyncpg import Pool, Record

LARGE = {"kind": "attribute", "fieldPath": "amount", "operator": "gte", "value": 100}


@pytest.fixture
async def scope(api_pool: Pool[Record]) -> Scope:
    return await make_project(api_pool)


@pytest.fixture
async def served(api_pool: Pool[Record]) -> Served:
    return await Served.open(api_pool, TriggerContractHandlers())


@pytest.fixture
async def admin(served: Served, scope: Scope) -> str:
    return await served.admit(scope, Role.ADMIN)


async def create(served: Served, key: str, **members: Any) -> dict[str, Any]:
    sent = {"id": "mine", "name": "Large purchase", "eventName": "purchase", **members}
    made = await served.call(key, "CreateTriggerContract", triggerContract=sent)
    contract: dict[str, Any] = made["triggerContract"]
    return contract


async def update(served: Served, key: str, **members: Any) -> dict[str, Any]:
    changed = await served.call(key, "UpdateTriggerContract", triggerContract={"id": "mine", **members})
    contract: dict[str, Any] = changed["triggerContract"]
    return contract


async def test_a_contract_comes_back_as_it_was_sent(served: Served, admin: str) -> None:
    predicate = {"kind": "and", "clauses": [LARGE, {"kind": "not", "clause": LARGE}]}

    made = await create(served, admin, predicate=predicate, entryKeyPath="order.id", maxEventAge="600d")

    assert (await served.call(admin, "GetTriggerContract", triggerContractId="mine"))["triggerContract"] == made
    assert (await served.call(admin, "ListTriggerContracts"))["triggerContracts"] == [made]
    assert made["predicate"] == predicate
    assert (made["eventName"], made["entryKeyPath"], made["maxEventAge"]) == ("purchase", "order.id", "600d")


async def test_what_is_not_said_has_a_default(served: Served, admin: str) -> None:
    made = await create(served, admin)

    assert made["maxEventAge"] == "1d"
    assert "predicate" not in made
    assert made.get("entryKeyPath", "") == ""


async def test_what_was_said_can_be_taken_back(served: Served, admin: str) -> None:
    made = await create(served, admin, predicate=LARGE, entryKeyPath="order.id", maxEventAge="2h")

    renamed = await update(served, admin, name="B")
    back = await update(served, admin, predicate=None, entryKeyPath=None, maxEventAge=None)

    kept = ("predicate", "entryKeyPath", "maxEventAge", "eventName")
    assert {name: renamed[name] for name in kept} == {name: made[name] for name in kept}
    assert "predicate" not in back
    assert (back.get("entryKeyPath", ""), back["maxEventAge"]) == ("", "1d")


@pytest.mark.parametrize(
    ("members", "faults"),
    [
        ({"maxEventAge": "0s"}, [("maxEventAge", "OUT_OF_RANGE")]),
        ({"maxEventAge": "731d"}, [("maxEventAge", "OUT_OF_RANGE")]),
        ({"entryKeyPath": "a..b"}, [("entryKeyPath", "INVALID_VALUE")]),
        ({"entryKeyPath": "$entry.id"}, [("entryKeyPath", "LEAF_NOT_ALLOWED")]),
        ({"predicate": {"kind": "in_cohort", "cohortId": "x"}}, [("predicate.kind", "LEAF_NOT_ALLOWED")]),
        ({"predicate": {"kind": "event_fired", "eventName": "x"}}, [("predicate.kind", "LEAF_NOT_ALLOWED")]),
        ({"predicate": {**LARGE, "fieldPath": "$entry.amount"}}, [("predicate.fieldPath", "LEAF_NOT_ALLOWED")]),
    ],
)
async def test_faults_are_named_with_their_paths(
    served: Served, admin: str, members: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(Refused) as refused:
        await create(served, admin, **members)

    assert refused.value.faults == faults


async def test_all_faults_come_together(served: Served, scope: Scope) -> None:
    predicate = {"kind": "and", "clauses": [{"kind": "in_cohort", "cohortId": "x"}, {"kind": "or", "clauses": []}]}
    contract = Contract(name="", event_name="", predicate=predicate, entry_key_path="a\\")

    async with served.transactions.write(scope.project_no) as conn:
        with pytest.raises(InvalidArgument) as refused:
            await trigger_contracts.create(conn, scope, "", contract)

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("name", "REQUIRED"),
        ("eventName", "EVENT_NAME_REQUIRED"),
        ("entryKeyPath", "INVALID_VALUE"),
        ("predicate.clauses[0].kind", "LEAF_NOT_ALLOWED"),
        ("predicate.clauses[1].clauses", "EMPTY_CLAUSES"),
    ]


@pytest.fixture
async def vip(served: Served, scope: Scope) -> str:
    """The id of a segment."""
    async with served.transactions.write(scope.project_no) as conn:
        await segments.create(conn, scope, "vip", Segment(kind=STATIC, name="VIP", description="", predicate=None))
    return "vip"


async def of_segment(served: Served, key: str, **members: Any) -> dict[str, Any]:
    """A contract that names no event."""
    return await create(served, key, **({"eventName": None} | members))


async def test_a_contract_of_a_segment_comes_back_as_it_was_sent(served: Served, admin: str, vip: str) -> None:
    predicate = {"kind": "in_cohort", "cohortId": vip}
    sent = {"segmentId": vip, "transition": "left", "includeDefinitionChanges": True, "predicate": predicate}

    made = await of_segment(served, admin, **sent)

    assert (await served.call(admin, "GetTriggerContract", triggerContractId="mine"))["triggerContract"] == made
    assert {name: made[name] for name in sent} == sent
    assert "eventName" not in made
    assert "missingSegmentId" not in made


async def test_who_names_a_segment_means_entering_it(served: Served, admin: str, vip: str) -> None:
    made = await of_segment(served, admin, segmentId=vip)

    assert (made["transition"], made["includeDefinitionChanges"]) == ("entered", False)


@pytest.mark.parametrize(
    ("members", "faults"),
    [
        ({"eventName": "purchase"}, [("segmentId", "INVALID_VALUE")]),
        ({"entryKeyPath": "order.id"}, [("entryKeyPath", "INVALID_VALUE")]),
        ({"segmentId": "nobody"}, [("segmentId", "SEGMENT_NOT_FOUND")]),
        ({"predicate": {**LARGE, "fieldPath": "$entry.amount"}}, [("predicate.fieldPath", "LEAF_NOT_ALLOWED")]),
        ({"predicate": {"kind": "in_cohort", "cohortId": "no"}}, [("predicate.cohortId", "COHORT_NOT_FOUND")]),
        ({"segmentId": None}, [("eventName", "EVENT_NAME_REQUIRED")]),
        (
            {"segmentId": None, "eventName": "purchase", "transition": "entered", "includeDefinitionChanges": True},
            [("transition", "INVALID_VALUE"), ("includeDefinitionChanges", "INVALID_VALUE")],
        ),
    ],
)
async def test_what_belongs_to_one_kind_is_refused_on_the_other(
    served: Served, admin: str, vip: str, members: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(Refused) as refused:
        await of_segment(served, admin, **({"segmentId": vip} | members))

    assert refused.value.faults == faults


async def test_a_contract_may_change_from_events_to_a_segment_and_back(served: Served, admin: str, vip: str) -> None:
    await create(served, admin, entryKeyPath="order.id")

    of_vip = await update(served, admin, eventName=None, segmentId=vip, transition="left")
    back = await update(served, admin, eventName="purchase", segmentId=None)

    assert (of_vip["segmentId"], of_vip["transition"], of_vip.get("entryKeyPath", "")) == (vip, "left", "")
    assert (back["eventName"], back.get("segmentId", ""), back.get("transition", "")) == ("purchase", "", "")


async def test_a_predicate_over_the_subject_does_not_do_for_an_event(served: Served, admin: str, vip: str) -> None:
    await of_segment(served, admin, segmentId=vip, predicate={"kind": "in_cohort", "cohortId": vip})

    with pytest.raises(Refused) as refused:
        await update(served, admin, eventName="purchase", segmentId=None)

    assert refused.value.faults == [("predicate.kind", "LEAF_NOT_ALLOWED")]


async def test_a_contract_whose_segment_is_gone_says_so(served: Served, admin: str, scope: Scope, vip: str) -> None:
    await of_segment(served, admin, segmentId=vip)
    async with served.transactions.write(scope.project_no) as conn:
        await segments.delete(conn, scope, vip, Expected(), force=True)

    [shown] = (await served.call(admin, "ListTriggerContracts"))["triggerContracts"]
    renamed = await update(served, admin, name="Other")

    assert (shown["missingSegmentId"], renamed["missingSegmentId"]) == (vip, vip)


async def test_a_contract_can_be_deleted(served: Served, admin: str) -> None:
    await create(served, admin)

    await served.call(admin, "DeleteTriggerContract", triggerContractId="mine")

    with pytest.raises(Refused, match="TRIGGER_CONTRACT_NOT_FOUND"):
        await served.call(admin, "GetTriggerContract", triggerContractId="mine")
