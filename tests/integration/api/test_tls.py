"""TLS on both ports, certificates of clients, and certificates that are replaced while the server runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509

from orchestrator.server import CannotServe, running
from orchestrator.v1 import audience_service_pb2 as audiences
from tests.integration.api.callers import GrpcCaller, Refused
from tests.integration.api.certificates import Authority, common_name
from tests.integration.api.conftest import OWNER_KEY, settings_of

OURS = Authority("ours")
THEIRS = Authority("theirs")
KEY = {"X-Api-Key": OWNER_KEY}


#: Who may call in the tests that say so, and certificates of the same authority that have no such name.
ALLOWED = ("orders.example.com", "spiffe://example.com/crm")
DNS, URI = x509.DNSName, x509.UniformResourceIdentifier
MEANT: dict[str, list[x509.GeneralName]] = {
    "dns": [DNS("orders.example.com")],
    "dns_in_capitals": [DNS("Orders.Example.com")],
    "uri": [URI("spiffe://example.com/crm")],
    "one_of_several": [DNS("other.example.com"), URI("spiffe://example.com/x"), DNS("orders.example.com")],
}
OTHERS: dict[str, list[x509.GeneralName]] = {
    "none": [],
    "another": [DNS("invoices.example.com")],
    "a_part": [DNS("example.com")],
    "below": [DNS("a.orders.example.com")],
    "a_wildcard": [DNS("*.example.com")],
    "another_uri": [URI("spiffe://example.com/crm/2")],
    "uri_in_capitals": [URI("spiffe://example.com/CRM")],
    "a_uri_as_dns": [DNS("spiffe://example.com/crm")],
    "a_name_as_uri": [URI("orders.example.com")],
    "mail": [x509.RFC822Name("orders.example.com@example.com")],
}


async def list_audiences(port: int, credentials: grpc.ChannelCredentials | None) -> None:
    """One call on a new connection."""
    address = f"127.0.0.1:{port}"
    # Without the option, channels with equal arguments share their connections.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.secure_channel(address, credentials, options=options)
        if credentials is not None
        else grpc.aio.insecure_channel(address, options=options)
    )
    async with channel:
        await GrpcCaller(channel, OWNER_KEY).call(audiences.ListAudiencesRequest(), timeout=5)


def client_context(certificate: tuple[bytes, bytes] | None, directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=OURS.certificate.decode())
    if certificate is not None:
        files = directory / "client.pem", directory / "client.key"
        for file, content in zip(files, certificate, strict=True):
            file.write_bytes(content)
        context.load_cert_chain(*files)
    return context


async def certificate_at(port: int) -> str:
    """Whom the certificate names that a new connection to this port is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return common_name(shown)


async def test_both_ports_speak_tls_and_nothing_else(database: str, tmp_path: Path) -> None:
    certificate, key = OURS.write(tmp_path, "server")
    async with running(settings_of(database, tls_certificate=certificate, tls_key=key)) as listening:
        await list_audiences(listening.grpc_port, grpc.ssl_channel_credentials(OURS.certificate))
        async with httpx.AsyncClient(verify=client_context(None, tmp_path)) as client:
            answer = await client.get(f"https://127.0.0.1:{listening.http_port}/v1/audiences", headers=KEY)
            assert answer.json() == {"audiences": []}

            for credentials in (grpc.ssl_channel_credentials(THEIRS.certificate), None):
                with pytest.raises(Exception, match="UNAVAILABLE"):
                    await list_audiences(listening.grpc_port, credentials)
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{listening.http_port}/healthz")


async def test_clients_do_not_talk_to_a_server_whose_certificate_is_for_another_place(
    database: str, tmp_path: Path
) -> None:
    certificate, key = OURS.write(tmp_path, "server", place="192.0.2.7")
    async with running(settings_of(database, tls_certificate=certificate, tls_key=key)) as listening:
        with pytest.raises(Exception, match="UNAVAILABLE"):
            await list_audiences(listening.grpc_port, grpc.ssl_channel_credentials(OURS.certificate))
        async with httpx.AsyncClient(verify=client_context(None, tmp_path)) as client:
            with pytest.raises(httpx.TransportError, match="IP address mismatch"):
                await client.get(f"https://127.0.0.1:{listening.http_port}/healthz")


async def test_with_an_authority_for_clients_nobody_else_gets_in(database: str, tmp_path: Path) -> None:
    certificate, key = OURS.write(tmp_path, "server")
    authority = tmp_path / "clients.pem"
    authority.write_bytes(OURS.certificate)
    tls = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority}
    async with running(settings_of(database, **tls)) as listening:
        url = f"https://127.0.0.1:{listening.http_port}/v1/audiences"
        good = OURS.issue("client")
        bad = {"none": None, "theirs": THEIRS.issue("client"), "expired": OURS.issue("client", expired=True)}

        await list_audiences(
            listening.grpc_port,
            grpc.ssl_channel_credentials(OURS.certificate, private_key=good[1], certificate_chain=good[0]),
        )
        async with httpx.AsyncClient(verify=client_context(good, tmp_path)) as client:
            assert (await client.get(url, headers=KEY)).status_code == 200

        for pair in bad.values():
            chain, private = pair or (None, None)
            credentials = grpc.ssl_channel_credentials(OURS.certificate, private_key=private, certificate_chain=chain)
            with pytest.raises(Exception, match="UNAVAILABLE"):
                await list_audiences(listening.grpc_port, credentials)
            async with httpx.AsyncClient(verify=client_context(pair, tmp_path)) as client:
                with pytest.raises(httpx.TransportError):
                    await client.get(url, headers=KEY)


async def test_of_the_clients_of_an_authority_only_those_that_are_named_may_call(database: str, tmp_path: Path) -> None:
    """`orders.example.com` as the common name of all of them says nothing."""
    certificate, key = OURS.write(tmp_path, "server")
    authority = tmp_path / "clients.pem"
    authority.write_bytes(OURS.certificate)
    tls = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority, "tls_client_names": ALLOWED}
    async with running(settings_of(database, **tls)) as listening:
        address = f"https://127.0.0.1:{listening.http_port}"

        async def answers(pair: tuple[bytes, bytes]) -> tuple[str, str, int, str]:
            """What gRPC tells, and HTTP."""
            chain, private = pair
            told = ("OK", "")
            try:
                await list_audiences(
                    listening.grpc_port,
                    grpc.ssl_channel_credentials(OURS.certificate, private_key=private, certificate_chain=chain),
                )
            except Refused as refused:
                told = refused.code, refused.reason
            async with httpx.AsyncClient(base_url=address, verify=client_context(pair, tmp_path)) as client:
                answer = await client.get("/v1/audiences", headers=KEY)
                documented = await client.get("/admin/projects/default/segments", headers=KEY)
                ready = await client.get("/readyz")
            assert documented.status_code == answer.status_code
            assert ready.status_code == 200  # health is not a call
            reason = "" if answer.is_success else answer.json()["error"]["details"][0]["reason"]
            return *told, answer.status_code, reason

        for name, names in MEANT.items():
            assert await answers(OURS.issue("anybody", names=names)) == ("OK", "", 200, ""), name
        refused = ("PERMISSION_DENIED", "CLIENT_NOT_ALLOWED", 403, "CLIENT_NOT_ALLOWED")
        for name, names in OTHERS.items():
            assert await answers(OURS.issue("orders.example.com", names=names)) == refused, name

        # Others are refused where they were before.
        for pair in (THEIRS.issue("x", names=MEANT["dns"]), OURS.issue("x", names=MEANT["dns"], expired=True)):
            with pytest.raises(Refused, match="UNAVAILABLE"):
                await list_audiences(
                    listening.grpc_port,
                    grpc.ssl_channel_credentials(OURS.certificate, private_key=pair[1], certificate_chain=pair[0]),
                )
            async with httpx.AsyncClient(base_url=address, verify=client_context(pair, tmp_path)) as client:
                with pytest.raises(httpx.TransportError):
                    await client.get("/v1/audiences", headers=KEY)


async def test_who_is_not_named_learns_nothing_of_keys(database: str, tmp_path: Path) -> None:
    certificate, key = OURS.write(tmp_path, "server")
    authority = tmp_path / "clients.pem"
    authority.write_bytes(OURS.certificate)
    tls = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority, "tls_client_names": ALLOWED}
    async with running(settings_of(database, **tls)) as listening:
        context = client_context(OURS.issue("x", names=OTHERS["another"]), tmp_path)
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{listening.http_port}", verify=context) as client:
            told = [
                (await client.get("/v1/audiences", headers=headers)).json()["error"]
                for headers in (KEY, {"X-Api-Key": "wrong"}, {})
            ]

    assert told[0] == told[1] == told[2]
    assert "invoices.example.com" in told[0]["message"]


async def test_a_renewed_certificate_is_shown_to_the_next_connection(database: str, tmp_path: Path) -> None:
    certificate, key = OURS.write(tmp_path, "first")
    async with running(settings_of(database, tls_certificate=certificate, tls_key=key)) as listening:
        ports = listening.grpc_port, listening.http_port
        assert [await certificate_at(port) for port in ports] == ["first", "first"]

        OURS.write(tmp_path, "second")
        assert [await certificate_at(port) for port in ports] == ["second", "second"]

        # Files that make no sense change nothing.
        certificate.write_bytes(b"half of a certifi")
        assert [await certificate_at(port) for port in ports] == ["second", "second"]

        OURS.write(tmp_path, "third")
        assert [await certificate_at(port) for port in ports] == ["third", "third"]
        await list_audiences(listening.grpc_port, grpc.ssl_channel_credentials(OURS.certificate))


async def test_a_renewed_authority_for_clients_counts_from_the_next_connection(database: str, tmp_path: Path) -> None:
    certificate, key = OURS.write(tmp_path, "server")
    authority = tmp_path / "clients.pem"
    authority.write_bytes(OURS.certificate)
    tls = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority}
    async with running(settings_of(database, **tls)) as listening:
        authority.write_bytes(THEIRS.certificate)
        chain, private = THEIRS.issue("client")

        await list_audiences(
            listening.grpc_port,
            grpc.ssl_channel_credentials(OURS.certificate, private_key=private, certificate_chain=chain),
        )
        async with httpx.AsyncClient(verify=client_context((chain, private), tmp_path)) as client:
            answer = await client.get(f"https://127.0.0.1:{listening.http_port}/v1/audiences", headers=KEY)
            assert answer.status_code == 200


async def test_files_that_cannot_be_read_are_one_sentence(database: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"

    with pytest.raises(CannotServe, match=r"missing.pem cannot be read"):
        async with running(settings_of(database, tls_certificate=missing, tls_key=missing)):
            pytest.fail("it started")


async def test_a_key_that_fits_no_certificate_is_one_sentence(database: str, tmp_path: Path) -> None:
    certificate, key = OURS.write(tmp_path, "server")
    key.write_bytes(OURS.issue("other")[1])

    with pytest.raises(CannotServe, match="TLS"):
        async with running(settings_of(database, tls_certificate=certificate, tls_key=key)):
            pytest.fail("it started")
