"""What is counted of calls, under the names that dashboards for gRPC know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orchestrator.api.admission_control import Shortage
from orchestrator.api.health import State
from orchestrator.api.methods import Method
from orchestrator.api.policy import CallClass

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


class LoadMetrics:
    """What becomes of calls when there are more than can be served."""

    def __init__(self, registry: CollectorRegistry, limit: Callable[[], float]) -> None:
        """`limit`: the calls that are let in at once."""
        shed = Counter(
            "orchestrator_server_calls_shed_total",
            "Calls that were told to come back, by class and by what there was too little of.",
            ("call_class", "shortage"),
            registry=registry,
        )
        # All from the start, at 0.
        self._shed = {
            (kind, shortage): shed.labels(kind.value, shortage.value) for kind in CallClass for shortage in Shortage
        }
        Gauge(
            "orchestrator_server_call_limit", "Calls that are let in at once, as found out.", registry=registry
        ).set_function(limit)
        self._lag = Histogram(
            "orchestrator_server_loop_lag_seconds",
            "By how much the loop in which all calls run was late, looked at fifty times a second.",
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
        )

    def shed(self, call_class: CallClass, shortage: Shortage) -> None:
        self._shed[call_class, shortage].inc()

    def lag(self, seconds: float) -> None:
        self._lag.observe(seconds)


class Connections(Protocol):
    """Connections to PostgreSQL, for calls of one sort."""

    @property
    def count(self) -> int:
        """How many there may be."""

    @property
    def allowed(self) -> int:
        """How many may be in use now, beside those of heavy calls."""

    def taken(self) -> int:
        """How many are in use."""


class StateMetrics:
    """How the server is: looked up when somebody reads the page."""

    def __init__(
        self, registry: CollectorRegistry, state: Callable[[], State], pools: Mapping[str, Connections]
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
        allowed = Gauge(
            "orchestrator_server_pool_allowed",
            "Connections to PostgreSQL that calls may use now, beside heavy ones: fewer while cores are short.",
            ("pool",),
            registry=registry,
        )
        busy = Gauge("orchestrator_server_pool_busy", "Connections to PostgreSQL in use.", ("pool",), registry=registry)
        for name, pool in pools.items():
            size.labels(name).set(pool.count)
            allowed.labels(name).set_function(_allowed(pool))
            busy.labels(name).set_function(pool.taken)


def _allowed(pool: Connections) -> Callable[[], float]:
    return lambda: pool.allowed


def _label(code: StatusCode) -> str:
    """`NOT_FOUND` as other gRPC servers label it: `NotFound`, and `OK`."""
    return "OK" if code is StatusCode.OK else code.name.title().replace("_", "")
