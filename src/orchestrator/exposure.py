"""What a process would leave open to other machines, found in its settings before it listens.

What is safe while only this machine reaches a process is often not when others do. A process that listens for them does
not start with such settings: it names all of them, each with what mends it. Those that something else takes care of (a
proxy that encrypts, a network that nobody else is in) are accepted by name, and told in the log at every start.
"""

from __future__ import annotations

import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import parse_qs, unquote, urlsplit

from orchestrator.settings import (
    INSTANCE_SECRET,
    PLAIN_PAYLOADS,
    STRONG_KEY,
    AcceptableExposure,
    InvalidSettings,
    Settings,
    is_loopback,
)

if typing.TYPE_CHECKING:
    from pydantic import SecretStr

SERVER = "server"
WORKER = "worker"
CODEC = "codec server"

#: Where a setting is called so, it belongs to that process; all others belong to the server.
_PREFIXES = {"worker_": WORKER, "codec_": CODEC}
_HOST = "_host"

#: Different characters that a secret needs, lest it be `aaaaaaaaaaaaaaaa` or `1212121212121212`.
_VARIED = 6
#: Lists of `name:secret`.
_NAMED = frozenset({"ORCHESTRATOR_PAYLOAD_KEYS", "ORCHESTRATOR_CODEC_TOKENS"})
_WELL_KNOWN = frozenset({"", "admin", "changeme", "orchestrator", "password", "postgres", "root", "secret", "temporal"})
#: This machine and its link: what answers there takes whoever asks for one of its own, clouds' metadata among it.
_INWARD = tuple(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")))

GUESSABLE_SECRET = "guessable_secret"
SHARED_SECRET = "shared_secret"
ACCEPTABLE: tuple[str, ...] = typing.get_args(AcceptableExposure)
#: A better secret costs nothing, so nobody may go without.
KINDS = (GUESSABLE_SECRET, SHARED_SECRET, *ACCEPTABLE)


class Exposed(InvalidSettings):
    """The process would be open to other machines. The message names each way, and what mends it, a line each."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One way in which a process is open. `kind` is one of KINDS; `said` and `remedy` are sentences for an operator."""

    kind: str
    said: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that a process opens, by the setting that says where."""

    variable: str
    host: str

    @property
    def abroad(self) -> bool:
        """Whether other machines reach it."""
        return not is_loopback(self.host)

    def __str__(self) -> str:
        return f"{self.variable}={self.host}"


def check(settings: Settings, process: str, *, environment: Mapping[str, str]) -> tuple[Exposure, ...]:
    """What is open and was accepted, for the log. `environment` is what libpq's variables are read from.

    Raises Exposed for what was not accepted, and InvalidSettings for a host without its port.
    """
    return _accepted(settings, process, tuple(_found(settings, process, environment)))


def check_database_user(settings: Settings, process: str, *, is_superuser: bool) -> tuple[Exposure, ...]:
    """As `check`, of what only the database knows: whether its user is a superuser, or passes by row-level security."""
    if not is_superuser or not any(listener.abroad for listener in listeners(settings, process)):
        return ()
    exposure = Exposure(
        "superuser",
        "The user of DATABASE_URL is a superuser, whom row-level security does not hold back.",
        "Make a user of its own: CREATE ROLE orchestrator LOGIN CREATEROLE, and let it own the database.",
    )
    return _accepted(settings, process, (exposure,))


def listeners(settings: Settings, process: str) -> tuple[Listener, ...]:
    """The ports that a process of these settings opens. Raises InvalidSettings for a host without its port."""
    found = []
    for field in type(settings).model_fields:
        owner = next((owner for prefix, owner in _PREFIXES.items() if field.startswith(prefix)), SERVER)
        if owner != process or not field.endswith(_HOST):
            continue
        variable, ports = f"ORCHESTRATOR_{field.upper()}", ports_of(field)
        if any(getattr(settings, port) is not None for port in ports):
            found.append(Listener(variable, getattr(settings, field)))
        elif field in settings.model_fields_set:
            named = " and ".join(f"ORCHESTRATOR_{port.upper()}" for port in ports)
            raise InvalidSettings(f"{variable} is set and {named} is not: set both, or neither.")
    return tuple(found)


def ports_of(host: str) -> list[str]:
    """The settings of the ports that are opened at a setting `…_host`, which begin as it does."""
    name = host.removesuffix(_HOST)
    return [field for field in Settings.model_fields if field.startswith(f"{name}_") and field.endswith("_port")]


def _accepted(settings: Settings, process: str, found: tuple[Exposure, ...]) -> tuple[Exposure, ...]:
    accepted = tuple(exposure for exposure in found if exposure.kind in settings.accepted_exposures)
    refused = [exposure for exposure in found if exposure not in accepted]
    if refused:
        raise Exposed(_refusal(process, refused))
    return accepted


def _refusal(process: str, refused: list[Exposure]) -> str:
    """What is open stands last: whoever started the process for somebody shows its last line."""
    kinds = sorted({exposure.kind for exposure in refused} & set(ACCEPTABLE))
    accepting = (
        f" What something else takes care of may be accepted: ORCHESTRATOR_ACCEPTED_EXPOSURES={','.join(kinds)}"
        if kinds
        else ""
    )
    return "\n".join(
        [
            f"The {process} does not start, since other machines could make use of what follows.{accepting}",
            *(f"- {exposure.kind}: {exposure.said} {exposure.remedy}" for exposure in refused),
        ]
    )


def _found(settings: Settings, process: str, environment: Mapping[str, str]) -> Iterator[Exposure]:
    abroad = [listener for listener in listeners(settings, process) if listener.abroad]
    if process != CODEC:
        yield from _plain_mail(settings)
    if not abroad:
        return
    named = " and ".join(map(str, abroad))
    if process == CODEC:
        yield from _codec(settings, named)
        yield from _shared_secrets(settings, environment)
        return
    if process == SERVER:
        yield from _keys(settings, named)
        yield from _server(settings, named, abroad)
    else:
        yield Exposure(
            "metrics",
            f"Whoever reaches {named} reads the worker's metrics.",
            "Let it be an address that your monitoring alone reaches.",
        )
    yield from _database_password(settings, environment)
    yield from _shared_secrets(settings, environment)
    yield from _webhooks(settings)


def _keys(settings: Settings, named: str) -> Iterator[Exposure]:
    for variable in settings.short_keys:
        yield Exposure(
            GUESSABLE_SECRET,
            f"{variable} must have at least {STRONG_KEY} characters where the server listens for other machines, "
            f"as {named} says.",
            f"Choose one at random: openssl rand -hex {STRONG_KEY}.",
        )
    for variable, text in _secrets(settings):
        if variable not in settings.short_keys and len(set(text)) < _VARIED:
            yield Exposure(
                GUESSABLE_SECRET,
                f"{variable} has fewer than {_VARIED} different characters and can be guessed.",
                f"Choose one at random: openssl rand -hex {STRONG_KEY}.",
            )


def _server(settings: Settings, named: str, abroad: list[Listener]) -> Iterator[Exposure]:
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


def _codec(settings: Settings, named: str) -> Iterator[Exposure]:
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
    for token in settings.codec_tokens:
        name, _, text = token.get_secret_value().partition(":")
        if len(set(text)) < _VARIED:
            yield Exposure(
                GUESSABLE_SECRET,
                f"The token of {name} in ORCHESTRATOR_CODEC_TOKENS has fewer than {_VARIED} different characters and "
                "can be guessed.",
                f"Choose one at random: openssl rand -hex {STRONG_KEY}.",
            )


def _plain_mail(settings: Settings) -> Iterator[Exposure]:
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


def _webhooks(settings: Settings) -> Iterator[Exposure]:
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


def _database_password(settings: Settings, environment: Mapping[str, str]) -> Iterator[Exposure]:
    """Of a database that is reached over a network, as far as the password is given here and not in a file."""
    parts = urlsplit(settings.database_url or "")
    query = parse_qs(parts.query)
    host = (query.get("host") or [parts.hostname or environment.get("PGHOST", "")])[0]
    if not host or host.startswith("/") or is_loopback(host):
        return
    given, variable = parts.password, "DATABASE_URL"
    if given is None and "PGPASSWORD" in environment:
        given, variable = environment["PGPASSWORD"], "PGPASSWORD"
    if given is None:
        return
    password, user = unquote(given), unquote(parts.username or environment.get("PGUSER", ""))
    if password.lower() in _WELL_KNOWN or password == user:
        yield Exposure(
            GUESSABLE_SECRET,
            f"{variable} has a password that is tried first by whoever tries one.",
            "Choose one at random: openssl rand -hex 16.",
        )


def _shared_secrets(settings: Settings, environment: Mapping[str, str]) -> Iterator[Exposure]:
    variables: dict[str, list[str]] = defaultdict(list)
    for variable, text in _secrets(settings):
        variables[text].append(variable)
    for password in (unquote(urlsplit(settings.database_url or "").password or ""), environment.get("PGPASSWORD")):
        if password:
            variables[password].append("the database's password")
    for names in variables.values():
        distinct = list(dict.fromkeys(names))
        if len(distinct) > 1:
            yield Exposure(
                SHARED_SECRET,
                f"{' and '.join(distinct)} are the same: who learns the one has the other.",
                "Give each its own.",
            )


def _secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every secret that was chosen by somebody, by its variable; of a list, each."""
    named: tuple[tuple[str, SecretStr | None], ...] = (
        ("ORCHESTRATOR_API_KEY", settings.api_key),
        ("ORCHESTRATOR_OPERATOR_KEY", settings.operator_key),
        ("ORCHESTRATOR_INTERNAL_TOKEN", settings.internal_token),
        ("ORCHESTRATOR_INTERNAL_TOKEN_PREVIOUS", settings.internal_token_previous),
        ("ORCHESTRATOR_METRICS_TOKEN", settings.metrics_token),
        *(("ORCHESTRATOR_WEBHOOK_SECRETS", secret) for secret in settings.webhook_secrets),
        *(("ORCHESTRATOR_UNSUBSCRIBE_SECRETS", secret) for secret in settings.unsubscribe_secrets),
        *(("ORCHESTRATOR_PAYLOAD_KEYS", key) for key in settings.payload_keys),
        *(("ORCHESTRATOR_CODEC_TOKENS", token) for token in settings.codec_tokens),
    )
    for variable, secret in named:
        if secret is not None and (text := secret.get_secret_value()) not in (INSTANCE_SECRET, PLAIN_PAYLOADS):
            yield variable, text.partition(":")[2] if variable in _NAMED else text


def _is_plain(url: str) -> bool:
    """Whether pages there come over a network, and in the clear."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
