"""What others could read on the way, reach, or are told unasked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from urllib.parse import urlsplit

from orchestrator.exposure.kinds import Exposure
from orchestrator.exposure.listeners import Listener
from orchestrator.settings import Settings, is_loopback

#: This machine and its link: what answers there takes whoever asks for one of its own, clouds' metadata among it.
_INWARD = tuple(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")))


def of_server(settings: Settings, named: str, abroad: Iterable[Listener]) -> Iterator[Exposure]:
    if settings.tls_certificate is None:
        yield Exposure(
            "plaintext",
            f"Without TLS, keys and personal data can be read on the way to {named}.",
            "Set ORCHESTRATOR_TLS_CERTIFICATE and ORCHESTRATOR_TLS_KEY, or listen on 127.0.0.1 behind a proxy that "
            "encrypts.",
        )
    if settings.metrics_token is None and any(listener.variable == "ORCHESTRATOR_HTTP_HOST" for listener in abroad):
        yield Exposure(
            "metrics",
            "Whoever reaches ORCHESTRATOR_HTTP_HOST reads /metrics.",
            "Set ORCHESTRATOR_METRICS_TOKEN, and let your monitoring come with it.",
        )
    if settings.reflection:
        yield Exposure(
            "reflection",
            "ORCHESTRATOR_REFLECTION tells everybody what the server serves, without a key.",
            "Unset it.",
        )
    if settings.public_url is not None and _is_plain(settings.public_url):
        yield Exposure(
            "plain_links",
            "ORCHESTRATOR_PUBLIC_URL is http, so the links by which people unsubscribe can be read on the way.",
            "Let it be https.",
        )
    if plain := [origin for origin in settings.allowed_origins if _is_plain(origin)]:
        yield Exposure(
            "plain_origins",
            f"ORCHESTRATOR_ALLOWED_ORIGINS has {plain[0]}: who changes that page on the way uses its session.",
            "Let it be https.",
        )


def of_worker(named: str) -> Iterator[Exposure]:
    yield Exposure(
        "metrics",
        f"Whoever reaches {named} reads the worker's metrics.",
        "Let it be an address that your monitoring alone reaches.",
    )


def of_codec_server(settings: Settings, named: str) -> Iterator[Exposure]:
    if settings.tls_certificate is None:
        yield Exposure(
            "plaintext",
            f"Without TLS, tokens and what is decoded can be read on the way to {named}.",
            "Set ORCHESTRATOR_TLS_CERTIFICATE and ORCHESTRATOR_TLS_KEY, or listen on 127.0.0.1 behind a proxy that "
            "encrypts.",
        )
    if settings.codec_origin is not None and _is_plain(settings.codec_origin):
        yield Exposure(
            "plain_origins",
            f"ORCHESTRATOR_CODEC_ORIGIN is {settings.codec_origin}: who changes that page on the way sees what it is "
            "told.",
            "Let it be https.",
        )


def plain_mail(settings: Settings) -> Iterator[Exposure]:
    """Mail leaves this machine whether or not anybody listens on it."""
    if not settings.smtp_plain or settings.smtp_url is None:
        return
    host = urlsplit(settings.smtp_url.get_secret_value()).hostname or ""
    if not is_loopback(host):
        yield Exposure(
            "plain_mail",
            f"ORCHESTRATOR_SMTP_PLAIN lets mail go to {host} in the clear.",
            "Unset it, and let ORCHESTRATOR_SMTP_URL be smtps, or a server with STARTTLS.",
        )


def webhooks(settings: Settings) -> Iterator[Exposure]:
    if settings.webhook_plain_http:
        yield Exposure(
            "plain_webhooks",
            "ORCHESTRATOR_WEBHOOK_PLAIN_HTTP lets webhooks carry personal data in the clear.",
            "Unset it, and let receivers be https.",
        )
    for text in settings.webhook_networks:
        network = ip_network(text)
        inward = (inner for inner in _INWARD if inner.version == network.version)
        if any(network.overlaps(inner) for inner in inward):
            yield Exposure(
                "private_webhooks",
                f"ORCHESTRATOR_WEBHOOK_NETWORKS has {text}: who writes journeys reaches what listens on this machine "
                "alone, and a cloud's metadata.",
                "Name the networks of your receivers, and no wider ones.",
            )


def _is_plain(url: str) -> bool:
    """Whether pages there come over a network, and in the clear."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
