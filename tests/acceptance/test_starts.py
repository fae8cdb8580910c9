"""What keeps a server from starting is one sentence that says what to do."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest

from tests.acceptance.command_line import CommandLine

#: What keeps a server for other machines from starting otherwise, of which other tests are.
ACCEPTED = {"ORCHESTRATOR_ACCEPTED_EXPOSURES": "plaintext,metrics"}


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (
            lambda taken: {"ORCHESTRATOR_GRPC_HOST": "192.0.2.1", **ACCEPTED},
            r"gRPC cannot listen on 192\.0\.2\.1:0 \(cannot assign requested address\): free it, or set "
            r"ORCHESTRATOR_GRPC_PORT, or ORCHESTRATOR_GRPC_HOST to an address of this machine\.",
        ),
        (
            lambda taken: {"ORCHESTRATOR_HTTP_HOST": "nowhere.invalid", **ACCEPTED},
            r"HTTP cannot listen on nowhere\.invalid:0 \(.+\): free it, or set ORCHESTRATOR_HTTP_PORT, .*",
        ),
        (
            lambda taken: {"ORCHESTRATOR_GRPC_PORT": str(taken)},
            r"gRPC cannot listen on 127\.0\.0\.1:\d+ \(address already in use\): free it, or set .*",
        ),
        (
            lambda taken: {"TEMPORAL_ADDRESS": "not an address"},
            r"TEMPORAL_ADDRESS is not usable: must be host:port\.",
        ),
    ],
)
async def test_a_server_that_cannot_start_says_why_and_nothing_else(
    database: str, environment: Callable[[int], dict[str, str]], says: str
) -> None:
    run = CommandLine(
        environment={
            "DATABASE_URL": database,
            "ORCHESTRATOR_API_KEY": "a-key-that-is-long-enough",
            "ORCHESTRATOR_GRPC_PORT": "0",
            "ORCHESTRATOR_HTTP_PORT": "0",
        }
    )

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = await run.but(**environment(taken.getsockname()[1]))("serve")

    said = [line for line in ran.err.splitlines() if not line.startswith("{")]  # what is not log
    assert ran.code != 0
    assert len(said) == 1, ran.err
    assert re.fullmatch(rf"orchestrator: {says}", said[0]), said[0]
