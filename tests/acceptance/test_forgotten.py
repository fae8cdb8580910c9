"""Somebody of whom everything is known is forgotten: nothing of them is left in any place, and no number changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.client import Client

from orchestrator.devstack.ports import free_ports
from tests.acceptance.forgotten_person import ENVIRONMENT, JOURNEYS, Person, names, person_on
from tests.conftest import StartStack
from tests.otlp import PROMPTLY, Received, receiving_traces

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@pytest.fixture
def traces() -> Iterator[Received]:
    """Where the stack sends its traces."""
    with receiving_traces() as received:
        yield received


@pytest.mark.timeout(300)  # a whole stack, twenty journeys, and every place where anything is kept
async def test_of_forty_values_in_twenty_journeys_none_is_left_anywhere(
    traces: Received, start_stack: StartStack, owner: Connection[Record], database: str, temporal: Client
) -> None:
    environment = ENVIRONMENT | PROMPTLY | {"OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint}
    stack = await start_stack(workers=1, environment=environment, metrics_port=free_ports(1)[0])
    async with person_on(stack, owner) as (person, url):
        await person.live(url)
        numbers = await told(person)
        known = person.cage.found(await person.places(database, temporal, traces))
        spans = traces.spans()
        exported = await person.exported()
        started = [await owner.fetchval("SELECT response FROM idempotency WHERE request_id = 'start'")]

        receipt = await person.forgotten()

        left = person.cage.found(await person.places(database, temporal, traces))
        gone = await person.http.get(f"/v1/subjects/{person.cage.alias_id}/export")
        again = await person.http.put(f"/v1/subjects/{person.cage.alias_id}", json={})
        after = await told(person)

    # What is looked for was there, and where it may be. Spans have never known anybody.
    assert {span.service for span in spans} == {"orchestrator-server", "orchestrator-worker"}
    assert {span.name for span in spans} >= {"inbox", "start", "execution", "send", "provider", "webhook call"}
    assert names(known.values()) >= {canary.name for canary in person.cage.canaries}
    assert names(person.cage.found({"export": [exported]}).values()) == {canary.name for canary in person.cage.canaries}
    assert gone.status_code == 404
    assert set(known) == {"postgres", "answers", "visibility", "histories"}
    assert known["answers"] >= {"id", "longest", "value11", "mail"}
    assert person.cage.found({"started": started}) == {"started": {"id", "value11"}}
    assert known["visibility"] | known["histories"] <= {"id", "alias", "value11"}
    assert left == {}
    assert (again.status_code, again.json()["error"]["details"][0]["reason"]) == (400, "SUBJECT_FORGOTTEN")
    phases = {phase["phase"]: phase.get("counts", {}) for phase in receipt["phases"]}
    assert phases["ledger"] == {"lines": 1}
    assert phases["runs"] == {"executions": JOURNEYS - 1}
    assert phases["rows"]["events"] == 20 + 4
    assert after == numbers | {"forgotten": after["forgotten"]}
    assert after["forgotten"] > 0


async def told(person: Person) -> dict[str, Any]:
    """The counts that people are shown, but for who travels still."""
    shown: dict[str, Any] = {"forgotten": 0}
    for number in range(JOURNEYS):
        path = f"/v1/journeys/j-{number}"
        funnel = await person.call("GET", f"{path}/funnel", {})
        shown["forgotten"] += int(funnel.get("completed", {}).get("forgotten", 0))
        # How many stand on a step is what has changed.
        steps = [{name: count for name, count in step.items() if name != "active"} for step in funnel["steps"]]
        shown[path] = funnel.get("enrolled"), steps
        impact = await person.call("GET", f"{path}/calibratedImpact", {})
        shown[f"{path} impact"] = impact["triggered"], impact["converted"], impact.get("exposureRate")
    choices = await person.call("GET", "/v1/journeys/j-3/branchPerformance", {})
    return shown | {"choices": [arm.get("subjectsReached") for branch in choices["branches"] for arm in branch["arms"]]}
