"""Connections over HTTP that ask nothing: they are let be for a while, and make room for those that do.

uvicorn waits for the head of a request for as long as it takes, and takes as many connections as there are descriptors.
So whoever opens many, or sends a byte now and then, would keep everybody else from being heard.
"""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.api.client_certificates import CLIENT_NAMES, names_of_connection

#: Seconds in which the head of a request has to be there, from the opening of the connection or its first byte.
PATIENCE = 20.0
#: Connections at once. The one that has asked nothing for longest makes room for a new one.
MOST = 4_000


class Idle:
    """The connections of one server that have no request under way, those first that have had none for longest."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._connections: OrderedDict[Connection, None] = OrderedDict()

    def add(self, connection: Connection) -> None:
        self._connections[connection] = None
        self._connections.move_to_end(connection)

    def discard(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def longest(self) -> Connection | None:
        return next(iter(self._connections), None)


class Connection(H11Protocol):
    """uvicorn's, with an eye on the clock."""

    def __init__(self, idle: Idle, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._idle = idle
        self._head_due: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # What uvicorn gives each request a copy of.
        self.app_state = {**self.app_state, CLIENT_NAMES: names_of_connection(transport)}
        if len(self.connections) > self._idle.most:
            # Where all others have requests under way, it is this one.
            (self._idle.longest() or self).transport.close()
        self._rest()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_asking():
            self._idle.discard(self)
            self._stop_waiting()
        elif self._head_due is None:
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_asking():
            # For the next request it may wait as long as uvicorn lets it; once that has begun, no longer.
            self._idle.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.discard(self)
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_asking(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _rest(self) -> None:
        self._idle.add(self)
        if self._head_due is None:
            self._head_due = self.loop.call_later(PATIENCE, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up(self) -> None:
        self._head_due = None
        if not self._is_asking():
            self.transport.close()
