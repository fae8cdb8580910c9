"""What only gRPC has: bytes that are no message, trailers, reflection."""

from __future__ import annotations

import logging
import random

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from orchestrator.v1 import audience_pb2, predicate_pb2
from orchestrator.v1 import audience_service_pb2 as audiences
from orchestrator.v1 import audience_service_pb2_grpc as stubs
from tests.integration.api.callers import RPCS, Refused, refused
from tests.integration.api.conftest import OWNER_KEY, Serve, Served


async def test_the_generated_stub_works(served: Served) -> None:
    stub = stubs.AudienceServiceStub(served.grpc.channel)

    answer = await stub.ListAudiences(audiences.ListAudiencesRequest(), metadata=(("x-api-key", OWNER_KEY),))

    assert list(answer.audiences) == []


async def test_bytes_that_are_no_message_are_the_callers_fault_for_every_rpc(served: Served) -> None:
    made_up = random.Random(7)
    outcomes = set()
    for rpc in RPCS.values():
        # Field 1 with a length beyond the end: no message of any kind.
        for message in (b"\x0a\xff\xff\xff\xff\x0f", bytes([0x07]) + made_up.randbytes(40)):
            with pytest.raises(Refused) as refusal:
                await served.grpc.raw(rpc, message)
            outcomes.add((refusal.value.code, refusal.value.reason))

    # The operator's calls are refused to an owner before they are read.
    assert outcomes == {("INVALID_ARGUMENT", "MALFORMED_REQUEST"), ("PERMISSION_DENIED", "ROLE_TOO_LOW")}


async def test_text_that_is_not_utf8_is_the_callers_fault(served: Served) -> None:
    with pytest.raises(Refused) as refusal:
        await served.grpc.raw(RPCS["GetAudience"], b"\x0a\x02\xff\xfe")

    assert refusal.value.reason == "MALFORMED_REQUEST"


async def test_a_method_that_does_not_exist_is_told_so(served: Served) -> None:
    call = served.grpc.bytes_call("/orchestrator.v1.AudienceService/Paint")

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"")

    failure = refused(error.value)
    assert (failure.code, failure.reason) == ("UNIMPLEMENTED", "METHOD_NOT_FOUND")


async def test_faults_beyond_what_trailers_hold_are_counted(served: Served) -> None:
    leaf = predicate_pb2.Predicate(event_fired=predicate_pb2.EventLeaf())
    predicate = predicate_pb2.Predicate(any_of=predicate_pb2.Clauses(clauses=[leaf] * 60))
    request = audiences.CreateAudienceRequest(audience=audience_pb2.Audience(name="A", predicate=predicate))

    with pytest.raises(Refused) as refusal:
        await served.grpc.call(request)

    assert len(refusal.value.violations) == 25
    assert refusal.value.metadata["violationsOmitted"] == "35"
    assert refusal.value.size <= 6 * 1024


async def test_a_message_that_is_too_large_is_refused(served: Served) -> None:
    request = audiences.CreateAudienceRequest(audience=audience_pb2.Audience(name="x" * (1024 * 1024)))

    with pytest.raises(Refused) as refusal:
        await served.grpc.call(request)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.grpc.bytes_call("/orchestrator.v1.AudienceService/CreateAudience")(
            b"x" * 20_000_000, metadata=(("x-api-key", OWNER_KEY),)
        )

    assert ("", "TOO_LARGE") in refusal.value.violations
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_field_of_a_newer_contract_is_refused_not_ignored(served: Served) -> None:
    with pytest.raises(Refused) as refusal:
        await served.grpc.raw(RPCS["GetAudience"], b"\x0a\x01a" + b"\xba\x3e\x01b")  # field 999

    assert refusal.value.violations == [("#999", "UNKNOWN_FIELD")]


async def test_the_request_id_comes_back_in_metadata(served: Served) -> None:
    stub = stubs.AudienceServiceStub(served.grpc.channel)
    metadata = (("x-api-key", OWNER_KEY), ("x-request-id", "my-call.7"))

    call = stub.ListAudiences(audiences.ListAudiencesRequest(), metadata=metadata)

    assert dict(await call.initial_metadata())["x-request-id"] == "my-call.7"


async def test_a_failure_carries_exactly_one_error_info(served: Served) -> None:
    stub = stubs.AudienceServiceStub(served.grpc.channel)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.GetAudience(audiences.GetAudienceRequest(audience_id="x"), metadata=(("x-api-key", OWNER_KEY),))

    status = rpc_status.from_call(error.value)
    assert status is not None
    assert sum(detail.Is(ErrorInfo.DESCRIPTOR) for detail in status.details) == 1
    assert status.message == error.value.details()


async def test_the_log_has_a_line_for_each_call_and_no_key_in_it(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await served.grpc.call(audiences.ListAudiencesRequest(), call_id="my-call.7")
        with pytest.raises(Refused):
            await served.grpc.call(audiences.GetAudienceRequest(audience_id="ann@example.com"))

    lines = [vars(record) for record in caplog.records if record.getMessage() == "call"]
    first, second = lines
    assert (first["method"], first["code"]) == ("orchestrator.v1.AudienceService/ListAudiences", "OK")
    assert (first["call_id"], first["transport"], first["project_id"]) == ("my-call.7", "grpc", "default")
    assert first["actor"].startswith("key:key-")
    assert (second["code"], second["reason"]) == ("INVALID_ARGUMENT", "INVALID_ID")
    assert not any(OWNER_KEY in str(line) or "ann@example.com" in str(line) for line in lines)


async def test_reflection_is_there_when_it_is_asked_for(serve: Serve) -> None:
    async with serve(reflection=True) as server:
        request = reflection_pb2.ServerReflectionRequest(list_services="")

        stub = reflection_pb2_grpc.ServerReflectionStub(server.grpc.channel)
        [answer] = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]

        names = {service.name for service in answer.list_services_response.service}
        assert {"orchestrator.v1.JourneyService", "grpc.health.v1.Health"} <= names


async def test_without_the_flag_there_is_no_reflection(served: Served) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(served.grpc.channel)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        _ = [answer async for answer in stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest()]))]

    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
