"""`settings`: everything that can be set in the environment, as docs/settings.md has it."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from orchestrator.settings import Settings

#: The fields under each heading, in order.
GROUPS = {
    "Where the parts are": ("database_url", "temporal_address", "temporal_namespace", "data_dir"),
    "Keys": ("api_key", "operator_key", "internal_token", "internal_token_previous", "metrics_token"),
    "Where to listen": (
        "grpc_host", "grpc_port", "http_host", "http_port",
        "internal_host", "internal_grpc_port", "internal_http_port",
        "worker_metrics_host", "worker_metrics_port",
        "allowed_origins", "reflection", "accepted_exposures",
    ),
    "TLS": ("tls_certificate", "tls_key", "tls_client_ca", "tls_client_names"),
    "Encrypted histories": (
        *("payload_keys", "codec_tokens", "codec_host", "codec_port", "codec_origin"),
    ),
    "Webhooks": ("webhook_secrets", "webhook_networks", "webhook_plain_http"),
    "Mail": (
        "smtp_url", "smtp_plain", "smtp_ca", "smtp_from", "smtp_on_ambiguity", "smtp_connections",
        "public_url", "unsubscribe_secrets",
    ),
    "Audit log": ("audit_anchors",),
    "Erasures": ("erasure_ledger",),
    "How much at once": (
        *("pool_size", "max_calls", "max_calls_per_key", "calls_per_second", "wrong_keys_per_minute"),
        *("drain_seconds", "grace_seconds", "workers"),
    ),
    "Builds of workers": ("worker_build", "worker_deployment"),
    "Logs": ("log_level", "log_format"),
    "Traces": ("otlp_endpoint", "otlp_protocol"),
}  # fmt: skip

#: What commands that talk to a server read besides ORCHESTRATOR_API_KEY and ORCHESTRATOR_DATA_DIR.
CLIENT = {
    "ORCHESTRATOR_ADDRESS": "The server's gRPC, `host:port`; with `https://` before it, over TLS. "
    "Without it, that of the `up` on the data directory, else `127.0.0.1:50051`.",
    "ORCHESTRATOR_CLIENT_CA": "PEM file: who may vouch for the server. Without it, the usual authorities.",
    "ORCHESTRATOR_CLIENT_CERTIFICATE": "PEM file that is shown to servers which ask for one.",
    "ORCHESTRATOR_CLIENT_KEY": "PEM file of its key.",
}

_INTRODUCTION = """\
# Settings

Everything comes from the environment. A variable that is empty counts as not set. What cannot be used is named in one
sentence, and the process does not start. Lists are separated by commas. Flags of `up` come before variables.
"""

_LIBRARIES = """\
## Of the libraries below

PostgreSQL: where `DATABASE_URL` leaves something out, `PGPASSWORD`, `PGPASSFILE`, `PGSSLMODE` and the rest of libpq's
variables that [asyncpg](https://magicstack.github.io/asyncpg/current/api/index.html#connection) knows are read.

Temporal: TLS, API keys and profiles are those of the SDK's
[environment configuration](https://docs.temporal.io/develop/environment-configuration), such as `TEMPORAL_API_KEY`,
`TEMPORAL_TLS_CLIENT_CERT_PATH` or `TEMPORAL_PROFILE`. Neither applies to what `up` brings along.

OpenTelemetry: the rest of its [variables](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/)
for traces, such as `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` or `OTEL_SERVICE_NAME`.
"""

_KINDS: dict[Any, str] = {str: "text", int: "number", float: "number", bool: "`true`, `false`", Path: "path"}


def settings() -> None:
    """Print everything that can be set in the environment, as Markdown."""
    typer.echo(page(), nl=False)


def page() -> str:
    """The text of docs/settings.md."""
    return "\n".join([_INTRODUCTION, *_tables(), _LIBRARIES])


def variable_of(name: str, field: FieldInfo) -> str:
    """The name that the environment has for a setting."""
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"ORCHESTRATOR_{name.upper()}"


def _tables() -> Iterator[str]:
    for heading, names in GROUPS.items():
        rows = []
        for name in names:
            field = Settings.model_fields[name]
            said = " ".join((field.description or "").split())
            rows.append((f"`{variable_of(name, field)}`", _values(field), _default(name, field), said))
        yield _table(heading, ("variable", "values", "default", "what it says"), rows)
    yield _table(
        "Of commands that talk to a server",
        ("variable", "what it says"),
        [(f"`{name}`", said) for name, said in CLIENT.items()],
    )


def _table(heading: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [columns, ["---" for _ in columns], *rows]
    return "\n".join([f"## {heading}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def _values(field: FieldInfo) -> str:
    kind = field.annotation
    parts = [part for part in typing.get_args(kind) if part not in (type(None), ...)]
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in parts)
    if typing.get_origin(kind) is tuple:
        return "secrets" if parts == [SecretStr] else "list"
    kind, metadata = (parts[0], field.metadata) if parts else (kind, field.metadata)
    if typing.get_origin(kind) is typing.Annotated:
        kind, *inner = typing.get_args(kind)
        metadata = [*metadata, *inner]
    if kind is SecretStr:
        return "secret"
    limits = _limits(metadata)
    return f"{limits[0]:,g} to {limits[1]:,g}" if limits else _KINDS[kind]


def _limits(metadata: Iterable[Any]) -> tuple[float, float] | None:
    """The least and the most, where there are such."""
    constraints = [part for entry in metadata for part in getattr(entry, "metadata", [entry])]
    least, most = ([getattr(part, end) for part in constraints if hasattr(part, end)] for end in ("ge", "le"))
    return (least[0], most[0]) if least and most else None


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "one per core"
    match field.default:
        case None | "" | ():
            return ""
        case bool():
            return f"`{str(field.default).lower()}`"
        case float():
            return f"`{field.default:g}`"
        case _:
            return f"`{field.default}`"
