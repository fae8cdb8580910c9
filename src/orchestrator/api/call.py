"""A call as its handler sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from orchestrator.application.transactions import Transactions
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Runs once the transaction is committed, beside the answer: its failure is logged and changes nothing for the caller.
AfterCommit = Callable[[], Awaitable[None]]

NO_FAULTS: Mapping[int, Sequence[Fault]] = MappingProxyType({})

_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[object]])


@dataclass(slots=True, kw_only=True)
class Call:
    """Who calls what, and the connection to serve it with.

    `method` is `orchestrator.v1.AudienceService/CreateAudience`. `request_id` is the caller's key for repeats, empty
    without one; `fingerprint` (32 bytes) is equal for equal requests. With `validate_only` everything the handler does
    is rolled back. In operator calls `scope.project_no` is 0.
    """

    method: str
    scope: Scope
    transactions: Transactions
    request_id: str = ""
    fingerprint: bytes = b""
    validate_only: bool = False
    #: What is wrong with those items of a batch that stand for themselves, by their place; the others are sound.
    item_faults: Mapping[int, Sequence[Fault]] = field(default_factory=lambda: NO_FAULTS)
    #: Set by the pipeline once the connection is there.
    connection: Connection[Record] | None = None
    callbacks: list[AfterCommit] = field(default_factory=list)

    @property
    def conn(self) -> Connection[Record]:
        """The call's connection, in its project. Mutating calls are inside their transaction, reading calls are not."""
        if self.connection is None:
            raise RuntimeError(f"{self.method} owns its transactions: use call.transactions")
        return self.connection

    def after_commit(self, callback: AfterCommit) -> None:
        """Have `callback` run after the commit; never, if the transaction is rolled back."""
        self.callbacks.append(callback)


def own_transactions(handler: _Handler) -> _Handler:
    """Marks a handler that opens its transactions itself, through `call.transactions`; it has no `call.conn`."""
    handler.__dict__["own_transactions"] = True
    return handler


def tells_all(handler: _Handler) -> _Handler:
    """Marks a handler that is also called with a request that is wrong in itself, only to learn what else is wrong.

    Whatever it does then is rolled back. It meets fields without a value where a fault was found, and has to do no more
    than to raise InvalidArgument with all that it finds.
    """
    handler.__dict__["tells_all"] = True
    return handler
