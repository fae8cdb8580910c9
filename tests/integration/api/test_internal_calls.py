"""Calls with the internal token: of which project they are, which tokens are good, and where they are served."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orchestrator.domain.scope import Role
from orchestrator.server import CannotServe, Listening, running
from orchestrator.settings import InvalidSettings
from orchestrator.v1 import audience_service_pb2 as audiences
from orchestrator.v1 import bundle_pb2
from orchestrator.v1 import bundle_service_pb2 as bundles
from orchestrator.v1 import internal_service_pb2 as internal
from orchestrator.v1 import internal_service_pb2_grpc as internal_grpc
from orchestrator.v1 import journey_service_pb2 as journeys
from tests.integration.api.callers import Caller, GrpcCaller, HttpCaller, Refused, refused_by
from tests.integration.api.certificates import Authority
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY, OWNER_KEY, Keys, Serve, Served, settings_of

if TYPE_CHECKING:
    from asyncpg import Connection, Record

DISPATCH = internal.DispatchEntriesRequest(project_key="default")
OWN = {"internal_grpc_port": 0, "internal_http_port": 0}
BEARER = {"Authorization": f"Bearer {INTERNAL_TOKEN}"}


def starting(**said: Any) -> internal.StartExecutionRequest:
    given = {"project_key": "default", "journey_id": "welcome", "subject_id": "ann", "entry_key": "order-7", **said}
    return internal.StartExecutionRequest(**given)


async def publish(caller: Caller) -> None:
    """A journey that takes everybody in."""
    request = journeys.CreateJourneyRequest()
    request.journey.id, request.journey.name = "welcome", "Welcome"
    await caller.call(request)
    await caller.call(journeys.PublishJourneyRequest(journey_id="welcome"))


async def test_what_is_done_is_done_in_the_project_that_the_call_names(caller: Caller, keys: Keys) -> None:
    await publish(caller)
    await keys.project("elsewhere")

    started = await caller.call(starting(), key=INTERNAL_TOKEN)
    again = await caller.call(starting(), key=INTERNAL_TOKEN)
    with pytest.raises(Refused) as elsewhere:
        await caller.call(starting(project_key="elsewhere"), key=INTERNAL_TOKEN)
    with pytest.raises(Refused) as nowhere:
        await caller.call(starting(project_key="nowhere"), key=INTERNAL_TOKEN)

    assert (started.outcome, started.workflow_id) == (started.OUTCOME_STARTED, "disp:welcome__v1__ann__order-7")
    assert (started.already, again.already, again.execution_id) == (False, True, started.execution_id)
    assert (elsewhere.value.code, elsewhere.value.reason) == ("NOT_FOUND", "JOURNEY_NOT_FOUND")
    assert (nowhere.value.code, nowhere.value.reason) == ("NOT_FOUND", "PROJECT_NOT_FOUND")
    assert nowhere.value.resource == ("project", "nowhere")


async def test_all_faults_come_together_and_the_project_is_one_of_them(caller: Caller) -> None:
    properties = Struct()
    properties.update({"amount": 1})
    request = internal.StartExecutionRequest(
        journey_id="not an id", entry_key="k" * 513, event=internal.TriggeringEvent(properties=properties)
    )

    with pytest.raises(Refused) as refusal:
        await caller.call(request, key=INTERNAL_TOKEN)
    with pytest.raises(Refused) as limits:
        await caller.call(
            internal.DispatchEntriesRequest(project_key="not an id", max_subjects=10_001), key=INTERNAL_TOKEN
        )

    assert sorted(refusal.value.violations) == [
        ("entryKey", "TOO_LONG"),
        ("journeyId", "INVALID_ID"),
        ("projectKey", "REQUIRED"),
        ("subjectId", "REQUIRED"),
    ]
    assert sorted(limits.value.violations) == [("maxSubjects", "OUT_OF_RANGE"), ("projectKey", "INVALID_ID")]


async def test_a_repeat_under_a_request_id_is_told_the_same(caller: Caller) -> None:
    await publish(caller)

    first = await caller.call(starting(request_id="r-1"), key=INTERNAL_TOKEN)
    again = await caller.call(starting(request_id="r-1"), key=INTERNAL_TOKEN)

    assert first.SerializeToString() == again.SerializeToString()


async def test_two_tokens_are_good_while_they_are_changed_and_one_afterwards(serve: Serve) -> None:
    new = "token-of-tomorrow-and-later"
    async with serve(internal_token=new, internal_token_previous=INTERNAL_TOKEN) as served:
        for caller in served.callers:
            for token in (new, INTERNAL_TOKEN):
                await caller.call(DISPATCH, key=token)
    async with serve(internal_token=new) as served:
        for caller in served.callers:
            await caller.call(DISPATCH, key=new)
            with pytest.raises(Refused) as refusal:
                await caller.call(DISPATCH, key=INTERNAL_TOKEN)
            assert refusal.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("key", [None, "nobody-knows-this-key", INTERNAL_TOKEN[:-1], f"{INTERNAL_TOKEN}x"])
async def test_a_token_that_is_almost_right_is_wrong(caller: Caller, key: str | None) -> None:
    with pytest.raises(Refused) as refusal:
        await caller.call(DISPATCH, key=key)

    assert refusal.value.code == "UNAUTHENTICATED"


async def test_the_token_is_taken_as_a_bearer_token_alone(served: Served) -> None:
    path, body = "/v1/internal/entries:dispatch", {"projectKey": "default"}
    own = str(served.http.client.base_url).rstrip("/")
    cookie = {"Cookie": f"session={INTERNAL_TOKEN}", "Origin": own}
    stub = internal_grpc.InternalServiceStub(served.grpc.channel)

    answers = [
        await served.http.client.post(path, json=body, headers=headers)
        for headers in (BEARER, {"X-Api-Key": INTERNAL_TOKEN}, cookie)
    ]
    await stub.DispatchEntries(DISPATCH, metadata=(("authorization", f"Bearer {INTERNAL_TOKEN}"),))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.DispatchEntries(DISPATCH, metadata=(("x-api-key", INTERNAL_TOKEN),))

    assert [answer.status_code for answer in answers] == [200, 401, 401]
    assert {refused_by(answer).reason for answer in answers[1:]} == {"UNAUTHENTICATED"}
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_execution_that_is_started_is_in_the_audit_log_once(caller: Caller, owner: Connection[Record]) -> None:
    await publish(caller)

    await caller.call(starting(), key=INTERNAL_TOKEN)
    await caller.call(starting(), key=INTERNAL_TOKEN)
    await caller.call(journeys.PauseJourneyRequest(journey_id="welcome"))
    await caller.call(starting(subject_id="bob"), key=INTERNAL_TOKEN)

    rows = await owner.fetch(
        "SELECT resource_id, actor, metadata::text FROM audit_log WHERE action = 'journey_enrolled' ORDER BY audit_no"
    )
    assert [(row["resource_id"], row["actor"], json.loads(row["metadata"])) for row in rows] == [
        ("welcome", "internal", {"enrolled": 1, "skipped": 0, "errors": 0}),
        ("welcome", "internal", {"enrolled": 0, "skipped": 1, "errors": 0}),
    ]


@asynccontextmanager
async def callers_of(listening: Listening) -> AsyncIterator[tuple[GrpcCaller, HttpCaller]]:
    """Who calls the internal listeners, with the token."""
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{listening.internal_grpc_port}") as channel,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.internal_http_port}", timeout=30) as client,
    ):
        yield GrpcCaller(channel, INTERNAL_TOKEN), HttpCaller(client, INTERNAL_TOKEN)


async def test_listeners_of_their_own_serve_them_and_nothing_else(serve: Serve, keys: Keys) -> None:
    editor = await keys.admit(Role.EDITOR)
    async with serve(**OWN) as served, callers_of(served.listening) as inside:
        await publish(served.grpc)
        for caller in inside:
            assert not (await caller.call(DISPATCH)).more
            await caller.call(starting())
            for key, code in (
                (None, "UNAUTHENTICATED"),
                (OWNER_KEY, "PERMISSION_DENIED"),
                (editor, "PERMISSION_DENIED"),
            ):
                with pytest.raises(Refused) as refusal:
                    await caller.call(DISPATCH, key=key)
                assert refusal.value.code == code
            with pytest.raises(Refused) as unknown:
                await caller.call(audiences.ListAudiencesRequest(), key=OWNER_KEY)
            assert unknown.value.reason == "METHOD_NOT_FOUND"

        http = inside[1].client
        route = await http.post("/api/journeys/internal/dispatch", json={"projectKey": "default"}, headers=BEARER)
        assert (route.status_code, route.json()["more"]) == (200, False)
        for path in ("/v1/journeys", "/api/journeys", "/api/audiences", "/metrics", "/openapi.json", "/admin/projects"):
            assert (await http.get(path, headers={"X-Api-Key": OWNER_KEY})).status_code == 404, path
        assert [(await http.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        health = health_pb2_grpc.HealthStub(inside[0].channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_with_listeners_of_their_own_they_are_nowhere_else(serve: Serve) -> None:
    async with serve(**OWN) as served:
        for caller in served.callers:
            for key in (INTERNAL_TOKEN, OWNER_KEY, OPERATOR_KEY):
                with pytest.raises(Refused) as refusal:
                    await caller.call(DISPATCH, key=key)
                assert refusal.value.reason == "METHOD_NOT_FOUND"
            assert (await caller.call(audiences.ListAudiencesRequest())).audiences == []
        route = await served.http.client.post(
            "/api/journeys/internal/dispatch", json={"projectKey": "default"}, headers=BEARER
        )
        assert (route.status_code, route.json()["error"]["code"]) == (404, "method_not_found")


async def test_what_customers_may_do_as_well_is_served_to_each_at_their_own(serve: Serve, keys: Keys) -> None:
    admin = await keys.admit(Role.ADMIN)
    bundle = bundles.ImportBundleRequest(bundle=bundle_pb2.Bundle(format_version=1), project_key="default")
    async with serve(**OWN) as served, callers_of(served.listening) as inside:
        pairs: list[tuple[Caller, Caller]] = [(served.grpc, inside[0]), (served.http, inside[1])]
        for outside, within in pairs:
            await outside.call(bundle, key=admin)
            await within.call(bundle, key=INTERNAL_TOKEN)
            turned_away: list[tuple[Caller, str]] = [(outside, INTERNAL_TOKEN), (within, admin)]
            for caller, key in turned_away:
                with pytest.raises(Refused) as refusal:
                    await caller.call(bundle, key=key)
                assert refusal.value.code == "PERMISSION_DENIED"
        # At the documented path it is internal, whoever may call the RPC.
        body = {"projectKey": "default", "bundle": {"formatVersion": 1}}
        path = "/api/journeys/internal/import-bundle"
        answers = [
            await caller.client.post(path, json=body, headers={"Authorization": f"Bearer {key}"})
            for caller, key in ((served.http, admin), (inside[1], admin), (inside[1], INTERNAL_TOKEN))
        ]
        assert [answer.status_code for answer in answers] == [404, 403, 200]


async def test_a_key_of_a_project_need_not_name_it_and_finds_nothing_under_another_name(
    caller: Caller, keys: Keys
) -> None:
    await keys.project("elsewhere")
    bundle = bundles.ImportBundleRequest(bundle=bundle_pb2.Bundle(format_version=1))
    named = bundles.ImportBundleRequest(bundle=bundle_pb2.Bundle(format_version=1), project_key="elsewhere")

    await caller.call(bundle)
    with pytest.raises(Refused) as foreign:
        await caller.call(named)
    with pytest.raises(Refused) as unnamed:
        await caller.call(bundle, key=INTERNAL_TOKEN)
    await caller.call(named, key=INTERNAL_TOKEN)

    assert (foreign.value.code, foreign.value.reason) == ("NOT_FOUND", "PROJECT_NOT_FOUND")
    assert unnamed.value.violations == [("projectKey", "REQUIRED")]


@pytest.mark.parametrize("only", ["internal_grpc_port", "internal_http_port"])
async def test_with_one_listener_the_other_transport_has_none(serve: Serve, only: str) -> None:
    async with serve(**{only: 0}) as served:
        ports = served.listening.internal_grpc_port, served.listening.internal_http_port
        assert [port is None for port in ports] == [only != "internal_grpc_port", only != "internal_http_port"]
        for caller in served.callers:
            with pytest.raises(Refused) as refusal:
                await caller.call(DISPATCH, key=INTERNAL_TOKEN)
            assert refusal.value.reason == "METHOD_NOT_FOUND"


async def test_their_listeners_speak_tls_and_ask_for_certificates_as_the_others_do(
    database: str, tmp_path: Path
) -> None:
    ours = Authority("ours")
    certificate, key = ours.write(tmp_path, "server")
    clients = tmp_path / "clients.pem"
    clients.write_bytes(ours.certificate)
    tls = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": clients}
    chain, private = ours.issue("client")
    async with running(settings_of(database, **OWN, **tls)) as listening:
        address = f"127.0.0.1:{listening.internal_grpc_port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        good = grpc.ssl_channel_credentials(ours.certificate, private_key=private, certificate_chain=chain)
        async with grpc.aio.secure_channel(address, good, options=options) as channel:
            await GrpcCaller(channel, INTERNAL_TOKEN).call(DISPATCH, timeout=5)
        without = grpc.ssl_channel_credentials(ours.certificate)
        async with grpc.aio.secure_channel(address, without, options=options) as channel:
            with pytest.raises(Refused, match="UNAVAILABLE"):
                await GrpcCaller(channel, INTERNAL_TOKEN).call(DISPATCH, timeout=5)
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{listening.internal_http_port}/healthz")


async def test_ports_for_them_need_a_token_and_have_to_be_free(database: str) -> None:
    with pytest.raises(InvalidSettings, match="need ORCHESTRATOR_INTERNAL_TOKEN"):
        async with running(settings_of(database, internal_token=None, **OWN)):
            pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match="ORCHESTRATOR_INTERNAL_HTTP_PORT, or ORCHESTRATOR_INTERNAL_HOST"):
            async with running(settings_of(database, internal_http_port=port)):
                pass
