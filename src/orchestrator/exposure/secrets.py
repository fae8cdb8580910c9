"""Secrets that can be guessed, or that open more than one door."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from orchestrator.exposure.kinds import GUESSABLE_SECRET, SHARED_SECRET, Exposure
from orchestrator.settings import INSTANCE_SECRET, PLAIN_PAYLOADS, STRONG_KEY, Settings, is_loopback

if TYPE_CHECKING:
    from pydantic import SecretStr

#: Different characters that a secret needs, lest it be `aaaaaaaaaaaaaaaa` or `1212121212121212`.
_VARIED = 6
#: Lists of `name:secret`.
_NAMED = frozenset({"ORCHESTRATOR_PAYLOAD_KEYS", "ORCHESTRATOR_CODEC_TOKENS"})
_WELL_KNOWN = frozenset({"", "admin", "changeme", "orchestrator", "password", "postgres", "root", "secret", "temporal"})


def guessable_keys(settings: Settings, named: str) -> Iterator[Exposure]:
    for variable in settings.short_keys:
        yield Exposure(
            GUESSABLE_SECRET,
            f"{variable} must have at least {STRONG_KEY} characters where the server listens for other machines, "
            f"as {named} says.",
            f"Choose one at random: openssl rand -hex {STRONG_KEY}.",
        )
    for variable, text in chosen_secrets(settings):
        if variable not in settings.short_keys and len(set(text)) < _VARIED:
            yield Exposure(
                GUESSABLE_SECRET,
                f"{variable} has fewer than {_VARIED} different characters and can be guessed.",
                f"Choose one at random: openssl rand -hex {STRONG_KEY}.",
            )


def guessable_codec_tokens(settings: Settings) -> Iterator[Exposure]:
    for token in settings.codec_tokens:
        name, _, text = token.get_secret_value().partition(":")
        if len(set(text)) < _VARIED:
            yield Exposure(
                GUESSABLE_SECRET,
                f"The token of {name} in ORCHESTRATOR_CODEC_TOKENS has fewer than {_VARIED} different characters and "
                "can be guessed.",
                f"Choose one at random: openssl rand -hex {STRONG_KEY}.",
            )


def guessable_database_password(settings: Settings, environment: Mapping[str, str]) -> Iterator[Exposure]:
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


def shared_secrets(settings: Settings, environment: Mapping[str, str]) -> Iterator[Exposure]:
    variables: dict[str, list[str]] = defaultdict(list)
    for variable, text in chosen_secrets(settings):
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


def chosen_secrets(settings: Settings) -> Iterator[tuple[str, str]]:
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
