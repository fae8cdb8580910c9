"""Whether a database can be reached, and the sentence to say when it cannot. Passwords are never part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg

from orchestrator.storage.outages import is_outage

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

CONNECT_TIMEOUT = 10.0


class DatabaseUnreachable(Exception):
    """No connection. The message is one sentence for an operator: where, why, and what to do."""


async def open_connection(dsn: str, settings: dict[str, str] | None = None) -> Connection:
    """One connection of the caller's, who closes it. Raises DatabaseUnreachable, whatever the reason."""
    try:
        return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT, server_settings=settings)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnreachable(_sentence(dsn, error)) from error


@contextmanager
def reached(dsn: str) -> Iterator[None]:
    """Of a part of a start that needs the database: that it went away meanwhile is one sentence, too. Raises
    DatabaseUnreachable.
    """
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        raise DatabaseUnreachable(
            f"PostgreSQL at {_place(dsn)} went away ({type(error).__name__}): start this again when it is back."
        ) from error


def without_password(dsn: str) -> str:
    """The address as it may be shown."""
    try:
        parts = urlsplit(dsn)
        if parts.password is None:
            return dsn
        user_info, _, place = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user_info.partition(':')[0]}:***@{place}").geturl()
    except ValueError:
        return "(not a URL)"


def _sentence(dsn: str, error: Exception) -> str:
    place = _place(dsn)
    match error:
        case TimeoutError():
            return f"PostgreSQL at {place} (DATABASE_URL) did not answer within {CONNECT_TIMEOUT:.0f} s: is it running?"
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return f"PostgreSQL at {place} refuses the user of DATABASE_URL: check user and password."
        case asyncpg.InvalidCatalogNameError():
            return f"PostgreSQL at {place} has no such database: create it, or mend DATABASE_URL."
        case asyncpg.TooManyConnectionsError():
            return f"PostgreSQL at {place} has no connection left: raise max_connections, or stop other clients."
        case OSError():
            # asyncio puts words of its own in place of the system's.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            return f"PostgreSQL at {place} cannot be reached ({why.lower()}): start it, or mend DATABASE_URL."
        case asyncpg.PostgresError():
            return f"PostgreSQL at {place} refuses the connection: {error}."
        case _:
            return "DATABASE_URL is not an address like postgresql://user:password@host:5432/database."


def _place(dsn: str) -> str:
    try:
        parts = urlsplit(dsn)
        host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
        port = "" if host.startswith("/") else f":{parts.port or 5432}"
    except ValueError:
        return "the given address"
    return f"{host}{port}"
