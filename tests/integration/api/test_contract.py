"""What callers can rely on, over both transports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import Message

from orchestrator.domain.scope import Role
from orchestrator.v1 import audience_pb2, predicate_pb2
from orchestrator.v1 import audience_service_pb2 as audiences
from orchestrator.v1 import project_service_pb2 as projects
from tests.integration.api.callers import Caller, Refused
from tests.integration.api.conftest import INTERNAL_TOKEN, Keys, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Record

EVERYONE = predicate_pb2.Predicate(everyone=predicate_pb2.Everyone())


def audience(audience_id: str = "", name: str = "Buyers") -> audience_pb2.Audience:
    return audience_pb2.Audience(id=audience_id, name=name, predicate=EVERYONE)


def creation(audience_id: str = "", name: str = "Buyers", **further: str | bool) -> audiences.CreateAudienceRequest:
    return audiences.CreateAudienceRequest(audience=audience(audience_id, name), **further)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [None, "nobody-knows-this-key", "orc_junk", "two words", ""])
async def test_a_call_without_a_key_of_ours_is_refused(caller: Caller, key: str | None) -> None:
    with pytest.raises(Refused) as refusal:
        await caller.call(audiences.ListAudiencesRequest(), key=key)

    assert (refusal.value.code, refusal.value.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


async def test_a_role_that_is_too_low_is_told_which_one_it_takes(caller: Caller, keys: Keys) -> None:
    viewer = await keys.admit(Role.VIEWER)

    with pytest.raises(Refused) as refusal:
        await caller.call(audiences.DeleteAudienceRequest(audience_id="buyers"), key=viewer)

    assert (refusal.value.code, refusal.value.reason) == ("PERMISSION_DENIED", "ROLE_TOO_LOW")
    assert refusal.value.metadata == {"requiredRole": "admin"}


async def test_roles_are_checked_before_requests_are_looked_at(caller: Caller, keys: Keys) -> None:
    viewer = await keys.admit(Role.VIEWER)

    with pytest.raises(Refused) as refusal:
        await caller.call(audiences.CreateAudienceRequest(), key=viewer)

    assert refusal.value.code == "PERMISSION_DENIED"


async def test_the_internal_token_opens_nothing_of_a_project(caller: Caller) -> None:
    with pytest.raises(Refused) as refusal:
        await caller.call(audiences.ListAudiencesRequest(), key=INTERNAL_TOKEN)

    assert refusal.value.code == "PERMISSION_DENIED"


async def test_what_does_not_exist_is_not_found(caller: Caller) -> None:
    with pytest.raises(Refused) as refusal:
        await caller.call(audiences.GetAudienceRequest(audience_id="nobody"))

    assert (refusal.value.code, refusal.value.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
    assert refusal.value.resource == ("audience", "nobody")


async def test_what_belongs_to_another_project_looks_like_what_does_not_exist(caller: Caller, keys: Keys) -> None:
    await caller.call(creation("theirs"))
    stranger = await keys.admit(Role.OWNER, await keys.project("elsewhere"))

    with pytest.raises(Refused) as foreign:
        await caller.call(audiences.GetAudienceRequest(audience_id="theirs"), key=stranger)
    with pytest.raises(Refused) as absent:
        await caller.call(audiences.GetAudienceRequest(audience_id="absent"), key=stranger)

    assert foreign.value.message.replace("theirs", "absent") == absent.value.message
    assert (foreign.value.code, foreign.value.reason) == (absent.value.code, absent.value.reason)


async def test_an_id_that_is_taken_is_refused(caller: Caller) -> None:
    await caller.call(creation("buyers"))

    with pytest.raises(Refused) as refusal:
        await caller.call(creation("buyers"))

    assert (refusal.value.code, refusal.value.reason) == ("ALREADY_EXISTS", "ALREADY_EXISTS")
    assert refusal.value.resource == ("audience", "buyers")


async def test_all_faults_come_together_with_their_paths(caller: Caller) -> None:
    request = audiences.CreateAudienceRequest(
        audience=audience_pb2.Audience(
            id="not an id", predicate=predicate_pb2.Predicate(all_of=predicate_pb2.Clauses())
        )
    )

    with pytest.raises(Refused) as refusal:
        await caller.call(request)

    assert refusal.value.code == "INVALID_ARGUMENT"
    assert refusal.value.violations[0][1] == refusal.value.reason
    assert sorted(refusal.value.violations) == [
        ("id", "INVALID_ID"),
        ("name", "REQUIRED"),
        ("predicate.clauses", "EMPTY_CLAUSES"),
    ]


async def test_a_repeated_request_gets_the_first_answer(caller: Caller, owner: Connection[Record]) -> None:
    request = creation(request_id="r-1")

    first = await caller.call(request)
    second = await caller.call(request)

    assert first.SerializeToString() == second.SerializeToString()
    assert await owner.fetchval("SELECT count(*) FROM audiences") == 1


async def test_a_repeat_over_the_other_transport_is_the_same_request(served: Served, owner: Connection[Record]) -> None:
    request = creation(request_id="r-1")

    by_grpc = await served.grpc.call(request)
    by_http = await served.http.call(request)

    assert by_grpc.SerializeToString() == by_http.SerializeToString()
    assert await owner.fetchval("SELECT count(*) FROM audiences") == 1


async def test_a_request_id_cannot_be_used_for_another_request(caller: Caller, owner: Connection[Record]) -> None:
    await caller.call(creation(name="Buyers", request_id="r-1"))

    with pytest.raises(Refused) as refusal:
        await caller.call(creation(name="Sellers", request_id="r-1"))

    assert refusal.value.violations == [("requestId", "REQUEST_ID_REUSED")]
    assert await owner.fetchval("SELECT count(*) FROM audiences") == 1


async def test_request_ids_of_different_keys_have_nothing_to_do_with_each_other(caller: Caller, keys: Keys) -> None:
    other = await keys.admit(Role.EDITOR)

    first = await caller.call(creation(request_id="r-1"))
    second = await caller.call(creation(request_id="r-1"), key=other)

    assert first.audience.id != second.audience.id


async def test_a_refused_request_may_be_mended_under_its_id(caller: Caller) -> None:
    await caller.call(creation("taken"))
    with pytest.raises(Refused):
        await caller.call(creation("taken", request_id="r-1"))

    made = await caller.call(creation("free", request_id="r-1"))

    assert made.audience.id == "free"


async def patiently(caller: Caller, request: Message) -> Any:
    """As clients do: who is told to come back does."""
    while True:
        try:
            return await caller.call(request)
        except Refused as refused:
            if refused.code != "RESOURCE_EXHAUSTED":
                raise
            await asyncio.sleep(0.05)


async def test_many_equal_calls_at_once_have_one_effect_and_one_answer(
    served: Served, owner: Connection[Record]
) -> None:
    calls = [
        patiently(caller, creation(name=f"Audience {number}", request_id=f"r-{number}"))
        for number in range(10)
        for caller in (served.grpc, served.http)
        for _ in range(32)
    ]

    answers = await asyncio.gather(*calls)

    assert await owner.fetchval("SELECT count(*) FROM audiences") == 10
    assert len({answer.SerializeToString() for answer in answers}) == 10


async def test_the_same_request_at_two_servers_at_once_has_one_effect(
    serve: object, served: Served, owner: Connection[Record]
) -> None:
    async with serve() as other:  # type: ignore[operator]
        calls = [
            patiently(caller, creation(request_id="r-1")) for caller in (served.grpc, other.grpc) for _ in range(32)
        ]

        answers = await asyncio.gather(*calls)

    assert await owner.fetchval("SELECT count(*) FROM audiences") == 1
    assert len({answer.SerializeToString() for answer in answers}) == 1


async def test_validate_only_says_what_would_happen_and_writes_nothing(
    caller: Caller, owner: Connection[Record]
) -> None:
    before = await _everything(owner)

    answer = await caller.call(creation("buyers", validate_only=True, request_id="r-1"))
    with pytest.raises(Refused):
        await caller.call(creation("not an id", validate_only=True))

    assert answer.audience.name == "Buyers"
    assert await _everything(owner) == before


async def _everything(owner: Connection[Record]) -> dict[str, int]:
    """How many rows each table has; last uses of keys aside."""
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {row[0]: await owner.fetchval(f"SELECT count(*) FROM {row[0]}") for row in tables}


async def test_of_many_changes_of_one_state_one_succeeds(caller: Caller) -> None:
    made = (await caller.call(creation("buyers"))).audience

    async def change(number: int) -> str:
        resource = audience_pb2.Audience(id="buyers", name=f"Name {number}", etag=made.etag)
        try:
            await caller.call(audiences.UpdateAudienceRequest(audience=resource))
        except Refused as refusal:
            return f"{refusal.code} {refusal.reason} {refusal.metadata['currentEtag'] != made.etag}"
        return "OK"

    outcomes = await asyncio.gather(*(change(number) for number in range(16)))

    assert sorted(outcomes) == ["ABORTED ETAG_MISMATCH True"] * 15 + ["OK"]


async def test_the_time_of_the_last_change_does_instead_of_an_etag(caller: Caller) -> None:
    made = (await caller.call(creation("buyers"))).audience
    resource = audience_pb2.Audience(id="buyers", name="Other", update_time=made.update_time)

    await caller.call(audiences.UpdateAudienceRequest(audience=resource))
    with pytest.raises(Refused) as refusal:
        await caller.call(audiences.UpdateAudienceRequest(audience=resource))

    assert refusal.value.reason == "ETAG_MISMATCH"


async def test_the_operator_makes_projects_and_sees_nothing_inside(caller: Caller) -> None:
    operator = "operator-key-of-a-test"
    request = projects.CreateProjectRequest(request_id="r-1")
    request.project.id, request.project.name = "acme", "Acme"

    made = await caller.call(request, key=operator)
    own = await caller.call(projects.GetProjectRequest(project_id="acme"), key=made.secret)
    with pytest.raises(Refused) as refusal:
        await caller.call(audiences.ListAudiencesRequest(), key=operator)

    assert own.project.name == "Acme"
    assert refusal.value.code == "PERMISSION_DENIED"
