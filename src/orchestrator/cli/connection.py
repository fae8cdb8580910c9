"""The server that commands talk to: as the environment says, else the one that `orchestrator up` runs here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from grpc import StatusCode

from orchestrator.cli.failure import FAILED, NOT_ALLOWED, NOT_FOUND, UNAVAILABLE, CommandFailure
from orchestrator.client import OrchestratorClient, OrchestratorError, Tls, Violation
from orchestrator.devstack.addresses import find_running
from orchestrator.devstack.data_directory import OPERATOR_KEY, OWNER_KEY

_T = TypeVar("_T")

_DEFAULT_ADDRESS = "127.0.0.1:50051"
_DEFAULT_PORT = "50051"
#: Seconds for a server to take the first connection.
_PATIENCE = 2.0
_LOCAL = ("127.0.0.1", "localhost", "[::1]")

_CODES = {
    StatusCode.NOT_FOUND: NOT_FOUND,
    StatusCode.UNAUTHENTICATED: NOT_ALLOWED,
    StatusCode.PERMISSION_DENIED: NOT_ALLOWED,
    StatusCode.UNAVAILABLE: UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: UNAVAILABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """`tls` None: nothing is encrypted."""

    target: str
    api_key: str
    tls: Tls | None


def call(work: Callable[[OrchestratorClient], Awaitable[_T]], *, as_operator: bool = False) -> _T:
    """What `work` makes of the server, asked with the key of a project or `as_operator`.

    Raises CommandFailure when there is none, or when it refuses.
    """
    connection = find_connection(as_operator=as_operator)

    async def run() -> _T:
        async with OrchestratorClient(connection.target, connection.api_key, tls=connection.tls, timeout=30) as client:
            # A server that goes away meanwhile is waited for; one that was never there is not.
            await client.reach(within=_PATIENCE)
            return await work(client)

    try:
        return asyncio.run(run())
    except OrchestratorError as error:
        raise failure_of(error, connection.target) from error
    except OSError as error:
        raise CommandFailure(f"{error.filename or connection.target} cannot be read: {error.strerror}.") from error


def find_connection(*, as_operator: bool = False) -> Connection:
    """Raises CommandFailure when no key can be found. An operator's may be in a variable of its own."""
    given = os.environ.get("ORCHESTRATOR_ADDRESS")
    running = None if given else find_running(data_directory())
    address = given or (running.grpc if running is not None else _DEFAULT_ADDRESS)
    scheme, separator, place = address.rstrip("/").rpartition("://")
    host, colon, _ = place.rpartition(":")
    is_bare = not colon or place.endswith("]")
    target = f"{place}:{_DEFAULT_PORT}" if is_bare else place
    return Connection(
        target=target if scheme in ("", "http", "https") else f"{scheme}{separator}{target}",
        api_key=(os.environ.get("ORCHESTRATOR_OPERATOR_KEY") if as_operator else None)
        or os.environ.get("ORCHESTRATOR_API_KEY")
        or _kept_key(
            OPERATOR_KEY if as_operator else OWNER_KEY,
            is_ours=running is not None or (place if is_bare else host) in _LOCAL,
        ),
        tls=_tls() if scheme == "https" else None,
    )


def _tls() -> Tls:
    ca, certificate, key = (
        Path(text) if (text := os.environ.get(f"ORCHESTRATOR_CLIENT_{name}")) else None
        for name in ("CA", "CERTIFICATE", "KEY")
    )
    return Tls(ca=ca, certificate=certificate, key=key)


def data_directory() -> Path:
    """That of the `orchestrator up` whose server is meant."""
    return Path(os.environ.get("ORCHESTRATOR_DATA_DIR") or ".orchestrator")


def _kept_key(name: str, *, is_ours: bool) -> str:
    """The key that `orchestrator up` made for a server on this machine."""
    if not is_ours:
        raise CommandFailure("Set ORCHESTRATOR_API_KEY to a key of that server.", NOT_ALLOWED)
    path = data_directory() / name
    try:
        return path.read_text().strip()
    except OSError as error:
        raise CommandFailure(
            f"Set ORCHESTRATOR_API_KEY: there is no key of `orchestrator up` in {path} either ({error.strerror}).",
            NOT_ALLOWED,
        ) from error


def failure_of(error: OrchestratorError, target: str) -> CommandFailure:
    """A refusal as a sentence, with everything that is wrong below it, and its exit code."""
    if error.code is StatusCode.UNAVAILABLE and error.retry_after is None:  # no server has said this
        return CommandFailure(
            f"Nobody serves at {target}: start `orchestrator up`, or set ORCHESTRATOR_ADDRESS.", UNAVAILABLE
        )
    lines = [f"{error.message} ({error.reason})"]
    if len(error.violations) > 1 or (error.violations and error.violations[0].message not in error.message):
        lines += [f"  {sentence_of(violation)}" for violation in error.violations]
    return CommandFailure("\n".join(lines), _CODES.get(error.code, FAILED))


def sentence_of(violation: Violation) -> str:
    place = f"{violation.path}: " if violation.path else ""
    return f"{place}{violation.message} ({violation.reason})"
