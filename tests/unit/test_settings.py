"""What the environment may say."""

from __future__ import annotations

import os

import pytest

from orchestrator.exposure.listeners import ports_of
from orchestrator.settings import PLAIN_PAYLOADS, InvalidSettings, Settings
from orchestrator.temporal.keyring import PLAIN, Keyring, make_payload_key

#: A key of payloads.
_KEY = "A" * 43 + "="


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "TEMPORAL_", "DATABASE_URL")):
            monkeypatch.delenv(name)


def test_an_empty_environment_will_do() -> None:
    settings = Settings.load()

    assert (settings.grpc_port, settings.http_port, settings.database_url) == (50051, 8080, None)


def test_variables_are_read_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/d")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal:7233")
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "a-key-of-mine")
    monkeypatch.setenv("ORCHESTRATOR_GRPC_PORT", "1234")
    monkeypatch.setenv("ORCHESTRATOR_ALLOWED_ORIGINS", "https://a.example/, https://b.example")

    settings = Settings.load()

    assert settings.database_url == "postgresql://u@h/d"
    assert settings.temporal_address == "temporal:7233"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "a-key-of-mine"
    assert settings.grpc_port == 1234
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("address", ["temporal:7233", "127.0.0.1:7233", "[::1]:7233", "eu-1.tmprl.cloud:7233"])
def test_temporal_is_a_host_and_a_port(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)

    assert Settings.load().temporal_address == address


def test_keys_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "a-key-of-mine")

    assert "a-key-of-mine" not in repr(Settings.load())


@pytest.mark.parametrize("word", [[], [PLAIN_PAYLOADS]])
def test_keys_of_payloads_are_what_a_keyring_is_made_of(monkeypatch: pytest.MonkeyPatch, word: list[str]) -> None:
    keys = [make_payload_key("k2"), make_payload_key("k1")]
    monkeypatch.setenv("ORCHESTRATOR_PAYLOAD_KEYS", ", ".join([*word, *keys]))

    settings = Settings.load()

    keyring = Keyring.of(settings.payload_key_texts)
    assert keyring.first == (None if word else "k2")
    assert keyring.kids == {"k1", "k2"}
    assert keys[0] not in repr(settings)
    assert PLAIN_PAYLOADS == PLAIN


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ORCHESTRATOR_GRPC_PORT", "seventy", "integer"),
        ("ORCHESTRATOR_GRPC_PORT", "70000", "65535"),
        ("ORCHESTRATOR_API_KEY", "x" * 257, "1 to 256 visible ASCII"),
        ("ORCHESTRATOR_API_KEY", "with a space", "1 to 256 visible ASCII"),
        ("ORCHESTRATOR_LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("ORCHESTRATOR_LOG_FORMAT", "xml", "json"),
        ("ORCHESTRATOR_POOL_SIZE", "0", "2"),
        ("DATABASE_URL", "mysql://h/d", "postgresql://"),
        ("TEMPORAL_ADDRESS", "not an address", "host:port"),
        ("TEMPORAL_ADDRESS", "temporal", "host:port"),
        ("ORCHESTRATOR_TLS_KEY", "/k.pem", "ORCHESTRATOR_TLS_CERTIFICATE"),
        ("ORCHESTRATOR_ALLOWED_ORIGINS", "*", "https://app.example.com"),
        ("ORCHESTRATOR_ALLOWED_ORIGINS", "https://a.example, app.example.com", "https://app.example.com"),
        ("ORCHESTRATOR_ALLOWED_ORIGINS", "https://a.example/page", "https://app.example.com"),
        ("ORCHESTRATOR_TLS_CLIENT_CA", "/ca.pem", "ORCHESTRATOR_TLS_CERTIFICATE"),
        ("ORCHESTRATOR_TLS_CLIENT_NAMES", "orders.example.com", "ORCHESTRATOR_TLS_CLIENT_CA"),
        ("ORCHESTRATOR_TLS_CLIENT_NAMES", "*.example.com", "without `*`"),
        ("ORCHESTRATOR_TLS_CLIENT_NAMES", "orders.example.com,two words", "separated by commas"),
        ("ORCHESTRATOR_PUBLIC_URL", "go.example.com", "https://go.example.com"),
        ("ORCHESTRATOR_PUBLIC_URL", "https://go.example.com/?a=b", "https://go.example.com"),
        ("ORCHESTRATOR_UNSUBSCRIBE_SECRETS", "instance,short", "at least 32 characters"),
        ("ORCHESTRATOR_SMTP_ON_AMBIGUITY", "twice", "at_most_once"),
        ("ORCHESTRATOR_PAYLOAD_KEYS", "short", "32 bytes in base64"),
        ("ORCHESTRATOR_PAYLOAD_KEYS", f"k1:{_KEY},plain", "32 bytes in base64"),
        ("ORCHESTRATOR_PAYLOAD_KEYS", f"plain,plain:{_KEY}", "32 bytes in base64"),
        ("ORCHESTRATOR_PAYLOAD_KEYS", f"K1:{_KEY}", "32 bytes in base64"),
        ("ORCHESTRATOR_PAYLOAD_KEYS", f"k1:{_KEY}=", "32 bytes in base64"),
        ("ORCHESTRATOR_PAYLOAD_KEYS", f"k1:{_KEY},k1:{_KEY}", "same kid"),
        ("ORCHESTRATOR_CODEC_TOKENS", "anna:short", "at least 32"),
        ("ORCHESTRATOR_CODEC_TOKENS", f"anna:{'x' * 32},anna:{'y' * 32}", "same name"),
        ("ORCHESTRATOR_CODEC_ORIGIN", "*", "https://temporal.example.com"),
        ("ORCHESTRATOR_CODEC_ORIGIN", "https://a.example,https://b.example", "https://temporal.example.com"),
        ("ORCHESTRATOR_ACCEPTED_EXPOSURES", "plaintext,everything", "plain_mail"),
        ("ORCHESTRATOR_ACCEPTED_EXPOSURES", "guessable_secret", "plaintext"),
    ],
)
def test_an_unusable_value_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidSettings) as refusal:
        Settings.load()

    sentence = str(refusal.value)
    assert variable in sentence
    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["API_KEY", "OPERATOR_KEY", "METRICS_TOKEN"])
def test_a_key_that_can_be_guessed_is_known_for_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variable = f"ORCHESTRATOR_{name}"
    monkeypatch.setenv(variable, "test-key")
    assert Settings.load().short_keys == [variable]

    monkeypatch.setenv(variable, "a-key-of-16-char")
    assert Settings.load().short_keys == []


def test_every_host_has_its_ports_and_every_port_its_host() -> None:
    hosts = [name for name in Settings.model_fields if name.endswith("_host")]
    ports = [name for name in Settings.model_fields if name.endswith("_port")]

    assert len(hosts) >= 3
    assert all(ports_of(host) for host in hosts)
    assert sorted(port for host in hosts for port in ports_of(host)) == sorted(ports)


def test_one_key_cannot_stand_for_two_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "the-same-key")
    monkeypatch.setenv("ORCHESTRATOR_OPERATOR_KEY", "the-same-key")

    with pytest.raises(InvalidSettings, match="must differ"):
        Settings.load()


@pytest.mark.parametrize("name", ["INTERNAL_TOKEN", "INTERNAL_TOKEN_PREVIOUS"])
def test_a_token_of_machines_is_never_short(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ORCHESTRATOR_INTERNAL_TOKEN", "a-token-of-its-own")
    monkeypatch.setenv(f"ORCHESTRATOR_{name}", "15-characters-x")

    with pytest.raises(InvalidSettings, match=f"ORCHESTRATOR_{name} is not usable: must have at least 16 characters"):
        Settings.load()


def test_two_tokens_are_good_at_once_and_the_older_one_needs_the_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_INTERNAL_TOKEN_PREVIOUS", "the-token-of-before")
    with pytest.raises(InvalidSettings, match="_PREVIOUS needs ORCHESTRATOR_INTERNAL_TOKEN"):
        Settings.load()

    monkeypatch.setenv("ORCHESTRATOR_INTERNAL_TOKEN", "the-token-of-before")
    with pytest.raises(InvalidSettings, match="must differ"):
        Settings.load()

    monkeypatch.setenv("ORCHESTRATOR_INTERNAL_TOKEN", "the-token-of-today")
    good = [token.get_secret_value() for token in Settings.load().internal_tokens]
    assert good == ["the-token-of-today", "the-token-of-before"]


@pytest.mark.parametrize("build", ["2026-12-01.1", "b", "0f3c9ae", "v1_2-3.4"])
def test_a_build_is_a_name(monkeypatch: pytest.MonkeyPatch, build: str) -> None:
    monkeypatch.setenv("ORCHESTRATOR_WORKER_BUILD", build)

    assert Settings.load().worker_build == build


@pytest.mark.parametrize("build", [".1", "a b", "a:b", "a/b", "ä", "a" * 129])
def test_a_build_that_temporal_would_not_tell_apart_is_refused(monkeypatch: pytest.MonkeyPatch, build: str) -> None:
    monkeypatch.setenv("ORCHESTRATOR_WORKER_BUILD", build)

    with pytest.raises(InvalidSettings, match="ORCHESTRATOR_WORKER_BUILD"):
        Settings.load()


def test_a_deployment_has_no_full_stop_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_WORKER_DEPLOYMENT", "orchestrator.eu")

    with pytest.raises(InvalidSettings, match="ORCHESTRATOR_WORKER_DEPLOYMENT"):
        Settings.load()
