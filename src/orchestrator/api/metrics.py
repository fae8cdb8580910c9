"""What is counted of calls, under the names that dashboards for gRPC know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orchestrator.api.health import State
from orchestrator.api.methods import Method

if TYPE_CHECKING:
    from asyncpg import Pool, Record

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class _Numbers:
    """One method's numbers, looked up once and not in every call."""

    service: str
    rpc: str
    started: Counter
    seconds: Histogram
    handled: dict[StatusCode, Counter]


class CallMetrics:
    """Counts calls of both transports alike: `grpc_code` is the code either of them stands for."""

    def __init__(self, registry: CollectorRegistry, methods: Iterable[Method]) -> None:
        rpc = ("grpc_type", "grpc_service", "grpc_method")
        started = Counter("grpc_server_started_total", "Calls that were begun.", rpc, registry=registry)
        self._handled = Counter(
            "grpc_server_handled_total", "Calls that have ended, by code.", (*rpc, "grpc_code"), registry=registry
        )
        seconds = Histogram(
            "grpc_server_handling_seconds", "How long calls took.", rpc, registry=registry, buckets=_BUCKETS
        )
        self.in_flight = Gauge("grpc_server_in_flight", "Calls under way.", registry=registry)
        self._numbers = {
            method.name: _Numbers(
                method.service,
                method.rpc,
                started.labels("unary", method.service, method.rpc),
                seconds.labels("unary", method.service, method.rpc),
                {},
            )
            for method in methods
        }
        # There from the start, at 0: of a number that appears as 1, nobody could say that it has risen.
        for numbers in self._numbers.values():
            self._handled_with(numbers, StatusCode.INTERNAL)

    def started(self, method: Method) -> None:
        self._numbers[method.name].started.inc()

    def ended(self, method: Method, code: StatusCode, seconds: float) -> None:
        numbers = self._numbers[method.name]
        self._handled_with(numbers, code).inc()
        numbers.seconds.observe(seconds)

    def _handled_with(self, numbers: _Numbers, code: StatusCode) -> Counter:
        handled = numbers.handled.get(code)
        if handled is None:
            handled = self._handled.labels("unary", numbers.service, numbers.rpc, _label(code))
            numbers.handled[code] = handled
        return handled


class StateMetrics:
    """How the server is: looked up when somebody reads the page."""

    def __init__(
        self, registry: CollectorRegistry, state: Callable[[], State], pools: Mapping[str, Pool[Record]]
    ) -> None:
        ready = Gauge(
            "orchestrator_server_ready", "1 while calls may be sent here, as /readyz says.", registry=registry
        )
        ready.set_function(lambda: state().ready)
        degraded = Gauge("orchestrator_server_degraded", "1 while Temporal is away.", registry=registry)
        degraded.set_function(lambda: state().degraded)
        size = Gauge(
            "orchestrator_server_pool_size", "Connections to PostgreSQL there may be.", ("pool",), registry=registry
        )
        busy = Gauge("orchestrator_server_pool_busy", "Connections to PostgreSQL in use.", ("pool",), registry=registry)
        for name, pool in pools.items():
            size.labels(name).set_function(pool.get_max_size)
            busy.labels(name).set_function(partial(_busy, pool))


def _busy(pool: Pool[Record]) -> int:
    return pool.get_size() - pool.get_idle_size()


def _label(code: StatusCode) -> str:
    """`NOT_FOUND` as other gRPC servers label it: `NotFound`, and `OK`."""
    return "OK" if code is StatusCode.OK else code.name.title().replace("_", "")
