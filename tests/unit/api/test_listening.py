from __future__ import annotations

import socket

from orchestrator.api.http_server import listening


def test_what_is_sent_over_a_connection_that_was_taken_is_not_held_back() -> None:
    with listening("127.0.0.1", 0) as server, socket.create_connection(server.getsockname()) as client:
        taken, _ = server.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert client.getpeername() == server.getsockname()
