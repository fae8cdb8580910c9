from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from orchestrator.devstack.failure import StackFailure

_HOST = "127.0.0.1"
#: What a killed run held is free again as soon as its processes are gone.
_PATIENCE = 2.0


async def require_free(ports: Mapping[str, int]) -> None:
    """Raises StackFailure unless every port can be listened on; the keys are the flags that choose them."""
    doubled = {port for port in ports.values() if list(ports.values()).count(port) > 1}
    if doubled:
        flags = ", ".join(flag for flag, port in ports.items() if port in doubled)
        raise StackFailure(f"{flags} name the same port: give each one of its own.")
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while taken := {flag: port for flag, port in ports.items() if not _is_free(port)}:
        if asyncio.get_running_loop().time() > deadline:
            flag, port = next(iter(taken.items()))
            raise StackFailure(f"Port {port} is taken by another program: stop it, or choose another with {flag}.")
        await asyncio.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all different."""
    sockets = [socket.create_server((_HOST, 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _is_free(port: int) -> bool:
    try:
        # As servers bind: connections that linger in TIME_WAIT are no obstacle.
        socket.create_server((_HOST, port)).close()
    except OSError:
        return False
    return True
