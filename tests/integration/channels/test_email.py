"""The channel `email`, against an SMTP server in its own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.devstack.ports import free_ports
from orchestrator.domain.email_address import Mailbox
from tests.integration.api.certificates import Authority
from tests.integration.channels.mail_server import MailServer, mail_server
from tests.integration.channels.messages import MESSAGE
from workers.channels.channel import Accepted, ChannelUnavailable, Message, OnAmbiguity, Refused
from workers.channels.email import EmailChannel
from workers.channels.smtp import SmtpConnections, SmtpServer

LINK = "https://go.example.com/unsubscribe/" + "t" * 66
SENDER = Mailbox(name="Example", address="hello@example.com")


def mail_to(address: Any, **settings: Any) -> Message:
    return replace(MESSAGE, attributes={"email": address}, settings=settings, unsubscribe_url=LINK)


@asynccontextmanager
async def channel_to(url: str, *, plain: bool = True, ca: Path | None = None) -> AsyncIterator[EmailChannel]:
    channel = EmailChannel(SmtpConnections(SmtpServer.parse(url, plain=plain, ca=ca)), sender=SENDER)
    yield channel
    await channel.close()


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
async def channel(server: MailServer) -> AsyncIterator[EmailChannel]:
    async with channel_to(f"smtp://127.0.0.1:{server.port}") as channel:
        yield channel


async def arrived(server: MailServer) -> Any:
    """The message that came last, of those asked for so far and one more."""
    return (await server.taken(len(server._taken) + 1))[-1]


async def test_mail_has_both_forms_and_a_way_out(server: MailServer, channel: EmailChannel) -> None:
    answer = await channel.send(mail_to("ann@example.org", html="<p>Good to see you, Ännchen</p>"))

    taken = await arrived(server)
    mail = taken.mail
    assert answer == Accepted(provider_id=f"{MESSAGE.idempotency_key}@example.com")
    assert (taken.sender, taken.recipients) == ("hello@example.com", ["ann@example.org"])
    assert (mail["From"], mail["To"], mail["Subject"]) == (
        "Example <hello@example.com>",
        "ann@example.org",
        "Hello Ann",
    )
    assert mail["Message-ID"] == f"<{MESSAGE.idempotency_key}@example.com>"
    assert mail["List-Unsubscribe"] == f"<{LINK}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.get_content_type() == "multipart/alternative"
    forms = {part.get_content_type(): part.get_content().strip() for part in mail.iter_parts()}
    assert forms == {
        "text/plain": "Good to see you, Ännchen ☺",
        "text/html": "<p>Good to see you, Ännchen</p>",
    }
    assert taken.content.isascii()


async def test_without_html_mail_is_one_text(server: MailServer, channel: EmailChannel) -> None:
    await channel.send(replace(mail_to("ann@example.org"), body="One\n.\n..\nFour\r\n"))

    mail = (await arrived(server)).mail
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().splitlines() == ["One", ".", "..", "Four"]


async def test_senders_and_addresses_are_those_of_the_communication(server: MailServer, channel: EmailChannel) -> None:
    message = replace(
        mail_to(None, **{"from": "Shop <shop@straße.example>", "replyTo": "help@example.com", "to": "contact.work"}),
        attributes={"email": "private@example.org", "contact": {"work": "Ann@Bücher.example"}},
    )

    await channel.send(message)

    taken = await arrived(server)
    assert (taken.sender, taken.recipients) == ("shop@xn--strae-oqa.example", ["Ann@xn--bcher-kva.example"])
    assert (taken.mail["From"], taken.mail["Reply-To"]) == ("Shop <shop@xn--strae-oqa.example>", "help@example.com")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x85", "\u2028", "\0"])
async def test_no_value_makes_a_header(server: MailServer, channel: EmailChannel, end: str) -> None:
    await channel.send(replace(mail_to("ann@example.org"), subject=f"Hello {end}Bcc: eve@example.org{end}{end}Body"))

    taken = await arrived(server)
    assert taken.mail["Bcc"] is None
    assert taken.mail["Subject"] == "Hello Bcc: eve@example.org Body"
    assert taken.recipients == ["ann@example.org"]


async def test_a_subject_line_has_an_end(server: MailServer, channel: EmailChannel) -> None:
    await channel.send(replace(mail_to("ann@example.org"), subject="ü" * 8000))

    taken = await arrived(server)
    assert taken.mail["Subject"] == "ü" * 499 + "…"
    assert max(map(len, taken.content.splitlines())) <= 200


@pytest.mark.parametrize(
    "address",
    [
        "ann", "@example.org", "ann@", "ann@localhost", "a b@example.org", "ann@a.org\r\nRCPT TO:<eve@a.org>",
        "ann@example.org,eve@example.org", "Ann <ann@example.org>", '"ann"@example.org', "ann@[127.0.0.1]",
        "änn@example.org", "a" * 65 + "@example.org", "ann@a_b.org", "ann@-a.org", "ann@a.org.", 5, ["x@y.de"],
    ],
)  # fmt: skip
async def test_what_is_no_address_is_refused(channel: EmailChannel, address: Any) -> None:
    assert await channel.send(mail_to(address)) == Refused(reason="address_invalid")


@pytest.mark.parametrize("attributes", [{}, {"email": None}, {"email": ""}, {"contact": {"email": "a@example.org"}}])
async def test_who_has_no_address_cannot_be_reached(channel: EmailChannel, attributes: dict[str, Any]) -> None:
    message = replace(mail_to(None), attributes=attributes)

    assert await channel.send(message) == Refused(reason="address_missing")


@pytest.mark.parametrize(
    ("address", "reason"), [("unknown@example.org", "recipient_rejected"), ("spam@example.org", "message_rejected")]
)
async def test_a_final_no_is_an_outcome(channel: EmailChannel, address: str, reason: str) -> None:
    assert await channel.send(mail_to(address)) == Refused(reason=reason)


@pytest.mark.parametrize(
    ("address", "reason", "in_doubt"),
    [
        ("later@example.org", "recipient_deferred", False),
        ("full@example.org", "message_deferred", False),
        ("cut@example.org", "connection_lost", False),
        ("lost@example.org", "connection_lost", True),
    ],
)
async def test_what_may_be_tried_again_says_whether_it_may_have_arrived(
    server: MailServer, channel: EmailChannel, address: str, reason: str, in_doubt: bool
) -> None:
    with pytest.raises(ChannelUnavailable) as unavailable:
        await channel.send(mail_to(address))

    assert (unavailable.value.reason, unavailable.value.in_doubt) == (reason, in_doubt)
    if in_doubt:
        assert (await arrived(server)).recipients == [address]
    # The connection that failed is not used again.
    await channel.send(mail_to("ann@example.org"))
    assert (await arrived(server)).recipients == ["ann@example.org"]


async def test_a_repeat_has_the_id_of_the_first_try(server: MailServer, channel: EmailChannel) -> None:
    with pytest.raises(ChannelUnavailable):
        await channel.send(mail_to("lost@example.org"))
    first = await arrived(server)

    await channel.send(mail_to("ann@example.org"))

    assert (await arrived(server)).mail["Message-ID"] == first.mail["Message-ID"]
    assert (channel.key_life, channel.on_ambiguity) == (None, OnAmbiguity.AT_MOST_ONCE)


async def test_the_servers_name_for_a_message_is_kept(server: MailServer, channel: EmailChannel) -> None:
    assert await channel.send(mail_to("named@example.org")) == Accepted(provider_id="4Zx1Bc2dE3")
    await arrived(server)


async def test_connections_are_used_again_as_long_as_they_live(server: MailServer, channel: EmailChannel) -> None:
    await channel.send(mail_to("ann@example.org"))
    first = await arrived(server)
    assert await channel.send(mail_to("unknown@example.org")) == Refused(reason="recipient_rejected")
    await channel.send(mail_to("ann@example.org"))
    second = await arrived(server)

    await server.restart_connections()
    await channel.send(mail_to("ann@example.org"))

    assert first.peer == second.peer
    assert (await arrived(server)).peer != first.peer


async def test_advertising_without_a_way_out_waits(server: MailServer, channel: EmailChannel) -> None:
    advertising = replace(mail_to("ann@example.org"), unsubscribe_url=None)
    with pytest.raises(ChannelUnavailable, match="public_url_missing"):
        await channel.send(advertising)

    await channel.send(replace(mail_to("ann@example.org"), category="transactional"))

    assert (await arrived(server)).mail["List-Unsubscribe"] is None


async def test_one_click_needs_https(server: MailServer, channel: EmailChannel) -> None:
    await channel.send(replace(mail_to("ann@example.org"), unsubscribe_url=LINK.replace("https", "http")))

    mail = (await arrived(server)).mail
    assert mail["List-Unsubscribe"] == f"<{LINK.replace('https', 'http')}>"
    assert mail["List-Unsubscribe-Post"] is None


async def test_mail_waits_for_what_an_operator_has_to_set() -> None:
    nowhere = EmailChannel(None, sender=SENDER)
    with pytest.raises(ChannelUnavailable, match="smtp_server_missing"):
        await nowhere.send(mail_to("ann@example.org"))
    nobody = EmailChannel(SmtpConnections(SmtpServer.parse("smtp://127.0.0.1:1", plain=True)))
    with pytest.raises(ChannelUnavailable, match="sender_missing"):
        await nobody.send(mail_to("ann@example.org"))


async def test_a_server_that_is_away_has_taken_nothing() -> None:
    async with channel_to(f"smtp://127.0.0.1:{free_ports(1)[0]}") as channel:
        with pytest.raises(ChannelUnavailable) as unavailable:
            await channel.send(mail_to("ann@example.org"))

    assert (unavailable.value.reason, unavailable.value.in_doubt) == ("unreachable", False)
    assert unavailable.value.unreached


async def test_tls_is_required_and_judged(server: MailServer, tmp_path: Path) -> None:
    authority = Authority("an authority")
    certificate, key = authority.write(tmp_path, "mail")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    async with mail_server(certificate=certificate, key=key, login="us:se/cret%") as secured:
        url = f"smtp://us:se%2Fcret%25@127.0.0.1:{secured.port}"
        async with channel_to(url, plain=False, ca=ca) as channel:
            await channel.send(mail_to("ann@example.org"))
        assert (await secured.taken(1))[0].is_encrypted
        async with channel_to(url, plain=False) as channel:
            with pytest.raises(ChannelUnavailable, match="tls_failed"):
                await channel.send(mail_to("ann@example.org"))
        async with channel_to(url.replace("us:", "them:"), plain=False, ca=ca) as channel:
            with pytest.raises(ChannelUnavailable, match="authentication_failed"):
                await channel.send(mail_to("ann@example.org"))
        async with channel_to(f"smtp://127.0.0.1:{secured.port}", plain=False, ca=ca) as channel:
            with pytest.raises(ChannelUnavailable, match="authentication_required"):
                await channel.send(mail_to("ann@example.org"))
    # One that offers none gets nothing.
    async with channel_to(f"smtp://127.0.0.1:{server.port}", plain=False) as channel:
        with pytest.raises(ChannelUnavailable, match="tls_failed"):
            await channel.send(mail_to("ann@example.org"))


@pytest.mark.parametrize(
    ("url", "plain", "words"),
    [
        ("http://host", False, "smtp://user"), ("smtp://", False, "smtp://user"), ("smtp://host:x", False, "no URL"),
        ("smtp://host/path", False, "may follow"), ("smtp://user@host", False, "go together"),
        ("smtp://user:pass-word@host", True, "without TLS"),
    ],
)  # fmt: skip
def test_a_server_is_named_by_its_url(url: str, plain: bool, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        SmtpServer.parse(url, plain=plain)
    assert "pass-word" not in str(refusal.value)
