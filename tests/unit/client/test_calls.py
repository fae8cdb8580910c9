from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from orchestrator.client import OrchestratorClient, OrchestratorError, Tls, Violation, each, messages
from tests.eventually import eventually
from tests.unit.client.scripted import NEVER, scripted

PAUSE = messages.PauseJourneyRequest(journey_id="welcome")


async def test_every_call_carries_the_key_and_a_deadline() -> None:
    async with scripted() as server, OrchestratorClient(server.target, "a-key", timeout=7) as client:
        await client.journeys.PauseJourney(PAUSE)
        await client.journeys.PauseJourney(PAUSE, timeout=3, metadata=(("x-more", "more"),))

    first, second = server.asked
    assert first.method == "/orchestrator.v1.JourneyService/PauseJourney"
    assert first.metadata["authorization"] == second.metadata["authorization"] == "Bearer a-key"
    assert second.metadata["x-more"] == "more"
    assert 6 < first.time_left < 7.5
    assert 2 < second.time_left < 3.5


async def test_a_change_gets_a_request_id_of_its_own_and_the_callers_message_stays_as_it_was() -> None:
    async with scripted() as server, OrchestratorClient(server.target, "a-key") as client:
        for _ in range(2):
            await client.journeys.PauseJourney(PAUSE)
        await client.journeys.PauseJourney(messages.PauseJourneyRequest(journey_id="welcome", request_id="mine"))

    sent = [messages.PauseJourneyRequest.FromString(asked.request) for asked in server.asked]
    assert len({request.request_id for request in sent}) == 3
    assert all(request.journey_id == "welcome" and request.request_id for request in sent)
    assert sent[2].request_id == "mine"
    assert not PAUSE.request_id


async def test_a_call_is_tried_again_under_the_same_request_id_while_the_server_is_away() -> None:
    away = grpc.StatusCode.UNAVAILABLE
    async with scripted(away, away, away, messages.PauseJourneyResponse()) as server:
        async with OrchestratorClient(server.target, "a-key") as client:
            await client.journeys.PauseJourney(PAUSE)

    assert len(server.asked) == 4
    assert len({asked.request for asked in server.asked}) == 1


async def test_a_call_that_a_stopping_server_cancels_is_tried_again_under_the_same_request_id() -> None:
    stopping = grpc.StatusCode.CANCELLED
    async with scripted(stopping, messages.PauseJourneyResponse()) as server:
        async with OrchestratorClient(server.target, "a-key") as client:
            await client.journeys.PauseJourney(PAUSE)

    assert len(server.asked) == 2
    assert len({asked.request for asked in server.asked}) == 1


async def test_a_call_that_its_caller_cancels_is_not_tried_again() -> None:
    async with scripted(NEVER) as server, OrchestratorClient(server.target, "a-key") as client:
        calling = asyncio.ensure_future(client.journeys.PauseJourney(PAUSE))
        await eventually(lambda: len(server.asked) == 1)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    assert len(server.asked) == 1


async def test_no_other_failure_is_tried_again() -> None:
    async with scripted(grpc.StatusCode.ABORTED) as server, OrchestratorClient(server.target, "a-key") as client:
        with pytest.raises(OrchestratorError) as caught:
            await client.journeys.PauseJourney(PAUSE)

    assert caught.value.code is grpc.StatusCode.ABORTED
    assert len(server.asked) == 1


async def test_a_server_that_stays_away_is_looked_for_until_the_deadline() -> None:
    nobody = f"127.0.0.1:{_free_port()}"
    began = time.monotonic()
    async with OrchestratorClient(nobody, "a-key", timeout=4) as client:
        with pytest.raises(OrchestratorError) as caught:
            await client.journeys.PauseJourney(PAUSE)

    assert caught.value.reason == "UNAVAILABLE"
    assert 3 <= time.monotonic() - began <= 4.5, "not before the last try that fits, nor after the deadline"


async def test_a_server_that_comes_while_it_is_looked_for_is_found_within_a_second_or_so() -> None:
    port = _free_port()
    async with OrchestratorClient(f"127.0.0.1:{port}", "a-key", timeout=30) as client:
        waiting = client.journeys.PauseJourney(PAUSE)
        await asyncio.sleep(3)  # the time for which nobody is there
        async with scripted(port=port) as server:
            came_at = time.monotonic()
            await waiting
            took = time.monotonic() - came_at

    assert took < 3
    assert len(server.asked) == 1


async def test_what_the_server_says_about_when_to_come_back_is_obeyed() -> None:
    status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="later")
    status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=1)))
    async with scripted(status, messages.PauseJourneyResponse()) as server:
        async with OrchestratorClient(server.target, "a-key") as client:
            began = time.monotonic()
            await client.journeys.PauseJourney(PAUSE)
            took = time.monotonic() - began
        async with OrchestratorClient(server.target, "a-key", timeout=0.5) as hurried:
            server.asked.clear()
            with pytest.raises(OrchestratorError) as caught:
                await hurried.journeys.PauseJourney(PAUSE)

    assert took >= 1
    assert caught.value.retry_after == timedelta(seconds=1)
    assert len(server.asked) == 1


def _come_back(seconds: float = 0.001) -> Status:
    status = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="too many")
    status.details.add().Pack(ErrorInfo(reason="RATE_LIMITED", domain="orchestrator"))
    status.details.add().Pack(RetryInfo(retry_delay=Duration(nanos=int(seconds * 1e9))))
    return status


async def test_a_call_that_was_told_to_come_back_does_so_under_the_same_request_id() -> None:
    async with scripted(_come_back(), _come_back(), messages.PauseJourneyResponse()) as server:
        async with OrchestratorClient(server.target, "a-key") as client:
            await client.journeys.PauseJourney(PAUSE)

    assert len(server.asked) == 3
    assert len({asked.request for asked in server.asked}) == 1


async def test_a_limit_that_does_not_pass_by_itself_is_told_at_once() -> None:
    full = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="the plan's")
    async with scripted(full) as server, OrchestratorClient(server.target, "a-key") as client:
        with pytest.raises(OrchestratorError):
            await client.journeys.PauseJourney(PAUSE)

    assert len(server.asked) == 1


async def test_a_server_that_turns_everybody_away_is_not_asked_many_times_as_often() -> None:
    calls = 200
    async with scripted(_come_back()) as server, OrchestratorClient(server.target, "a-key") as client:
        outcomes = await asyncio.gather(
            *(client.journeys.PauseJourney(PAUSE) for _ in range(calls)), return_exceptions=True
        )

    assert {outcome.reason for outcome in outcomes if isinstance(outcome, OrchestratorError)} == {"RATE_LIMITED"}
    assert len(outcomes) == calls
    assert len(server.asked) <= 1.3 * calls


async def test_so_many_calls_are_under_way_at_once_and_the_others_wait_no_longer_than_they_may() -> None:
    async with scripted(NEVER) as server, OrchestratorClient(server.target, "a-key") as client:
        calls = [asyncio.ensure_future(client.journeys.PauseJourney(PAUSE)) for _ in range(100)]
        await eventually(lambda: len(server.asked) == 32)
        with pytest.raises(OrchestratorError) as caught:
            await client.journeys.PauseJourney(PAUSE, timeout=0.3)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert len(server.asked) == 32

        # Whoever went away has left his place.
        server.asked.clear()
        server.answers = (messages.PauseJourneyResponse(),)
        await asyncio.gather(*(client.journeys.PauseJourney(PAUSE) for _ in range(100)))

    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert len(server.asked) == 100


async def test_an_error_says_under_which_id_to_send_the_request_again() -> None:
    async with scripted(NEVER, messages.PauseJourneyResponse()) as server:
        async with OrchestratorClient(server.target, "a-key", timeout=0.5) as client:
            with pytest.raises(OrchestratorError) as caught:
                await client.journeys.PauseJourney(PAUSE)
            again = messages.PauseJourneyRequest(journey_id="welcome", request_id=caught.value.request_id)
            await client.journeys.PauseJourney(again)
    async with scripted(grpc.StatusCode.NOT_FOUND) as server, OrchestratorClient(server.target, "a-key") as client:
        with pytest.raises(OrchestratorError) as reading:
            await client.journeys.GetJourney(messages.GetJourneyRequest(journey_id="welcome"))

    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert caught.value.request_id
    assert reading.value.request_id == ""


async def test_who_wants_to_know_soon_whether_anybody_is_there_asks_for_a_connection() -> None:
    async with scripted() as server, OrchestratorClient(server.target, "a-key") as client:
        await client.reach(within=5)
    async with OrchestratorClient(f"127.0.0.1:{_free_port()}", "a-key") as client:
        with pytest.raises(OrchestratorError) as caught:
            await client.reach(within=0.2)

    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_a_large_batch_is_tried_again_as_well() -> None:
    events = [messages.Event(event_id=str(n), name="x" * 3000, subject_id="anna") for n in range(1000)]
    batch = messages.IngestEventsRequest(events=events)
    async with scripted(grpc.StatusCode.UNAVAILABLE, messages.IngestEventsResponse(accepted_count=1)) as server:
        async with OrchestratorClient(server.target, "a-key") as client:
            answer = await client.events.IngestEvents(batch)

    assert answer.accepted_count == 1
    assert [len(asked.request) for asked in server.asked] == [batch.ByteSize()] * 2


async def test_a_call_that_takes_too_long_ends_at_its_deadline() -> None:
    async with scripted(NEVER) as server, OrchestratorClient(server.target, "a-key", timeout=0.2) as client:
        with pytest.raises(OrchestratorError) as caught:
            await client.journeys.PauseJourney(PAUSE)

    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_an_error_says_all_that_the_server_said() -> None:
    status = Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="name: must be given")
    violation = BadRequest.FieldViolation(field="name", reason="REQUIRED", description="must be given")
    for detail in (
        ErrorInfo(reason="REQUIRED", domain="orchestrator", metadata={"field": "name"}),
        BadRequest(field_violations=[violation]),
        RetryInfo(retry_delay=Duration(seconds=2)),
    ):
        status.details.add().Pack(detail)

    async with scripted(status) as server, OrchestratorClient(server.target, "a-key") as client:
        with pytest.raises(OrchestratorError, match="REQUIRED: name: must be given") as caught:
            await client.journeys.PauseJourney(PAUSE)

    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUIRED")
    assert error.metadata == {"field": "name"}
    assert error.violations == (Violation("name", "REQUIRED", "must be given"),)
    assert error.retry_after == timedelta(seconds=2)


async def test_a_list_is_read_page_by_page_to_its_end() -> None:
    a, b, c = (messages.Journey(id=name) for name in "abc")
    pages = [
        messages.ListJourneysResponse(journeys=[a, b], next_page_token="2"),
        messages.ListJourneysResponse(next_page_token="3"),
        messages.ListJourneysResponse(journeys=[c]),
    ]
    request = messages.ListJourneysRequest(page_size=2)
    async with scripted(*pages) as server, OrchestratorClient(server.target, "a-key") as client:
        found = [journey.id async for journey in each(client.journeys.ListJourneys, request)]

    asked = [messages.ListJourneysRequest.FromString(asked.request) for asked in server.asked]
    assert found == ["a", "b", "c"]
    assert [(request.page_size, request.page_token) for request in asked] == [(2, ""), (2, "2"), (2, "3")]
    assert not request.page_token


async def test_pages_are_asked_for_as_they_are_wanted() -> None:
    page = messages.ListJourneysResponse(journeys=[messages.Journey(id="a")], next_page_token="more")
    async with scripted(page) as server, OrchestratorClient(server.target, "a-key") as client:
        async for _ in each(client.journeys.ListJourneys, messages.ListJourneysRequest()):
            break

    assert len(server.asked) == 1


async def test_a_server_with_a_certificate_is_reached_over_tls(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    async with scripted(credentials=credentials) as server:
        tls = Tls(ca=certificate, server_name="orchestrator.test")
        async with OrchestratorClient(server.target, "a-key", tls=tls) as client:
            await client.journeys.PauseJourney(PAUSE)
        async with OrchestratorClient(server.target, "a-key", tls=Tls(ca=certificate), timeout=5) as stranger:
            with pytest.raises(OrchestratorError) as caught:
                await stranger.journeys.PauseJourney(PAUSE)

    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(server.asked) == 1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port: int = nobody.getsockname()[1]
        return port


def _certificate(directory: Path) -> tuple[Path, Path]:
    """One that vouches for itself, for orchestrator.test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orchestrator.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("orchestrator.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "server.crt", directory / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
