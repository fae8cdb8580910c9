"""What a process refuses to start with where other machines reach it."""

from __future__ import annotations

import os
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.exposure import Exposed, check, check_database_user
from orchestrator.exposure.kinds import ACCEPTABLE, KINDS
from orchestrator.exposure.listeners import SERVER, WORKER, listeners
from orchestrator.exposure.secrets import chosen_secrets
from orchestrator.settings import InvalidSettings, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
TLS = {"ORCHESTRATOR_TLS_CERTIFICATE": "/c.pem", "ORCHESTRATOR_TLS_KEY": "/k.pem"}
#: A server that may be reached by anybody.
FINE = {
    **TLS,
    "ORCHESTRATOR_GRPC_HOST": "0.0.0.0",
    "ORCHESTRATOR_HTTP_HOST": "::",
    "ORCHESTRATOR_API_KEY": "cb1e1d1f63b26b8c47c8",
    "ORCHESTRATOR_METRICS_TOKEN": "9f0a46b7d2e35c8890aa",
    "DATABASE_URL": "postgresql://orchestrator:Xu4rahph7aiz@db.internal/orchestrator",
}
FINE_WORKER = {
    "ORCHESTRATOR_WORKER_METRICS_HOST": "0.0.0.0",
    "ORCHESTRATOR_WORKER_METRICS_PORT": "9464",
    "ORCHESTRATOR_ACCEPTED_EXPOSURES": "metrics",
    "DATABASE_URL": "postgresql://orchestrator:Xu4rahph7aiz@db.internal/orchestrator",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "TEMPORAL_", "DATABASE_URL", "PG")):
            monkeypatch.delenv(name)


def kinds(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], process: str = SERVER) -> list[str]:
    """Of everything that keeps the process from starting."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        check(Settings.load(), process, environment=environment)
    except Exposed as refusal:
        return re.findall(r"^- (\w+):", str(refusal), re.MULTILINE)
    return []


def test_what_only_this_machine_reaches_starts_with_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "ORCHESTRATOR_GRPC_HOST": "127.0.0.1",
        "ORCHESTRATOR_HTTP_HOST": "localhost",
        "ORCHESTRATOR_API_KEY": "k",
        "ORCHESTRATOR_REFLECTION": "true",
        "ORCHESTRATOR_WEBHOOK_PLAIN_HTTP": "true",
        "ORCHESTRATOR_WEBHOOK_NETWORKS": "127.0.0.0/8",
        "ORCHESTRATOR_PUBLIC_URL": "http://go.example.com",
        "DATABASE_URL": "postgresql://postgres:postgres@db/postgres",
    }

    assert kinds(monkeypatch, environment) == []
    assert kinds(monkeypatch, environment, WORKER) == []


def test_a_server_that_is_set_up_well_listens_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(monkeypatch, FINE) == []


def test_a_worker_that_is_set_up_well_shows_its_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(monkeypatch, FINE_WORKER, WORKER) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (dict.fromkeys(TLS, ""), "plaintext"),
        ({"ORCHESTRATOR_METRICS_TOKEN": ""}, "metrics"),
        ({"ORCHESTRATOR_API_KEY": "short"}, "guessable_secret"),
        ({"ORCHESTRATOR_OPERATOR_KEY": "short"}, "guessable_secret"),
        ({"ORCHESTRATOR_INTERNAL_TOKEN": "abababababababababab"}, "guessable_secret"),
        ({"ORCHESTRATOR_METRICS_TOKEN": "short"}, "guessable_secret"),
        ({"ORCHESTRATOR_API_KEY": "aaaaaaaaaaaaaaaaaaaaaaaa"}, "guessable_secret"),
        ({"ORCHESTRATOR_UNSUBSCRIBE_SECRETS": "12" * 20}, "guessable_secret"),
        ({"DATABASE_URL": "postgresql://postgres:postgres@db/postgres"}, "guessable_secret"),
        ({"DATABASE_URL": "postgresql://ada:ada@10.0.0.7/journeys"}, "guessable_secret"),
        ({"DATABASE_URL": "postgresql://ada:PassWord@db/journeys"}, "guessable_secret"),
        ({"DATABASE_URL": "postgresql://ada@db/journeys", "PGPASSWORD": "changeme"}, "guessable_secret"),
        ({"DATABASE_URL": "postgresql:///journeys", "PGHOST": "db", "PGPASSWORD": "secret"}, "guessable_secret"),
        ({"ORCHESTRATOR_METRICS_TOKEN": FINE["ORCHESTRATOR_API_KEY"]}, "shared_secret"),
        ({"PGPASSWORD": FINE["ORCHESTRATOR_API_KEY"]}, "shared_secret"),
        (
            {
                "ORCHESTRATOR_CODEC_TOKENS": f"ada:{'b1' * 4}{'c2d3e4f5' * 3}",
                "PGPASSWORD": f"{'b1' * 4}{'c2d3e4f5' * 3}",
            },
            "shared_secret",
        ),
        ({"ORCHESTRATOR_REFLECTION": "true"}, "reflection"),
        ({"ORCHESTRATOR_WEBHOOK_NETWORKS": "10.1.0.0/16,127.0.0.1/32"}, "private_webhooks"),
        ({"ORCHESTRATOR_WEBHOOK_NETWORKS": "169.254.169.254/32"}, "private_webhooks"),
        ({"ORCHESTRATOR_WEBHOOK_NETWORKS": "::/0"}, "private_webhooks"),
        ({"ORCHESTRATOR_WEBHOOK_PLAIN_HTTP": "true"}, "plain_webhooks"),
        (
            {"ORCHESTRATOR_SMTP_PLAIN": "true", "ORCHESTRATOR_SMTP_URL": "smtp://mail.example.com:25"},
            "plain_mail",
        ),
        ({"ORCHESTRATOR_PUBLIC_URL": "http://go.example.com"}, "plain_links"),
        ({"ORCHESTRATOR_ALLOWED_ORIGINS": "https://a.example,http://b.example"}, "plain_origins"),
    ],
)
def test_a_server_for_others_is_refused_with_what_is_safe_on_one_machine_alone(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], kind: str
) -> None:
    assert kinds(monkeypatch, FINE | changes) == [kind]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"ORCHESTRATOR_ACCEPTED_EXPOSURES": ""}, "metrics"),
        ({"ORCHESTRATOR_WEBHOOK_NETWORKS": "0.0.0.0/0"}, "private_webhooks"),
        ({"ORCHESTRATOR_WEBHOOK_PLAIN_HTTP": "true"}, "plain_webhooks"),
        ({"DATABASE_URL": "postgresql://postgres:postgres@db/postgres"}, "guessable_secret"),
    ],
)
def test_so_is_a_worker(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], kind: str) -> None:
    assert kinds(monkeypatch, FINE_WORKER | changes, WORKER) == [kind]


def test_mail_in_the_clear_leaves_the_machine_though_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"ORCHESTRATOR_SMTP_PLAIN": "true", "ORCHESTRATOR_SMTP_URL": "smtp://mail.example.com:25"}

    assert kinds(monkeypatch, environment, WORKER) == ["plain_mail"]
    assert kinds(monkeypatch, environment | {"ORCHESTRATOR_SMTP_URL": "smtp://127.0.0.1:25"}, WORKER) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "orchestrator.internal"])
@pytest.mark.parametrize("listener", ["GRPC_HOST", "HTTP_HOST", "INTERNAL_HOST"])
def test_one_listener_that_others_reach_is_enough(monkeypatch: pytest.MonkeyPatch, listener: str, host: str) -> None:
    port = {"ORCHESTRATOR_INTERNAL_GRPC_PORT": "50052"} if listener == "INTERNAL_HOST" else {}
    found = kinds(monkeypatch, {f"ORCHESTRATOR_{listener}": host} | port)

    assert "plaintext" in found
    assert ("metrics" in found) == (listener == "HTTP_HOST")


def test_all_is_told_together_each_with_its_setting_and_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "ORCHESTRATOR_GRPC_HOST": "0.0.0.0",
        "ORCHESTRATOR_API_KEY": "my-secret",
        "ORCHESTRATOR_REFLECTION": "true",
        "DATABASE_URL": "postgresql://me:me@db/mine",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(Exposed) as refusal:
        check(Settings.load(), SERVER, environment=environment)

    said = str(refusal.value)
    for words in ("ORCHESTRATOR_GRPC_HOST=0.0.0.0", "ORCHESTRATOR_TLS_CERTIFICATE", "ORCHESTRATOR_REFLECTION"):
        assert words in said
    assert said.splitlines()[0].endswith("ORCHESTRATOR_ACCEPTED_EXPOSURES=plaintext,reflection")
    assert "my-secret" not in said
    assert "me:me" not in said


def test_what_was_accepted_is_told_and_accepts_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = FINE | dict.fromkeys(TLS, "") | {"ORCHESTRATOR_ACCEPTED_EXPOSURES": "plaintext"}
    assert kinds(monkeypatch, environment | {"ORCHESTRATOR_REFLECTION": "true"}) == ["reflection"]

    monkeypatch.setenv("ORCHESTRATOR_REFLECTION", "false")
    accepted = check(Settings.load(), SERVER, environment=environment)

    assert [exposure.kind for exposure in accepted] == ["plaintext"]


@pytest.mark.parametrize(("host", "refused"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_a_superuser_may_not_serve_others(monkeypatch: pytest.MonkeyPatch, host: str, refused: bool) -> None:
    monkeypatch.setenv("ORCHESTRATOR_GRPC_HOST", host)
    settings = Settings.load()
    assert check_database_user(settings, SERVER, is_superuser=False) == ()

    if refused:
        with pytest.raises(Exposed, match="superuser"):
            check_database_user(settings, SERVER, is_superuser=True)
        monkeypatch.setenv("ORCHESTRATOR_ACCEPTED_EXPOSURES", "superuser")
        (accepted,) = check_database_user(Settings.load(), SERVER, is_superuser=True)
        assert accepted.kind == "superuser"
    else:
        assert check_database_user(settings, SERVER, is_superuser=True) == ()


def test_a_host_without_its_port_opens_nothing_and_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listeners(Settings.load(), WORKER) == ()
    monkeypatch.setenv("ORCHESTRATOR_WORKER_METRICS_HOST", "127.0.0.1")

    with pytest.raises(InvalidSettings, match="ORCHESTRATOR_WORKER_METRICS_PORT is not"):
        listeners(Settings.load(), WORKER)


def test_every_secret_is_compared_with_the_others() -> None:
    fields = {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *typing.get_args(field.annotation)) and name != "smtp_url"
    }
    secrets: dict[str, Any] = {name: SecretStr(f"name:{name:_<32}") for name in fields}
    lists = {name: (secrets[name],) for name, kind in fields.items() if typing.get_origin(kind) is tuple}
    made = Settings.model_construct(**(secrets | lists))

    assert len(secrets) >= 8
    assert {variable for variable, _ in chosen_secrets(made)} == {f"ORCHESTRATOR_{name.upper()}" for name in secrets}


def test_the_page_explains_each_of_them() -> None:
    section = re.search(r"## Open to other machines\n(.*?)\n## ", PAGE, re.DOTALL)
    assert section is not None

    assert set(re.findall(r"^\| `(\w+)`", section[1], re.MULTILINE)) == set(KINDS)
    assert set(ACCEPTABLE) < set(KINDS)
