"""What happens to every call, whichever way it came.

Count it, see who calls, by certificate and by key, and whether they may, find it a place, read the request, open the
transaction, and hand over to the handler; afterwards one line in the log. Nothing of this stands anywhere else. Places
are for those who may call: who has no key takes none, and what is held for a key that is not known yet has a limit of
its own. The time that a call has is known to all that is done for it (storage/running_call.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from asyncio import Semaphore, Task
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from asyncpg import Connection, Record
from google.protobuf.message import Message
from grpc import StatusCode

from orchestrator import traces
from orchestrator.api.admission_control import Admission, NotLetIn
from orchestrator.api.auth import Authentication
from orchestrator.api.call import NO_FAULTS, AfterCommit, Call
from orchestrator.api.client_certificates import AllowedClients
from orchestrator.api.descriptors import descriptor_of, fields_of
from orchestrator.api.errors import DeadlineExceeded, Failure, failure_of
from orchestrator.api.fault_order import in_order
from orchestrator.api.fault_relations import unrelated
from orchestrator.api.message_check import divide
from orchestrator.api.methods import Method
from orchestrator.api.metrics import CallMetrics
from orchestrator.api.policy import CallClass
from orchestrator.application import projects
from orchestrator.application.forgetting import count_refused
from orchestrator.application.threads import in_thread
from orchestrator.application.transactions import Transactions
from orchestrator.domain.refusals import InvalidArgument, SubjectForgotten
from orchestrator.domain.scope import INSTANCE, Role, Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage.outages import is_outage
from orchestrator.storage.running_call import running_call
from orchestrator.temporal.outages import is_away

logger = logging.getLogger(__name__)

#: What of a call's codes is a failure of the server, as OpenTelemetry's conventions have it.
_OUR_FAULT = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)

DEFAULT_TIME_LIMIT = timedelta(seconds=10)
MAX_TIME_LIMIT = timedelta(seconds=60)

#: Bytes of requests and answers beyond which they are read and written beside the loop: so many take some milliseconds.
LARGE = 64 * 1024

_Made = TypeVar("_Made")

#: In which a caller says what trace a call belongs to, of gRPC and HTTP alike (W3C Trace Context).
TRACE_HEADER = "traceparent"


@dataclass(slots=True)
class Read:
    """A request, and everything that is wrong with it."""

    request: Message
    faults: list[Fault]


@dataclass(slots=True, kw_only=True)
class Arrival:
    """A call as its transport hands it over.

    `peer` is the address it came from. `time_left` is what the caller allows, in seconds; None when they do not say.
    `call_id` is what logs and errors call it.
    """

    method: Method
    transport: str
    peer: str
    key: str
    #: Whether the key stood in `authorization`.
    as_bearer: bool
    call_id: str
    time_left: float | None
    #: Raises InvalidArgument when there is no request to be made of what came.
    read: Callable[[], Awaitable[Read]]
    #: The project that the path names, where paths do; a key of any other finds nothing there.
    project_id: str | None = None
    #: The trace that the call belongs to, if its caller says so (W3C).
    traceparent: str | None = None
    #: The names in the certificate that the connection was made with.
    client_names: Callable[[], frozenset[str]] = frozenset


class Pipeline:
    """Serves calls. One per server, for both transports."""

    def __init__(
        self,
        *,
        authentication: Authentication,
        transactions: Transactions,
        metrics: CallMetrics,
        admission: Admission,
        clients: AllowedClients,
    ) -> None:
        self._authentication = authentication
        self._clients = clients
        self._transactions = transactions
        self._metrics = metrics
        self._admission = admission
        self._callbacks: set[Task[None]] = set()
        self._large = Semaphore(1)
        metrics.in_flight.set_function(lambda: admission.inside)

    async def serve(self, arrival: Arrival) -> bytes | Failure:
        """The serialized response, or why there is none. Raises nothing but CancelledError."""
        with traces.begun(arrival.method.name, "server", arrival.traceparent):
            return await self._serve(arrival)

    async def _serve(self, arrival: Arrival) -> bytes | Failure:
        began = time.perf_counter()
        self._metrics.started(arrival.method)
        code, reason, scope, let_in = StatusCode.CANCELLED, None, None, True
        try:
            try:
                async with asyncio.timeout(_time_limit(arrival.time_left)) as timeout:
                    # Before the key: whoever is not meant to call learns nothing of keys either.
                    self._clients.require(arrival.client_names)
                    scope = await self._authentication.scope_of(arrival.key, arrival.peer, as_bearer=arrival.as_bearer)
                    arrival.method.rule.require(scope.role)
                    if arrival.project_id is not None and arrival.project_id != scope.project_id:
                        raise projects.not_found(arrival.project_id)
                    call_class = arrival.method.rule.call_class
                    with (
                        self._admission.place(scope, call_class),
                        running_call(
                            ends_at=timeout.when(),
                            caller=(scope.project_no, scope.actor),
                            critical=call_class is CallClass.CRITICAL,
                            heavy=call_class is CallClass.HEAVY,
                        ),
                    ):
                        read = await arrival.read()
                        if arrival.method.names_project:
                            scope = await self._in_project(scope, read)
                        response = await self._carry_out(arrival.method, read, scope)
            except TimeoutError as error:
                raise (DeadlineExceeded() if timeout.expired() else error) from None
            code = StatusCode.OK
            return response
        except Exception as error:
            failure = failure_of(error, call_id=arrival.call_id, method=arrival.method.name)
            code, reason, let_in = failure.code, failure.reason, not isinstance(error, NotLetIn)
            if isinstance(error, SubjectForgotten) and scope is not None:
                await self._count_forgotten(scope, error)
            return failure
        finally:
            self._record(arrival, code, reason, scope, time.perf_counter() - began, let_in=let_in)

    async def made(self, make: Callable[[bytes], _Made], body: bytes) -> _Made:
        """What `make` makes of the bytes of a request or of an answer. Of many it would hold up everybody else, so it
        does that beside the loop, for one after the other.
        """
        if len(body) <= LARGE:
            return make(body)
        async with self._large:
            return await in_thread(make, body)

    async def close(self, grace: float = 20.0) -> None:
        """Give the callbacks of committed calls `grace` seconds; what they would have done, sweepers do later."""
        if self._callbacks:
            _, late = await asyncio.wait(self._callbacks, timeout=grace)
            for callback in late:
                callback.cancel()

    async def _in_project(self, scope: Scope, read: Read) -> Scope:
        """The scope in the project that the request names. A key is of a project, and need not name it; the internal
        token is of none. Raises NotFound, and InvalidArgument with all that is wrong with the request.
        """
        project_id: str = fields_of(read.request).project_key
        if scope.role is not Role.INTERNAL:
            # What is wrong with the request is told first, by who carries it out.
            if not read.faults and project_id not in ("", scope.project_id):
                raise projects.not_found(project_id)
            return scope
        wrong = [fault for fault in read.faults if fault.path == "projectKey"]
        if not project_id and not wrong:
            wrong = [Fault(path="projectKey", reason="REQUIRED", message="must be given")]
            read.faults += wrong
        if wrong:
            raise InvalidArgument(read.faults)
        async with self._transactions.read(INSTANCE) as conn:
            return await projects.scope_in(conn, scope, project_id)

    async def _carry_out(self, method: Method, read: Read, scope: Scope) -> bytes:
        request, item_faults = read.request, NO_FAULTS
        if read.faults:
            whole, item_faults = divide(request, read.faults)
            if whole:
                further = await self._further_faults(method, request, scope, whole)
                raise InvalidArgument(in_order(descriptor_of(request), [*whole, *further]))
        call = Call(method=method.name, scope=scope, transactions=self._transactions, item_faults=item_faults)
        if method.has_request_id:
            call.request_id = fields_of(request).request_id
        if method.has_validate_only:
            call.validate_only = fields_of(request).validate_only
        if call.request_id:
            call.fingerprint = _fingerprint(request)
        if method.own_transactions:
            try:
                return (await method.handler(request, call)).SerializeToString()
            finally:
                # Such a handler asks for them once it has committed.
                self._run_callbacks(call.callbacks)
        if not method.mutates:
            async with self._transactions.read(scope.project_no) as call.connection:
                return (await method.handler(request, call)).SerializeToString()
        return await self._change(method, request, call)

    async def _count_forgotten(self, scope: Scope, refused: SubjectForgotten) -> None:
        """Note that they have come back; the caller is told the same if that cannot be noted now."""
        try:
            await count_refused(self._transactions, scope.project_no, dict.fromkeys(refused.subject_ids, 1))
        except Exception as error:
            logger.warning("a refusal was not counted", extra={"error": type(error).__name__})

    async def _further_faults(self, method: Method, request: Message, scope: Scope, faults: list[Fault]) -> list[Fault]:
        """What the handler finds wrong with a faulty request besides, so that callers hear of everything at once."""
        if not method.tells_all:
            return []
        call = Call(method=method.name, scope=scope, transactions=self._transactions, validate_only=True)

        async def work(conn: Connection[Record]) -> bytes:
            call.connection = conn
            await method.handler(request, call)
            return b""

        try:
            await self._transactions.rehearse(scope.project_no, work)
        except InvalidArgument as refused:
            return unrelated(faults, refused.faults)
        except Exception as error:
            # The request is refused in any case, for faults that are known.
            logger.info("a faulty request hides further faults", extra={"error": type(error).__name__})
        return []

    async def _change(self, method: Method, request: Message, call: Call) -> bytes:
        """Do it in a transaction, once for each request id; with validate_only, and then undo it."""
        shown: list[bytes] = []

        async def work(conn: Connection[Record]) -> bytes:
            call.connection = conn
            response = await method.handler(request, call)
            shown.append(response.SerializeToString())
            if not method.secrets:
                return shown[0]
            for name in method.secrets:
                response.ClearField(name)
            return response.SerializeToString()

        if call.validate_only:
            await self._transactions.rehearse(call.scope.project_no, work)
            return shown[0]
        stored = await self._transactions.once(
            call.scope,
            call.method,
            call.request_id,
            call.fingerprint,
            work,
            committed=lambda: self._run_callbacks(call.callbacks),
        )
        # The caller whose request took effect sees secrets; those who repeat it do not.
        return shown[0] if shown else stored

    def _run_callbacks(self, callbacks: list[AfterCommit]) -> None:
        for callback in callbacks:
            task = asyncio.create_task(_run(callback))
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)

    def _record(
        self,
        arrival: Arrival,
        code: StatusCode,
        reason: str | None,
        scope: Scope | None,
        seconds: float,
        *,
        let_in: bool,
    ) -> None:
        self._metrics.ended(arrival.method, code, seconds)
        span = traces.current()
        if span.trace_id is not None:
            _describe(span, arrival, code, reason, scope)
        # Whoever turns calls away tells of them together.
        if let_in and logger.isEnabledFor(logging.INFO):
            fields: dict[str, object] = {
                "method": arrival.method.name,
                "code": code.name,
                "ms": round(seconds * 1000, 2),
                "transport": arrival.transport,
                "call_id": arrival.call_id,
            }
            if reason is not None:
                fields["reason"] = reason
            if scope is not None:
                fields["project_id"] = scope.project_id
                fields["actor"] = scope.actor
            logger.info("call", extra=fields)


def _describe(span: traces.Span, arrival: Arrival, code: StatusCode, reason: str | None, scope: Scope | None) -> None:
    """Say of a call's span what the log says of the call. Who has no key, or may not show one, has nothing recorded,
    whatever he asks for.
    """
    if code is StatusCode.UNAUTHENTICATED or (scope is None and code is StatusCode.PERMISSION_DENIED):
        span.drop()
        return
    service, _, method = arrival.method.name.rpartition("/")
    span.note(service=service, method=method, code=code.name, transport=arrival.transport, call_id=arrival.call_id)
    if reason is not None:
        span.note(reason=reason)
    if scope is not None:
        span.note(project_id=scope.project_id)
    if code in _OUR_FAULT:
        span.fail(code.name)


async def _run(callback: AfterCommit) -> None:
    try:
        await callback()
    except Exception as error:
        # What it would have done, sweepers do.
        if is_outage(error) or is_away(error):
            logger.warning("a callback after a commit failed", extra={"error": type(error).__name__})
        else:
            logger.exception("a callback after a commit failed")


def _time_limit(time_left: float | None) -> float:
    if time_left is None:
        return DEFAULT_TIME_LIMIT.total_seconds()
    return min(time_left, MAX_TIME_LIMIT.total_seconds())


def _fingerprint(request: Message) -> bytes:
    """Equal for requests that ask for the same, under whatever id. 32 bytes."""
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("request_id")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()
