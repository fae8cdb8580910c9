"""What the environment says: read once, at the start, by whoever starts a process."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

#: Characters a chosen key needs before others than this machine may try to guess it.
STRONG_KEY = 16
#: Characters of a text that links are made with, and the word that stands for the one in the database.
LONG_SECRET = 32
INSTANCE_SECRET = "instance"

#: As browsers write them. `*` is none: it would hand every page what is meant for a few.
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")
_PUBLIC_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]{1,100})?")
_RECEIVER = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[!-~]{0,200})?")
#: A key of payloads: its id, and 32 bytes in base64 of either alphabet.
_PAYLOAD_KEY = re.compile(r"([a-z0-9][a-z0-9_-]{0,31}):[A-Za-z0-9+/_-]{43}=?")
PLAIN_PAYLOADS = "plain"
_CODEC_TOKEN = re.compile(rf"([a-z0-9][a-z0-9_-]{{0,31}}):[!-~]{{{LONG_SECRET},256}}")
#: Temporal writes `deployment.build`, so that names have no full stops.
_WORKER_BUILD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WORKER_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
#: A name that a certificate has for a machine or a service: DNS name or URI.
_MACHINE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[a-z][a-z0-9+.-]{0,31}://[!-+\--~]{1,512}")
_Port = Annotated[int, Field(ge=0, le=65535)]

#: What a process may start with although other machines reach it; each is found by `orchestrator.exposure`.
AcceptableExposure = Literal[
    "plaintext",
    "metrics",
    "reflection",
    "superuser",
    "private_webhooks",
    "plain_webhooks",
    "plain_mail",
    "plain_links",
    "plain_origins",
]


class InvalidSettings(Exception):
    """One sentence that says which variable is wrong, and why."""


class Settings(BaseSettings):
    """Every setting of server and workers. `ORCHESTRATOR_<NAME>`, but for DATABASE_URL and TEMPORAL_*."""

    model_config = SettingsConfigDict(
        env_prefix="ORCHESTRATOR_", frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True
    )

    # What stands below each setting is its line in docs/settings.md.

    database_url: Annotated[str | None, Field(validation_alias=AliasChoices("DATABASE_URL", "database_url"))] = None
    """PostgreSQL 15 or newer, `postgresql://user:password@host:5432/database`. Server and workers need it; `up` brings
    one along without it. What the address leaves out comes from `PGPASSWORD` and its kind."""
    temporal_address: Annotated[
        str | None, Field(validation_alias=AliasChoices("TEMPORAL_ADDRESS", "temporal_address"))
    ] = None
    """Temporal, `host:port`. Without it, `up` brings one along, and others ask the SDK's own configuration, then
    `localhost:7233`."""
    temporal_namespace: Annotated[
        str, Field(validation_alias=AliasChoices("TEMPORAL_NAMESPACE", "temporal_namespace"))
    ] = ""
    """Where in Temporal executions run. Without it, as the SDK's own configuration says, else `default`."""
    data_dir: Path = Path(".orchestrator")
    """Where `up` keeps everything, and where commands look for it."""

    api_key: SecretStr | None = None
    """Becomes an owner's key of the project `default` when the server starts; `up` makes one without it. Of commands:
    the key they come with. See [keys.md](keys.md)."""
    operator_key: SecretStr | None = None
    """The operator's key: who has it makes projects. `up` makes one without it. Of `projects list` and `create`: the
    key they come with, before ORCHESTRATOR_API_KEY."""
    internal_token: SecretStr | None = None
    """The bearer token of the role `internal`, at least 16 characters. `up` makes one without it."""
    internal_token_previous: SecretStr | None = None
    """The token before it, which is good as well as long as it is set: for changing it without a pause."""
    metrics_token: SecretStr | None = None
    """The bearer token that `/metrics` of the server asks for. Without it, whoever reaches the port reads it."""

    grpc_host: str = "127.0.0.1"
    """Where the server listens for gRPC. `0.0.0.0` or `::` for every address. Where other machines reach it, it does
    not start with what is safe on one alone: see [operations.md](operations.md#open-to-other-machines)."""
    grpc_port: _Port = 50051
    """Its port; 0 for any that is free."""
    http_host: str = "127.0.0.1"
    """Where the server listens for HTTP."""
    http_port: _Port = 8080
    """Its port; 0 for any that is free."""
    internal_host: str = "127.0.0.1"
    """Where the server listens for the internal token alone, if it has a port for it."""
    internal_grpc_port: _Port | None = None
    """Its port for gRPC; 0 for any that is free. With this or the next one, internal calls are served there, and
    nowhere else; there, nothing else is."""
    internal_http_port: _Port | None = None
    """Its port for HTTP."""
    worker_metrics_host: str = "127.0.0.1"
    """Where a worker shows its metrics, if it has a port for them."""
    worker_metrics_port: _Port | None = None
    """Its port. Without it a worker shows none; `up` gives each of its workers one."""
    worker_build: str | None = None
    """Which build of the workers this one is, `2026-12-01.1` or a commit: it is given executions once Temporal was told
    that this build is the current one. Without it, a worker takes whatever there is. See
    [operations.md](operations.md#new-builds-of-workers)."""
    worker_deployment: str = "orchestrator"
    """What Temporal calls all builds of these workers together."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of pages that browsers may show answers to (CORS), and that may use the `session` cookie, besides the
    server's own: `https://app.example`."""
    reflection: bool = False
    """gRPC reflection, for tools that ask a server what it serves."""
    accepted_exposures: Annotated[tuple[AcceptableExposure, ...], NoDecode] = ()
    """What server, workers and `codec-server` may start with although other machines reach them, since something else
    takes care of it: names of [operations.md](operations.md#open-to-other-machines). Each is told in the log at every
    start.
    """

    tls_certificate: Path | None = None
    """PEM file for all ports of `serve`, with all certificates up to the authority's; read again when it changes. `up`
    encrypts nothing."""
    tls_key: Path | None = None
    """PEM file of its key."""
    tls_client_ca: Path | None = None
    """PEM file: only clients with a certificate of this authority are let in."""
    tls_client_names: Annotated[tuple[str, ...], NoDecode] = ()
    """Of these, who may call: DNS names and URIs that their certificates have, `orders.example.com` or
    `spiffe://example.com/crm`, exactly. Without any, everybody. See
    [operations.md](operations.md#certificates-of-clients)."""

    payload_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """What Temporal's histories are encrypted with, `kid:key`, newest first, the key 32 bytes in base64, the same for
    server, workers, `doctor` and `codec-server`: the first encrypts, all decrypt. The word `plain` before all others:
    nothing is encrypted from now on. Without keys nothing is. See
    [operations.md](operations.md#encrypted-histories)."""

    codec_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Who may have histories decoded by `codec-server`: `name:token`, the token 32 characters and more."""
    codec_host: str = "127.0.0.1"
    """Where `codec-server` listens, with `ORCHESTRATOR_TLS_*` if these are set."""
    codec_port: _Port = 8081
    """Its port; 0 for any that is free."""
    codec_origin: str | None = None
    """The origin of Temporal's pages, `https://temporal.example.com`: theirs alone may show what it answers."""

    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """What workers sign webhooks with, `whsec_…`, newest first: a message is signed with each. Without one, webhooks
    wait."""
    webhook_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks that webhooks may reach although they are not public, on any port, such as `10.1.0.0/16`."""
    webhook_plain_http: bool = False
    """Lets webhooks go to `http` URLs too. For server and workers alike; for development."""

    smtp_url: SecretStr | None = None
    """The mail server, `smtps://user:password@host:465`, or `smtp://user:password@host:587` with STARTTLS. Without it,
    mail waits."""
    smtp_plain: bool = False
    """Lets mail go to an `smtp` server without TLS, and then without a password. For development."""
    smtp_ca: Path | None = None
    """PEM file: who may vouch for the mail server. Without it, the usual authorities."""
    smtp_from: str | None = None
    """The sender of communications that name none: `Example <hello@example.com>`."""
    smtp_on_ambiguity: Literal["at_most_once", "at_least_once"] = "at_most_once"
    """What becomes of mail whose acceptance was not heard: it ends `unknown`, or is sent again."""
    smtp_connections: Annotated[int, Field(ge=1, le=100)] = 8
    """Connections to the mail server that a worker has at once."""
    public_url: str | None = None
    """Where people reach the server's HTTP, `https://go.example.com`: the beginning of the links by which they
    unsubscribe. Mail that advertises waits without it. `up` takes its own address."""
    unsubscribe_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """What these links are made with, newest first, texts of 32 characters and more, the same for server and workers;
    links of each work. The word `instance` stands for a secret in the database, which alone is used without a list."""

    audit_anchors: Path | None = None
    """Directory in which workers keep anchors of the audit log, every 1,000 entries or ten minutes; best where who
    administers the database cannot write. Without it they stand in the log alone. `up` has one in its data directory.
    See [operations.md](operations.md#the-audit-log)."""

    erasure_ledger: Path | None = None
    """Directory outside of the database in which workers write down who was forgotten, and whom an owner let in again,
    as keyed hashes, for `orchestrator erasures replay` after a restore. Without it, nothing is, and doctor says so;
    `up` has one in its data directory."""

    otlp_endpoint: Annotated[
        str | None, Field(validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"))
    ] = None
    """Where server and workers send traces, `http://localhost:4317`; without it, nothing is traced. OpenTelemetry's
    other variables hold as well (`OTEL_TRACES_SAMPLER`, …). See [operations.md](operations.md#traces)."""
    otlp_protocol: Annotated[
        Literal["grpc", "http/protobuf"],
        Field(validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_PROTOCOL", "otlp_protocol")),
    ] = "grpc"
    """How: `grpc`, or `http/protobuf`, whose path `/v1/traces` is put behind the address."""

    pool_size: Annotated[int, Field(ge=2, le=500)] = 16
    """Connections to PostgreSQL that a server or a worker works with. Each has up to seven more, for health,
    notifications, starts and calls that stop something."""
    max_calls: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Calls under way at once in a server, at most: fewer as soon as more would only wait. A fifth is kept for calls
    that stop something. More are told to come back (`RATE_LIMITED`)."""
    max_calls_per_key: Annotated[int, Field(ge=1, le=100_000)] = 128
    """Of these, calls with one key."""
    calls_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = 1_000.0
    """Calls that a server begins with one key in a second, twice as many at once after a rest; 0 for any number. Set it
    below what a server can do, and no key keeps the others waiting: see
    [operations.md](operations.md#when-there-are-too-many-calls)."""
    wrong_keys_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Wrong keys that an address may try (`RATE_LIMITED` beyond). Behind a proxy all callers may have one address."""
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 0.0
    """How long a stopping server is "not ready" and still takes calls, for load balancers to notice."""
    grace_seconds: Annotated[float, Field(ge=0, le=300)] = 20.0
    """How long calls under way then get to end."""

    workers: Annotated[int, Field(ge=1, le=64)] = Field(default_factory=lambda: os.cpu_count() or 1)
    """How many workers `up` runs."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""

    @classmethod
    def load(cls) -> Settings:
        """Read the environment. Raises InvalidSettings."""
        try:
            return cls()
        except ValidationError as error:
            raise InvalidSettings(_sentence(error)) from None

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return level.lower()

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return url

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_receiver(cls, url: str | None) -> str | None:
        if url is not None and _RECEIVER.fullmatch(url) is None:
            raise ValueError("must be a URL such as http://localhost:4317")
        return url

    @field_validator("temporal_address")
    @classmethod
    def _is_place(cls, address: str | None) -> str | None:
        if address is not None and _PLACE.fullmatch(address) is None:
            raise ValueError("must be host:port")
        return address

    @field_validator("worker_build")
    @classmethod
    def _is_build(cls, build: str | None) -> str | None:
        if build is not None and _WORKER_BUILD.fullmatch(build) is None:
            raise ValueError("must be 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`, and begin with a letter or a digit")
        return build

    @field_validator("worker_deployment")
    @classmethod
    def _is_deployment(cls, name: str) -> str:
        if _WORKER_DEPLOYMENT.fullmatch(name) is None:
            raise ValueError("must be 1 to 128 of A-Z, a-z, 0-9, `_` and `-`, and begin with a letter or a digit")
        return name

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, origins: object) -> object:
        if isinstance(origins, str):
            return tuple(origin.strip().rstrip("/").lower() for origin in origins.split(",") if origin.strip())
        return origins

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("must be origins such as https://app.example.com, separated by commas")
        return origins

    @field_validator(
        *("payload_keys", "codec_tokens", "webhook_secrets", "webhook_networks", "unsubscribe_secrets"),
        *("accepted_exposures", "tls_client_names"),
        mode="before",
    )
    @classmethod
    def _listed(cls, values: object) -> object:
        if isinstance(values, str):
            return tuple(value.strip() for value in values.split(",") if value.strip())
        return values

    @field_validator("tls_client_names")
    @classmethod
    def _are_names_of_machines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_MACHINE.fullmatch(name) for name in names):
            raise ValueError(
                "must be DNS names, without `*`, or URIs, such as orders.example.com or spiffe://example.com/crm, "
                "separated by commas"
            )
        return names

    @field_validator("webhook_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    @field_validator("public_url", mode="before")
    @classmethod
    def _without_slash(cls, url: object) -> object:
        return url.rstrip("/") if isinstance(url, str) else url

    @field_validator("public_url")
    @classmethod
    def _is_place_on_the_web(cls, url: str | None) -> str | None:
        if url is not None and _PUBLIC_URL.fullmatch(url) is None:
            raise ValueError("must be a URL such as https://go.example.com")
        return url

    @field_validator("unsubscribe_secrets")
    @classmethod
    def _long_enough(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        texts = [secret.get_secret_value() for secret in secrets]
        if any(len(text) < LONG_SECRET for text in texts if text != INSTANCE_SECRET):
            raise ValueError(f"each must have at least {LONG_SECRET} characters, or be the word {INSTANCE_SECRET}")
        return secrets

    @field_validator("payload_keys")
    @classmethod
    def _are_payload_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        texts = [key.get_secret_value() for key in keys]
        found = [_PAYLOAD_KEY.fullmatch(text) for text in texts[texts[:1] == [PLAIN_PAYLOADS] :]]
        kids = [match[1] for match in found if match is not None]
        if len(kids) != len(found) or PLAIN_PAYLOADS in kids:
            raise ValueError(
                "each must be kid:key, the kid of a-z, 0-9, _ and -, the key 32 bytes in base64; before all others may "
                f"stand the word {PLAIN_PAYLOADS}"
            )
        if len(kids) != len(set(kids)):
            raise ValueError("no two keys can have the same kid")
        return keys

    @field_validator("codec_tokens")
    @classmethod
    def _are_codec_tokens(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        found = [_CODEC_TOKEN.fullmatch(token.get_secret_value()) for token in tokens]
        names = [match[1] for match in found if match is not None]
        if len(names) != len(found):
            raise ValueError(
                "each must be name:token, the name of a-z, 0-9, _ and -, the token of at least "
                f"{LONG_SECRET} visible ASCII characters"
            )
        if len(names) != len(set(names)):
            raise ValueError("no two tokens can have the same name")
        return tokens

    @field_validator("codec_origin")
    @classmethod
    def _is_origin(cls, origin: str | None) -> str | None:
        origin = origin.strip().rstrip("/").lower() if origin is not None else None
        if origin is not None and _ORIGIN.fullmatch(origin) is None:
            raise ValueError("must be one origin such as https://temporal.example.com")
        return origin

    @field_validator("api_key", "operator_key", "internal_token", "internal_token_previous", "metrics_token")
    @classmethod
    def _possible_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            text = key.get_secret_value()
            if not 1 <= len(text) <= 256 or not all("!" <= character <= "~" for character in text):
                raise ValueError("must be 1 to 256 visible ASCII characters without spaces")
        return key

    @field_validator("internal_token", "internal_token_previous")
    @classmethod
    def _strong_token(cls, token: SecretStr | None) -> SecretStr | None:
        # Machines come with it: there is no reason for one that can be guessed, wherever the server listens.
        if token is not None and len(token.get_secret_value()) < STRONG_KEY:
            raise ValueError(f"must have at least {STRONG_KEY} characters")
        return token

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("ORCHESTRATOR_TLS_CERTIFICATE and ORCHESTRATOR_TLS_KEY go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("ORCHESTRATOR_TLS_CLIENT_CA needs ORCHESTRATOR_TLS_CERTIFICATE and ORCHESTRATOR_TLS_KEY")
        if self.tls_client_names and self.tls_client_ca is None:
            raise ValueError("ORCHESTRATOR_TLS_CLIENT_NAMES needs ORCHESTRATOR_TLS_CLIENT_CA")
        if self.internal_token_previous is not None and self.internal_token is None:
            raise ValueError("ORCHESTRATOR_INTERNAL_TOKEN_PREVIOUS needs ORCHESTRATOR_INTERNAL_TOKEN")
        given = (self.api_key, self.operator_key, *self.internal_tokens)
        keys = [key.get_secret_value() for key in given if key]
        if len(keys) != len(set(keys)):
            raise ValueError(
                "ORCHESTRATOR_API_KEY, _OPERATOR_KEY, _INTERNAL_TOKEN and _INTERNAL_TOKEN_PREVIOUS must differ "
                "from each other"
            )
        return self

    @property
    def payload_key_texts(self) -> list[str]:
        """`payload_keys`, to make a keyring of."""
        return [key.get_secret_value() for key in self.payload_keys]

    @property
    def internal_tokens(self) -> list[SecretStr]:
        """Those that are good, newest first."""
        return [token for token in (self.internal_token, self.internal_token_previous) if token is not None]

    @property
    def internal_listener(self) -> bool:
        """Whether internal calls have ports of their own."""
        return self.internal_grpc_port is not None or self.internal_http_port is not None

    @property
    def short_keys(self) -> list[str]:
        """The variables of keys that can be guessed: they will do while only this machine can reach the server."""
        keys = {
            "ORCHESTRATOR_API_KEY": self.api_key,
            "ORCHESTRATOR_OPERATOR_KEY": self.operator_key,
            "ORCHESTRATOR_METRICS_TOKEN": self.metrics_token,
        }
        return [name for name, key in keys.items() if key is not None and len(key.get_secret_value()) < STRONG_KEY]


def is_loopback(host: str) -> bool:
    """Whether it is this machine that is meant, and no other can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"{message}."
    name = str(first["loc"][0])
    variable = name if name.isupper() else f"ORCHESTRATOR_{name.upper()}"
    return f"{variable} is not usable: {message[0].lower()}{message[1:]}."
