"""Webhooks go where they may, and to nobody else: server-side request forgery, tried."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.hostile import hostile
from tests.integration.channels.conftest import HERE, SECRET
from tests.integration.channels.messages import to
from tests.integration.channels.receiver import answering, receiving
from workers.channels.channel import Accepted, ChannelUnavailable, Refused
from workers.channels.egress import Egress, is_public
from workers.channels.signature import SigningSecrets
from workers.channels.webhook import WebhookChannel

#: As an instance has them that nobody configured, but for plain http, so that the address has to be what stops these.
PUBLIC_ONLY = Egress(plain_http=True, ports=frozenset({80, 443, 8443}))

FORBIDDEN = hostile("forbidden_urls")


async def answers(host: str) -> Sequence[str]:
    """A resolver with the names of these tests."""
    known = {
        "localhost": ["127.0.0.1", "::1"],
        "localhost.": ["127.0.0.1"],
        "here.example": ["127.0.0.1"],
        "half.example": ["93.184.215.14", "10.0.0.1"],
        "half6.example": ["93.184.215.14", "fe80::1"],
        "metadata": ["169.254.169.254"],
    }
    if host not in known:
        raise AssertionError(f"looked up {host}, which ought to have been refused")
    return known[host]


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_a_forbidden_url_is_refused_unsent(url: str) -> None:
    channel = WebhookChannel(SigningSecrets.parse([SECRET]), PUBLIC_ONLY, resolver=answers)

    answer = await channel.send(to(url))

    await channel.close()
    assert isinstance(answer, Refused)
    assert answer.reason in ("url_forbidden", "address_forbidden")


def test_there_are_enough_of_them() -> None:
    assert len(set(FORBIDDEN)) >= 60
    assert len(set(GOOD)) >= 10


async def test_plain_http_is_refused_unless_it_is_allowed() -> None:
    channel = WebhookChannel(SigningSecrets.parse([SECRET]), Egress())

    assert await channel.send(to("http://example.com/")) == Refused(reason="url_forbidden")
    await channel.close()


GOOD = hostile("good_urls")


@pytest.mark.parametrize("url", GOOD)
def test_a_public_url_is_allowed(url: str) -> None:
    Egress().check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        "93.184.215.14",
        "1.1.1.1",
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700:4700::1111",
        "2a00:1450:4001:82b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))
    assert Egress().check([address], 443) == [address]


def test_a_trusted_network_is_open_on_every_port_and_no_other_is() -> None:
    egress = Egress(trusted=(ip_network("10.1.0.0/16"), ip_network("fd00::/64")))

    assert egress.check(["10.1.2.3", "fd00::5", "::ffff:10.1.2.3"], 9999) == ["10.1.2.3", "fd00::5", "::ffff:10.1.2.3"]
    for address in ("10.2.0.1", "127.0.0.1", "fd01::1", "169.254.169.254"):
        with pytest.raises(Exception, match="address_forbidden"):
            egress.check([address], 443)


class Rebinding:
    """A name server that answers otherwise each time."""

    def __init__(self, *turns: Sequence[str]) -> None:
        self._turns: Iterator[Sequence[str]] = iter(turns)
        self.asked = 0

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked += 1
        return next(self._turns)


async def test_the_address_that_was_judged_is_the_one_that_is_contacted() -> None:
    resolver = Rebinding(["127.0.0.1"], ["169.254.169.254"])
    channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE, resolver=resolver)
    async with receiving() as receiver:
        url = f"http://rebind.example:{receiver.port}/"

        assert isinstance(await channel.send(to(url)), Accepted)
        assert resolver.asked == 1
        assert receiver.requests[0].headers["host"] == f"rebind.example:{receiver.port}"
        await channel.close()

        channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE, resolver=resolver)
        assert await channel.send(to(url)) == Refused(reason="address_forbidden")
        assert (resolver.asked, len(receiver.requests)) == (2, 1)
        await channel.close()


async def test_a_name_that_was_refused_is_asked_for_again() -> None:
    resolver = Rebinding(["10.0.0.1"], ["127.0.0.1"])
    channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE, resolver=resolver)
    async with receiving() as receiver:
        url = f"http://moved.example:{receiver.port}/"

        assert await channel.send(to(url)) == Refused(reason="address_forbidden")
        assert isinstance(await channel.send(to(url)), Accepted)
    await channel.close()


async def test_an_address_that_does_not_answer_leaves_the_others() -> None:
    async with receiving(host="127.0.0.2") as receiver:
        resolver = Rebinding(["127.0.0.1", "127.0.0.2"])
        channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE, resolver=resolver)

        assert isinstance(await channel.send(to(f"http://two.example:{receiver.port}/")), Accepted)
        await channel.close()


async def test_a_redirect_is_not_followed(webhook: WebhookChannel) -> None:
    async with receiving() as inside:
        async with receiving(answering(307, location=f"http://127.0.0.1:{inside.port}/")) as receiver:
            assert await webhook.send(to(f"http://127.0.0.1:{receiver.port}/")) == Refused(reason="redirected")

    assert inside.requests == []


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's TLS for `good.example`, signed by an authority that this process trusts."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)

    def issued(
        subject: x509.Name, public_key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(extension, critical=True)
            .sign(authority_key, hashes.SHA256())
        )

    root = issued(authority, authority_key.public_key(), x509.BasicConstraints(ca=True, path_length=0))
    names = x509.SubjectAlternativeName([x509.DNSName("good.example")])
    leaf = issued(x509.Name([]), key.public_key(), names)
    (tmp_path / "root.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(
        leaf.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")
    return context


async def test_tls_is_spoken_with_the_name_at_the_address_that_was_judged(certificate: ssl.SSLContext) -> None:
    async with receiving(tls=certificate) as receiver:
        channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE, resolver=Rebinding(["127.0.0.1"]))

        assert isinstance(await channel.send(to(f"https://good.example:{receiver.port}/")), Accepted)
        await channel.close()

    assert receiver.names == ["good.example"]
    assert receiver.requests[0].headers["host"] == f"good.example:{receiver.port}"


async def test_a_certificate_of_another_name_is_not_accepted(certificate: ssl.SSLContext) -> None:
    async with receiving(tls=certificate) as receiver:
        resolver = Rebinding(["127.0.0.1"], ["127.0.0.1"])
        channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE, resolver=resolver)
        await channel.send(to(f"https://good.example:{receiver.port}/"))

        with pytest.raises(ChannelUnavailable) as unavailable:
            await channel.send(to(f"https://evil.example:{receiver.port}/"))
        await channel.close()

    assert (unavailable.value.reason, unavailable.value.in_doubt) == ("unreachable", False)
    assert len(receiver.requests) == 1
