"""More calls than can be served: who is told to come back, who is not, and what is left running of a call whose time is
over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import httpx
import pytest

from orchestrator.api import http_connections
from orchestrator.application.transactions import Transactions
from orchestrator.storage.pool import API_ROLE, Places, open_pool
from orchestrator.storage.running_call import is_critical, running_call, time_left
from orchestrator.v1 import audience_service_pb2 as audiences
from orchestrator.v1 import preferences_pb2
from orchestrator.v1 import subject_service_pb2 as subjects
from tests.eventually import eventually
from tests.integration.api.callers import Refused, refused
from tests.integration.api.conftest import OWNER_KEY, Serve, Served
from tests.integration.api.test_api_keys import new_key
from tests.integration.api.test_load import waiting

if TYPE_CHECKING:
    from asyncpg import Connection, Record

LIST = audiences.ListAudiencesRequest()
REFUSE_MAIL = subjects.UpdatePreferencesRequest(
    subject_id="ann", changes=[preferences_pb2.PreferenceChange(channel="email", opted_out=True)]
)


@asynccontextmanager
async def stuck(owner: Connection[Record], table: str = "audiences") -> AsyncIterator[None]:
    """While the block lasts, calls that read these wait."""
    async with owner.transaction():
        await owner.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def _are_waiting(database: str, count: int) -> bool:
    return await waiting(database) == count


async def test_grpc_itself_turns_away_what_is_too_much_in_every_wave() -> None:
    """The last guard, before our own. Versions of grpcio have let everything through after the first wave."""
    inside = peak = 0
    go_on = asyncio.Event()

    async def serve(request: bytes, context: Any) -> bytes:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await go_on.wait()
        inside -= 1
        return request

    server = grpc.aio.server(maximum_concurrent_rpcs=2)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(serve)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary("/a.B/C")
        for _ in range(4):
            go_on.clear()
            calls = [asyncio.ensure_future(_code(call(b""))) for _ in range(12)]
            await eventually(lambda calls=calls: sum(call.done() for call in calls) == 10)  # type: ignore[misc]
            go_on.set()
            codes = await asyncio.gather(*calls)
            assert codes.count(grpc.StatusCode.OK) == 2
            assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 10
    await server.stop(None)
    assert peak == 2


async def _code(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_an_opt_out_comes_through_while_other_calls_hold_every_place_and_connection(
    serve: Serve, owner: Connection[Record], database: str
) -> None:
    async with serve(pool_size=8, max_calls=10) as served:
        await served.grpc.call(REFUSE_MAIL)
        async with stuck(owner):
            calls = [asyncio.create_task(served.grpc.call(LIST)) for _ in range(20)]
            await eventually(lambda: sum(call.done() for call in calls) == 12)
            await eventually(lambda: _are_waiting(database, 8))

            for caller in served.callers:
                answer = await caller.call(REFUSE_MAIL)
                assert [opt_out.channel for opt_out in answer.preferences.opt_outs] == ["email"]
                with pytest.raises(Refused) as refusal:
                    await caller.call(LIST)
                assert refusal.value.reason == "RATE_LIMITED"
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(outcome, audiences.ListAudiencesResponse) for outcome in outcomes) == 8


async def test_a_key_that_floods_takes_no_place_from_another(
    serve: Serve, owner: Connection[Record], database: str
) -> None:
    async with serve(max_calls=100, max_calls_per_key=3) as served:
        other = (await served.grpc.call(new_key())).secret
        async with stuck(owner):
            flood = [asyncio.create_task(served.grpc.call(LIST)) for _ in range(50)]
            await eventually(lambda: sum(call.done() for call in flood) == 47)
            quiet = [asyncio.create_task(served.grpc.call(LIST, key=other)) for _ in range(3)]
            await eventually(lambda: _are_waiting(database, 6))
        outcomes = await asyncio.gather(*flood, return_exceptions=True)
        answers = await asyncio.gather(*quiet)

    told = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert {(one.reason, one.metadata["limit"]) for one in told} == {("RATE_LIMITED", "key_places")}
    assert len(told) == 47
    assert len(answers) == 3


async def test_a_key_that_calls_too_often_is_told_when_to_come_back(serve: Serve) -> None:
    async with serve(calls_per_second=0.01) as served:
        await served.grpc.call(LIST)
        with pytest.raises(Refused) as refusal:
            await served.grpc.call(LIST)
        answer = await served.http.client.get("/v1/audiences", headers={"X-Api-Key": OWNER_KEY})
        stopped = await served.http.call(REFUSE_MAIL)
        page = (await served.http.client.get("/metrics")).text

    assert (refusal.value.code, refusal.value.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert refusal.value.metadata["limit"] == "key_rate"
    assert refusal.value.retry_after is not None
    assert 90 < refusal.value.retry_after.total_seconds() <= 100
    assert answer.status_code == 429
    assert 90 < int(answer.headers["Retry-After"]) <= 101
    assert stopped.preferences.opt_outs
    assert 'orchestrator_server_calls_shed_total{call_class="ordinary",shortage="key_rate"} 2.0' in page


async def test_nothing_is_read_of_a_call_that_is_turned_away(serve: Serve, owner: Connection[Record]) -> None:
    """It is not even seen that it is none."""
    async with serve(max_calls=1) as served:
        async with stuck(owner):
            first = asyncio.create_task(served.grpc.call(LIST))
            await eventually(lambda: _in_flight(served, 1))
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await served.grpc.bytes_call("/orchestrator.v1.EventService/IngestEvents")(
                    b"\xff\xff\xff", metadata=(("authorization", f"Bearer {OWNER_KEY}"),)
                )
            reader, writer = await asyncio.open_connection("127.0.0.1", served.listening.http_port)
            head = (
                f"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: {OWNER_KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            writer.write(head.encode() + b"4\r\n{{{{\r\n")
            answer = await reader.read()
            writer.close()
        await first

    assert refused(error.value).reason == "RATE_LIMITED"
    assert dict(error.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "1000"
    assert answer.startswith(b"HTTP/1.1 429 ")


async def _in_flight(served: Served, count: int) -> bool:
    page = (await served.http.client.get("/metrics")).text
    return f"grpc_server_in_flight {float(count)}\n" in page


async def test_metadata_and_messages_that_are_too_large_are_refused_and_others_are_served(served: Served) -> None:
    call = served.grpc.bytes_call("/orchestrator.v1.AudienceService/ListAudiences")
    key = ("authorization", f"Bearer {OWNER_KEY}")
    with pytest.raises(grpc.aio.AioRpcError) as metadata:
        await call(b"", metadata=(key, ("x-much", "m" * 2**20)))
    with pytest.raises(grpc.aio.AioRpcError) as message:
        await call(b"\0" * (65 * 2**20), metadata=(key,))
    with pytest.raises(httpx.HTTPError):
        headers = await served.http.client.get("/v1/audiences", headers={"X-Api-Key": OWNER_KEY, "X-Much": "m" * 2**20})
        headers.raise_for_status()

    assert metadata.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert message.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
    for caller in served.callers:
        assert list((await caller.call(LIST)).audiences) == []


async def test_postgres_itself_ends_the_statement_of_a_call_whose_time_is_over(database: str) -> None:
    """Nobody cancels it here: the process that should may have been stopped."""
    pool = await open_pool(database, role=API_ROLE, size=1, application_name="test")
    transactions = Transactions(pool)
    now = asyncio.get_running_loop().time
    try:
        for _ in range(2):
            with running_call(ends_at=now() + 0.05), pytest.raises(asyncpg.QueryCanceledError):
                async with transactions.write(1) as conn:
                    await conn.execute("SELECT pg_sleep(60)")
            # The next one has all the time that a statement may take, in the same project and in another.
            for project_no in (1, 2):
                async with transactions.read(project_no) as conn:
                    assert await conn.fetchval("SHOW statement_timeout") == "65s"
    finally:
        await pool.close()


async def test_connections_are_told_how_much_time_there_is_when_that_changes_and_not_otherwise(database: str) -> None:
    pool = await open_pool(database, role=API_ROLE, size=1, application_name="test")
    statements: list[str] = []
    now = asyncio.get_running_loop().time
    try:
        async with Transactions(pool).read(1) as conn:
            conn.add_query_logger(lambda logged: statements.append(logged.query))
        for seconds, told in ((9.9, "10s"), (9.8, "10s"), (6, "10s"), (4, "5s"), (59, "1min"), (3600, "65s")):
            with running_call(ends_at=now() + seconds):
                async with Transactions(pool).read(1) as conn:
                    assert await conn.fetchval("SHOW statement_timeout") == told
    finally:
        await pool.close()

    assert [statement for statement in statements if "SHOW" not in statement] == [
        "SET statement_timeout = 10000",
        "SET statement_timeout = 5000",
        "SET statement_timeout = 60000",
        "RESET statement_timeout",
    ]


async def test_what_a_call_begins_beside_itself_has_its_own_time() -> None:
    with running_call(ends_at=asyncio.get_running_loop().time() + 1, critical=True):
        assert (0 < (time_left() or 0) <= 1, is_critical()) == (True, True)
        beside = asyncio.create_task(_seen())
        with running_call():
            assert (time_left(), is_critical()) == (None, False)
    assert await beside == (None, False)
    assert (time_left(), is_critical()) == (None, False)


async def _seen() -> tuple[float | None, bool]:
    return time_left(), is_critical()


async def test_a_place_among_connections_is_given_back_however_the_wait_for_it_ends(database: str) -> None:
    pool = await open_pool(database, role=API_ROLE, size=3, application_name="test")
    places = Places(1)
    transactions = Transactions(pool, places)
    try:
        async with transactions.read(1):
            waiting_for_it = asyncio.create_task(_read(transactions))
            await asyncio.sleep(0)
            with running_call(critical=True):
                assert await _read(transactions) == 1
            assert not waiting_for_it.done()
            given_up = asyncio.create_task(_read(transactions))
            await asyncio.sleep(0)
            given_up.cancel()
            assert places.taken() == 1
        assert await waiting_for_it == 1
        assert await _read(transactions) == 1
    finally:
        await pool.close()

    assert places.taken() == 0


async def test_next_to_a_connection_is_whose_call_has_fewest_and_what_computes_for_long_has_its_own(
    database: str,
) -> None:
    pool = await open_pool(database, role=API_ROLE, size=3, application_name="test")
    places = Places(3)
    places.allow(1)
    transactions = Transactions(pool, places)
    served: list[str] = []

    async def read(name: str, caller: str, *, heavy: bool = False) -> None:
        with running_call(caller=caller, heavy=heavy):
            async with transactions.read(1):
                served.append(name)
                if name == "first":
                    await asyncio.wait(others[:1])
                    places.allow(2)
                    await asyncio.wait(others[1:], return_when=asyncio.FIRST_COMPLETED)

    others: list[asyncio.Task[None]] = []
    first = asyncio.create_task(read("first", "flood"))
    await asyncio.sleep(0)
    others += [
        asyncio.create_task(read("heavy", "flood", heavy=True)),
        asyncio.create_task(read("second", "flood")),
        asyncio.create_task(read("quiet", "quiet")),
    ]
    try:
        await asyncio.gather(first, *others)
    finally:
        await pool.close()

    assert served == ["first", "heavy", "quiet", "second"]


async def _read(transactions: Transactions) -> int:
    async with transactions.read(1) as conn:
        found: int = await conn.fetchval("SELECT 1")
        return found


async def test_who_sends_his_request_byte_by_byte_is_not_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "PATIENCE", 0.3)
    async with serve() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.listening.http_port)
        writer.write(b"GET /v1/audiences HTTP/1.1\r\nHost: x\r\n")
        dripping = asyncio.create_task(_drip(writer))

        assert await asyncio.wait_for(reader.read(), 10) == b""

        dripping.cancel()
        writer.close()
        # Between two requests there is as much time as before.
        await served.http.call(LIST)
        await asyncio.sleep(0.5)
        await served.http.call(LIST)


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X")
        await asyncio.sleep(0.05)


async def test_connections_that_ask_nothing_make_room_for_one_that_does(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, owner: Connection[Record], database: str
) -> None:
    monkeypatch.setattr(http_connections.Idle.__init__, "__defaults__", (20,))
    async with serve() as served:
        async with stuck(owner):
            call = asyncio.create_task(served.http.call(LIST))
            await eventually(lambda: _are_waiting(database, 1))
            silent = [await asyncio.open_connection("127.0.0.1", served.listening.http_port) for _ in range(60)]
            await eventually(lambda: sum(reader.at_eof() for reader, _ in silent) == 41)
            assert [reader.at_eof() for reader, _ in silent] == [True] * 41 + [False] * 19
        await call
        for _, writer in silent:
            writer.close()
