"""Brings a database to the schema this release knows: plain SQL files, in order, each in a transaction of its own.

The files stand in `migrations/` at the root of a checkout and inside the package when installed. A released file is
never edited, but that it may be given more time; its checksum is kept beside its version, and a database that was made
by other text, or by a newer release, is refused rather than guessed at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

import orchestrator
from orchestrator.storage.reachability import open_connection

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

OLDEST_POSTGRES = 15
#: A migration that has to wait for a lock makes everybody behind it wait too: better it fails and is run again. A file
#: raises the second limit for itself, in a line that says why, if it reads a table that may be large.
BEFORE_EACH = "SET LOCAL lock_timeout = '4s'; SET LOCAL statement_timeout = '60s'"

# Chosen once, at random; every migrator of this product takes it before it looks at anything.
_LOCK = 7_305_118_264_490_117
_MORE_TIME = re.compile(r"^SET LOCAL statement_timeout = '\w+';[^\n]*\n", re.MULTILINE)
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version     int         PRIMARY KEY,
    name        text        NOT NULL,
    sha256      text        NOT NULL,
    applied_at  timestamptz NOT NULL
)
"""
_APPLIED = "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
_RECORD = "INSERT INTO schema_migrations (version, name, sha256, applied_at) VALUES ($1, $2, $3, clock_timestamp())"


class SchemaRefused(Exception):
    """This release cannot work with that database. The message is one sentence for an operator; nothing was changed
    by the file it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def made(self, sha256: str) -> bool:
        """Whether the text of that checksum is this one, or was before it was found to need more time."""
        return sha256 in (self.sha256, hashlib.sha256(_MORE_TIME.sub("", self.sql).encode()).hexdigest())

    @property
    def file_name(self) -> str:
        return f"{self.version:04d}_{self.name}.sql"


def migrations_directory() -> Path:
    package = Path(orchestrator.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


def known_migrations(directory: Path | None = None) -> tuple[Migration, ...]:
    """All files, in order. Raises ValueError for a stray file, a gap or a number used twice."""
    found = []
    for path in sorted((directory or migrations_directory()).glob("*.sql")):
        named = _FILE_NAME.fullmatch(path.name)
        if named is None:
            raise ValueError(f"{path.name} is not named like 0001_words.sql")
        found.append(Migration(version=int(named[1]), name=named[2], sql=path.read_text(encoding="utf-8")))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations must be numbered 1, 2, 3, … without gaps")
    return tuple(found)


async def migrate(
    dsn: str,
    *,
    known: Sequence[Migration] | None = None,
    applied: Callable[[Migration], None] | None = None,
) -> tuple[Migration, ...]:
    """Applies what is missing and returns it. Any number of callers may do so at once: one applies, the rest wait and
    find nothing left to do. A caller that dies leaves no file half applied, and the next call goes on from there.

    `applied` is told of each file as it is committed. Raises SchemaRefused or DatabaseUnreachable.
    """
    known = known_migrations() if known is None else known
    # If we die in mid-file the server notices and gives the lock back, instead of finishing for nobody.
    settings = {"application_name": "orchestrator-migrate", "client_connection_check_interval": "500ms"}
    conn = await open_connection(dsn, settings)
    try:
        _check_server(conn)
        await conn.execute(f"SELECT pg_advisory_lock({_LOCK})")
        missing = _missing(known, await _applied(conn))
        for migration in missing:
            await _apply(conn, migration)
            if applied is not None:
                applied(migration)
        return missing
    finally:
        # Ends the session and with it the lock; it is not released any earlier, so there is no moment between.
        await conn.close(timeout=5)


async def missing_migrations(conn: Connection, known: Sequence[Migration] | None = None) -> tuple[Migration, ...]:
    """What `migrate` would apply. Raises SchemaRefused as it would."""
    known = known_migrations() if known is None else known
    if await conn.fetchval("SELECT to_regclass('schema_migrations') IS NULL"):
        return tuple(known)
    return _missing(known, await conn.fetch(_APPLIED))


async def _applied(conn: Connection) -> Sequence[asyncpg.Record]:
    try:
        await conn.execute(_CREATE_TABLE)
        return await conn.fetch(_APPLIED)
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaRefused(
            f"The user of DATABASE_URL may not migrate this database ({error}): migrate as the user who owns it."
        ) from error


async def _apply(conn: Connection, migration: Migration) -> None:
    try:
        async with conn.transaction():
            await conn.execute(BEFORE_EACH)
            await conn.execute(migration.sql)
            await conn.execute(_RECORD, migration.version, migration.name, migration.sha256)
    except asyncpg.LockNotAvailableError as error:
        raise SchemaRefused(
            f"Migration {migration.file_name} waited 4 s for a lock and gave up: end long transactions, then retry."
        ) from error
    except asyncpg.PostgresError as error:
        raise SchemaRefused(f"Migration {migration.file_name} failed and was undone: {error}.") from error


def _missing(known: Sequence[Migration], rows: Sequence[asyncpg.Record]) -> tuple[Migration, ...]:
    by_version = {migration.version: migration for migration in known}
    for row in rows:
        ours = by_version.get(row["version"])
        if ours is None:
            raise SchemaRefused(
                f"The database has migration {row['version']:04d}_{row['name']}, which this release does not know: "
                "run a newer release of orchestrator."
            )
        if not ours.made(row["sha256"]):
            raise SchemaRefused(
                f"Migration {ours.file_name} is not the text this database was made with: "
                "restore the file; a released migration is never edited."
            )
    done = {row["version"] for row in rows}
    return tuple(migration for migration in known if migration.version not in done)


def _check_server(conn: Connection) -> None:
    server = conn.get_server_version()
    if server.major < OLDEST_POSTGRES:
        raise SchemaRefused(
            f"PostgreSQL {OLDEST_POSTGRES} or newer is needed, and the database runs {server.major}.{server.minor}."
        )
    encoding = conn.get_settings().server_encoding
    if encoding != "UTF8":
        raise SchemaRefused(f"The database must be encoded in UTF8, and this one is in {encoding}.")
