"""Connecting to Temporal."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from ipaddress import ip_address

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, GrpcCompression
from temporalio.envconfig import ClientConfig
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError

from orchestrator.temporal.codec import data_converter
from orchestrator.temporal.contract import SEARCH_ATTRIBUTES
from orchestrator.temporal.keyring import NO_KEYS, Keyring
from orchestrator.temporal.trace_headers import TraceCarrier

#: How long a call about one workflow may take, and one for a page of a list.
CALL_TIMEOUT = timedelta(seconds=8)
LIST_TIMEOUT = timedelta(seconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where Temporal is. What is empty here comes from the SDK's own environment (`TEMPORAL_*`, profiles) or its
    defaults.
    """

    address: str = ""
    namespace: str = ""


def runtime(metrics_address: str | None) -> Runtime:
    """The native runtime of this process, with its metrics on `metrics_address` (host:port) if one is given.

    Its errors are lines of our log like any others, without the fields it has for them: those hold ids of workflows.
    """
    return Runtime(
        telemetry=TelemetryConfig(
            logging=LoggingConfig(
                filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"),
                forwarding=LogForwardingConfig(
                    logger=logging.getLogger("temporalio.core"),
                    prepend_target_on_message=False,
                    append_log_fields_to_message=False,
                ),
            ),
            metrics=PrometheusConfig(
                bind_address=metrics_address, durations_as_seconds=True, counters_total_suffix=True
            )
            if metrics_address
            else None,
        )
    )


@cache
def _runtime_of_clients() -> Runtime:
    """One for all that need no metrics: each has threads of its own."""
    return runtime(None)


async def connect(
    target: Target, *, keyring: Keyring = NO_KEYS, runtime: Runtime | None = None, lazy: bool = False
) -> Client:
    """A client. Raises RuntimeError when Temporal cannot be reached, unless `lazy`: then the first call connects.

    `keyring`: what it encrypts with, and reads what is encrypted.
    """
    config = ClientConfig.load_client_connect_config()
    if target.address:
        config["target_host"] = target.address
    if target.namespace:
        config["namespace"] = target.namespace
    config.setdefault("target_host", "localhost:7233")
    # On the same machine compression costs both sides more than it saves.
    compression = GrpcCompression.NONE if _is_local(config["target_host"]) else GrpcCompression.GZIP
    return await Client.connect(
        **config,
        data_converter=data_converter(keyring),
        runtime=runtime or _runtime_of_clients(),
        interceptors=[TraceCarrier()],
        lazy=lazy,
        grpc_compression=compression,
    )


def _is_local(target: str) -> bool:
    host = target.rsplit(":", 1)[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def missing_search_attributes(client: Client) -> list[str]:
    """Our search attributes that the namespace lacks, or has with another type.

    Empty when the server does not say: then the first start finds out (`executions.Executions`).
    """
    try:
        answer = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace), timeout=CALL_TIMEOUT
        )
    except RPCError:
        return []
    return sorted(_lacking(answer.custom_attributes.items()))


def _lacking(present: Iterable[tuple[str, IndexedValueType.ValueType]]) -> set[str]:
    types = {name: IndexedValueType.Name(number).removeprefix("INDEXED_VALUE_TYPE_") for name, number in present}
    return {name for name, kind in SEARCH_ATTRIBUTES.items() if types.get(name) != kind.upper()}
