"""A segment, a contract on it and a journey, all over HTTP: an event comes in, and the execution has run."""

from __future__ import annotations

from typing import Any

import httpx

from orchestrator.devstack.stack import Stack
from tests.eventually import eventually

BOUGHT_TWICE = {
    "kind": "event_fired",
    "eventName": "purchase",
    "window": {"type": "last_n_days", "days": 7},
    "atLeast": 2,
}
DEFINITIONS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/segments", {"id": "regulars", "name": "Regulars", "kind": "dynamic", "rules": BOUGHT_TWICE}),
    ("/v1/triggerContracts", {"id": "became-regular", "name": "Became a regular", "segmentId": "regulars"}),
    (
        "/v1/journeys",
        {
            "id": "thanks",
            "name": "Thanks",
            "triggerContractId": "became-regular",
            "steps": [
                {"id": "pause", "wait": {"duration": "1s"}, "next": "done"},
                {"id": "done", "exit": {"reason": "thanked"}},
            ],
        },
    ),
    ("/v1/journeys/thanks:publish", {}),
]


async def test_the_event_that_makes_a_subject_enter_a_segment_has_its_journey_run(running_stack: Stack) -> None:
    headers = {"X-Api-Key": running_stack.keys.owner}
    async with httpx.AsyncClient(base_url=running_stack.addresses.http, headers=headers, timeout=60) as http:

        async def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
            answer = await http.request(method, path, json=body)
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = answer.json()
            return document

        for path, body in DEFINITIONS:
            await call("POST", path, body)
        await eventually(lambda: _is_built(http), within=30)
        purchases = [("ann", 1), ("ann", 2), ("bob", 1)]
        events = [{"eventId": f"{who}-{n}", "name": "purchase", "subjectId": who} for who, n in purchases]

        await call("POST", "/v1/events", {"events": events})
        await call("POST", "/v1/events", {"events": events})

        async def ended() -> bool:
            found = (await call("GET", "/v1/executions?journeyId=thanks"))["executions"]
            return [one["endUserId"] for one in found if one["status"] == "SUCCEEDED"] == ["ann"]

        await eventually(ended, within=15)
        found = (await call("GET", "/v1/executions?journeyId=thanks"))["executions"]
        assert [(one["endUserId"], one["reason"]) for one in found] == [("ann", "thanked")]


async def _is_built(http: httpx.AsyncClient) -> bool:
    return not (await http.get("/v1/segments/regulars")).json()["building"]
