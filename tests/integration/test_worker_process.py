"""How a worker process starts, and how it says that it cannot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.main"],
        env={**os.environ, "DATABASE_URL": "postgresql://127.0.0.1:1/none", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("secret", ["whsec_short", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64 at all"])
def test_a_secret_that_signs_nothing_is_refused_in_one_sentence_that_does_not_tell_it(secret: str) -> None:
    ended = start(ORCHESTRATOR_WEBHOOK_SECRETS=secret)

    assert ended.returncode == 2
    assert ended.stderr == (
        "ORCHESTRATOR_WEBHOOK_SECRETS is not usable: "
        "a signing secret is whsec_ and 24 to 64 bytes in base64.\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ORCHESTRATOR_SMTP_URL", "smtp://us:pass-word@host/x", "nothing may follow the host"),
        ("ORCHESTRATOR_SMTP_FROM", "Shop", "must be an address"),
        ("ORCHESTRATOR_SMTP_CA", "/none.pem", "there is no file /none.pem"),
    ],
)
def test_what_mail_cannot_go_by_is_told_in_one_sentence(variable: str, value: str, words: str) -> None:
    ended = start(**{variable: value})

    assert ended.returncode == 2
    [sentence] = ended.stderr.splitlines()
    assert sentence.startswith(f"{variable} is not usable: ")
    assert words in sentence
    assert "pass-word" not in sentence


def test_a_taken_port_for_metrics_is_told_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(ORCHESTRATOR_WORKER_METRICS_PORT=port)

    assert ended.returncode == 1
    [sentence] = ended.stderr.splitlines()
    assert sentence.startswith(f"Metrics cannot be served on 127.0.0.1:{port} (")
    assert "set ORCHESTRATOR_WORKER_METRICS_PORT" in sentence


def test_a_worker_without_a_database_says_so() -> None:
    ended = start(DATABASE_URL="")

    assert (ended.returncode, ended.stderr) == (2, "DATABASE_URL is not set: a worker needs a database.\n")
