"""Traces: what became of a call, through inbox and outbox, in workflows and activities, up to the provider.

A span is one thing that was done, with its beginning and its end. It says which things, never what is in them: only
the attributes named here can be given, and of an error its type. Without a recorder all of this does nothing. Where
there is one (`otlp`), calls begin a trace, and executions that wake by the clock; everything else belongs to the trace
that was carried to it, or to none.

What is carried, in rows and in Temporal's headers, is the text of a W3C `traceparent`: numbers that are drawn by lot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Literal, Protocol, TypedDict, Unpack

Kind = Literal["server", "producer", "consumer", "client", "internal"]


class Attributes(TypedDict, total=False):
    """What may be said of a span: ids made by the instance, ids of definitions, counts, codes."""

    attempt: int
    call_id: str
    channel: str
    code: str
    count: int
    database: str
    execution_id: str
    journey_id: str
    method: str
    project_id: str
    reason: str
    service: str
    state: str
    step_id: str
    transport: str
    version: int
    woken_by: str


#: By which names they leave the process: those that OpenTelemetry has for something, and else our own.
NAMES: Mapping[str, str] = {
    **{name: f"orchestrator.{name}" for name in Attributes.__annotations__},
    "code": "rpc.response.status_code",
    "database": "db.system.name",
    "method": "rpc.method",
    "service": "rpc.service",
}


class Recorded(Protocol):
    """A span that is being recorded."""

    @property
    def traceparent(self) -> str: ...

    def note(self, attributes: Mapping[str, str | int]) -> None: ...

    def end(self, *, error: str | None, at: int | None) -> None: ...


class Recorder(Protocol):
    """Who records spans. Times are in nanoseconds since the epoch; None: now."""

    def begin(self, name: str, kind: Kind, *, parent: str | None, since: int | None = None) -> Recorded | None:
        """A span of the parent's trace, or the first of a new one; None: it is not to be recorded."""

    def tell(
        self,
        name: str,
        *,
        trace_id: int,
        span_id: int,
        parent: str | None,
        link: str | None,
        since: int,
        until: int,
        error: str | None,
        attributes: Mapping[str, str | int],
    ) -> None:
        """Record a span that is over, whose numbers the caller has drawn. `trace_id` is that of the parent, if there is
        one. `link`: a span of another trace without which this one would not be.
        """


class Span:
    """One thing that is being done; of one that nobody records, everything is taken without a word."""

    __slots__ = ("_error", "_recorded")

    def __init__(self, recorded: Recorded | None) -> None:
        self._recorded = recorded
        self._error: str | None = None

    @property
    def traceparent(self) -> str | None:
        return self._recorded.traceparent if self._recorded is not None else None

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits, by which a trace is found."""
        return self._recorded.traceparent[3:35] if self._recorded is not None else None

    def note(self, **attributes: Unpack[Attributes]) -> None:
        if self._recorded is not None:
            self._recorded.note(named(attributes))

    def fail(self, error: str) -> None:
        """It failed with an error of this type; the first one counts."""
        self._error = self._error or error

    def drop(self) -> None:
        """Record nothing of it: somebody came whom we do not know."""
        self._recorded = None

    def end(self, at: int | None = None) -> None:
        if self._recorded is not None:
            self._recorded.end(error=self._error, at=at)


def named(attributes: Attributes) -> Mapping[str, str | int]:
    """The attributes by the names by which they leave the process; what is not among them stays here."""
    given: Iterable[tuple[str, object]] = attributes.items()
    return {NAMES[name]: value for name, value in given if name in NAMES and isinstance(value, str | int)}


_NOBODY_LOOKS = Span(None)

_recorder: Recorder | None = None
_current: ContextVar[Span] = ContextVar("span", default=_NOBODY_LOOKS)
_shared: ContextVar[Mapping[Hashable, str]] = ContextVar("shared", default=MappingProxyType({}))


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Have spans of this process recorded as long as the block lasts."""
    global _recorder
    before, _recorder = _recorder, recorder
    try:
        yield
    finally:
        _recorder = before


def recorder() -> Recorder | None:
    """Who records the spans of this process, if anybody does."""
    return _recorder


def current() -> Span:
    """What is being done now, by this task."""
    return _current.get()


def carried(of: Hashable = None) -> str | None:
    """What is to be carried to whoever goes on with this; None: nothing is recorded. `of`: where many are worked on at
    once, one of those.
    """
    if _recorder is None:
        return None
    return _shared.get().get(of) or _current.get().traceparent


class TraceIds(logging.Filter):
    """Adds `trace_id` to lines of the log, of what is traced."""

    def filter(self, record: logging.LogRecord) -> bool:
        trace_id = _current.get().trace_id
        if trace_id is not None:
            record.trace_id = trace_id
        return True


@contextmanager
def begun(name: str, kind: Kind, parent: str | None) -> Iterator[Span]:
    """A span of a trace that begins here, or came along as `parent`."""
    if _recorder is None:
        yield _NOBODY_LOOKS
        return
    # What is not to be recorded is not, to its end; so it must not take part in a span around it.
    with _doing(_recorder.begin(name, kind, parent=parent)) as span:
        yield span


@contextmanager
def joined(name: str, kind: Kind, carried: str | None, **attributes: Unpack[Attributes]) -> Iterator[Span]:
    """A span of the trace that was carried here; without one, of none."""
    if _recorder is None:
        yield _NOBODY_LOOKS
        return
    recorded = _recorder.begin(name, kind, parent=carried) if carried is not None else None
    if recorded is not None:
        recorded.note(named(attributes))
    with _doing(recorded) as span:
        yield span


@contextmanager
def part(name: str, kind: Kind = "internal", **attributes: Unpack[Attributes]) -> Iterator[Span]:
    """A part of what is being done now."""
    around = _current.get().traceparent
    if around is None or _recorder is None:
        yield _NOBODY_LOOKS
        return
    with joined(name, kind, around, **attributes) as span:
        yield span


@contextmanager
def _doing(recorded: Recorded | None) -> Iterator[Span]:
    span = Span(recorded) if recorded is not None else _NOBODY_LOOKS
    token = _current.set(span)
    try:
        yield span
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    finally:
        _current.reset(token)
        span.end()


class Shared:
    """One piece of work for many at once: each trace that was carried to it has a span of it. A context manager."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spans: list[Span] = []
        self._token: Token[Mapping[Hashable, str]] | None = None
        self._since = 0

    def __enter__(self) -> Shared:
        self._since = time.time_ns()
        return self

    def join(self, come: Sequence[tuple[Hashable, str | None]]) -> None:
        """Who was worked on, and the trace that was carried to each; of one who comes twice, the last one. What is
        `carried` of him from here on belongs to this span of his trace. Once in a block.
        """
        recorder = _recorder
        traces = {trace for _, trace in come if trace is not None}
        if recorder is None or not traces:
            return
        begun = {trace: recorder.begin(self._name, "consumer", parent=trace, since=self._since) for trace in traces}
        self._spans = [Span(recorded) for recorded in begun.values() if recorded is not None]
        carried = {of: recorded for of, trace in come if trace is not None and (recorded := begun[trace]) is not None}
        self._token = _shared.set({of: recorded.traceparent for of, recorded in carried.items()})

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._token is not None:
            _shared.reset(self._token)
        for span in self._spans:
            if kind is not None:
                span.fail(kind.__name__)
            span.end()
