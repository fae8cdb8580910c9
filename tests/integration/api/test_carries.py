"""Carrying over as callers see it: a preview, its token, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.integration.api.conftest import Served
from tests.integration.api.test_journeys import send

if TYPE_CHECKING:
    from asyncpg import Connection, Record

STEPS: list[dict[str, Any]] = [
    {"id": "pause", "wait": {"duration": "30d"}, "next": "done"},
    {"id": "done", "exit": {"reason": "done"}},
]
RENAMED: list[dict[str, Any]] = [{**STEPS[0], "id": "rest", "wait": {"duration": "20d"}}, STEPS[1]]
MAPPED: dict[str, Any] = {"carry": "mapped", "stepMapping": [{"fromStepId": "pause", "toStepId": "rest"}]}


async def test_a_preview_is_confirmed_and_its_carry_is_told(served: Served, owner: Connection[Record]) -> None:
    await send(served, "POST", "", {"id": "spring", "name": "Spring", "steps": STEPS})
    await send(served, "POST", "/spring:publish", {})
    await send(served, "POST", "/spring:enroll", {"subjectIds": ["ann", "bob", "cid"]})
    await send(served, "PATCH", "/spring", {"steps": RENAMED})
    await owner.execute("UPDATE executions SET since = since - interval '25 days' WHERE execution_id IN"
                        " (SELECT execution_id FROM executions LIMIT 2)")  # fmt: skip

    compatible = await send(served, "POST", "/spring:previewCarry", {"carry": "compatible"})
    preview = await send(served, "POST", "/spring:previewCarry", MAPPED)
    unconfirmed = await send(served, "POST", "/spring:publish", MAPPED)
    others = await send(served, "POST", "/spring:publish", {**MAPPED, "token": compatible["token"]})
    astray = await send(served, "POST", "/spring:publish", {"token": preview["token"], "stepMapping": []})
    published = await send(served, "POST", "/spring:publish", {**MAPPED, "token": preview["token"]})
    carry = await send(served, "GET", "/spring/carries/2")
    page = await send(served, "GET", "/spring/carries")
    missing = await send(served, "GET", "/spring/carries/1")
    entries = (await send(served, "GET", "/spring/auditEntries"))["auditEntries"]

    assert [(p["stepId"], p["count"], p["stays"]) for p in compatible["places"]] == [("pause", 3, "step_gone")]
    assert (compatible["carriedCount"], compatible["stayingCount"]) == (0, 3)
    (place,) = preview["places"]
    assert (place["version"], place["stepKind"], place["toStepId"], place["overAtOnceCount"]) == (1, "wait", "rest", 2)
    assert (preview["version"], preview["carriedCount"], preview["stayingCount"]) == (2, 3, 0)
    reasons = [answer["error"]["details"][0]["reason"] for answer in (unconfirmed, others, astray, missing)]
    assert reasons == ["CARRY_TOKEN_INVALID", "CARRY_TOKEN_STALE", "INVALID_VALUE", "CARRY_NOT_FOUND"]
    assert published["version"] == 2
    assert published["carry"] == carry == page["carries"][0]
    assert (carry["mode"], carry["matchedCount"], carry["stepMapping"]) == ("mapped", 3, MAPPED["stepMapping"])
    assert (entries[0]["metadata"]["carry"], entries[0]["metadata"]["executions"]) == ("mapped", 3)
