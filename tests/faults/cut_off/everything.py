"""What no crash point is about: definitions made, changed and deleted, and calls that are made once a year."""

from __future__ import annotations

from typing import Any

from tests.faults.crashes.ground import BYE, LONG, Ground, Json

_EVERYONE: Json = {"kind": "everyone"}


async def changing(ground: Ground) -> None:
    async def turn(number: int) -> None:
        await _definitions(ground, number)
        await _subjects(ground, number)
        await _journeys(ground, number)
        await _segments(ground, number)

    await ground.turn_after_turn("", turn)


async def _definitions(ground: Ground, number: int) -> None:
    of_message: Json = {"channel": "log", "category": "marketing", "subject": "A", "body": "B"}
    for plural, document, change in (
        ("audiences", {"predicate": _EVERYONE}, {"name": "B"}),
        ("communications", of_message, {"body": "C"}),
        ("triggerContracts", {"eventName": "come"}, {"eventName": "go"}),
    ):
        own = f"changed-{number}"
        await ground.field.call("POST", f"/v1/{plural}", {"id": own, "name": "A", **document})
        await ground.field.call("PATCH", f"/v1/{plural}/{own}", change)
        await ground.field.call("DELETE", f"/v1/{plural}/{own}", {})
    made = await ground.field.call("POST", "/v1/apiKeys", {"name": "Short", "role": "viewer"})
    await ground.field.call("POST", f"/v1/apiKeys/{made['apiKey']['id']}:revoke", {})
    await ground.field.call("PATCH", "/v1/projects/default", {"name": f"Name {number}"})


async def _subjects(ground: Ground, number: int) -> None:
    who = f"changed-{number}"
    path = f"/v1/subjects/{who}"
    await ground.field.call("PUT", path, {"attributes": {"plan": "pro"}})
    for opted_out in (True, False):
        change = {"channel": "log", "category": "marketing", "optedOut": opted_out}
        await ground.field.call("PATCH", f"{path}/preferences", {"changes": [change]})
    await ground.field.call("POST", f"{path}/suppressions", {"channel": "log", "reason": "bounce"})
    await ground.field.call("DELETE", f"{path}/suppressions/log", {})
    for name in ("come", "look", "go"):
        event = {"eventId": f"{name}/{who}", "name": "look", "subjectId": who}
        await ground.field.call("POST", "/v1/events", {"events": [event]})
    await ground.field.call("DELETE", path, {})


async def _journeys(ground: Ground, number: int) -> None:
    own = f"changed-{number}"
    await ground.journey(own, LONG, BYE)
    await ground.enroll(own, [f"stayer-{number}", f"goer-{number}"], stays=False)
    await ground.field.call("POST", "/v1/sendsPauses:pause", {"journeyId": own})
    await ground.field.call("POST", "/v1/sendsPauses:resume", {"journeyId": own})
    found = await _get(ground, f"/v1/executions?subjectId=goer-{number}")
    await ground.field.call("POST", f"/v1/executions/{found['executions'][0]['id']}:cancel", {})
    job = {"id": own, "journeyId": own, "everyone": True, "ratePerSecond": 1}
    await ground.field.call("POST", "/v1/enrollmentJobs", job)
    for verb in ("pause", "resume", "cancel"):
        await ground.field.call("POST", f"/v1/enrollmentJobs/{own}:{verb}", {})
    await ground.field.call("DELETE", f"/v1/journeys/{own}?force=true", {})


async def _segments(ground: Ground, number: int) -> None:
    own = f"changed-{number}"
    await ground.field.call("POST", "/v1/segments", {"id": own, "name": "Static", "kind": "static"})
    members = {"subjectIds": [f"stayer-{number}"]}
    await ground.field.call("POST", f"/v1/segments/{own}/members:add", members)
    await ground.field.call("POST", f"/v1/segments/{own}/members:remove", members)
    await ground.field.call("DELETE", f"/v1/segments/{own}", {})
    bought = {"eventId": f"bought-{number}", "name": "purchase", "subjectId": f"stayer-{number}"}
    await ground.field.call("POST", "/v1/events", {"events": [{**bought, "properties": {"amount": 1000}}]})
    kind = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": number}
    rules = {"kind": "event_fired", "eventName": "purchase", "where": kind, "atLeast": 1}
    await ground.field.call("POST", "/v1/segments", {"id": own, "name": "Buyers", "rules": rules})
    await ground.field.call("POST", f"/v1/segments/{own}:evaluate", {})
    await ground.field.call("PATCH", f"/v1/segments/{own}", {"rules": {**rules, "atLeast": 2}})
    if number:  # the kind of events of the turn before is counted by now, and nothing asks about it any more
        await ground.field.call("DELETE", f"/v1/segments/changed-{number - 1}", {})


async def _get(ground: Ground, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = await ground.field.call("GET", path, {})
    return answer
