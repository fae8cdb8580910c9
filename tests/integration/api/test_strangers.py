"""Who shows no key, or none of ours, takes nothing from those who do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orchestrator.api import auth
from orchestrator.api.auth import LOOKUPS_AT_ONCE, Authentication
from orchestrator.api.errors import TooManyCalls
from orchestrator.api.grpc_open_calls import EACH
from orchestrator.api.guesses import PER_MINUTE
from orchestrator.application.transactions import Transactions
from orchestrator.domain.api_key import make_key
from orchestrator.domain.refusals import Unauthenticated
from orchestrator.domain.scope import Role
from orchestrator.v1 import audience_service_pb2 as audiences
from tests.eventually import eventually
from tests.integration.api.callers import Caller, Refused, refused
from tests.integration.api.conftest import OPERATOR_KEY, OWNER_KEY, Keys, Serve, Served
from tests.integration.api.test_api_keys import Counted, new_key
from tests.integration.api.test_contract import creation
from tests.integration.api.test_load import held_up, waiting

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PROBE = audiences.ListAudiencesRequest()
WATCH = health_pb2.HealthCheckRequest()
PEER, ELSEWHERE = "192.0.2.7", "192.0.2.8"


async def test_watches_take_no_place_from_calls(serve: Serve) -> None:
    async with serve(max_calls=12) as served:
        health = health_pb2_grpc.HealthStub(served.grpc.channel)
        watches = [health.Watch(WATCH) for _ in range(60)]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

        answers = await asyncio.gather(*(served.grpc.call(PROBE) for _ in range(10)))

        assert len(answers) == 10
        for watch in watches:
            watch.cancel()


async def test_an_address_watches_so_often_and_the_next_is_told_so(served: Served) -> None:
    health = health_pb2_grpc.HealthStub(served.grpc.channel)
    watches = [health.Watch(WATCH) for _ in range(EACH)]
    for watch in watches:
        await watch.read()

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await health.Watch(WATCH).read()
    assert (refused(error.value).code, refused(error.value).reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert (await health.Check(WATCH)).status == health_pb2.HealthCheckResponse.SERVING

    watches.pop().cancel()

    async def watches_again() -> bool:
        try:
            watches.append(health.Watch(WATCH))
            await watches[-1].read()
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(watches_again)
    for watch in watches:
        watch.cancel()


@pytest.mark.parametrize(
    "path",
    [
        "/orchestrator.v1.AudienceService/ListAudiences",
        "/orchestrator.v1.AudienceService/NoSuchMethod",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_calls_without_their_message_take_no_place_from_calls(serve: Serve, path: str) -> None:
    async with serve(max_calls=12, reflection=True) as served:
        silent: list[Any] = [served.grpc.channel.stream_stream(path)() for _ in range(60)]
        # Those whose key is asked for are told so at once.
        await asyncio.gather(*(call.wait_for_connection() for call in silent), return_exceptions=True)

        answers = await asyncio.gather(*(served.grpc.call(PROBE) for _ in range(10)))

        assert len(answers) == 10
        for call in silent:
            call.cancel()


async def test_a_call_whose_message_never_comes_is_told_so(served: Served) -> None:
    call: Any = served.grpc.channel.stream_unary("/orchestrator.v1.AudienceService/ListAudiences")

    async def tell(key: str) -> Refused:
        telling = call(metadata=(("authorization", f"Bearer {key}"),))
        await telling.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await telling
        return refused(error.value)

    # Who may not call is told so before there is a message.
    assert (await tell(OPERATOR_KEY)).reason == "ROLE_TOO_LOW"
    assert (await tell(OWNER_KEY)).reason == "MALFORMED_REQUEST"


async def test_who_has_no_key_is_told_so_by_a_server_that_is_full(
    serve: Serve, owner: Connection[Record], database: str
) -> None:
    async with serve(max_calls=1) as served:
        async with held_up(owner):
            first = asyncio.create_task(served.http.call(creation("first")))

            async def is_held_up() -> bool:
                return await waiting(database) == 1

            await eventually(is_held_up)
            for caller in served.callers:
                with pytest.raises(Refused) as refusal:
                    await caller.call(PROBE, key="none-of-ours-at-all")
                assert refusal.value.code == "UNAUTHENTICATED"
        await first


async def test_strangers_whose_keys_are_looked_up_take_no_place(
    serve: Serve, owner: Connection[Record], database: str
) -> None:
    async def are_looked_up() -> bool:
        return await waiting(database) >= LOOKUPS_AT_ONCE

    async with serve(max_calls=2) as served:
        await served.grpc.call(PROBE)
        async with owner.transaction():
            await owner.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
            strangers = [asyncio.create_task(served.grpc.call(PROBE, key=make_key())) for _ in range(20)]
            await eventually(are_looked_up)

            await asyncio.gather(served.grpc.call(PROBE), served.http.call(PROBE))
            assert not any(stranger.done() for stranger in strangers)
        outcomes = await asyncio.gather(*strangers, return_exceptions=True)

    assert {outcome.code for outcome in outcomes if isinstance(outcome, Refused)} == {"UNAUTHENTICATED"}


class Gate(Transactions):
    """Lets nobody read until it is opened, but those who were here before."""

    def __init__(self, pool: Pool[Record]) -> None:
        super().__init__(pool)
        self.opened = asyncio.Event()
        self.waiting = 0

    def read(self, project_no: int | None) -> AbstractAsyncContextManager[Connection[Record]]:
        @asynccontextmanager
        async def reading() -> AsyncIterator[Connection[Record]]:
            self.waiting += 1
            await self.opened.wait()
            async with super(Gate, self).read(project_no) as conn:
                yield conn

        return reading()


async def test_keys_that_were_good_are_asked_about_past_the_crowd(api_pool: Pool[Record], keys: Keys) -> None:
    gate = Gate(api_pool)
    authentication = Authentication(gate, keys.secret, believed_for=timedelta(0))
    await keys.project("default")
    key = await keys.admit(Role.EDITOR)
    gate.opened.set()
    await authentication.scope_of(key, PEER, as_bearer=True)
    gate.opened.clear()
    gate.waiting = 0

    strangers = [asyncio.create_task(authentication.scope_of(make_key(), ELSEWHERE, as_bearer=True)) for _ in range(50)]
    await eventually(lambda: gate.waiting == LOOKUPS_AT_ONCE)
    known = asyncio.create_task(authentication.scope_of(key, PEER, as_bearer=True))
    await eventually(lambda: gate.waiting == LOOKUPS_AT_ONCE + 1)

    gate.opened.set()
    assert (await known).role is Role.EDITOR
    await asyncio.gather(*strangers, return_exceptions=True)
    await authentication.close()


async def test_so_many_wait_for_a_look_at_their_keys_and_the_next_is_told_to_come_back(
    api_pool: Pool[Record], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "LOOKUPS_WAITING", 20)
    monkeypatch.setattr(auth, "LOOKUPS_WAITING_EACH", 15)
    gate = Gate(api_pool)
    authentication = Authentication(gate, keys.secret)

    def ask(peer: str, count: int) -> list[asyncio.Task[object]]:
        return [asyncio.create_task(authentication.scope_of(make_key(), peer, as_bearer=True)) for _ in range(count)]

    one, another = ask(PEER, 30), ask(ELSEWHERE, 30)
    await eventually(lambda: sum(task.done() for task in one) == 15 and sum(task.done() for task in another) == 25)
    gate.opened.set()
    outcomes = await asyncio.gather(*one, *another, return_exceptions=True)

    assert sum(isinstance(outcome, TooManyCalls) for outcome in outcomes) == 40
    assert sum(isinstance(outcome, Unauthenticated) for outcome in outcomes) == 20
    await authentication.close()


async def test_guessing_is_slowed_and_shuts_out_nobody_who_knows(caller: Caller, keys: Keys) -> None:
    await caller.call(PROBE)
    key_made_here = await caller.call(new_key())

    outcomes: list[Refused] = []
    # Meanwhile some are regained: the more, the slower this machine is.
    while not outcomes or outcomes[-1].code == "UNAUTHENTICATED":
        with pytest.raises(Refused) as refusal:
            await caller.call(PROBE, key=f"perhaps-it-is-{len(outcomes)}")
        outcomes.append(refusal.value)

    assert len(outcomes) > PER_MINUTE
    assert outcomes[-1].reason == "RATE_LIMITED"
    assert outcomes[-1].retry_after is not None
    # A good key that was here before, one of 256 bits that was not, and a wrong one that is known to be wrong.
    await caller.call(PROBE)
    await caller.call(PROBE, key=key_made_here.secret)
    with pytest.raises(Refused, match="UNAUTHENTICATED"):
        await caller.call(PROBE, key=f"perhaps-it-is-{PER_MINUTE - 1}")


async def test_a_guess_too_many_is_not_looked_at(api_pool: Pool[Record], keys: Keys) -> None:
    transactions = Counted(api_pool)
    authentication = Authentication(transactions, keys.secret)
    await keys.project("default")
    key = await keys.admit(Role.EDITOR)

    for number in range(PER_MINUTE):
        with pytest.raises(Unauthenticated):
            await authentication.scope_of(f"perhaps-it-is-{number}", PEER, as_bearer=True)
    reads = transactions.reads
    with pytest.raises(TooManyCalls):
        await authentication.scope_of(key, PEER, as_bearer=True)

    assert transactions.reads == reads
    assert (await authentication.scope_of(key, ELSEWHERE, as_bearer=True)).role is Role.EDITOR
    await authentication.close()


async def test_a_crowd_with_a_key_of_its_choice_is_let_in(api_pool: Pool[Record], keys: Keys) -> None:
    authentication = Authentication(Transactions(api_pool), keys.secret)
    await keys.project("default")
    key = await keys.admit(Role.EDITOR)

    scopes = await asyncio.gather(*(authentication.scope_of(key, PEER, as_bearer=True) for _ in range(5 * PER_MINUTE)))

    assert {scope.role for scope in scopes} == {Role.EDITOR}
    await authentication.close()
