"""The whole product on one machine, as processes of ours: what is not there already is started, and kept up.

    async with Stack(StackOptions(data_dir=Path(".orchestrator"))) as stack:
        print(stack.addresses.http)

Postgres and Temporal are used where an address is given and brought along where not; server and workers are always
started. Entering returns when everything is ready and leaves nothing behind when it fails; leaving stops everything.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from temporalio.client import Client

from orchestrator.application.setup import earlier_owner_keys, told_of
from orchestrator.devstack.addresses import Addresses, AddressFile
from orchestrator.devstack.data_directory import OPERATOR_KEY, OWNER_KEY, DataDirectory
from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.ports import LOOPBACK, place, reachable, require_free
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.devstack.processes import Process, kill_all, start_process
from orchestrator.devstack.readiness import await_listening, await_polling, await_serving
from orchestrator.devstack.supervisor import Supervisor
from orchestrator.devstack.temporal import EmbeddedTemporal, connect_elsewhere
from orchestrator.devstack.temporal_cli import ensure_temporal
from orchestrator.devstack.toolbox import Talk
from orchestrator.domain.api_key import is_possible, make_key
from orchestrator.storage.migrations import SchemaRefused, migrate
from orchestrator.storage.pool import API_ROLE
from orchestrator.storage.reachability import DatabaseUnreachable, open_connection
from orchestrator.temporal.client import Target, missing_search_attributes
from orchestrator.temporal.keyring import PLAIN, make_payload_key

#: What server and workers may take to finish what they have begun, in seconds.
_GRACE = 30.0
_EMBEDDED_GRACE = 20.0

SERVER = "server"
CODEC = "codec-server"
POSTGRES = "postgres"
TEMPORAL = "temporal"

#: Files of the data directory that keep the other secrets made here.
INTERNAL_TOKEN = "internal.token"
PAYLOAD_KEYS = "payload.keys"
CODEC_TOKEN = "codec.token"
#: Where workers keep anchors of the audit log, below the data directory.
AUDIT_ANCHORS = "audit-anchors"
_KEY_SHOWN = "owner.key.shown"
_METRICS_TOKEN = "ORCHESTRATOR_METRICS_TOKEN"
_PREVIOUS_TOKEN = "ORCHESTRATOR_INTERNAL_TOKEN_PREVIOUS"
_KEY_VARIABLES = frozenset(
    {
        *("ORCHESTRATOR_API_KEY", "ORCHESTRATOR_OPERATOR_KEY", "ORCHESTRATOR_INTERNAL_TOKEN"),
        *(_METRICS_TOKEN, _PREVIOUS_TOKEN, "ORCHESTRATOR_CODEC_TOKENS"),
    }
)


def make_token() -> str:
    """For the codec server."""
    return secrets.token_urlsafe(32)


def worker_name(number: int) -> str:
    """Workers are numbered from 1."""
    return f"worker-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What to start and where. Empty addresses: started here. Empty secrets: made once and kept in `data_dir`.

    `payload_keys` and `codec_tokens` are as settings have them; `encrypt` makes a key where there is none. What was
    encrypted on a data directory is read from then on, with `encrypt` or without. `codec_origin` is for a Temporal that
    is not ours.

    `environment` is added to that of server and workers. `durable=False` gives up crash safety of the embedded
    Postgres, to which `postgres_settings` are told. The workers' metrics are on `metrics_port` and the ports after it,
    or nowhere.
    """

    data_dir: Path
    database_url: str = ""
    temporal_address: str = ""
    temporal_namespace: str = ""
    api_key: str = ""
    operator_key: str = ""
    internal_token: str = ""
    internal_token_previous: str = ""
    encrypt: bool = False
    payload_keys: tuple[str, ...] = ()
    codec_tokens: tuple[str, ...] = ()
    codec_origin: str = ""
    codec_port: int = 8081
    grpc_host: str = LOOPBACK
    grpc_port: int = 50051
    http_host: str = LOOPBACK
    http_port: int = 8080
    temporal_port: int = 7233
    temporal_ui_port: int = 8233
    metrics_host: str = LOOPBACK
    metrics_port: int | None = 9464
    workers: int = len(os.sched_getaffinity(0))
    durable: bool = True
    postgres_settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def metrics_ports(self) -> range:
        first = self.metrics_port
        return range(0) if first is None else range(first, first + self.workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """`owner_is_new`: nobody has been shown the owner key, which was made here, yet."""

    owner: str
    operator: str
    internal: str
    owner_is_new: bool


class Stack:
    """See the module. To be entered once. `talk` is told, one sentence at a time, what people should know."""

    def __init__(self, options: StackOptions, *, talk: Talk = lambda sentence: None) -> None:
        self._options = options
        self._talk = talk
        self._data = DataDirectory(options.data_dir)
        self._address_file = AddressFile(self._data.path)
        self._parts: dict[str, Supervisor] = {}
        self._dsn = options.database_url
        self._temporal = options.temporal_address
        self._client: Client | None = None
        self._keys: Keys | None = None
        self._payload_keys: tuple[str, ...] = ()

    async def __aenter__(self) -> Stack:
        self._check_options()
        self._data.open()
        try:
            self._payload_keys = self._find_payload_keys()
            await require_free(self._ports(), self._hosts())
            self._keys = self._find_keys()
            await _together([self._find_postgres(), self._find_temporal()])
            await _together(
                [
                    self._keep(SERVER, self._begin_server, grace=_GRACE),
                    *([self._keep(CODEC, self._begin_codec_server, grace=_GRACE)] if self._codec else []),
                    *(
                        self._keep(worker_name(number), self._beginning_of_worker(number), grace=_GRACE)
                        for number in range(1, self._options.workers + 1)
                    ),
                ]
            )
            ours = not self._options.database_url
            self._address_file.write(self.addresses if ours else replace(self.addresses, database_url=""))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def addresses(self) -> Addresses:
        options = self._options
        ours = not options.temporal_address
        return Addresses(
            grpc=place(reachable(options.grpc_host), options.grpc_port),
            http=f"http://{place(reachable(options.http_host), options.http_port)}",
            database_url=self._dsn,
            temporal=self._temporal,
            temporal_namespace=self._client.namespace if self._client is not None else "",
            temporal_ui=f"http://{place(LOOPBACK, options.temporal_ui_port)}" if ours else "",
            codec=self._codec,
            metrics=tuple(
                f"http://{place(reachable(options.metrics_host), port)}/metrics" for port in options.metrics_ports
            ),
            data_dir=self._data.path,
        )

    @property
    def keys(self) -> Keys:
        assert self._keys is not None, "the stack was not entered"
        return self._keys

    @property
    def _codec(self) -> str:
        """Where the codec server is; empty: nothing is encrypted, or was."""
        return f"http://{place(LOOPBACK, self._options.codec_port)}" if self._payload_keys else ""

    @property
    def _codec_origin(self) -> str:
        """The origin of Temporal's pages, as far as it is known."""
        options = self._options
        ours = "" if options.temporal_address else f"http://{place(LOOPBACK, options.temporal_ui_port)}"
        return options.codec_origin or ours

    def part(self, name: str) -> Supervisor:
        """A process by its name: SERVER, POSTGRES, TEMPORAL (where they are ours), CODEC (where there are keys), or
        `worker_name(n)`.
        """
        return self._parts[name]

    @property
    def parts(self) -> tuple[Supervisor, ...]:
        return tuple(self._parts.values())

    def owner_key_shown(self) -> None:
        """Remembers that somebody has seen the owner key: it is not new from here on."""
        self._data.mark(_KEY_SHOWN)

    async def kill(self) -> None:
        """Ends every process below this one without letting it finish. Nothing that was acknowledged is lost by it.

        To be called while the stack is being left, or before it was entered; that then comes to its end.
        """
        for part in self._parts.values():
            part.forsake()
        await kill_all()

    def _check_options(self) -> None:
        if self._options.workers < 1:
            raise StackFailure("--workers must be at least 1.")
        for name, key in (
            ("ORCHESTRATOR_API_KEY", self._options.api_key),
            ("ORCHESTRATOR_OPERATOR_KEY", self._options.operator_key),
            ("ORCHESTRATOR_INTERNAL_TOKEN", self._options.internal_token),
        ):
            if key and not is_possible(key):
                raise StackFailure(f"{name} must be 1 to 256 visible ASCII characters, and no mistyped key of ours.")

    def _ports(self) -> dict[str, int]:
        options = self._options
        ports = {"--grpc-port": options.grpc_port, "--http-port": options.http_port}
        if not options.temporal_address:
            ports |= {"--temporal-port": options.temporal_port, "--temporal-ui-port": options.temporal_ui_port}
        if self._codec:
            ports["--codec-port"] = options.codec_port
        for number, port in enumerate(options.metrics_ports):
            ports["--metrics-port" + (f" (+ {number})" if number else "")] = port
        return ports

    def _hosts(self) -> dict[str, str]:
        options = self._options
        hosts = {"--grpc-port": options.grpc_host, "--http-port": options.http_host}
        return hosts | {flag: options.metrics_host for flag in self._ports() if flag.startswith("--metrics-port")}

    def _find_payload_keys(self) -> tuple[str, ...]:
        """Those that were given, else those of the data directory, which are made when they are first asked for."""
        options = self._options
        if options.payload_keys:
            if options.encrypt and options.payload_keys[0] == PLAIN:
                raise StackFailure(f"--encrypt does not go with the word {PLAIN} in ORCHESTRATOR_PAYLOAD_KEYS.")
            return options.payload_keys
        if options.encrypt:
            return (self._data.secret(PAYLOAD_KEYS, make_payload_key),)
        kept = self._data.kept(PAYLOAD_KEYS)
        return (PLAIN, kept) if kept else ()

    def _find_keys(self) -> Keys:
        options = self._options
        return Keys(
            owner=options.api_key or self._data.secret(OWNER_KEY, make_key),
            operator=options.operator_key or self._data.secret(OPERATOR_KEY, make_key),
            internal=options.internal_token or self._data.secret(INTERNAL_TOKEN, make_key),
            owner_is_new=not options.api_key and not self._data.marked(_KEY_SHOWN),
        )

    async def _find_postgres(self) -> None:
        if not self._dsn:
            postgres = EmbeddedPostgres(
                self._data.path / "postgres",
                log=self._data.log(POSTGRES),
                durable=self._options.durable,
                settings=self._options.postgres_settings,
            )
            await self._keep(POSTGRES, postgres.start, grace=_EMBEDDED_GRACE)
            self._dsn = postgres.dsn()
        try:
            await migrate(self._dsn, applied=lambda migration: self._talk(f"Applied {migration.file_name}."))
            await self._tell_of_earlier_keys()
        except (SchemaRefused, DatabaseUnreachable) as error:
            raise StackFailure(str(error)) from error

    async def _tell_of_earlier_keys(self) -> None:
        conn = await open_connection(self._dsn, {"role": API_ROLE, "app.project_no": "0"})
        try:
            earlier = await earlier_owner_keys(conn, self.keys.owner)
        finally:
            await conn.close()
        if earlier:
            self._talk(told_of(earlier))

    async def _find_temporal(self) -> None:
        if not self._temporal:
            temporal = EmbeddedTemporal(
                await ensure_temporal(talk=self._talk),
                database=self._data.path / "temporal.db",
                log=self._data.log(TEMPORAL),
                port=self._options.temporal_port,
                ui_port=self._options.temporal_ui_port,
                codec=self._codec,
            )
            await self._keep(TEMPORAL, temporal.start, grace=_EMBEDDED_GRACE)
            self._temporal = temporal.address
            self._client = await Client.connect(self._temporal)
            return
        self._client = await connect_elsewhere(
            Target(address=self._temporal, namespace=self._options.temporal_namespace)
        )
        missing = await missing_search_attributes(self._client)
        if missing:
            self._talk(
                f"Temporal at {self._temporal} lacks the search attributes {', '.join(missing)}: executions run, "
                "but cannot be searched for in its pages. `temporal operator search-attribute create` adds them."
            )

    async def _keep(self, name: str, begin: Callable[[], Awaitable[Process]], *, grace: float) -> None:
        part = Supervisor(name, begin, grace=grace, talk=self._talk)
        await part.start()
        self._parts[name] = part

    async def _begin_server(self) -> Process:
        options, keys = self._options, self.keys
        process = await self._start_ours(
            SERVER,
            ["orchestrator.cli", "serve"],
            {
                "ORCHESTRATOR_API_KEY": keys.owner,
                "ORCHESTRATOR_OPERATOR_KEY": keys.operator,
                "ORCHESTRATOR_INTERNAL_TOKEN": keys.internal,
                # Empty counts as not set.
                _PREVIOUS_TOKEN: options.internal_token_previous,
                "ORCHESTRATOR_GRPC_HOST": options.grpc_host,
                "ORCHESTRATOR_GRPC_PORT": str(options.grpc_port),
                "ORCHESTRATOR_HTTP_HOST": options.http_host,
                "ORCHESTRATOR_HTTP_PORT": str(options.http_port),
            }
            | {name: token for name, token in os.environ.items() if name == _METRICS_TOKEN},
        )
        return await _when(process, await_serving(process, reachable(options.grpc_host), options.grpc_port))

    async def _begin_codec_server(self) -> Process:
        options = self._options
        tokens = options.codec_tokens or (f"up:{self._data.secret(CODEC_TOKEN, make_token)}",)
        settings = {
            "ORCHESTRATOR_CODEC_HOST": LOOPBACK,
            "ORCHESTRATOR_CODEC_PORT": str(options.codec_port),
            "ORCHESTRATOR_CODEC_TOKENS": ",".join(tokens),
        }
        if self._codec_origin:
            settings["ORCHESTRATOR_CODEC_ORIGIN"] = self._codec_origin
        process = await self._start_ours(CODEC, ["orchestrator.cli", "codec-server"], settings)
        return await _when(process, await_listening(process, LOOPBACK, options.codec_port))

    def _beginning_of_worker(self, number: int) -> Callable[[], Awaitable[Process]]:
        ports = self._options.metrics_ports
        settings: dict[str, str] = {}
        if ports:
            settings["ORCHESTRATOR_WORKER_METRICS_HOST"] = self._options.metrics_host
            settings["ORCHESTRATOR_WORKER_METRICS_PORT"] = str(ports[number - 1])

        async def begin() -> Process:
            assert self._client is not None
            process = await self._start_ours(worker_name(number), ["workers.main"], settings)
            return await _when(process, await_polling(process, self._client))

        return begin

    async def _start_ours(self, name: str, module: list[str], settings: dict[str, str]) -> Process:
        return await start_process(
            name,
            # -P: a directory of the user's that is called like one of our packages must not take its place.
            [sys.executable, "-P", "-m", *module],
            log=self._data.log(name),
            env=self._environment() | settings,
            # With its parent killed there is nobody left to wait for it, and the next start needs its ports.
            death_signal=signal.SIGKILL,
        )

    def _environment(self) -> dict[str, str]:
        """What server and workers have in common: no key is among it, for workers need none."""
        options = self._options
        environment = {name: value for name, value in os.environ.items() if name not in _KEY_VARIABLES}
        if not options.temporal_address:
            # The user's own Temporal settings are for another Temporal than ours.
            environment = {name: value for name, value in environment.items() if not name.startswith("TEMPORAL_")}
            environment["TEMPORAL_CONFIG_FILE"] = os.devnull
        elif options.temporal_namespace:
            environment["TEMPORAL_NAMESPACE"] = options.temporal_namespace
        # Where links lead that people are sent, unless somebody says otherwise.
        environment.setdefault("ORCHESTRATOR_PUBLIC_URL", self.addresses.http)
        environment.setdefault("ORCHESTRATOR_AUDIT_ANCHORS", str(self._data.path / AUDIT_ANCHORS))
        environment["ORCHESTRATOR_PAYLOAD_KEYS"] = ",".join(self._payload_keys)
        environment.setdefault("ORCHESTRATOR_ERASURE_LEDGER", str((self._data.path / "erasures").resolve()))
        return environment | {"DATABASE_URL": self._dsn, "TEMPORAL_ADDRESS": self._temporal, **options.environment}

    async def _stop(self) -> None:
        """Ours first, for they need the others to finish."""
        self._address_file.remove()
        try:
            ours = [part for part in self._parts.values() if part.name not in (POSTGRES, TEMPORAL)]
            await asyncio.gather(*(part.stop() for part in ours))
            await asyncio.gather(*(part.stop() for part in self._parts.values()))
        finally:
            self._data.close()


async def _when(process: Process, ready: Awaitable[None]) -> Process:
    """The process once it is ready; if it does not get there, it is ended."""
    try:
        await ready
    except BaseException:
        await process.stop(grace=5)
        raise
    return process


async def _together(parts: Iterable[Awaitable[None]]) -> None:
    """All of them; the first failure ends the others and is raised as itself."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
