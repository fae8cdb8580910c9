"""Keys: made, rotated, expired, revoked, and kept nowhere."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.api.auth import BELIEVED_FOR, Authentication
from orchestrator.application.transactions import Transactions
from orchestrator.domain.api_key import digest
from orchestrator.domain.refusals import Unauthenticated
from orchestrator.domain.scope import Role
from orchestrator.v1 import api_key_pb2
from orchestrator.v1 import api_key_service_pb2 as api_keys
from orchestrator.v1 import audience_service_pb2 as audiences
from orchestrator.v1 import project_service_pb2 as projects
from tests.eventually import eventually
from tests.integration.api.callers import Caller, Refused
from tests.integration.api.conftest import OPERATOR_KEY, OWNER_KEY, Keys, Serve, Served
from tests.integration.api.test_contract import creation

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PROBE = audiences.ListAudiencesRequest()
PEER = "192.0.2.7"


def new_key(name: str = "ci", role: int = api_key_pb2.ROLE_EDITOR, **further: str) -> api_keys.CreateApiKeyRequest:
    return api_keys.CreateApiKeyRequest(api_key=api_key_pb2.ApiKey(name=name, role=role), **further)  # type: ignore[arg-type]


async def is_good(caller: Caller, key: str) -> bool:
    try:
        await caller.call(PROBE, key=key)
    except Refused as refusal:
        assert refusal.code == "UNAUTHENTICATED"  # noqa: PT017 - nothing else would say that the key is bad
        return False
    return True


async def test_a_new_key_works_and_is_shown_once(caller: Caller) -> None:
    made = await caller.call(new_key())

    assert made.secret.startswith("orc_")
    assert made.api_key.prefix == made.secret[:12]
    assert await is_good(caller, made.secret)
    listed = await caller.call(api_keys.ListApiKeysRequest())
    assert made.secret not in str(listed)
    assert {key.name for key in listed.api_keys} == {"ci", "From ORCHESTRATOR_API_KEY"}


async def test_a_key_that_was_given_shows_no_part_of_itself(caller: Caller) -> None:
    [given] = (await caller.call(api_keys.ListApiKeysRequest())).api_keys

    assert len(given.prefix) == 9
    assert given.prefix.startswith("#")
    assert not any(OWNER_KEY[at : at + 3] in given.prefix for at in range(len(OWNER_KEY) - 2))


@pytest.mark.parametrize("key", ["test-key", "x"])
async def test_a_short_key_opens_on_this_machine_and_is_warned_of(
    serve: Serve, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(api_key=key) as served:
        for caller in served.callers:
            assert await is_good(caller, key)

    assert "ORCHESTRATOR_API_KEY has fewer than 16 characters and can be guessed" in caplog.messages


async def test_a_repeat_of_the_request_gets_the_key_without_its_secret(caller: Caller) -> None:
    first = await caller.call(new_key(request_id="r-1"))
    second = await caller.call(new_key(request_id="r-1"))

    assert second.api_key == first.api_key
    assert (bool(first.secret), second.secret) == (True, "")


async def test_of_many_equal_requests_one_caller_learns_the_secret(served: Served, owner: Connection[Record]) -> None:
    answers = await asyncio.gather(*(served.grpc.call(new_key(request_id="r-1")) for _ in range(64)))

    assert sorted(bool(answer.secret) for answer in answers) == [False] * 63 + [True]
    assert await owner.fetchval("SELECT count(*) FROM api_keys WHERE name = 'ci'") == 1


async def test_no_secret_is_anywhere_in_the_database(served: Served, owner: Connection[Record]) -> None:
    secrets = [OWNER_KEY, OPERATOR_KEY]
    for number in range(20):
        made = await served.grpc.call(new_key(f"k{number}", request_id=f"r{number}"))
        rotated = await served.http.call(
            api_keys.RotateApiKeyRequest(api_key_id=made.api_key.id, request_id=f"r{number}")
        )
        secrets += [made.secret, rotated.secret]
    request = projects.CreateProjectRequest(request_id="r-1")
    request.project.name = "Acme"
    secrets.append((await served.grpc.call(request, key=OPERATOR_KEY)).secret)

    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    dump = ""
    for table in tables:
        rows = await owner.fetch(f"SELECT t::text FROM {table[0]} AS t")
        dump += "".join(row[0] for row in rows)
    assert "k19" in dump
    for secret in secrets:
        assert secret not in dump
        assert secret.encode().hex() not in dump


async def test_a_rotated_key_and_its_successor_are_both_good_until_the_overlap_ends(
    caller: Caller, owner: Connection[Record]
) -> None:
    old = await caller.call(new_key())

    new = await caller.call(api_keys.RotateApiKeyRequest(api_key_id=old.api_key.id))

    assert (new.api_key.name, new.api_key.role, new.api_key.rotated_from) == ("ci", old.api_key.role, old.api_key.id)
    assert [await is_good(caller, key) for key in (old.secret, new.secret)] == [True, True]
    expires_at = await owner.fetchval("SELECT expires_at FROM api_keys WHERE api_key_id = $1", old.api_key.id)
    assert timedelta(hours=23) < expires_at - datetime.now(UTC) < timedelta(hours=25)

    ended = api_keys.RotateApiKeyRequest(api_key_id=new.api_key.id)
    ended.overlap.FromSeconds(0)
    await caller.call(ended)
    await eventually(lambda: _is_bad(caller, new.secret))


async def test_a_request_that_is_repeated_with_a_newer_key_takes_effect_once(caller: Caller) -> None:
    first = await caller.call(new_key(role=api_key_pb2.ROLE_OWNER))
    second = await caller.call(api_keys.RotateApiKeyRequest(api_key_id=first.api_key.id))
    stranger = await caller.call(new_key(role=api_key_pb2.ROLE_OWNER))
    request = new_key("made once", request_id="r-1")
    made = await caller.call(request, key=first.secret)
    third = await caller.call(api_keys.RotateApiKeyRequest(api_key_id=second.api_key.id))

    again = [(await caller.call(request, key=key)).api_key.id for key in (second.secret, third.secret)]
    other = await caller.call(request, key=stranger.secret)

    assert again == [made.api_key.id] * 2
    assert other.api_key.id != made.api_key.id


async def test_a_revoked_key_is_refused_by_every_server_within_seconds(served: Served, serve: Serve) -> None:
    async with serve() as other:
        made = await served.grpc.call(new_key())
        assert await is_good(served.grpc, made.secret)
        assert await is_good(other.grpc, made.secret)

        await served.grpc.call(api_keys.RevokeApiKeyRequest(api_key_id=made.api_key.id))

        assert timedelta(seconds=5) > BELIEVED_FOR
        await eventually(lambda: _is_bad(served.grpc, made.secret), within=5)
        await eventually(lambda: _is_bad(other.grpc, made.secret), within=1)


async def test_a_revoked_key_stays_revoked(caller: Caller) -> None:
    made = await caller.call(new_key())
    first = await caller.call(api_keys.RevokeApiKeyRequest(api_key_id=made.api_key.id))

    second = await caller.call(api_keys.RevokeApiKeyRequest(api_key_id=made.api_key.id))
    with pytest.raises(Refused) as refusal:
        await caller.call(api_keys.RotateApiKeyRequest(api_key_id=made.api_key.id))

    assert first.api_key.revoke_time == second.api_key.revoke_time
    assert (refusal.value.code, refusal.value.reason) == ("FAILED_PRECONDITION", "API_KEY_REVOKED")


async def test_a_key_is_bad_from_the_moment_it_expires(caller: Caller) -> None:
    request = new_key()
    request.api_key.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=1.5))
    made = await caller.call(request)

    assert await is_good(caller, made.secret)
    # Not when it is asked about next: a memory of a key ends with the key.
    await eventually(lambda: _is_bad(caller, made.secret), within=2.5)


@pytest.mark.parametrize("role", [Role.EDITOR, Role.ADMIN])
async def test_nobody_makes_keys_of_a_higher_role_than_their_own(caller: Caller, keys: Keys, role: Role) -> None:
    with pytest.raises(Refused) as refusal:
        await caller.call(new_key(role=api_key_pb2.ROLE_OWNER), key=await keys.admit(role))

    assert (refusal.value.code, refusal.value.reason) == ("PERMISSION_DENIED", "ROLE_TOO_LOW")


async def test_nobody_rotates_or_revokes_a_key_of_a_higher_role(caller: Caller, keys: Keys) -> None:
    owners = (await caller.call(new_key(role=api_key_pb2.ROLE_OWNER))).api_key
    admin = await keys.admit(Role.ADMIN)

    for request in (
        api_keys.RotateApiKeyRequest(api_key_id=owners.id),
        api_keys.RevokeApiKeyRequest(api_key_id=owners.id),
    ):
        with pytest.raises(Refused) as refusal:
            await caller.call(request, key=admin)
        assert refusal.value.metadata == {"requiredRole": "owner"}


async def test_keys_of_another_project_do_not_exist(caller: Caller, keys: Keys) -> None:
    made = await caller.call(new_key())
    stranger = await keys.admit(Role.OWNER, await keys.project("elsewhere"))

    with pytest.raises(Refused) as refusal:
        await caller.call(api_keys.RevokeApiKeyRequest(api_key_id=made.api_key.id), key=stranger)

    assert (refusal.value.code, refusal.value.reason) == ("NOT_FOUND", "API_KEY_NOT_FOUND")
    assert await is_good(caller, made.secret)


async def test_what_keys_do_is_audited(caller: Caller, owner: Connection[Record]) -> None:
    made = await caller.call(new_key())
    await caller.call(api_keys.RotateApiKeyRequest(api_key_id=made.api_key.id))
    await caller.call(api_keys.RevokeApiKeyRequest(api_key_id=made.api_key.id))

    rows = await owner.fetch("SELECT action, actor FROM audit_log ORDER BY audit_no")
    assert [row["action"] for row in rows] == ["api_key_created", "api_key_rotated", "api_key_revoked"]
    assert {row["actor"].split(":")[0] for row in rows} == {"key"}


async def test_the_last_use_is_written_down(served: Served, owner: Connection[Record]) -> None:
    made = await served.grpc.call(new_key())
    for _ in range(5):
        await served.grpc.call(PROBE, key=made.secret)

    await eventually(lambda: _is_used(owner, made.api_key.id))


async def test_a_given_key_of_an_earlier_start_still_opens_and_a_revoked_one_does_not(
    serve: Serve, owner: Connection[Record], keys: Keys
) -> None:
    async with serve() as first:
        await first.grpc.call(creation("buyers"))
    async with serve(api_key="another-owner-key") as second:
        assert await is_good(second.grpc, OWNER_KEY)
        assert await is_good(second.grpc, "another-owner-key")
    await owner.execute(
        "UPDATE api_keys SET revoked_at = clock_timestamp() WHERE digest = $1", digest(keys.secret, OWNER_KEY)
    )
    async with serve() as third:
        assert not await is_good(third.grpc, OWNER_KEY)
        assert await is_good(third.grpc, "another-owner-key")


class Counted(Transactions):
    """Counts how often it is used for reading."""

    reads = 0

    def read(self, project_no: int | None) -> AbstractAsyncContextManager[Connection[Record]]:
        self.reads += 1
        return super().read(project_no)


async def test_bad_keys_are_remembered_and_a_crowd_asks_once(api_pool: Pool[Record], keys: Keys) -> None:
    transactions = Counted(api_pool)
    authentication = Authentication(transactions, keys.secret)
    await keys.project("default")
    key = await keys.admit(Role.EDITOR)

    scopes = await asyncio.gather(*(authentication.scope_of(key, PEER, as_bearer=True) for _ in range(100)))
    refusals = await asyncio.gather(
        *(authentication.scope_of("nobody-knows-it", PEER, as_bearer=True) for _ in range(100)), return_exceptions=True
    )
    await authentication.scope_of(key, PEER, as_bearer=True)
    await authentication.close()

    assert len({scope.actor for scope in scopes}) == 1
    assert all(isinstance(refusal, Unauthenticated) for refusal in refusals)
    assert transactions.reads == 2


async def test_junk_with_our_mark_is_refused_without_asking(api_pool: Pool[Record], keys: Keys) -> None:
    transactions = Counted(api_pool)
    authentication = Authentication(transactions, keys.secret)

    with pytest.raises(Unauthenticated):
        await authentication.scope_of("orc_abcdefgh_" + "x" * 43 + "_00000000", PEER, as_bearer=True)

    assert transactions.reads == 0


async def _is_bad(caller: Caller, key: str) -> bool:
    return not await is_good(caller, key)


async def _is_used(owner: Connection[Record], api_key_id: str) -> bool:
    query = "SELECT last_used_at IS NOT NULL FROM api_keys WHERE api_key_id = $1"
    return bool(await owner.fetchval(query, api_key_id))
